"""One loading, conversion or copy in a process of its own; prints its seconds and the peak memory of the process."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path


def load(directory):
    from transformers import AutoModelForImageTextToText

    begin = time.perf_counter()
    AutoModelForImageTextToText.from_pretrained(directory, trust_remote_code=True, dtype="auto")
    return time.perf_counter() - begin


def convert(base, output, block):
    from conversion.convert import convert

    begin = time.perf_counter()
    convert(Path(base), Path(output), json.loads(block))
    os.sync()
    return time.perf_counter() - begin


def convert_by_copying(base, output, block):
    """As on a file system that can neither clone nor link a file, or onto another disk."""
    from conversion import folder

    folder._clone, folder.SAVING_REPLACES = lambda source, target: False, False
    return convert(base, output, block)


def copy(base, output):
    begin = time.perf_counter()
    shutil.copytree(base, output)
    os.sync()
    return time.perf_counter() - begin


if __name__ == "__main__":
    tasks: dict[str, Callable[..., float]] = {
        "load": load,
        "convert": convert,
        "convert by copying": convert_by_copying,
        "copy": copy,
    }
    seconds = tasks[sys.argv[1]](*sys.argv[2:])
    # Not getrusage's: that one starts from the memory of the process which started this one.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) * 1024
    print(json.dumps({"seconds": seconds, "peak": peak}))
