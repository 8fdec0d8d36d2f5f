"""Timing of several calls in turns, so that whatever else the machine does hits all of them."""

import ctypes
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch

WARM_UPS = 2
SHORTEST_SAMPLE = 0.005  # seconds; faster calls are repeated within a sample


class BenchmarkError(ValueError):
    """What was asked for cannot be measured here."""


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of some samples."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: list[float]):
        if len(samples) == 1:
            return cls(samples[0], samples[0], samples[0])
        low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, low, high)


def check_device(device: str) -> None:
    """Raises BenchmarkError if torch has no such device here."""
    if device == "cuda" and not torch.cuda.is_available():
        raise BenchmarkError("--device cuda was given, but torch sees no CUDA device here: use --device cpu.")


def check_memory(needed: int, device: str, what: str) -> None:
    """Raises BenchmarkError if `needed` bytes are not free on the device."""
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available
    if needed > free:
        raise BenchmarkError(
            f"{what} needs about {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free on {device}: ask for less."
        )


def keep_memory() -> None:
    """Have the C library keep what it frees.

    Otherwise the gigabytes of a step's results go back to the kernel and are faulted in anew at every step, which
    takes as long as the step itself, and a different time at every turn.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX of malloc.h
        libc.mallopt(trim_threshold, -1)
        libc.mallopt(mmap_max, 0)


def interleave(calls: dict[str, Callable], repeats: int, device: str) -> dict[str, list[float]]:
    """Seconds per call of every one of `calls`, `repeats` samples each, taken in turns in a rotating order."""
    for call in calls.values():
        for _ in range(WARM_UPS):
            call()
    number = max(1, round(SHORTEST_SAMPLE / max(min(_sample(call, 1, device) for call in calls.values()), 1e-6)))
    samples = {name: [] for name in calls}
    names = list(calls)
    for repeat in range(repeats):
        shift = repeat % len(names)
        for name in names[shift:] + names[:shift]:
            samples[name].append(_sample(calls[name], number, device))
    return samples


def _sample(call, number, device):
    if device == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        for _ in range(number):
            call()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3 / number
    begin = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - begin) / number


def ratio(samples: dict[str, list[float]], over: str, under: str) -> Spread:
    """Spread of `over` / `under`, sample by sample: both were taken within one turn."""
    return Spread.of([a / b for a, b in zip(samples[over], samples[under])])
