"""training/sft.py as a command: full and LoRA, adapters saved, loaded and merged, and what is refused."""

import json
import re
import shutil
import sys

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2
from conftest import ROOT, run
from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2

FEW_STEPS = ("--per_device_train_batch_size", 3, "--max_steps", 6, "--logging_steps", 1, "--save_steps", 3)
CONSTANT = ("--lr_scheduler_type", "constant", "--report_to", "none")


def sft(*arguments):
    return run(sys.executable, "training/sft.py", *FEW_STEPS, *CONSTANT, *arguments, OMP_NUM_THREADS=1)


def losses(folder):
    state = json.loads((folder / "checkpoint-6" / "trainer_state.json").read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


@torch.no_grad()
def logits(model, processor, pictures):
    from PIL import Image

    text = "<|vision_start|><|image_pad|><|vision_end|>Name the shapes."
    inputs = processor(text=[text], images=[Image.open(pictures / "0-0.png")], return_tensors="pt")
    return model.eval()(**inputs).logits


@pytest.fixture(scope="module")
def full(tmp_path_factory, stock_dir, pictures):
    """An official checkpoint, with the radius annealed."""
    folder = tmp_path_factory.mktemp("full")
    result = sft(
        *("--model_name_or_path", stock_dir, "--dataset_name", pictures, "--output_dir", folder),
        *("--age_mode", "strategy_3", "--anneal", "radius", "--anneal_steps", 5, "--learning_rate", 1e-3),
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return folder


def test_full_training_learns_and_loads(full):
    assert losses(full)[-1] < 0.8 * losses(full)[0]
    model = AutoModelForImageTextToText.from_pretrained(full, trust_remote_code=True)
    AutoProcessor.from_pretrained(full)
    assert model.config.schedule == ("mrope",) * 3 + ("circle",) * 3


def test_annealing_ends_at_the_target_and_a_checkpoint_says_where_it_was(full):
    halfway, final = (
        AutoConfig.from_pretrained(full / name, trust_remote_code=True) for name in ("checkpoint-3", ".")
    )
    assert halfway.circle_rope["radius"] == 5.0 and final.circle_rope["radius"] == 10


def test_it_resumes(full, stock_dir, pictures, tmp_path):
    result = sft(
        *("--model_name_or_path", stock_dir, "--dataset_name", pictures, "--output_dir", tmp_path),
        *("--age_mode", "strategy_3", "--anneal", "radius", "--anneal_steps", 5, "--learning_rate", 1e-3),
        *("--resume_from_checkpoint", full / "checkpoint-3"),
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert losses(tmp_path)[3:] == pytest.approx(losses(full)[3:], rel=1e-3)


def test_a_lora_adapter_is_saved_loads_and_merges(stock_dir, pictures, tmp_path):
    from peft import PeftModel

    result = sft(
        *("--model_name_or_path", stock_dir, "--dataset_name", pictures, "--output_dir", tmp_path / "adapter"),
        *("--use_peft", "--lora_r", 8, "--learning_rate", 1e-2),
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert losses(tmp_path / "adapter")[-1] < 0.8 * losses(tmp_path / "adapter")[0]
    config = Qwen2_5_VLConfig_CircleRoPE_V2.from_pretrained(tmp_path / "adapter")
    assert config.circle_rope["AGE_mode"] == "strategy_4"
    base = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2.from_pretrained(stock_dir, config=config)
    processor = AutoProcessor.from_pretrained(stock_dir)
    plain = logits(base, processor, pictures)
    model = PeftModel.from_pretrained(base, tmp_path / "adapter")
    adapted = logits(model, processor, pictures)
    assert not torch.allclose(adapted, plain, atol=1e-2)
    merged = model.merge_and_unload()
    torch.testing.assert_close(logits(merged, processor, pictures), adapted, atol=1e-3, rtol=1e-3)
    merged.save_pretrained(tmp_path / "merged")
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged", trust_remote_code=True)
    torch.testing.assert_close(logits(again, processor, pictures), adapted, atol=1e-3, rtol=1e-3)


def test_every_answer_is_an_example_with_the_pictures_before_it(pictures, tmp_path):
    """Of rows in a folder, and of the same rows as a parquet file with the pictures inside, as on a hub."""
    from datasets import Dataset, Image, List

    from sft import load_examples

    rows = [json.loads(line) for line in (pictures / "train.jsonl").read_text().splitlines()]
    examples = load_examples(str(pictures), None, "train")
    answers = [message["content"] for row in rows for message in row["messages"] if message["role"] == "assistant"]
    assert [example["completion"][0]["content"][0]["text"] for example in examples] == answers
    for example in examples:
        placeholders = sum(part["type"] == "image" for message in example["prompt"] for part in message["content"])
        assert placeholders == len(example["images"])
    Dataset.from_list(rows).cast_column("images", List(Image())).to_parquet(tmp_path / "train.parquet")
    again = load_examples(str(tmp_path), None, "train")
    assert again["prompt"] == examples["prompt"]
    assert [[image.size for image in images] for images in again["images"]] == [
        [image.size for image in images] for images in examples["images"]
    ]


@pytest.mark.parametrize(
    ("arguments", "change", "words"),
    [
        ((), {"images": ["absent.png"]}, "row 1, names the image absent.png, but there is no such file"),
        ((), {"images": []}, "row 1, has 0 images, but 1 <image> placeholders"),
        (("--circle_rope", '{"radius": 3}'), {}, "converted already.* radius 3 was asked for"),
        (("--age_mode", '["circle", "mrope"]'), {}, "2 entries.* 6 layers"),
        (("--anneal", "alpha"), {}, "annealing was asked for 'alpha'"),
        (("--model_name_or_path", "absent/model"), {}, "absent/model"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, change, words, pictures, tmp_path):
    row = json.loads((pictures / "train.jsonl").read_text().splitlines()[0]) | change
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    base = () if "--model_name_or_path" in arguments else ("--model_name_or_path", ROOT / "tiny")
    result = sft(*base, "--dataset_name", tmp_path, "--output_dir", tmp_path / "out", *arguments)
    assert result.returncode != 0 and "Traceback" not in result.stderr
    assert re.search(words, re.findall(r"^error: (.*)$", result.stderr, re.M)[-1])
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
