"""Logit spread with the queries and keys of a trained checkpoint, layer by layer.

The model reads a generated picture and a question as it was trained to. The queries of the text behind the picture and
the keys of the picture are taken as they are before rotation, and are then laid out by every geometry in turn. So each
layer's content is what the checkpoint's own positions led to, and only the layer's own rotation changes.
"""

import random
import warnings
from collections.abc import Sequence

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoProcessor, PretrainedConfig

from configuration_qwen2_5_vl_circle_rope import STRATEGIES, age_schedule
from shapes.pictures import draw, make_questions, make_scene

from .grids import check_tokens
from .layouts import MAIN, place
from .spread import SECTIONS, Rope, logit_spreads, logits

KINDS = ("qwen2_5_vl_circle_rope_v2", "qwen2_5_vl")
PICTURE_SIZE = 448  # 16x16 merged cells, unless the checkpoint's processor says otherwise
CONTENTS = 8  # at most so many of a picture's keys are put at all positions in turn
FAILURES = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError, SafetensorError)


def load(name: str):
    """Model (float32, on the CPU) and processor of a checkpoint, through the Auto classes.

    Args:
        name: directory or hub id of a Circle-RoPE or a stock Qwen2.5-VL checkpoint.

    Raises:
        ValueError: there is no such checkpoint, it is of another kind, or it is not complete.
    """
    try:
        kind = PretrainedConfig.get_config_dict(name)[0].get("model_type")
    except FAILURES as error:
        raise ValueError(
            f"{name} has no config.json that can be read ({_first_line(error)}): give a checkpoint."
        ) from None
    if kind is None:
        raise ValueError(
            f"{name} has no model_type in its config.json: give a whole checkpoint, such as a merged adapter."
        )
    if kind not in KINDS:
        raise ValueError(
            f"{name} is a checkpoint of the kind {kind!r}, but must be {' or '.join(KINDS)}: give a Qwen2.5-VL, or "
            "convert an older Circle-RoPE with push_to_hub.py."
        )
    auto_class = getattr(transformers, "AutoModelForImageTextToText", None) or transformers.AutoModelForVision2Seq
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        processor = AutoProcessor.from_pretrained(name, trust_remote_code=True)
        model, report = auto_class.from_pretrained(
            name, trust_remote_code=True, dtype=torch.float32, output_loading_info=True
        )
    except FAILURES as error:
        raise ValueError(f"{name} cannot be loaded: {_first_line(error)}") from None
    finally:
        transformers.logging.set_verbosity(verbosity)
        transformers.logging.enable_progress_bar()
    if report["missing_keys"]:
        raise ValueError(
            f"{name} lacks {len(report['missing_keys'])} tensors, such as {sorted(report['missing_keys'])[0]}: give a "
            "complete checkpoint."
        )
    return model.eval(), processor


def _first_line(error):
    return str(error).strip().split("\n")[0] or type(error).__name__


