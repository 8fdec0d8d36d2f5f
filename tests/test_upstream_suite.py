"""transformers' own common tests of models: whatever the stock Qwen2.5-VL classes pass, ours pass."""

import unittest

import pytest
import torch
import transformers.models.auto.modeling_auto as auto_names
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLModel

from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2
from modeling_qwen2_5_vl_circle_rope import (
    Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2,
    Qwen2_5_VLModel_AGE_V2,
    Qwen2_5_VLModel_CircleRoPE_V2,
)
from tests.models import ROOT
from tests.upstream_suite import load

suite = load(ROOT / ".cache")

IMAGE, VIDEO, VISION_START = 4, 5, 3
BATCH, LENGTH = 3, 39


class Model:
    """What the suite asks of a model: small, with an image of one token in every sample."""

    batch_size, seq_length, hidden_size = BATCH, LENGTH, 32
    num_hidden_layers, num_attention_heads, num_key_value_heads = 2, 4, 2
    is_training = True

    def __init__(self, parent, config_class, **config):
        self.parent, self.config_class, self.config = parent, config_class, config

    def get_config(self):
        return self.config_class(
            text_config={
                "vocab_size": 99,
                "hidden_size": self.hidden_size,
                "intermediate_size": 37,
                "num_hidden_layers": self.num_hidden_layers,
                "num_attention_heads": self.num_attention_heads,
                "num_key_value_heads": self.num_key_value_heads,
                "max_position_embeddings": 512,
                "max_window_layers": 3,
                "rope_theta": 10000,
                "rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 1]},
                "bos_token_id": 0,
                "eos_token_id": 1,
                "pad_token_id": 2,
            },
            vision_config={
                "depth": 2,
                "hidden_size": 32,
                "intermediate_size": 32,
                "out_hidden_size": 32,
                "num_heads": 4,
                "patch_size": 14,
                "spatial_merge_size": 1,
                "temporal_patch_size": 2,
            },
            image_token_id=IMAGE,
            video_token_id=VIDEO,
            vision_start_token_id=VISION_START,
            tie_word_embeddings=False,
            **self.config,
        )

    def prepare_config_and_inputs_for_common(self):
        input_ids = torch.randint(6, 99, (BATCH, LENGTH))
        input_ids[:, 31], input_ids[:, 32] = VISION_START, IMAGE
        inputs = {
            "pixel_values": torch.randn(BATCH, 3 * 2 * 14 * 14),
            "image_grid_thw": torch.tensor([[1, 1, 1]] * BATCH),
            "input_ids": input_ids,
            "attention_mask": torch.ones_like(input_ids),
        }
        return self.get_config(), inputs


class Stock(suite.ModelTesterMixin, unittest.TestCase):
    __test__ = False
    all_model_classes = (Qwen2_5_VLModel, Qwen2_5_VLForConditionalGeneration)
    _is_composite = True

    def setUp(self):
        self.model_tester = Model(self, Qwen2_5_VLConfig)


class CircleRope(Stock):
    all_model_classes = (Qwen2_5_VLModel_CircleRoPE_V2, Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2)

    def setUp(self):
        self.model_tester = Model(self, Qwen2_5_VLConfig_CircleRoPE_V2)


class AGE(Stock):
    all_model_classes = (Qwen2_5_VLModel_AGE_V2, Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2)

    def setUp(self):
        self.model_tester = Model(self, Qwen2_5_VLConfig_CircleRoPE_V2, circle_rope={"AGE_mode": "strategy_4"})


def run(case, name):
    result = unittest.TestResult()
    case(name).run(result)
    return result


@pytest.fixture(scope="module", autouse=True)
def known_to_the_suite():
    """The suite decides by a class's name what it can be trained on; list ours where the stock classes are listed."""
    model_type = Qwen2_5_VLConfig_CircleRoPE_V2.model_type
    with_head, without = auto_names.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, auto_names.MODEL_MAPPING_NAMES
    with_head[model_type] = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2.__name__
    without[model_type] = (Qwen2_5_VLModel_CircleRoPE_V2.__name__, Qwen2_5_VLModel_AGE_V2.__name__)
    yield
    del with_head[model_type], without[model_type]


@pytest.mark.parametrize("ours", [CircleRope, AGE])
@pytest.mark.parametrize("name", unittest.TestLoader().getTestCaseNames(Stock))
def test_ours_passes_what_stock_passes(ours, name):
    result = run(ours, name)
    if result.skipped:
        pytest.skip(result.skipped[0][1])
    problems = [text for _, text in result.failures + result.errors]
    if problems and run(Stock, name).wasSuccessful():
        pytest.fail(f"stock passes {name}, ours does not:\n{problems[0]}")
    if problems:
        pytest.skip("stock fails it, too")
