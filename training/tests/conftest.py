"""Shared fixtures of the training tests: a generated dataset, an official-layout checkpoint, and how commands run."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Nothing is fetched, and remote code goes into a cache of its own.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": tempfile.mkdtemp(prefix="circle_rope_modules_")}
for cache in ("MODELSCOPE_CACHE", "HF_DATASETS_CACHE"):
    os.environ[cache] = tempfile.mkdtemp(prefix="circle_rope_cache_")

ROOT = Path(__file__).resolve().parents[2]
TESTS = Path(__file__).resolve().parent
for folder in (ROOT, ROOT / "shapes", ROOT / "training", TESTS):
    sys.path.insert(0, str(folder))
sys.path.append(str(ROOT / "tests"))  # behind this folder: both have a conftest

import pytest  # noqa: E402

from pictures_set import write_set  # noqa: E402


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A dataset folder with `train.jsonl`."""
    return write_set(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def stock_dir(tmp_path_factory):
    """`tiny`'s weights as an official checkpoint: stock classes, no block."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2

    folder = tmp_path_factory.mktemp("stock")
    tiny = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2.from_pretrained(ROOT / "tiny")
    kept = {key: value for key, value in tiny.config.to_dict().items() if key not in ("circle_rope", "auto_map")}
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig.from_dict({**kept, "model_type": "qwen2_5_vl"}))
    model.load_state_dict(tiny.state_dict())
    model.save_pretrained(folder)
    for file in (ROOT / "tiny").glob("*"):
        if file.suffix in (".json", ".txt", ".jinja") and file.name != "config.json":
            shutil.copy(file, folder / file.name)
    return folder


def run(*command, cwd=ROOT, **environment):
    """A command as a user gives it, its output as text."""
    environment = {**os.environ, **{key: str(value) for key, value in environment.items()}}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=cwd, env=environment)


def script(name):
    """A command that a package of this environment brought."""
    return Path(sys.executable).with_name(name)
