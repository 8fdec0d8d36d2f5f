"""training/llamafactory.py: frozen parts, LoRA's modules and M-RoPE's losses as stock's, and what is refused."""

import json
import re

import pytest
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForImageTextToText

from conversion.convert import convert

from .conftest import warm
from .pictures_set import write_video

STOCK = "llamafactory.launcher"
OURS = "training.llamafactory"
SETTINGS = {
    "trust_remote_code": True,
    "stage": "sft",
    "do_train": True,
    "dataset": "rows",
    "template": "qwen2_vl",
    "per_device_train_batch_size": 2,
    "max_steps": 4,
    "logging_steps": 1,
    "save_steps": 2,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "report_to": "none",
    "use_cpu": True,
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory, pictures):
    """LLaMA-Factory's way to write the same rows, some without a picture, and one with a video."""
    folder = tmp_path_factory.mktemp("rows")
    write_video(folder / "moving.mp4", frames=32, frames_per_second=8)
    rows = [json.loads(line) | {"videos": []} for line in (pictures / "train.jsonl").read_text().splitlines()]
    question = {"role": "user", "content": "<video>What moves?"}
    rows.append({"messages": [question, {"role": "assistant", "content": "A BAR"}], "images": []})
    rows[-1]["videos"] = [str(folder / "moving.mp4")]
    (folder / "rows.json").write_text(json.dumps(rows))
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    columns = {key: key for key in ("messages", "images", "videos")}
    info = {"rows": {"file_name": "rows.json", "formatting": "sharegpt", "columns": columns, "tags": tags}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


@pytest.fixture(scope="module")
def mrope_dir(tmp_path_factory, stock_dir):
    folder = tmp_path_factory.mktemp("mrope") / "converted"
    convert(stock_dir, folder, {"AGE_mode": ["mrope"] * 6})
    return folder


@pytest.fixture(scope="module")
def circle_dir(tmp_path_factory, stock_dir):
    folder = tmp_path_factory.mktemp("circle") / "converted"
    convert(stock_dir, folder, {"AGE_mode": "strategy_2"})
    return folder


COMMAND = warm("llamafactory.train.tuner:run_exp", "peft:PeftModel")


def train(module, model, rows, folder, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    settings = SETTINGS | {"model_name_or_path": str(model), "dataset_dir": str(rows), **settings}
    (folder / "run.yaml").write_text(json.dumps(settings | {"output_dir": str(folder / "out")}))
    return COMMAND("-m", module, folder / "run.yaml")


def trained(*args, **settings):
    result = train(*args, **settings)
    assert result.returncode == 0, result.stdout[-4000:]
    history = json.loads((args[-1] / "out" / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_mrope_in_every_layer_trains_as_stock_does(kind, stock_dir, mrope_dir, rows, tmp_path):
    """The vision tower is frozen by default, LoRA goes into the same modules, and losses are equal."""
    settings = {"finetuning_type": kind, "lora_target": "all"} if kind == "lora" else {"finetuning_type": kind}
    wanted = trained(STOCK, stock_dir, rows, tmp_path / "stock", **settings)
    given = trained(OURS, mrope_dir, rows, tmp_path / "ours", **settings)
    assert given == pytest.approx(wanted, rel=1e-5)
    file = "adapter_model.safetensors" if kind == "lora" else "model.safetensors"
    ours, stock = (load_file(tmp_path / name / "out" / file) for name in ("ours", "stock"))
    assert ours.keys() == stock.keys() and {tuple(value.shape) for value in ours.values()}
    before = load_file(stock_dir / "model.safetensors")
    for name, value in ours.items():
        assert (value - stock[name]).abs().max() < 1e-4, name
        if kind == "full":
            assert (value == before[name]).all() == name.startswith("visual."), name


def test_every_folder_of_an_adapter_says_its_block_and_a_full_model_opens(circle_dir, rows, tmp_path):
    lora = trained(OURS, circle_dir, rows, tmp_path / "lora", finetuning_type="lora", lora_target="all")
    full = trained(OURS, circle_dir, rows, tmp_path / "full", finetuning_type="full")
    assert lora[0] == pytest.approx(full[0], rel=1e-5)
    schedule = ("circle",) * 3 + ("mrope",) * 3
    for folder in ("lora/out", "lora/out/checkpoint-2", "full/out", "full/out/checkpoint-2"):
        assert AutoConfig.from_pretrained(tmp_path / folder, trust_remote_code=True).schedule == schedule
    assert AutoModelForImageTextToText.from_pretrained(tmp_path / "full/out", trust_remote_code=True)


def test_what_cannot_be_right_is_refused_in_one_sentence(stock_dir, circle_dir, rows, tmp_path):
    packed = train(OURS, circle_dir, rows, tmp_path / "packed", finetuning_type="full", neat_packing=True)
    official = train(OURS, stock_dir, rows, tmp_path / "official", finetuning_type="full")
    for result, words in ((packed, "pack with ms-swift"), (official, "convert it with push_to_hub.py")):
        assert result.returncode == 1 and words in result.stdout and "Traceback" not in result.stdout


def test_the_stock_command_refuses_a_converted_checkpoint(circle_dir, rows, tmp_path):
    """Its collator repeats a fractional row where the text row goes, and gives rows without pictures a masked one."""
    result = train(STOCK, circle_dir, rows, tmp_path, finetuning_type="full")
    words = "the text row, is fractional|the input_ids that the processor made with them"
    assert result.returncode != 0 and re.search(words, result.stdout)
