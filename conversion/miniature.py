"""Whether a config can run at all, whatever its size: a model of its geometry, narrow and shallow, answers once."""

import math

import torch

from .base import ConversionError, in_one_sentence
from .core import Qwen2_5_VLConfig_CircleRoPE_V2, Qwen2_5_VLModel_CircleRoPE_V2

IMAGE, VIDEO, TOKENS = 8, 9, 10  # token ids, and how many there are

WINDOW = 16_384  # pixels; attention windows are padded to their full area


def check_runs(config: Qwen2_5_VLConfig_CircleRoPE_V2, place: str) -> None:
    """Run a prompt with a picture and a video through a miniature of the model.

    Rope, sections, windows and positions are the config's own; widths, which the tensors' shapes attest, are not.
    `config` is used up.

    Raises:
        ConversionError: the config cannot work, or gives values that are not finite; `place` is the file to name.
    """
    with in_one_sentence(f"{place} describes a model that cannot run"):
        _check_by_eye(config, place)
        _shrink(config)
        model = Qwen2_5_VLModel_CircleRoPE_V2(config).eval()
        is_finite = torch.isfinite(_run(model, config.vision_config)).all()
    if not is_finite:
        raise ConversionError(f"{place} describes a model whose values are not finite: correct its rope or its norms.")


def _check_by_eye(config, place):
    """What some releases of transformers let pass, or replace by a default, and others do not."""
    text, vision = config.text_config, config.vision_config
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    section, wanted = rope.get("mrope_section"), head_dim(text) // 2
    is_list = isinstance(section, (list, tuple)) and len(section) == 3
    if not is_list or not all(type(part) is int and part > 0 for part in section) or sum(section) != wanted:
        raise ConversionError(
            f"{place} has the mrope_section {section}, but it must be 3 positive integers whose sum is head_dim / 2 = "
            f"{wanted}: correct it, or give one in --circle-rope."
        )
    if text.num_attention_heads % text.num_key_value_heads or vision.hidden_size % vision.num_heads:
        raise ConversionError(
            f"{place} has {text.num_attention_heads} heads for {text.num_key_value_heads} of keys and values, and a "
            f"vision width of {vision.hidden_size} for {vision.num_heads} heads: each must be a multiple of the other."
        )
    if vision.window_size > WINDOW:
        raise ConversionError(f"{place} has the window_size {vision.window_size}, but it must be at most {WINDOW}.")
    for key in ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"):
        value = getattr(config, key)
        if type(value) is not int or not 0 <= value < text.vocab_size:
            raise ConversionError(
                f"{place} has the {key} {value!r}, but it must be a token's, from 0 to {text.vocab_size - 1}."
            )
    if config.image_token_id == config.video_token_id:
        raise ConversionError(f"{place} has one id for pictures and videos, but they are different tokens.")


def head_dim(text) -> int:
    """Width of one attention head of a text config."""
    return text.hidden_size // text.num_attention_heads


def _shrink(config):
    """One group of heads, two layers with the geometries of the first and the last, and ten tokens."""
    text, vision, schedule = config.text_config, config.vision_config, config.schedule
    ends = sorted({0, text.num_hidden_layers - 1})
    group = math.gcd(text.num_attention_heads, text.num_key_value_heads)
    width = head_dim(text) * (text.num_attention_heads // group)
    text.num_attention_heads //= group
    text.num_key_value_heads //= group
    text.hidden_size, text.intermediate_size, text.vocab_size = width, 8, TOKENS
    text.pad_token_id = None
    text.layer_types = [text.layer_types[layer] for layer in ends]
    text.num_hidden_layers = len(ends)
    config.circle_rope = {**config.circle_rope, "AGE_mode": [schedule[layer] for layer in ends]}
    config.image_token_id, config.video_token_id = IMAGE, VIDEO
    vision.hidden_size //= vision.num_heads
    vision.num_heads, vision.intermediate_size, vision.out_hidden_size = 1, 8, width
    config._attn_implementation = "eager"  # fused kernels may turn what is not finite into zeros


@torch.no_grad()
def _run(model, vision):
    side = 2 * vision.spatial_merge_size
    values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    image, video = [[1, side, side]], [[2, side, side]]
    ids = [[1, *[IMAGE] * 4, 2, *[VIDEO] * 8, 3]]
    output = model(
        input_ids=torch.tensor(ids),
        attention_mask=torch.ones(1, len(ids[0]), dtype=torch.long),
        pixel_values=torch.rand(side * side, values),
        image_grid_thw=torch.tensor(image),
        pixel_values_videos=torch.rand(2 * side * side, values),
        video_grid_thw=torch.tensor(video),
        second_per_grid_ts=torch.tensor([1.0]),
        use_cache=False,
    )
    return output.last_hidden_state
