"""`get_rope_index`: ours, for one geometry and for AGE's two, against stock's single one."""

import functools
import warnings

import torch

import circle_rope_imp

from .measure import Spread, check_memory, interleave, ratio
from .report import milliseconds, times
from .workloads import VIDEO, for_stock, position_inputs, position_models


def cases(device):
    """(name, arguments) of every input, one at a time."""
    side = [(1, 34, 34)]
    yield "one 16x16 image", position_inputs(1, 288, [(1, 16, 16)], device)
    yield "8 images", position_inputs(1, 9360, side * 8, device)
    yield "8 large images", position_inputs(1, 33936, [(1, 64, 64)] * 8, device)
    yield "batch of 8, 4 images each", position_inputs(8, 4744, side * 4, device)
    yield "64-frame video", position_inputs(1, 16448, [(64, 16, 16)], device, VIDEO)
    yield "batch of 8, text alone", position_inputs(8, 1024, [], device)
    yield "20 tokens of text", position_inputs(1, 20, [], device)
    for thousands in (1, 2, 4, 8, 16, 32, 64, 128):
        length = thousands * 1024
        images = length // 1024 or 1
        yield f"{thousands}k tokens, an image every 1,024", position_inputs(1, length, [(1, 30, 32)] * images, device)
    for images in (1, 2, 4, 8, 16, 32, 64):
        name = f"{images} x 16x16" + (" images" if images > 1 else " image")
        yield name, position_inputs(1, images * 272, [(1, 16, 16)] * images, device)
    sizes = [(1, 8 + number % 8, 8 + number // 8) for number in range(64)]
    yield "64 images of 64 sizes", position_inputs(1, 10240, sizes, device)


def run(report, device, repeats, **_):
    check_memory(2**30, device, "positions of 128k tokens")
    models = position_models()
    unseen = models.pop("new sizes").model
    for name, inputs in cases(device):
        stock_inputs = for_stock(inputs)
        calls = {"stock": lambda: models["stock"].model.get_rope_index(**stock_inputs)}  # noqa: B023
        for geometry in ("circle", "AGE"):
            calls[geometry] = lambda model=models[geometry]: model.model.get_rope_index(**inputs)  # noqa: B023

        def first_sight():
            # A memory of its own, that is empty: the other calls keep theirs.
            memory = circle_rope_imp._frame
            circle_rope_imp._frame = functools.cache(memory.__wrapped__)
            unseen.get_rope_index(**inputs)  # noqa: B023
            circle_rope_imp._frame = memory

        calls["AGE, new sizes"] = first_sight
        samples = interleave(calls, 2 * repeats + 1, device)
        spreads = {name: Spread.of(values) for name, values in samples.items()}
        faster = {name: ratio(samples, "stock", name) for name in calls if name != "stock"}
        row = {
            "input": name,
            "tokens": f"{inputs['input_ids'].numel():,}",
            **{name: milliseconds(spread) for name, spread in spreads.items() if name != "AGE, new sizes"},
            **{f"{name} is faster": times(spread) for name, spread in faster.items()},
        }
        if device == "cuda":
            row["synchronisations"] = synchronisations(calls["AGE"])
        report.add("Positions (get_rope_index)", row, times=samples, faster={k: vars(v) for k, v in faster.items()})


def synchronisations(call) -> int:
    """How often a call waits for the CUDA device."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        call()
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)
