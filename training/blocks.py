"""Which `circle_rope` block a run uses: that of its checkpoint, or one that is given for an official checkpoint."""

import json
from pathlib import Path

from configuration_qwen2_5_vl_circle_rope import (
    Qwen2_5_VLConfig_CircleRoPE_V2,
    age_schedule,
    validate_circle_rope,
)
from conversion.base import ConversionError, read_json
from conversion.convert import make_config
from conversion.options import read_block, read_object
from modelcard_qwen2_5_vl_circle_rope import complete_card, schedule_in_words
from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2

__all__ = [
    "Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2",
    "age_schedule",
    "circle_rope_model",
    "complete_card",
    "config_with_block",
    "read_block",
    "read_override",
    "schedule_in_words",
    "validate_circle_rope",
]

ARCHITECTURES = (
    "Qwen2_5_VLForConditionalGeneration_CircleRoPE",
    Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2.__name__,
)


def circle_rope_model(model):
    """The Circle-RoPE model within whatever wraps it: PEFT, DDP, FSDP, a compiled module.

    Raises:
        ValueError: there is none.
    """
    for module in model.modules():
        if hasattr(type(module), "set_circle_rope"):
            return module
    raise ValueError(
        f"{type(model).__name__} has no set_circle_rope: give a converted checkpoint, or the classes of this repo."
    )


def config_with_block(
    directory: str | Path, block: dict | None, over_default: bool = False
) -> Qwen2_5_VLConfig_CircleRoPE_V2:
    """The config of a checkpoint under a block.

    An official checkpoint takes the block as it is (or `over_default`: its keys, over those of this repo's
    config.json); without one it gets that of this repo's config.json. A converted one has its own and needs none; a
    block that says the same is accepted.

    Raises:
        ValueError: no Qwen2.5-VL checkpoint, a block that is not allowed or does not fit it (a schedule of another
            depth, another head_dim), or one that says something else than a converted checkpoint's own.
    """
    directory = Path(directory)
    raw = read_json(directory / "config.json")
    own = make_config(directory, {})
    if raw["model_type"] == "qwen2_5_vl" and raw.get("circle_rope") is None:
        config = make_config(directory, block or {})
        if block is not None and not over_default:
            config["circle_rope"] = validate_circle_rope(block)
        return _from_dict(config)
    for key, value in validate_circle_rope(block).items():
        if _positions(_from_dict(make_config(directory, {key: value}))) != _positions(_from_dict(own)):
            raise ConversionError(
                f"{directory} is converted already, with the block {json.dumps(own['circle_rope'])}, but {key} "
                f"{json.dumps(value)} was asked for: leave the override out, or convert it to another block with "
                "push_to_hub.py."
            )
    return _from_dict(own)


def _from_dict(config):
    return Qwen2_5_VLConfig_CircleRoPE_V2.from_dict(json.loads(json.dumps(config)))


def _positions(config):
    """All that the block decides."""
    text = config.text_config
    rope = {name: getattr(text, name, None) for name in ("rope_parameters", "rope_theta", "rope_scaling")}
    return config.schedule, config.make_geometry("circle"), rope


def read_override(override: str | dict | None) -> dict | None:
    """The block of an override as V2's recipe writes it, `{"architectures": [...], "circle_rope": {...}}`.

    Raises:
        ValueError: no JSON object, another key than those two, or another architecture.
    """
    if override is None:
        return None
    override = read_object(f"model_config_override {override}", override)
    for key, value in override.items():
        if key not in ("circle_rope", "architectures"):
            raise ConversionError(
                f"model_config_override has the key {key!r}, but only circle_rope (and V2's architectures) can be "
                "overridden here: change anything else in the checkpoint's config.json."
            )
        if key == "architectures" and not (isinstance(value, list) and set(value) <= set(ARCHITECTURES)):
            raise ConversionError(
                f"model_config_override has the architectures {value!r}, but must have {list(ARCHITECTURES[-1:])} or "
                "none."
            )
    return validate_circle_rope(override["circle_rope"]) if "circle_rope" in override else None
