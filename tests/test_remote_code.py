"""Code that comes with a checkpoint: pickled models, code in a repository of its own, two checkpoints side by side."""

import io
import json
import pickle
import sys
import warnings

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText

from configuration_qwen2_5_vl_circle_rope import AUTO_MAP, Qwen2_5_VLConfig_CircleRoPE_V2
from conversion.core import MODULES
from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2
from tests.models import ROOT, config_arguments, copy_checkpoint, make_config


@pytest.mark.parametrize("auto_class", [AutoModelForImageTextToText, AutoModel])
def test_a_model_can_be_pickled(auto_class):
    model = auto_class.from_pretrained(ROOT, trust_remote_code=True).eval()
    saved = io.BytesIO()
    torch.save(model, saved)
    saved.seek(0)
    ids = torch.tensor([[1, 2, 3]])
    for again in (pickle.loads(pickle.dumps(model)), torch.load(saved, weights_only=False)):
        assert type(again) is type(model)
        assert again(input_ids=ids)[0].equal(model(input_ids=ids)[0])


def copy_with_code(directory, number):
    """A copy of the root's checkpoint whose modeling file differs: a class's `mark` and a function say which it is."""
    copy_checkpoint(directory)
    with open(directory / "modeling_qwen2_5_vl_circle_rope.py", "a") as file:
        file.write(f"\n\nQwen2_5_VLModel_CircleRoPE_V2.mark = {number}\n\n\ndef which():\n    return {number}\n")
        file.write("#" * number)  # Python tells compiled files apart by their sizes and seconds
    return directory


def test_two_checkpoints_whose_code_differs_each_run_their_own(tmp_path):
    first = copy_with_code(tmp_path / "one", 1)
    second = copy_with_code(tmp_path / "two", 2)
    models = [AutoModelForImageTextToText.from_pretrained(path, trust_remote_code=True) for path in (first, second)]
    assert [model.model.mark for model in models] == [1, 2]
    for number, (model, path) in enumerate(zip(models, (first, second))):
        model.save_pretrained(tmp_path / f"saved{number}")
        name = "modeling_qwen2_5_vl_circle_rope.py"
        assert (tmp_path / f"saved{number}" / name).read_text() == (path / name).read_text()


def test_two_directories_of_one_name_each_run_their_own_code_or_warn(tmp_path):
    """As runs/a/checkpoint-10 and runs/b/checkpoint-10."""
    paths = [copy_with_code(tmp_path / run / "checkpoint-10", number) for number, run in ((1, "a"), (2, "b"))]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        models = [AutoModelForImageTextToText.from_pretrained(path, trust_remote_code=True) for path in paths]
    assert [model.model.mark for model in models] == [1, 2]
    said = [str(warning.message) for warning in caught if "have different modules" in str(warning.message)]
    shares_a_module = models[0].__module__ == models[1].__module__
    assert len(said) == shares_a_module
    if shares_a_module:
        assert str(paths[0]) in said[0] and str(paths[1]) in said[0]
    else:
        assert [sys.modules[model.__module__].which() for model in models] == [1, 2]


def test_an_auto_map_that_names_another_repository_is_kept(tmp_path):
    given = {key: f"user/code--{reference}" for key, reference in AUTO_MAP.items()}
    config = Qwen2_5_VLConfig_CircleRoPE_V2(auto_map=dict(given), **config_arguments())
    Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(config).save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["auto_map"] == given
    again = Qwen2_5_VLConfig_CircleRoPE_V2.from_pretrained(tmp_path / "saved")
    assert again.auto_map == given and make_config().auto_map == AUTO_MAP


def test_a_saved_configuration_brings_all_of_its_code(tmp_path):
    AutoConfig.from_pretrained(ROOT, trust_remote_code=True).save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.glob("*.py")} == set(MODULES)
