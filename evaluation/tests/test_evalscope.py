"""EvalScope over the API of `swift deploy`, with this repo's registration and without."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from evaluation import shapes_task

from .conftest import QUESTIONS, ROOT, run

SCRIPTS = Path(sys.executable).parent
DEPLOY = ("--torch_dtype", "float32", "--host", "127.0.0.1", "--served_model_name", "tiny")


def deploy(port, log, *options):
    command = [SCRIPTS / "swift", "deploy", "--model", ROOT, *DEPLOY, "--port", port, *options]
    environment = {**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.Popen(
        list(map(str, command)), stdout=log, stderr=log, cwd=ROOT, env=environment, start_new_session=True
    )


@pytest.fixture
def port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_a_registered_checkpoint_answers_as_it_does_without_the_harness(port, expected, tmp_path):
    shapes_task.write(tmp_path / "data", QUESTIONS)
    with open(tmp_path / "log", "w") as log:
        server = deploy(port, log, "--custom_register_path", "training/register_v2.py")
    try:
        while server.poll() is None:
            try:
                urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5)
                break
            except (URLError, OSError):
                time.sleep(1)
        assert server.poll() is None, (tmp_path / "log").read_text()
        data = {"general_vqa": {"local_path": str(tmp_path / "data"), "subset_list": ["held_out_shapes"]}}
        data["general_vqa"]["metric_list"] = ["Rouge"]  # BLEU fetches a tokenizer
        done = run(
            *(SCRIPTS / "evalscope", "eval", "--model", "tiny", "--api-url", f"http://127.0.0.1:{port}/v1"),
            *("--eval-type", "openai_api", "--datasets", "general_vqa", "--dataset-args", json.dumps(data)),
            *("--generation-config", json.dumps({"temperature": 0, "max_tokens": 16})),
            *("--work-dir", tmp_path / "out", "--no-timestamp"),
        )
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # swift starts another process for the server
        server.wait()
    assert done.returncode == 0, done.stderr
    reviews = [
        json.loads(line)
        for file in (tmp_path / "out").rglob("reviews/**/*.jsonl")
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    assert len(reviews) == QUESTIONS
    right = sum(review["sample_score"]["score"]["prediction"].strip() == review["target"][0] for review in reviews)
    assert right / QUESTIONS == pytest.approx(expected["circle"])


def test_without_the_registration_the_checkpoint_is_refused(port, tmp_path):
    with open(tmp_path / "log", "w") as log:
        server = deploy(port, log)
    assert server.wait() != 0
    # ms-swift knows no such model, or gets as far as the rope type that stock does not know.
    said = (tmp_path / "log").read_text()
    assert "no suitable `model_type` was found" in said or "circle_rope" in said
