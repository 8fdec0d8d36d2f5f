"""`from_pretrained` and conversion: time against stock's loading and against a plain copy, and peak memory.

Every sample is a process of its own, so that its peak memory is its own.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from .measure import BenchmarkError, Spread, ratio
from .report import percent
from .workloads import BLOCKS, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, config_arguments, parameters

SHARD = 2**30


def write_checkpoint(directory: Path, layers: int) -> int:
    """A stock checkpoint in bf16 with random weights, in shards of about 1 GiB; returns its bytes.

    Raises:
        BenchmarkError: the disk has no room for it and its conversion.
    """
    total = 2 * parameters(layers)
    free = shutil.disk_usage(directory.parent).free
    if 3 * total > free:
        raise BenchmarkError(
            f"a checkpoint of {total / 1e9:.1f} GB and its copies need {3 * total / 1e9:.1f} GB of disk, but "
            f"{free / 1e9:.1f} GB are free: ask for less."
        )
    config = Qwen2_5_VLConfig(**config_arguments(layers), dtype="bfloat16")
    config.architectures = [Qwen2_5_VLForConditionalGeneration.__name__]
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in Qwen2_5_VLForConditionalGeneration(config).state_dict().items()}
    del shapes["lm_head.weight"]  # tied
    directory.mkdir()
    config.save_pretrained(directory)
    shards, size = [{}], 0
    for name, shape in shapes.items():
        if size > SHARD:
            shards.append({})
            size = 0
        shards[-1][name] = shape
        size += 2 * shape.numel()
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = {name: torch.randn(shape, dtype=torch.bfloat16) * 0.02 for name, shape in shard.items()}
        save_file(tensors, directory / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def child(*arguments) -> tuple[float, float]:
    """Seconds and peak memory in bytes of one task of task.py, done by a new process."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    # Stock's modules were compiled when they were installed; ours are in the first turn, unless this forbids it.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.task", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode:
        raise BenchmarkError(f"{arguments[0]} failed: {done.stderr.strip().splitlines()[-1]}")
    result = json.loads(done.stdout.splitlines()[-1])
    return result["seconds"], result["peak"]


def samples_of(tasks: dict, repeats: int, after=lambda: None):
    """Times and peaks of every task, taken in turns; the first turn warms the files up and is dropped."""
    times, peaks = ({name: [] for name in tasks} for _ in range(2))
    for repeat in range(repeats + 1):
        for name, arguments in tasks.items():
            seconds, peak = child(*arguments)
            after()
            if repeat:
                times[name].append(seconds)
                peaks[name].append(peak)
    return times, {name: max(values) for name, values in peaks.items()}


def run_loading(report, repeats, layers, **_):
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        folder = Path(folder)
        total = write_checkpoint(folder / "stock", layers)
        tasks = {"stock": ("load", folder / "stock")}
        for name, block in BLOCKS.items():
            child("convert", folder / "stock", folder / name, json.dumps(block))
            tasks[name] = ("load", folder / name)
        tasks["stock again"] = tasks["stock"]
        times, peaks = samples_of(tasks, repeats)
        for name in tasks:
            if name == "stock":
                continue
            cost = ratio(times, name, "stock")
            row = {
                "what": f"from_pretrained, {total / 1e9:.1f} GB",
                "whose": name,
                "seconds": f"{Spread.of(times[name]).median:.2f}",
                "time over stock": percent(cost),
                "peak memory": f"{peaks[name] / 1e9:.2f} GB",
                "memory over stock": f"{peaks[name] / peaks['stock'] - 1:+.1%}",
            }
            report.add("Loading", row, times=times[name], stock=times["stock"], peaks=peaks)


def run_conversion(report, repeats, gigabytes, **_):
    layer, rest = 0.154, 0.63  # GB
    for size in sorted({min(1.0, gigabytes), gigabytes}):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            folder = Path(folder)
            total = write_checkpoint(folder / "stock", max(1, round((size - rest) / layer)))
            tasks = {
                "copy": ("copy", folder / "stock", folder / "result"),
                "convert by copying": ("convert by copying", folder / "stock", folder / "result", "{}"),
                "convert": ("convert", folder / "stock", folder / "result", "{}"),
            }
            times, peaks = samples_of(tasks, repeats, after=lambda: shutil.rmtree(folder / "result"))  # noqa: B023
            speed = {name: total / 1e6 / Spread.of(values).median for name, values in times.items()}
            row = {
                "checkpoint": f"{total / 1e9:.1f} GB",
                "plain copy": f"{speed['copy']:.0f} MB/s",
                "conversion by copying": f"{speed['convert by copying']:.0f} MB/s",
                "time over a plain copy": percent(ratio(times, "convert by copying", "copy")),
                "conversion by links": f"{Spread.of(times['convert']).median:.2f} s",
                "peak memory": f"{max(peaks['convert'], peaks['convert by copying']) / 1e9:.2f} GB",
            }
            report.add("Conversion", row, times=times, peaks=peaks)
