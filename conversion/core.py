"""The repo's own modules, which stand at its root and are no package."""

import re
from pathlib import Path

import modelcard_qwen2_5_vl_circle_rope as card
from configuration_qwen2_5_vl_circle_rope import (
    AUTO_MAP,
    MARK,
    ROPE_KEYS,
    V1_MODEL_TYPE,
    Qwen2_5_VLConfig_CircleRoPE_V2,
    check_config,
    mark,
    read_rope,
    validate_circle_rope,
)
from modeling_qwen2_5_vl_circle_rope import (
    DOUBLED,
    Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2,
    Qwen2_5_VLModel_CircleRoPE_V2,
    new_name,
)

ROOT = Path(__file__).resolve().parent.parent

__all__ = [
    "AUTO_MAP",
    "MARK",
    "card",
    "ROOT",
    "ROPE_KEYS",
    "V1_MODEL_TYPE",
    "Qwen2_5_VLConfig_CircleRoPE_V2",
    "Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2",
    "Qwen2_5_VLModel_CircleRoPE_V2",
    "check_config",
    "mark",
    "new_name",
    "read_rope",
    "single_name",
    "validate_circle_rope",
]

# What a checkpoint carries to be loaded with trust_remote_code.
MODULES = (
    "circle_rope_imp.py",
    "configuration_qwen2_5_vl_circle_rope.py",
    "modelcard_qwen2_5_vl_circle_rope.py",
    "modeling_qwen2_5_vl_circle_rope.py",
)


def single_name(name: str) -> str:
    """A tensor's name as it is published, where ZeRO-3 saved it under `model.model`."""
    return re.sub(DOUBLED, "model.", name)
