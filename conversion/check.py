"""Before an upload: a directory loads in a new process as a user will load it, from its own code and nothing else."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .base import ConversionError, read_json
from .folder import Plan

SMALL = 1_000_000_000  # bytes of weights up to which the model is loaded whole and generates a token
SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH")


def check_auto_map(directory: Path, code: Path | None = None) -> None:
    """Every entry of auto_map names a class in a file of the directory, or of `code` where its code is elsewhere.

    Raises:
        ConversionError: one does not.
    """
    for auto_class, reference in read_json(directory / "config.json")["auto_map"].items():
        module, _, name = reference.rpartition("--")[2].rpartition(".")
        path = (code or directory) / f"{module}.py"
        if not path.is_file() or f"class {name}(" not in path.read_text(encoding="utf-8"):
            raise ConversionError(f"auto_map of {directory} says {auto_class} is {reference}, which is not there.")


def check_loading(plan: Plan, directory: Path) -> None:
    """Load a written directory in a process that is offline and has a cache of remote code of its own.

    AutoConfig, AutoProcessor and AutoModelForImageTextToText are used with `trust_remote_code=True`; a small model is
    loaded whole and generates a token for a picture, a large one is built on the meta device. An adapter is put onto
    its base where that is on this computer and PEFT is installed.

    Raises:
        ConversionError: it does not load.
    """
    weights = sum(size for name, size in plan.sizes.items() if name.endswith(".safetensors"))
    arguments = [str(directory.resolve()), "small" if weights <= SMALL else "large"]
    if "base_model_name_or_path" in plan.config:
        if plan.local_base is None:
            plan.notes.append("the adapter's base is not on this computer, so the adapter was not loaded onto it")
            return
        arguments[1:] = ["adapter", str(plan.local_base.resolve())]
    else:
        check_auto_map(directory, plan.code)
    with tempfile.TemporaryDirectory(prefix="circle_rope_check_") as scratch:
        environment = {key: value for key, value in os.environ.items() if key not in SECRETS}
        environment |= {
            "HF_HUB_OFFLINE": "1",
            "HF_MODULES_CACHE": scratch,
            "HF_TOKEN_PATH": os.path.join(scratch, "token"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        script = Path(__file__).with_name("load_check.py")
        command = [sys.executable, str(script), *arguments]
        done = subprocess.run(command, cwd=scratch, env=environment, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it ended without a word"]
        raise ConversionError(f"{directory} is written but does not load: {lines[-1].removeprefix('error: ')}")
    plan.notes += [line.removeprefix("note: ") for line in done.stdout.splitlines() if line.startswith("note: ")]
