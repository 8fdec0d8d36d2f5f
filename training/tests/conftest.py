"""Shared fixtures of the training tests: a generated dataset, an official-layout checkpoint, and how commands run."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Nothing is fetched, and remote code goes into a cache of its own.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": tempfile.mkdtemp(prefix="circle_rope_modules_")}
for cache in ("MODELSCOPE_CACHE", "HF_DATASETS_CACHE", "HF_HUB_CACHE"):
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

    from configuration_qwen2_5_vl_circle_rope import plain_rope
    from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2

    folder = tmp_path_factory.mktemp("stock")
    tiny = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2.from_pretrained(ROOT / "tiny")
    with plain_rope(tiny.config.text_config):
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


class ForkServer:
    """Runs commands in a process that has what they import: `server(FILE_OR_MODULE, ARGUMENT...)`."""

    def __init__(self, *imports):
        command = [sys.executable, TESTS / "fork_server.py", *imports]
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed below)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, cwd=ROOT
        )

    def __call__(self, name, *arguments, **environment):
        """The command's exit code and its output, as `run` gives them."""
        with tempfile.NamedTemporaryFile("r", suffix=".log") as log:
            request = {"run": str(name), "arguments": list(map(str, arguments)), "log": log.name}
            request["environment"] = {key: str(value) for key, value in environment.items()}
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            code = self.process.stdout.readline()
            assert code, self.errors.seek(0) or self.errors.read()
            return subprocess.CompletedProcess(arguments, int(code), log.read(), "")

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.errors.close()


def write_to_hub_cache(folder, repo, commit, revision="main"):
    """Put a copy of a folder into the cache of the Hub, as if it had been fetched."""
    from huggingface_hub.constants import HF_HUB_CACHE

    cached = Path(HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    shutil.copytree(folder, cached / "snapshots" / commit, dirs_exist_ok=True)
    (cached / "refs").mkdir(exist_ok=True)
    (cached / "refs" / revision).write_text(commit)
