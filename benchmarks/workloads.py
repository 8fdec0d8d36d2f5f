"""Models and inputs that are measured: stock Qwen2.5-VL and ours with the same weights, in the shape of the 3B."""

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2
from modeling_qwen2_5_vl_circle_rope import (
    Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2,
    find_cache,
)

from .measure import check_memory

ROOT = Path(__file__).resolve().parent.parent

BLOCKS: dict[str, dict] = {"circle": {"AGE_mode": None}, "AGE": {"AGE_mode": "strategy_4"}}
IMAGE, VIDEO = 151655, 151656
DEPTH = 36


def config_arguments(layers: int) -> dict:
    """The 3B's config with `layers` decoder layers (its own number is 36), and for fewer a single vision block."""
    whole = layers >= DEPTH
    return {
        "text_config": {
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": layers,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "vocab_size": 151936,
            "max_position_embeddings": 128000,
            "rope_theta": 1000000.0,
            "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
            "tie_word_embeddings": True,
        },
        "vision_config": {
            "depth": 32 if whole else 1,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": 2048,
            "fullatt_block_indexes": [7, 15, 23, 31] if whole else [0],
            "tokens_per_second": 2,
            "window_size": 112,
        },
        "image_token_id": IMAGE,
        "video_token_id": VIDEO,
        "tie_word_embeddings": True,
    }


@torch.no_grad()
def cache_behind(model, inputs: dict):
    """The cache of a prefill, whatever the release calls it."""
    return find_cache(model(**inputs, use_cache=True, logits_to_keep=1))


def narrow(arguments: dict) -> dict:
    """The same config with layers so narrow that a step of decoding is Python's work alone, as on a fast GPU."""
    text_config: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "vocab_size": IMAGE + 2,
    }
    text_config["rope_scaling"] = {"type": "mrope", "mrope_section": [2, 3, 3]}
    vision_config = {"hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 64}
    return {
        **arguments,
        "text_config": {**arguments["text_config"], **text_config},
        "vision_config": {**arguments["vision_config"], **vision_config},
    }


def parameters(layers: int) -> int:
    """How many weights such a model has; no model of more than `DEPTH` layers is built for that."""

    def count(layers):
        with torch.device("meta"):
            model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**config_arguments(layers)))
        return sum(parameter.numel() for parameter in model.parameters())

    built = min(layers, DEPTH)
    return count(built) + (layers - built) * (count(2) - count(1))


def models(layers: int, device: str, dtype: torch.dtype, attention: str, are_narrow: bool = False) -> dict:
    """Stock, circle and AGE, with one set of random weights among them.

    Raises:
        BenchmarkError: they do not fit the memory.
    """
    classes = {"stock": (Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLConfig, {})}
    for name, block in BLOCKS.items():
        ours = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2, Qwen2_5_VLConfig_CircleRoPE_V2
        classes[name] = (*ours, {"circle_rope": block})
    arguments = config_arguments(layers)
    if are_narrow:
        arguments = narrow(arguments)
    else:
        # Weights, a second copy while the next model is made, gradients, and room for logits and activations.
        needed = 3 * parameters(layers) * dtype.itemsize + 3 * 2**30
        check_memory(needed, device, f"{layers} layers of the 3B in {dtype}")
    result = {}
    torch.manual_seed(0)
    for name, (model_class, config_class, block) in classes.items():
        config = config_class(**copy.deepcopy(arguments), **block)
        with torch.device(device):
            model = model_class._from_config(config, dtype=dtype, attn_implementation=attention)
        if "stock" in result:
            model.load_state_dict(result["stock"].state_dict(), assign=True)
            model.tie_weights()
        result[name] = model.eval()
    return result


def position_models() -> dict:
    """Stock, circle and AGE without weights, since positions need none, and AGE with another ring, for new sizes."""
    arguments = config_arguments(2)
    with torch.device("meta"):
        stock = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**arguments))
        ours = {
            name: Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(
                Qwen2_5_VLConfig_CircleRoPE_V2(**arguments, circle_rope=block)
            )
            for name, block in {**BLOCKS, "new sizes": {**BLOCKS["AGE"], "radius": 9}}.items()
        }
    return {"stock": stock, **ours}


def sequence(length: int, merged_grids: list[tuple[int, int, int]], token: int = IMAGE) -> list[int]:
    """Token ids of `length` tokens in all: the blocks, with text before, between and behind them."""
    text = length - sum(t * h * w for t, h, w in merged_grids)
    spaces = len(merged_grids) + 1
    ids = []
    for number, (t, h, w) in enumerate([*merged_grids, (0, 0, 0)]):
        ids += [100] * (text * (number + 1) // spaces - text * number // spaces) + [token] * (t * h * w)
    return ids


def position_inputs(samples: int, length: int, merged_grids: list, device: str, token: int = IMAGE) -> dict:
    """Arguments of `get_rope_index`: `samples` sequences of `length` tokens that have these blocks each."""
    ids = torch.tensor([sequence(length, merged_grids, token)] * samples, device=device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if merged_grids:
        grid_thw = torch.tensor([(t, 2 * h, 2 * w) for t, h, w in merged_grids] * samples, device=device)
        inputs["image_grid_thw" if token == IMAGE else "video_grid_thw"] = grid_thw
    if token == VIDEO:
        inputs["second_per_grid_ts"] = torch.ones(samples * len(merged_grids), device=device)
    return inputs


def for_stock(inputs: dict) -> dict:
    """The same with the modality of every token, which newer releases want to be told."""
    ids = inputs["input_ids"]
    return {**inputs, "mm_token_type_ids": (ids == IMAGE).int() + 2 * (ids == VIDEO).int()}


def picture_inputs(length: int, side: int, device: str, dtype: torch.dtype) -> dict:
    """A prompt of `length` tokens with one picture of `side` x `side` merged cells."""
    inputs = position_inputs(1, length, [(1, side, side)], device)
    return {**inputs, "pixel_values": torch.randn(4 * side * side, 3 * 2 * 14 * 14, device=device, dtype=dtype)}
