"""Prefill, cached decode step and training step of whole models, against stock with the same weights."""

import inspect
from functools import partial

import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from .measure import Spread, interleave, ratio
from .report import milliseconds, percent
from .workloads import DEPTH, cache_behind, for_stock, models, picture_inputs

# Newer releases have another name for it.
NAME_OF_THE_CACHE = (
    "cache"
    if "cache" in inspect.signature(Qwen2_5_VLForConditionalGeneration.forward).parameters
    else "past_key_values"
)
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@torch.no_grad()
def prefill(model, inputs):
    return model(**inputs, use_cache=True, logits_to_keep=1)


@torch.no_grad()
def decode(model, cache, inputs):
    """One step of a decoding loop behind a prefill; the cache is cut back, so that every step is the same."""
    model(**inputs, **{NAME_OF_THE_CACHE: cache}, use_cache=True)
    cache.crop(-1)


def decode_call(model, inputs):
    """The call of `decode` on the cache of a prefill and one token, whose positions the model finds by itself."""
    cache = cache_behind(model, inputs)
    step = {"input_ids": torch.full((1, 1), 100, device=inputs["input_ids"].device)}
    return partial(decode, model, cache, step)


@torch.no_grad()
def generate(model, inputs):
    """Sixteen tokens, without the prefill's share: the prompt is one token."""
    model.generate(**inputs, max_new_tokens=16, min_new_tokens=16, do_sample=False)


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
            row = {"what": what, "type": dtype, "layers": layers}
            compare(report, "Steps of the model", row, calls, count, device)
        del built, calls


def run_narrow(report, device, repeats, attention, **_):
    """The case in which overhead shows most: many layers, and next to nothing to compute in each."""
    built = models(DEPTH, device, torch.float32, attention, are_narrow=True)
    inputs = picture_inputs(128, 8, device, torch.float32)
    prompt = {"input_ids": torch.full((1, 1), 100, device=device)}
    for what, factory, given, count in (
        ("cached decode step", decode_call, inputs, 20 * repeats),
        ("16 tokens of generate", lambda model, inputs: partial(generate, model, inputs), prompt, 3 * repeats),
    ):
        calls = {name: factory(model, for_stock(given) if name == "stock" else given) for name, model in built.items()}
        calls["stock again"] = factory(built["stock"], for_stock(given))
        row = {"what": what, "type": "fp32", "layers": DEPTH}
        compare(report, "Steps of narrow layers", row, calls, count, device)


def compare(report, table, row, calls, count, device):
    """Take samples of the calls in turns, and add a row of what each costs over stock."""
    samples = interleave(calls, count, device)
    costs = {name: ratio(samples, name, "stock") for name in calls if name != "stock"}
    row |= {"stock": milliseconds(Spread.of(samples["stock"]))}
    row |= {f"{name} costs": percent(spread) for name, spread in costs.items()}
    report.add(table, row, times=samples, costs={name: vars(spread) for name, spread in costs.items()})
