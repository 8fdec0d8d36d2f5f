"""vLLM plugin that serves Qwen2.5-VL with Circle-RoPE or AGE: `pip install` is all that vLLM needs to find it."""

from packaging.version import Version

# It builds on parts of vLLM that are not a public interface: the runners' position rows, and the model's classes.
SUPPORTED = ("0.30", "0.34")
# Of Circle-RoPE V1 and V2; their own classes may not import beside another vLLM's transformers.
MODEL_TYPES = ("qwen2_5_vl_circle_rope", "qwen2_5_vl_circle_rope_v2")


def register() -> None:
    """Make vLLM, and transformers within it, know the configuration and the model; run by vLLM in every process.

    vLLM calls it without a try, whatever model it is started for: under a vLLM that this package was not made for,
    Circle-RoPE's checkpoints are refused when they are read, and all others run.
    """
    import vllm
    from transformers import AutoConfig

    first, end = map(Version, SUPPORTED)
    if not first <= release_of(vllm) < end:
        for model_type in MODEL_TYPES:
            AutoConfig.register(model_type, _refused(model_type, first, end, vllm.__version__), exist_ok=True)
        return
    from transformers.modeling_rope_utils import RotaryEmbeddingConfigMixin
    from vllm import ModelRegistry
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP

    from .configuration_qwen2_5_vl_circle_rope import MARK, Qwen2_5_VLConfig_CircleRoPE_V2
    from .start import V1Config, VerifyCircleRoPE

    for config in (Qwen2_5_VLConfig_CircleRoPE_V2, V1Config):
        AutoConfig.register(config.model_type, config, exist_ok=True)
    name = "Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2"
    ModelRegistry.register_model(name, f"circle_rope_vllm.model:{name}")
    MODELS_CONFIG_MAP[name] = VerifyCircleRoPE
    # vLLM has transformers check every rope, which warns of a type that it has no such method for: ours was checked.
    setattr(RotaryEmbeddingConfigMixin, f"_validate_{MARK}_rope_parameters", lambda *args, **kwargs: None)


def release_of(vllm):
    """The version of a vLLM without what a build adds to it."""
    return Version(Version(vllm.__version__).base_version)


def _refused(name, first, end, found):
    """A configuration class of that model type which nothing can be read into."""
    from transformers import PretrainedConfig

    class Refused(PretrainedConfig):
        model_type = name

        @classmethod
        def from_dict(cls, config_dict, **kwargs):
            raise ValueError(
                f"circle-rope-vllm serves Circle-RoPE with vLLM from {first} to below {end}, but found {found}: "
                "install a vLLM in that range."
            )

    return Refused
