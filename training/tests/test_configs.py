"""The train configs that come with the repo: what ms-swift knows of them, and their blocks on official sizes."""

import json
from dataclasses import fields

import pytest

from training.blocks import config_with_block, read_override

from .conftest import ROOT

CONFIGS = ("train_config_v2.json", "train_config_v2_age.json", "train_config_paper.json")


def read(name):
    return json.loads((ROOT / "training" / name).read_text())


@pytest.fixture
def official(tmp_path):
    """The config of an official 7B checkpoint, as far as a block depends on it."""
    text = {"hidden_size": 3584, "num_attention_heads": 28, "num_hidden_layers": 28, "rope_theta": 1000000.0}
    text |= {"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl", "vision_config": {}, **text}))
    return tmp_path


@pytest.mark.filterwarnings("error:.*base.*")
@pytest.mark.parametrize("name", CONFIGS)
def test_the_block_is_the_checkpoints(name, official):
    override = read(name)["model_config_override"]
    config = config_with_block(official, read_override(override))
    assert config.circle_rope == override["circle_rope"]
    assert config.make_geometry("circle").radius == 10


def test_the_age_config_is_v2s_strategy(official):
    schedule = config_with_block(official, read_override(read(CONFIGS[1])["model_config_override"])).schedule
    assert schedule == ("circle",) * 14 + ("mrope",) * 14


def test_the_papers_recipe():
    config = read(CONFIGS[2])
    assert (config["freeze_llm"], config["freeze_vit"], config["freeze_aligner"]) == (False, True, True)
    assert config["max_length"] == 4096 and config["tuner_type"] == "full"
    assert config["model_config_override"]["circle_rope"]["AGE_mode"] == "strategy_4"


def test_ms_swift_knows_every_other_key():
    from swift.arguments import SftArguments

    known = {field.name for field in fields(SftArguments)} | {"model_config_override"}
    for name in CONFIGS:
        assert read(name).keys() <= known


def test_the_page_says_what_a_run_takes_in_memory():
    """Weights, gradients and Adam's two moments, of the parameters of a model on the meta device."""
    import torch

    from tests.test_sizes import SIZES, arguments
    from training.blocks import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2 as Model

    page = (ROOT / "training" / "README.md").read_text()
    for size in SIZES:
        with torch.device("meta"):
            shapes = {
                name: tensor.shape for name, tensor in Model(Model.config_class(**arguments(size))).named_parameters()
            }
        vision = sum(shape.numel() for name, shape in shapes.items() if ".visual." in name)
        language = sum(shape.numel() for shape in shapes.values()) - vision
        lora = sum(
            16 * sum(shape) for name, shape in shapes.items() if "visual" not in name and "_proj.weight" in name
        )
        numbers = [language, vision, 2 * vision + 8 * language, (2 * vision + 16 * language) / 8]
        one, frozen, *gigabytes = (number / 1e9 for number in (*numbers, 2 * (vision + language) + 8 * lora))
        row = " | ".join(f"{number:.1f}" for number in gigabytes)
        assert f"| {size} | {one:.2f}, {frozen:.2f} | {row} |" in page
