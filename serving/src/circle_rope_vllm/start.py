"""What is checked and set before vLLM starts an engine: every refusal is made here, never at a request."""

import vllm
from packaging.version import Version
from vllm.model_executor.models.config import VerifyAndUpdateConfig
from vllm.transformers_utils.config import get_config

from . import release_of
from .circle_rope_imp import VisionBlock, sequence_index
from .configuration_qwen2_5_vl_circle_rope import V1_MODEL_TYPE, Qwen2_5_VLConfig_CircleRoPE_V2, read_rope
from .rows import places_for

# Drafts that are read off the text. A draft model would read the tag as a position.
TEXT_DRAFTS = ("ngram", "ngram_gpu", "suffix")
# Their frequencies depend on the length of what is in the cache.
MOVING_ROPES = ("dynamic", "longrope")
# Far below the 2^65 that the rows can hold, for larger and more pictures than those that are tried.
LARGEST_POSITION = 1 << 40
# Its Qwen2.5-VL, stock's too, takes a video without the times of its frames.
WITH_TIMES_OF_FRAMES = Version("0.31")
# Two names of one key.
RADIUS = {"radius", "circle_r"}


class V1Config(Qwen2_5_VLConfig_CircleRoPE_V2):
    """Configuration of a checkpoint of Circle-RoPE V1, which becomes that of V2 when it is read."""

    model_type = V1_MODEL_TYPE


def _merged_block(model_config):
    """The block to serve: the keys of an `hf_overrides`, of which vLLM makes a whole block, over the checkpoint's."""
    block, overrides = model_config.hf_config.circle_rope, model_config.hf_overrides
    given = overrides.get("circle_rope") if isinstance(overrides, dict) else None
    if not isinstance(given, dict):
        return block
    revision = getattr(model_config, "_hf_config_revision", None) or model_config.revision
    stored = get_config(
        model_config.hf_config_path or model_config.model,
        model_config.trust_remote_code,
        revision,
        model_config.code_revision,
        model_config.config_format,
    ).circle_rope
    replaced = {*given, *(RADIUS if RADIUS & given.keys() else ())}
    return {key: value for key, value in stored.items() if key not in replaced} | given


class VerifyCircleRoPE(VerifyAndUpdateConfig):
    """vLLM's hook for one architecture: it sees the whole configuration when that is complete."""

    @staticmethod
    def verify_and_update_config(vllm_config) -> None:
        """Check that the engine can serve the model exactly, and ask the runner for as many rows as it needs.

        Raises:
            ValueError: a checkpoint without a `circle_rope` block, or an option that would make positions wrong.
        """
        model_config = vllm_config.model_config
        config = model_config.hf_config
        if not isinstance(config, Qwen2_5_VLConfig_CircleRoPE_V2):
            raise ValueError(
                f"{model_config.model} has the model_type {config.model_type!r}, which is no Circle-RoPE checkpoint: "
                "convert it with push_to_hub.py, or leave the architecture to its own config.json."
            )
        config.circle_rope = _merged_block(model_config)
        geometries = [config.make_geometry(name) for name in config.geometries]
        pictures = [VisionBlock(0, 0, 1, 8, 8), VisionBlock(0, 64, 1, 8, 8)]
        largest = sequence_index(pictures, None, (1, 128), geometries)[0].abs().max().item()
        if not largest < LARGEST_POSITION:
            raise ValueError(
                f"the circle_rope block of {model_config.model} puts a small picture at {largest:g}, where float32 "
                "cannot tell its tokens apart: make the radius, move_to_positive or image_stride smaller."
            )
        rope = read_rope(vars(config.text_config))
        if "mrope_section" not in rope:
            raise ValueError(
                f"the text config of {model_config.model} has no mrope_section in its rope_parameters: put it back, "
                "as 3 integers whose sum is head_dim / 2."
            )
        if rope["rope_type"] in MOVING_ROPES:
            raise ValueError(
                f"the rope_type {rope['rope_type']!r} of {model_config.model} cannot be served: use one of fixed "
                "frequencies, such as 'default', 'linear' or 'yarn'."
            )
        media = model_config.multimodal_config
        if media is not None and release_of(vllm) < WITH_TIMES_OF_FRAMES and media.get_limit_per_prompt("video"):
            raise ValueError(
                f"vLLM {vllm.__version__} drops the times of a video's frames, which their positions are made of: "
                f"""refuse videos with --limit-mm-per-prompt '{{"video": 0}}', or install {WITH_TIMES_OF_FRAMES}."""
            )
        if media is not None and media.is_multimodal_pruning_enabled():
            raise ValueError(
                "video pruning drops tokens and makes positions of its own, which are not Circle-RoPE's: leave "
                "--video-pruning-rate out."
            )
        drafts = vllm_config.speculative_config
        if drafts is not None and drafts.method not in TEXT_DRAFTS:
            raise ValueError(
                f"the speculative method {drafts.method!r} reads positions that are not Circle-RoPE's: use one of "
                f"{', '.join(TEXT_DRAFTS)}, or none."
            )
        requests, places = vllm_config.scheduler_config.max_num_seqs, places_for(model_config.max_model_len)
        if requests >= places:
            raise ValueError(
                f"a context of {model_config.max_model_len} tokens leaves room for {places} requests at once, but "
                f"max_num_seqs is {requests}: make --max-model-len or --max-num-seqs smaller."
            )
        # vLLM's runners keep one row of positions for each entry. The type is what the mark stands for.
        padding = [0] * 3 * (len(config.geometries) - 1)
        config.text_config.rope_parameters = {**rope, "mrope_section": [*rope["mrope_section"][:3], *padding]}
