"""Shared fixtures of the evaluation's tests: nothing is fetched, and commands run as a user gives them."""

import os
import subprocess
import tempfile
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": tempfile.mkdtemp(prefix="circle_rope_modules_")}
os.environ |= {
    cache: tempfile.mkdtemp(prefix="circle_rope_cache_")
    for cache in ("HF_DATASETS_CACHE", "LMUData", "MODELSCOPE_CACHE")
}
os.environ.pop("OPENAI_API_KEY", None)
os.environ.pop("OPENAI_API_BASE", None)

import pytest

from tests.warm_python import executable

ROOT = Path(__file__).resolve().parents[2]
QUESTIONS = 24
PIXELS = ("--min-pixels", 12544, "--max-pixels", 12544)  # the pictures that the root's checkpoint was trained on


def evaluate(script, checkpoint, output, *options, tasks="held_out_shapes", **environment):
    """One of the two commands on the local task; its exit code and output."""
    command = [executable(), "-m", f"evaluation.{script}", checkpoint, "--tasks", tasks, "--output-dir", output]
    return run(*command, *PIXELS, *options, **environment)


def evaluate_whole(script, checkpoint, output, *options):
    """The same on all QUESTIONS: what it printed, and its result."""
    from evaluation.result_file import read

    done = evaluate(script, checkpoint, output, "--limit", QUESTIONS, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout, read(output)


def assert_is_as_without_the_harness(printed, result, expected):
    """The root's checkpoint ran with its own class and geometries, and answered every question as it does alone."""
    first = printed.splitlines()
    assert first[0].startswith("class: Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2 ")
    assert first[1] == "geometry per layer: circle mrope circle mrope circle mrope"
    task = result.tasks["held_out_shapes"]
    assert task.score == pytest.approx(100 * expected["circle"])
    assert len(task.questions) == QUESTIONS


def assert_is_stock(printed, result, expected):
    """The same weights ran under M-RoPE; one answer that is a guess may tip by what the harness does to its input."""
    assert "geometry per layer: mrope mrope mrope mrope mrope mrope" in printed
    score = result.tasks["held_out_shapes"].score / 100
    assert abs(score - expected["stock"]) <= 1.01 / QUESTIONS < expected["circle"] - score


def run(*command, **environment):
    environment = {**os.environ, **environment}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT, env=environment)


def assert_refused(done, *words):
    """One sentence, no traceback, a non-zero exit code."""
    assert done.returncode not in (0, None), done.stdout
    assert "Traceback" not in done.stderr + done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and all(word in last for word in words), done.stderr


@pytest.fixture(scope="session")
def stock_dir(tmp_path_factory):
    """The root's weights as an official checkpoint: stock classes, no block."""
    from tests.models import save_as_stock

    return save_as_stock(tmp_path_factory.mktemp("stock") / "stock")


@pytest.fixture(scope="session")
def expected():
    """Accuracy, 0 to 1, of the root's checkpoint on the local task without a harness, as it is and under M-RoPE."""
    from evaluation import shapes_task
    from shapes.evaluate import ask, load

    model, processor = load(str(ROOT))
    pictures, questions, answers = zip(*shapes_task.questions(QUESTIONS))
    accuracy = {}
    for name, block in (("circle", model.config.circle_rope), ("stock", {"AGE_mode": ["mrope"] * 6})):
        model.model.set_circle_rope(block)
        given = ask(model, processor, pictures, questions)
        accuracy[name] = sum(said.strip() == answer for said, answer in zip(given, answers)) / QUESTIONS
    return accuracy
