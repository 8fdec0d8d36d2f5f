"""TRL's trainers that compare with a reference model: it is the checkpoint itself, under the block of the model."""

import json
import math

import pytest
from datasets import Dataset, Image, List
from transformers import AutoProcessor

from training.blocks import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2, config_with_block
from training.own_reference import own_reference

from .conftest import ROOT

ONE_STEP = {"max_steps": 1, "logging_steps": 1, "per_device_train_batch_size": 2, "report_to": "none"}
ON_CPU = {"use_cpu": True, "bf16": False, "save_strategy": "no"}


@pytest.fixture(scope="module")
def pairs(pictures):
    """Rows with a picture as preferences: the prompt, the right answer and a wrong one."""
    rows = [json.loads(line) for line in (pictures / "train.jsonl").read_text().splitlines()]
    rows = [
        {
            "prompt": [{"role": "user", "content": "Name the shapes."}],
            "chosen": [{"role": "assistant", "content": row["messages"][1]["content"]}],
            "rejected": [{"role": "assistant", "content": "nothing at all"}],
            "images": row["images"],
        }
        for row in rows
        if len(row["images"]) == 1
    ]
    return Dataset.from_list(rows).cast_column("images", List(Image()))


@pytest.fixture(params=["official", "converted"])
def model(request, stock_dir):
    base, block = (stock_dir, {"AGE_mode": "strategy_4"}) if request.param == "official" else (ROOT, None)
    config = config_with_block(base, block, over_default=True)
    return Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2.from_pretrained(base, config=config)


def first_step(trainer):
    trainer.train()
    return next(entry for entry in trainer.state.log_history if "loss" in entry)


def test_dpo_begins_at_ln_2(model, pairs, tmp_path):
    from trl import DPOConfig, DPOTrainer

    processor = AutoProcessor.from_pretrained(model.name_or_path, trust_remote_code=False)
    options = DPOConfig(tmp_path, max_length=None, **ONE_STEP, **ON_CPU)
    with own_reference(model):
        trainer = DPOTrainer(model, args=options, train_dataset=pairs, processing_class=processor)
    assert trainer.ref_model.config.schedule == model.config.schedule
    assert first_step(trainer)["loss"] == pytest.approx(math.log(2), abs=1e-4)


def test_grpo_begins_at_its_reference(model, pairs, tmp_path):
    """No divergence from it at the first step, whatever was sampled."""
    from trl import GRPOConfig, GRPOTrainer

    processor = AutoProcessor.from_pretrained(model.name_or_path, trust_remote_code=False)
    options = GRPOConfig(tmp_path, beta=0.1, num_generations=2, max_completion_length=8, **ONE_STEP, **ON_CPU)

    def reward(completions, **_):
        return [float(number) for number in range(len(completions))]

    prompts = pairs.select_columns(["prompt", "images"])
    with own_reference(model):
        trainer = GRPOTrainer(
            model, args=options, train_dataset=prompts, processing_class=processor, reward_funcs=reward
        )
    assert trainer.ref_model.config.schedule == model.config.schedule
    assert first_step(trainer)["kl"] == pytest.approx(0, abs=1e-6)


def test_outside_of_it_trl_is_as_it_was(model):
    from trl.trainer import utils

    loader = utils.create_model_from_path
    with own_reference(model):
        assert utils.create_model_from_path is not loader
    assert utils.create_model_from_path is loader


def test_a_model_without_a_name_is_refused(model):
    model.config._name_or_path = ""
    with (
        pytest.raises(ValueError, match="^the model was not loaded from a directory or hub id: "),
        own_reference(model),
    ):
        pass
