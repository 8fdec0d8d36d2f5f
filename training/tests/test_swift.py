"""ms-swift through its own command line: each way of training, inference, and what is refused."""

import json
import shutil
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from .conftest import ROOT, TESTS, run, script
from .swift_cli import (
    MODEL_TYPE,
    assert_positions_are_those_of_each_sample_alone,
    losses,
    read_records,
    sft,
)


def assert_trained(result, output):
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    first, *_, last = losses(output)
    assert last < 0.8 * first


@pytest.fixture(scope="module")
def full(tmp_path_factory, stock_dir, pictures):
    """Full training of an official checkpoint from a config file with AGE, as V2's recipe has it."""
    folder = tmp_path_factory.mktemp("full")
    config = json.loads((ROOT / "training" / "train_config_v2_age.json").read_text())
    block = {"circle_r": 10, "base": 10000, "mrope_section": [4, 6, 6], "AGE_mode": "strategy_2"}
    config["model_config_override"]["circle_rope"] = block
    config |= {"model": str(stock_dir), "dataset": str(pictures / "train.jsonl"), "output_dir": str(folder / "out")}
    config |= {"per_device_train_batch_size": 3, "gradient_checkpointing": True, "freeze_vit": True}
    for key in ("learning_rate", "custom_register_path"):
        config.pop(key)
    (folder / "config.json").write_text(json.dumps(config))
    result = sft(folder / "config.json", recorded=folder / "positions")
    return result, folder, block


def test_full_training_under_age_from_a_config_file(full):
    result, folder, block = full
    assert_trained(result, folder / "out")
    said = result.stdout + result.stderr
    assert "layers: circle 0 to 2, mrope 3 to 5" in said and "0 of the vision tower" in said and "processes: 1" in said
    config = AutoConfig.from_pretrained(folder / "out" / "checkpoint-4", trust_remote_code=True)
    assert config.circle_rope == block
    assert config.schedule == ("circle",) * 3 + ("mrope",) * 3


def test_a_padded_batch_has_the_positions_of_its_samples(full):
    _, folder, _ = full
    model = AutoModelForImageTextToText.from_pretrained(folder / "out" / "checkpoint-4", trust_remote_code=True).model
    for record in read_records(folder / "positions"):
        assert assert_positions_are_those_of_each_sample_alone(record, model) == (False, 3)


def test_a_frozen_vision_tower_stays_as_it_was(full, stock_dir):
    _, folder, _ = full
    before, after = (
        load_file(stock_dir / "model.safetensors"),
        load_file(folder / "out/checkpoint-4/model.safetensors"),
    )
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and not any("visual" in name for name in changed)


