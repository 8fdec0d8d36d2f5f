"""Which class and which geometries a checkpoint gets, and which checkpoints none."""

import json

import pytest

from conversion.core import MODULES
from evaluation.loading import EvaluationError, find
from tests.models import copy_checkpoint

from .conftest import ROOT


@pytest.fixture
def folder(tmp_path):
    """A copy of the root's checkpoint without its code, as training without remote code saves it."""
    return copy_checkpoint(tmp_path / "copy", without=MODULES)


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config |= changes
    config = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_converted_checkpoint_runs_with_its_schedule():
    found = find(str(ROOT))
    assert found.schedule == ("circle", "mrope") * 3
    model = found.from_pretrained(found.directory)
    assert model.model.schedule == found.schedule
    assert found.describe().splitlines() == [
        found.describe().splitlines()[0],
        "geometry per layer: circle mrope circle mrope circle mrope",
    ]
    assert "class: Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2 " in found.describe()


def test_a_fine_tuned_checkpoint_needs_no_code_of_its_own(folder):
    edit(folder, auto_map=None, circle_rope={"radius": 10, "AGE_mode": "strategy_2"})
    found = find(str(folder))
    assert found.from_pretrained(found.directory).model.schedule == ("circle",) * 3 + ("mrope",) * 3


def test_a_stock_checkpoint_runs_as_stock(stock_dir):
    found = find(str(stock_dir))
    assert found.schedule == ("mrope",) * 6 and found.block is None
    assert type(found.from_pretrained(found.directory)).__name__ == "Qwen2_5_VLForConditionalGeneration"


def test_a_model_that_runs_otherwise_than_announced_is_an_error(folder):
    found = find(str(folder))
    edit(folder, circle_rope={"radius": 10, "AGE_mode": "strategy_2"})
    with pytest.raises(EvaluationError, match="runs as .* and not as announced"):
        found.from_pretrained(found.directory)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"model_type": "llama"}, "is a 'llama' model, but only Qwen2.5-VL"),
        ({"model_type": "qwen2_vl"}, "is a 'qwen2_vl' model"),
        ({"model_type": None}, "is a None model"),
        ({"architectures": ["Qwen2_5_VLForConditionalGeneration"]}, "saved by stock's class"),
        ({"circle_rope": {"radios": 10}}, "radios"),
    ],
)
def test_what_is_neither_is_refused(folder, changes, words):
    with pytest.raises(EvaluationError, match=words):
        find(str(edit(folder, **changes)))


def test_an_adapter_that_does_not_say_its_geometry_is_refused(folder):
    (folder / "adapter_config.json").write_text("{}")
    (folder / "config.json").unlink()
    with pytest.raises(EvaluationError, match="is an adapter without a config.json"):
        find(str(folder))


@pytest.mark.parametrize("name", ["nowhere", "no where", "user/nothing"])
def test_what_is_not_there_is_refused(name):
    with pytest.raises(EvaluationError):
        find(name)
