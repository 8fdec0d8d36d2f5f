"""Annealing: the values step by step, what each step computes with, what is saved, resuming, and wrappers."""

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, Trainer, TrainingArguments

from tests.models import image_batch, make_model, make_stock
from training.anneal import CircleRopeAnnealing
from training.blocks import circle_rope_model

from .conftest import ROOT

STEPS = 5


@pytest.fixture(scope="module")
def stock():
    return make_stock()


class Rows(torch.utils.data.Dataset):
    """The same batch of two samples at every step."""

    def __len__(self):
        return STEPS

    def __getitem__(self, number):
        torch.manual_seed(0)
        batch = image_batch()
        return {**batch, "labels": batch["input_ids"]}


class Seen(CircleRopeAnnealing):
    """Keeps the block at every step, from the model's config."""

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        super().on_step_begin(args, state, control, model=model, **kwargs)
        self.blocks.append(dict(circle_rope_model(model).config.circle_rope))


def train(model, folder, callback, resume=None, save_steps=2, **arguments):
    callback.blocks = []
    arguments = TrainingArguments(
        folder,
        per_device_train_batch_size=1,
        max_steps=STEPS,
        save_steps=save_steps,
        logging_steps=1,
        learning_rate=1e-3,
        use_cpu=True,
        report_to="none",
        **arguments,
    )
    trainer = Trainer(
        model, arguments, train_dataset=Rows(), data_collator=lambda rows: dict(rows[0]), callbacks=[callback]
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def saved_block(folder):
    return json.loads((Path(folder) / "config.json").read_text())["circle_rope"]


@pytest.mark.parametrize(
    ("key", "block", "values"),
    [
        ("radius", {"radius": 8}, [0.0, 8 / 3, 16 / 3, 8, 8]),
        ("dff_rate", {}, [1.0, 2 / 3, 1 / 3, 0, 0]),
        (
            "AGE_mode",
            {"AGE_mode": "strategy_2"},
            [["mrope"] * 4, ["mrope"] * 4, ["circle"] + ["mrope"] * 3, "strategy_2", "strategy_2"],
        ),
    ],
)
def test_the_value_of_every_step(key, block, values, stock, tmp_path):
    """Four steps: the fourth is the first with the target itself, and the rest stay there."""
    callback = Seen(key, steps=4)
    model = make_model(stock, block)
    train(model, tmp_path, callback)
    given = [block[key] for block in callback.blocks]
    assert given == [pytest.approx(value) if isinstance(value, float) else value for value in values]
    assert model.config.circle_rope == {**block, key: values[-1]}


def test_the_first_step_of_a_schedule_is_stock(stock, tmp_path):
    """Under M-RoPE in every layer the loss is the one that the stock model has."""
    trainer = train(make_model(stock, {"AGE_mode": "strategy_4"}), tmp_path, Seen("AGE_mode", steps=1.0))
    first = trainer.state.log_history[0]["loss"]
    batch = Rows()[0]
    model = make_model(stock, {"AGE_mode": ["mrope"] * 4})
    assert first == pytest.approx(model(**batch).loss.item(), rel=1e-4)


def test_a_checkpoint_says_what_its_last_step_was_trained_with(stock, tmp_path):
    train(make_model(stock, {"circle_r": 8}), tmp_path, Seen("radius", steps=4), save_steps=1)
    radii = [saved_block(tmp_path / f"checkpoint-{step}")["radius"] for step in range(1, STEPS + 1)]
    assert radii == pytest.approx([0, 8 / 3, 16 / 3, 8, 8])


@pytest.mark.parametrize("key", ["radius", "AGE_mode"])
def test_a_resumed_run_ends_at_the_same_target(key, stock, tmp_path):
    """Even where the model is loaded from the half-way checkpoint, whose config names a half-way value."""
    block = {"radius": 8, "AGE_mode": "strategy_2"}
    train(make_model(stock, block), tmp_path / "once", Seen(key, steps=4))
    checkpoint = tmp_path / "once" / "checkpoint-2"
    assert saved_block(checkpoint) != block
    half_way = type(make_model(stock, block)).from_pretrained(checkpoint)
    callback = Seen(key, steps=4)
    train(half_way, tmp_path / "resumed", callback, resume=checkpoint)
    assert len(callback.blocks) == STEPS - 2 and half_way.config.circle_rope == block
    for step in (4, 5):
        once, resumed = (saved_block(tmp_path / run / f"checkpoint-{step}") for run in ("once", "resumed"))
        assert once == resumed == block


def test_it_works_on_an_adapter_and_its_checkpoints_carry_the_block(stock, tmp_path):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(make_model(stock, {"radius": 8}), LoraConfig(target_modules=["q_proj", "v_proj"]))
    callback = Seen("radius", steps=4)
    train(model, tmp_path, callback)
    assert [block["radius"] for block in callback.blocks] == pytest.approx([0, 8 / 3, 16 / 3, 8, 8])
    config = AutoConfig.from_pretrained(tmp_path / "checkpoint-2", trust_remote_code=True)
    assert config.circle_rope["radius"] == pytest.approx(8 / 3)


def test_it_finds_the_model_in_wrappers(stock):
    model = make_model(stock)
    assert circle_rope_model(torch.nn.Sequential(torch.nn.ModuleList([model]))) is model
    with pytest.raises(ValueError, match="^Linear has no set_circle_rope: "):
        circle_rope_model(torch.nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"key": "alpha"}, "asked for 'alpha', but can move radius, dff_rate, AGE_mode"),
        ({"key": "radius", "steps": 0}, "steps=0, but needs a number of steps"),
        ({"key": "radius", "steps": 1.5}, "steps=1.5, but needs a number of steps"),
        ({"key": "radius", "steps": STEPS + 1}, "takes 6 steps, but training has 5"),
        ({"key": "radius", "end": "auto"}, "from 0 to 'auto', but can only move between numbers"),
        ({"key": "radius", "end": -1}, "radius.* is -1"),
        ({"key": "AGE_mode", "end": ["circle"] * 3}, "3 entries.* 4 layers"),
    ],
)
def test_what_cannot_be_annealed_is_refused_before_the_first_step(arguments, words, stock, tmp_path):
    model = make_model(stock, {"radius": 8})
    with pytest.raises(ValueError, match=words) as error:
        train(model, tmp_path, Seen(**arguments))
    assert not re.search(r"\n", str(error.value)) and model.config.circle_rope == {"radius": 8}


def test_the_readme_names_every_key():
    readme = (ROOT / "training" / "README.md").read_text()
    assert all(f"| `{key}` |" in readme for key in CircleRopeAnnealing.KEYS)