def test_what_was_saved_loads_and_infers(full, pictures):
    _, folder, _ = full
    checkpoint = folder / "out" / "checkpoint-4"
    loaded, report = AutoModelForImageTextToText.from_pretrained(
        checkpoint, trust_remote_code=True, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert type(loaded.model).__name__ == "Qwen2_5_VLModel_AGE_V2"
    AutoProcessor.from_pretrained(checkpoint, trust_remote_code=True)
    assert_infers("--model", checkpoint, folder=folder, pictures=pictures)


def assert_infers(*arguments, folder, pictures):
    answers = folder / "answers.jsonl"
    result = run(
        *(script("swift"), "infer", *arguments, "--val_dataset", f"{pictures / 'train.jsonl'}#3"),
        *("--result_path", answers, "--max_new_tokens", 4, "--temperature", 0, "--max_batch_size", 3),
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert len(answers.read_text().splitlines()) == 3


def test_training_resumes_from_a_checkpoint(full, tmp_path):
    """The last two steps again, from the checkpoint between: the same losses and the same weights."""
    _, folder, _ = full
    config = json.loads((folder / "config.json").read_text()) | {"output_dir": str(tmp_path / "out")}
    (tmp_path / "config.json").write_text(json.dumps(config))
    result = sft(tmp_path / "config.json", "--resume_from_checkpoint", folder / "out" / "checkpoint-2")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert losses(tmp_path / "out") == pytest.approx(losses(folder / "out")[2:], rel=1e-4)
    once, resumed = (load_file(out / "out/checkpoint-4/model.safetensors") for out in (folder, tmp_path))
    for name in once:
        torch.testing.assert_close(resumed[name], once[name], atol=1e-5, rtol=1e-4)


def test_lora_from_the_command_line_with_annealing(tmp_path, stock_dir, pictures):
    """The override as an option; the adapter finds its block again in inference."""
    block = {"radius": 8, "AGE_mode": "strategy_4"}
    result = sft(
        *("--model", stock_dir, *MODEL_TYPE, "--tuner_type", "lora", "--output_dir", tmp_path / "out"),
        *("--model_config_override", json.dumps({"circle_rope": block}), "--dataset", pictures / "train.jsonl"),
        *("--callbacks", "circle_rope_anneal", "--per_device_train_batch_size", 3),
        *("--model_kwargs", json.dumps({"circle_rope_anneal": {"key": "AGE_mode", "steps": 4}})),
        recorded=tmp_path / "positions",
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert losses(tmp_path / "out")[-1] < losses(tmp_path / "out")[0]
    halfway, final = (tmp_path / "out" / f"checkpoint-{step}" for step in (2, 4))
    load = partial(AutoModelForImageTextToText.from_pretrained, trust_remote_code=True)
    blocks = [load(folder).config.circle_rope for folder in (halfway, final)]
    assert blocks == [{**block, "AGE_mode": ["circle"] + ["mrope"] * 5}, block]
    # All mrope, then one, two and three layers under circle: each step has the positions of its own block.
    model = AutoModelForImageTextToText.from_pretrained(ROOT, trust_remote_code=True)
    records = read_records(tmp_path / "positions")
    for record, layers in zip(records, [(), (0,), (0, 2), (0, 2, 4)], strict=True):
        schedule = ["circle" if layer in layers else "mrope" for layer in range(6)]
        model.set_circle_rope({**block, "AGE_mode": schedule})
        assert_positions_are_those_of_each_sample_alone(record, model.model)
    assert_infers("--adapters", final, folder=tmp_path, pictures=pictures)


def test_a_block_alone_says_whose_class_an_official_checkpoint_gets(stock_dir, pictures, tmp_path):
    """Whatever its folder is called, by whose name ms-swift would choose stock's."""
    base = shutil.copytree(stock_dir, tmp_path / "Qwen2.5-VL-3B-Instruct")
    override = ("--model_config_override", json.dumps({"circle_rope": {"AGE_mode": "strategy_3"}}))
    data = ("--dataset", pictures / "train.jsonl", "--output_dir", tmp_path / "out", "--tuner_type", "full")
    result = sft("--model", base, *override, *data)
    assert result.returncode == 0, result.stderr
    config = AutoConfig.from_pretrained(tmp_path / "out" / "checkpoint-4", trust_remote_code=True)
    assert config.schedule == ("mrope",) * 3 + ("circle",) * 3


@pytest.mark.parametrize("layout", ["packing", "padding_free"])
def test_packed_samples_have_the_positions_they_have_alone(layout, tmp_path, pictures):
    """On a converted checkpoint, which needs no override; with the vision tower trained."""
    result = sft(
        *("--model", ROOT, "--dataset", pictures / "train.jsonl", "--tuner_type", "full", f"--{layout}", "true"),
        *("--attn_impl", "flash_attention_2", "--freeze_vit", "false", "--output_dir", tmp_path / "out"),
        *("--per_device_train_batch_size", {"packing": 1, "padding_free": 3}[layout], "--max_length", 300),
        plugins=[TESTS / "flash_on_cpu.py"],
        recorded=tmp_path / "positions",
    )
    assert_trained(result, tmp_path / "out")
    model = AutoModelForImageTextToText.from_pretrained(ROOT, trust_remote_code=True).model
    records = read_records(tmp_path / "positions")
    layouts = [assert_positions_are_those_of_each_sample_alone(record, model) for record in records]
    assert all(packed for packed, _ in layouts) and max(samples for _, samples in layouts) > 1
