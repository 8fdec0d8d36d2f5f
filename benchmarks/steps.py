"""Prefill, cached decode step and training step of whole models, against stock with the same weights."""

from functools import partial

import torch
from transformers import DynamicCache

from measure import Spread, interleave, ratio
from report import milliseconds, percent
from workloads import for_stock, models, picture_inputs

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@torch.no_grad()
def prefill(model, inputs):
    return model(**inputs, use_cache=True, logits_to_keep=1)


@torch.no_grad()
def decode(model, cache, inputs):
    """One step of `generate`'s loop behind a prefill; the cache is cut back, so that every step is the same."""
    model(**inputs, past_key_values=cache, use_cache=True)
    cache.crop(-1)


def decode_call(model, inputs):
    """The call of `decode` on what `generate` hands to a step: one token, its positions, the cache of a prefill."""
    with torch.no_grad():
        cache = model(**inputs, past_key_values=DynamicCache(), use_cache=True, logits_to_keep=1).past_key_values
    device, length = inputs["input_ids"].device, cache.get_seq_length()
    geometries = len(getattr(model.model, "geometries", [0]))
    index = length + model.model.rope_deltas.view(1, geometries).T[:, :, None]
    text_row = torch.full((1, 1, 1), length, device=device)
    position_ids = torch.cat([text_row.to(index), index.repeat_interleave(3, dim=0)])
    step = {
        "input_ids": torch.full((1, 1), 100, device=device),
        "attention_mask": torch.ones(1, length + 1, dtype=torch.long, device=device),
        "position_ids": position_ids,
    }
    return partial(decode, model, cache, step)


def train(model, inputs):
    """Forward and backward; the gradients are dropped."""
    model(**inputs, labels=inputs["input_ids"], use_cache=False).loss.backward()
    model.zero_grad(set_to_none=True)


def run(report, device, repeats, layers, tokens, attention, dtypes, **_):
    for dtype in dtypes:
        built = models(layers, device, DTYPES[dtype], attention)
        side = int((tokens / 2) ** 0.5) // 2 * 2
        inputs = picture_inputs(tokens, side, device, DTYPES[dtype])
        per_model = {name: for_stock(inputs) if name == "stock" else inputs for name in built}
        for what, factory, count in (
            (f"prefill, {tokens:,} tokens", lambda model, inputs: partial(prefill, model, inputs), repeats),
            ("cached decode step", decode_call, 3 * repeats),
            (f"training step, {tokens:,} tokens", lambda model, inputs: partial(train, model, inputs), repeats),
        ):
            calls = {name: factory(model, per_model[name]) for name, model in built.items()}
            # The same once more: how far two equal things differ on this machine.
            calls["stock again"] = factory(built["stock"], per_model["stock"])
            samples = interleave(calls, count, device)
            costs = {name: ratio(samples, name, "stock") for name in calls if name != "stock"}
            row = {
                "what": what,
                "type": dtype,
                "layers": layers,
                "stock": milliseconds(Spread.of(samples["stock"])),
                **{f"{name} costs": percent(spread) for name, spread in costs.items()},
            }
            report.add("Steps of the model", row, times=samples, costs={k: vars(v) for k, v in costs.items()})
        del built, calls
