"""liger-kernel's kernels for Qwen2.5-VL: they go into the modules that our classes inherit."""

import torch

from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2


def use_liger_kernels() -> None:
    """Let Trainer's `use_liger_kernel` find the kernels, which it looks up by model type, and needs a GPU for.

    Raises:
        ValueError: liger-kernel is not installed or does not go with this transformers, or there is no GPU.
    """
    try:
        from liger_kernel.transformers import monkey_patch
        from liger_kernel.transformers.model.qwen2_5_vl import lce_forward  # noqa: F401 (what the patch imports later)
    except ImportError as error:
        raise ValueError(
            f"use_liger_kernel cannot have its kernels here ({error}): pip install -U liger-kernel, or leave it out."
        ) from None
    if not torch.accelerator.is_available():
        raise ValueError("use_liger_kernel needs a GPU, and there is none: leave it out.")
    monkey_patch.MODEL_TYPE_TO_APPLY_LIGER_FN[Qwen2_5_VLConfig_CircleRoPE_V2.model_type] = (
        monkey_patch.apply_liger_kernel_to_qwen2_5_vl
    )
