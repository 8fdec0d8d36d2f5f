"""Rows with and without pictures on several processes: where weights are sharded, all must call the vision tower."""

import torch
import torch.distributed as dist

from .blocks import circle_rope_model


def call_tower_on_every_rank(model) -> None:
    """Let a process whose batch has no picture, or no video, send a black picture through the tower and drop it.

    FSDP and ZeRO-3 gather the tower's weights from all processes whenever it is called, and DDP waits for gradients of
    all that is trained: a process that passes the tower over leaves the others waiting for ever. Losses and gradients
    are those of the batch alone. One process calls the tower as it would without this.

    Args:
        model: with a Circle-RoPE model somewhere in it, before or after it is wrapped.
    """
    inner = circle_rope_model(model).model
    vision = inner.config.vision_config
    grid = torch.tensor([[1, vision.spatial_merge_size, vision.spatial_merge_size]])
    patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    missing = []

    def count(module, args, kwargs):
        missing.clear()
        if dist.is_initialized():
            tokens = next(value for value in kwargs.values() if torch.is_tensor(value))
            calls = sum(kwargs.get(key) is not None for key in ("pixel_values", "pixel_values_videos"))
            most = torch.tensor(calls, device=tokens.device)
            dist.all_reduce(most, dist.ReduceOp.MAX)
            missing[:] = [None] * (int(most) - calls)

    def fill_up(module, args, kwargs):
        embeds = kwargs.get("inputs_embeds")
        while missing:
            missing.pop()
            black = torch.zeros(int(grid.prod()), patch, dtype=inner.visual.dtype, device=embeds.device)
            features = inner.visual(black, grid_thw=grid.to(embeds.device))
            features = getattr(features, "pooler_output", features)  # transformers 4 returns them themselves
            embeds = embeds + features[:0].sum()  # nothing, whose gradient is zero in every weight of the tower
        return args, {**kwargs, "inputs_embeds": embeds}

    inner.register_forward_pre_hook(count, with_kwargs=True)
    # Before the hooks of ZeRO-3, which fetch ahead in the order of the last call: the tower comes before the text.
    inner.language_model.register_forward_pre_hook(fill_up, with_kwargs=True, prepend=True)