def read_picture(model, processor, rng: random.Random):
    """Let the model read one generated picture with a question.

    Args:
        model, processor: of the checkpoint.
        rng: draws the picture and chooses the question.

    Returns:
        queries: of the text behind the picture in every layer, before rotation, `(layers, heads, text, head_dim)`.
        keys: of the picture, likewise, `(layers, heads, image, head_dim)` (those that heads share are repeated).
        grid: (h, w) of the picture, merged.
    """
    scene = make_scene(rng, held_out=True)
    question, _ = make_questions(scene, rng, 1)[0]
    conversation = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    text = processor.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[text], images=[draw(scene, rng, PICTURE_SIZE)], return_tensors="pt")

    config = model.config.text_config
    head_dim = Rope(config).head_dim
    outputs, hooks = {}, []
    for number, layer in enumerate(model.model.language_model.layers):
        for projection in ("q_proj", "k_proj"):

            def keep(module, args, output, place=(number, projection)):
                outputs[place] = output[0].view(output.shape[1], -1, head_dim).transpose(0, 1)

            hooks.append(getattr(layer.self_attn, projection).register_forward_hook(keep))
    with torch.inference_mode():
        model(**inputs, use_cache=False)
    for hook in hooks:
        hook.remove()

    is_image = inputs["input_ids"][0] == model.config.image_token_id
    behind = is_image.nonzero().max() + 1
    shared_by = config.num_attention_heads // config.num_key_value_heads
    numbers = range(config.num_hidden_layers)
    queries = torch.stack([outputs[number, "q_proj"][:, behind:] for number in numbers])
    keys = torch.stack([outputs[number, "k_proj"][:, is_image] for number in numbers])
    merge = model.config.vision_config.spatial_merge_size
    _, height, width = inputs["image_grid_thw"][0].tolist()
    return queries, keys.repeat_interleave(shared_by, dim=1), (height // merge, width // merge)


def measure(name: str, grids: Sequence[tuple[int, int]], distances: Sequence[int], pictures: int, seed: int) -> dict:
    """The spread of a checkpoint's own queries and keys in every layer, under every layout of `layouts.MAIN`.

    Args:
        name: directory or hub id.
        grids: laid out besides the picture's own grid. Identical keys can be put on any grid.
        distances: how many text tokens are thought between the picture and its question.
        pictures: how many pictures and questions to average over.
        seed: of the pictures.

    Returns:
        What the checkpoint is, and a list of spreads: for a layout, a grid and a distance, by layer, `identical` (each
        of the picture's keys at all positions in turn), `t_share` (the t section's part of its variance, each section
        by itself) and, on the picture's own grid, `actual` (every key at its own place).

    Raises:
        ValueError: see `load`; or the checkpoint makes one token of a picture.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, processor = load(name)
        config, rng = model.config, random.Random(seed)
        rope = Rope(config.text_config, getattr(config, "interleaved_section", None))
        read = [read_picture(model, processor, rng) for _ in range(pictures)]
    own, read = read[0][2], [(queries, keys) for queries, keys, _ in read]
    check_tokens(own[0] * own[1])
    spreads = [
        _measure_layout(read, layout, grid, behind, own, rope)
        for layout in MAIN
        for grid in dict.fromkeys([own, *grids])
        for behind in dict.fromkeys([0, *distances])
    ]
    return {
        "kind": config.model_type,
        "parameters": model.num_parameters(),
        "layers": config.text_config.num_hidden_layers,
        "schedule": list(getattr(config, "schedule", ["mrope"] * config.text_config.num_hidden_layers)),
        "circle_rope": getattr(config, "circle_rope", None),
        "rope": {"head_dim": rope.head_dim, "theta": rope.theta, "mrope_section": rope.mrope_section},
        "grid": list(own),
        "pictures": pictures,
        "spreads": spreads,
        "age": [_age(strategy, spreads, own) for strategy in STRATEGIES],
    }


def _measure_layout(read, layout, grid, behind, own, rope):
    """One layout on one grid at one distance: means over pictures, heads, text tokens and keys, layer by layer."""
    identical, actual, share = [], [], []
    for q, k in read:
        text, image = place(MAIN[layout], *grid, text_tokens=q.shape[-2], behind=behind)
        some = torch.linspace(0, k.shape[-2] - 1, min(CONTENTS, k.shape[-2])).long()
        q_each, k_each = q[:, :, None], k[:, :, some, None]
        identical.append(_by_layer(logit_spreads(q_each, k_each, text, image, rope)))
        parts = [_by_layer(logit_spreads(q_each, k_each, text, image, rope, part).square()) for part in SECTIONS]
        share.append(parts[0] / sum(parts).clamp(min=1e-30))
        if grid == own:
            actual.append(_by_layer(logits(q, k, text, image, rope).std(-1, correction=0)))
    means = [torch.stack(values).mean(0).tolist() if values else None for values in (identical, share, actual)]
    return {
        "layout": layout,
        "grid": list(grid),
        "behind": behind,
        **dict(zip(("identical", "t_share", "actual"), means)),
    }


def _age(strategy, spreads, own):
    """The spreads of every layer under the geometry that the strategy gives it."""
    of = {
        entry["layout"]: entry["identical"] for entry in spreads if (entry["grid"], entry["behind"]) == (list(own), 0)
    }
    geometries = {"circle": of["circle R 10"], "mrope": of["M-RoPE"]}
    schedule = age_schedule(strategy, len(of["M-RoPE"]))
    return {
        "strategy": strategy,
        "schedule": schedule,
        "identical": [geometries[name][layer] for layer, name in enumerate(schedule)],
    }


def _by_layer(values):
    return values.flatten(1).mean(1)
