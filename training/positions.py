"""Positions made outside of the model: without its weights, carried past a cast, made anew under annealing."""

import warnings

import torch
from torch.nn.utils.rnn import pad_sequence

from .blocks import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2, circle_rope_model


def rope_index_of(config):
    """`get_rope_index` under a config's block without a model, for a collator or a data worker.

    Args:
        config: of the checkpoint that is trained.

    Returns:
        A function with the arguments and results of the model's own.
    """
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(config).model
    return model.get_rope_index


def carry_positions(model, afresh: bool = False) -> None:
    """Let `position_ids` go past whatever casts the inputs of `model`, as FSDP2 does in accelerate's mixed precision.

    Two forward pre-hooks: one before all others takes them, one on the model without its head hands them on. Call it
    when the model is wrapped already.

    Args:
        model: what is called in training, with a Circle-RoPE model somewhere in it.
        afresh: make them anew from `input_ids` and the grids, under the block that the model has by now.
    """
    inner = circle_rope_model(model).model
    held = []

    def take(module, args, kwargs):
        held.clear()
        positions = kwargs.get("position_ids")
        if positions is None:
            return args, kwargs
        held.append(make_positions(inner, **kwargs) if afresh else positions)
        return args, {name: value for name, value in kwargs.items() if name != "position_ids"}

    def give(module, args, kwargs):
        return args, {**kwargs, "position_ids": held.pop()} if held else kwargs

    model.register_forward_pre_hook(take, with_kwargs=True, prepend=True)
    inner.register_forward_pre_hook(give, with_kwargs=True)


def warn_of_grids(model) -> None:
    """Warn, once, of ready-made positions that put pictures on M-RoPE's grid where layers should see a ring.

    Stock's trainers pass such: integers, `(3, batch, seq)` or with a text row in front.
    """
    inner = circle_rope_model(model).model
    placeholders = inner.config.image_token_id, inner.config.video_token_id

    def look(module, args, kwargs):
        ids, rows = kwargs.get("input_ids"), kwargs.get("position_ids")
        if "circle" not in inner.config.geometries or ids is None or rows is None:
            return
        if rows.is_floating_point() or rows.ndim != 3 or len(rows) not in (3, 4) or ids.shape != rows.shape[1:]:
            return
        rows = rows[-3:, torch.isin(ids, torch.tensor(placeholders, device=ids.device))]
        if bool((rows != rows[0]).any()):
            handle.remove()
            warnings.warn(
                "position_ids are integers that put a picture's tokens on a grid, as M-RoPE does, but the circle_rope "
                "block has circle layers, and every layer sees M-RoPE now: leave position_ids out, or make them with "
                "get_rope_index (training/other_trainers.md names the line to drop).",
                stacklevel=2,
            )

    handle = inner.register_forward_pre_hook(look, with_kwargs=True)


def make_positions(model, input_ids, attention_mask=None, cu_seq_lens_q=None, **inputs) -> torch.Tensor:
    """`get_rope_index` of a padded batch, or of one packed row whose samples begin at `cu_seq_lens_q`.

    Returns:
        float32 `(3 * geometries, batch, seq)`.
    """
    vision = {key: inputs.get(key) for key in ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")}
    if cu_seq_lens_q is None:
        return model.get_rope_index(input_ids, **vision, attention_mask=attention_mask)[0]
    samples = input_ids[0].split(cu_seq_lens_q.diff().tolist())
    mask = pad_sequence([torch.ones_like(sample) for sample in samples], batch_first=True)
    rows, _ = model.get_rope_index(pad_sequence(samples, batch_first=True), **vision, attention_mask=mask)
    return rows.flatten(1)[:, mask.flatten().bool()][:, None]
