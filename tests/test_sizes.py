"""Every published size of Qwen2.5-VL, on the meta device: schedule, names and shapes against stock."""

import pytest
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2
from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2

# hidden_size, intermediate_size, layers, heads, key-value heads, vocabulary, vision intermediate_size, tied
# (from the published config.json files)
SIZES = {
    "3B": (2048, 11008, 36, 16, 2, 151936, 3420, True),
    "7B": (3584, 18944, 28, 28, 4, 152064, 3420, False),
    "32B": (5120, 27648, 64, 40, 8, 152064, 3456, False),
    "72B": (8192, 29568, 80, 64, 8, 152064, 3456, False),
}


def arguments(size):
    hidden, intermediate, layers, heads, kv_heads, vocabulary, vision_intermediate, tied = SIZES[size]
    return {
        "text_config": {
            "hidden_size": hidden,
            "intermediate_size": intermediate,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "vocab_size": vocabulary,
            "rope_theta": 1e6,
            "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        },
        "vision_config": {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": vision_intermediate,
            "out_hidden_size": hidden,
            "tokens_per_second": 2,
        },
        "tie_word_embeddings": tied,
    }


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", [None, "strategy_2", "strategy_3", "strategy_4"])
def test_names_shapes_and_schedule(size, mode):
    config = Qwen2_5_VLConfig_CircleRoPE_V2(circle_rope={"AGE_mode": mode}, **arguments(size))
    with torch.device("meta"):
        ours = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(config)
        stock = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**arguments(size)))
    shapes = {name: tensor.shape for name, tensor in ours.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in stock.state_dict().items()}
    layers = SIZES[size][2]
    assert len(ours.model.language_model.layers) == len(config.schedule) == layers
    circles = {None: layers, "strategy_2": layers // 2, "strategy_3": layers - layers // 2}
    assert config.schedule.count("circle") == circles.get(mode, (layers + 1) // 2)
    assert config.schedule[0] == ("mrope" if mode == "strategy_3" else "circle")
