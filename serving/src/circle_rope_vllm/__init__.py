"""vLLM plugin that serves Qwen2.5-VL with Circle-RoPE or AGE: `pip install` is all that vLLM needs to find it."""

from packaging.version import Version

# It builds on parts of vLLM that are not a public interface: the runners' position rows, and the model's classes.
SUPPORTED = ("0.32", "0.34")


def register() -> None:
    """Make vLLM, and transformers within it, know the configuration and the model; run by vLLM in every process.

    Raises:
        ImportError: a vLLM that this package was not made for.
    """
    import vllm

    first, end = map(Version, SUPPORTED)
    if not first <= Version(Version(vllm.__version__).base_version) < end:
        raise ImportError(
            f"circle-rope-vllm serves with vLLM from {first} to below {end}, but found {vllm.__version__}: install a "
            "vLLM in that range, or uninstall circle-rope-vllm."
        )
    from transformers import AutoConfig
    from vllm import ModelRegistry
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP

    from .configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2
    from .start import V1Config, VerifyCircleRoPE

    for config in (Qwen2_5_VLConfig_CircleRoPE_V2, V1Config):
        AutoConfig.register(config.model_type, config, exist_ok=True)
    name = "Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2"
    ModelRegistry.register_model(name, f"circle_rope_vllm.model:{name}")
    MODELS_CONFIG_MAP[name] = VerifyCircleRoPE
