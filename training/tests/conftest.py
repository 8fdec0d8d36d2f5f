"""Shared fixtures of the training tests: a generated dataset, an official-layout checkpoint, and how commands run."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Nothing is fetched, and remote code goes into a cache of its own.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": tempfile.mkdtemp(prefix="circle_rope_modules_")}
os.environ |= {
    cache: tempfile.mkdtemp(prefix="circle_rope_cache_")
    for cache in ("MODELSCOPE_CACHE", "HF_DATASETS_CACHE", "HF_HUB_CACHE")
}

import pytest

from .pictures_set import write_set

ROOT = Path(__file__).resolve().parents[2]
TESTS = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A dataset folder with `train.jsonl`."""
    return write_set(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def stock_dir(tmp_path_factory):
    """The root's weights as an official checkpoint: stock classes, no block."""
    from tests.models import save_as_stock

    return save_as_stock(tmp_path_factory.mktemp("stock"))


def run(*command, cwd=ROOT, **environment):
    """A command as a user gives it, its output as text."""
    environment = {**os.environ, **{key: str(value) for key, value in environment.items()}}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=cwd, env=environment)


def script(name):
    """A command that a package of this environment brought."""
    return Path(sys.executable).with_name(name)


def warm(*imports):
    """How commands run in a process that has `imports`: as `run` does, with all that they print in `stdout`."""
    from tests.warm_python import executable

    def command(*arguments, **environment):
        done = run(executable(*imports), *arguments, **environment)
        done.stdout += done.stderr
        return done

    return command


def write_to_hub_cache(folder, repo, commit, revision="main"):
    """Put a copy of a folder into the cache of the Hub, as if it had been fetched."""
    from huggingface_hub.constants import HF_HUB_CACHE

    cached = Path(HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    shutil.copytree(folder, cached / "snapshots" / commit, dirs_exist_ok=True)
    (cached / "refs").mkdir(exist_ok=True)
    (cached / "refs" / revision).write_text(commit)
