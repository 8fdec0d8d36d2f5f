"""What is pushed, and the command that pushes it."""

import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from gradio_client import Client
from huggingface_hub import RepoCard

from conftest import SPACE
from push import lay_out, main
from test_api import ANSWER, PICTURE
from test_api import call as call_endpoint
from tests.hub_client import environment
from tests.hub_http import Refusal
from tests.hub_server import Hub


def call(*arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["push.py", *map(str, arguments)])
    return main()


def test_a_push_holds_real_files_and_the_tiny_checkpoint(tmp_path):
    # Not in `pushed`: a Space that has run there has compiled its modules.
    lay_out(tmp_path, "user/name", None)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {"app.py", "README.md", "requirements.txt", "thumbnail.png", "tiny/model.safetensors"} <= files
    assert "tiny/modeling_qwen2_5_vl_circle_rope.py" in files
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
    assert not {name for name in files if name.startswith("tests/") or "__pycache__" in name or name == "push.py"}


def test_the_front_matter_says_what_a_space_needs(pushed):
    data = RepoCard.load(pushed / "README.md").data
    requirements = (pushed / "requirements.txt").read_text().split()
    assert (data.sdk, data.app_file, data.license) == ("gradio", "app.py", "apache-2.0")
    assert f"gradio=={data.sdk_version}" in requirements
    assert data.models and 0 < len(data.short_description) <= 60
    assert data.thumbnail == "https://huggingface.co/spaces/user/name/resolve/main/thumbnail.png"


def test_with_another_model_the_tiny_one_stays_at_home(tmp_path):
    lay_out(tmp_path / "space", "user/name", "user/model")
    assert not (tmp_path / "space" / "tiny").exists()
    assert RepoCard.load(tmp_path / "space" / "README.md").data.models == ["user/model"]


@pytest.fixture
def hub():
    with Hub() as hub:
        yield hub


def push(hub, home, *arguments, token="hf_owner"):
    """Runs the command where no Hub but ours is known."""
    command = [sys.executable, str(SPACE / "push.py"), *arguments]
    return subprocess.run(
        command, env=environment(hub, home, token, HF_HUB_DISABLE_XET="1"), capture_output=True, text=True
    )


def test_what_is_pushed_is_a_space_that_runs(hub, run, tmp_path):
    done = push(hub, tmp_path / "home", "user/circle")
    assert done.stdout == f"{hub.url}/spaces/user/circle\n", done.stderr
    space = hub.repos["spaces/user/circle"]
    assert space.messages[1:] == ["The Circle-RoPE Space"] and space.variables == {}
    for name, data in space.files().items():
        (tmp_path / "space" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "space" / name).write_bytes(data)
    with run(tmp_path / "space" / "app.py") as running:
        assert call_endpoint(Client(running.url, verbose=False), "/ask", PICTURE) == ANSWER


def test_with_another_model_its_name_is_there_from_the_start(hub, tmp_path):
    for model in ("user/first", "user/second"):  # a Space that is there gets the new name
        assert push(hub, tmp_path / "home", "user/circle", "--model", model, "--private").returncode == 0
        space = hub.repos["spaces/user/circle"]
        assert space.private and space.variables == {"MODEL_ID": model}
        assert not any(name.startswith("tiny/") for name in space.files())
    # A new Space knows its model when it is made.
    assert sum(path.endswith("/variables") for _, path, _ in hub.log) == 1


def test_a_push_that_fails_leaves_no_empty_space_and_an_old_one_as_it_was(hub, tmp_path):
    def fail(request):
        if "/commit/" in request.path:
            raise Refusal(400, None, "the disk is full")

    hub.fault = fail
    done = push(hub, tmp_path / "home", "user/circle", "--model", "user/model")
    assert done.returncode == 1 and done.stderr.startswith("error: ") and "the disk is full" in done.stderr
    assert hub.repos == {}
    hub.fault = lambda request: None
    assert push(hub, tmp_path / "home", "user/circle").returncode == 0
    hub.fault = fail
    assert push(hub, tmp_path / "home", "user/circle", "--model", "user/model").returncode == 1
    assert "app.py" in hub.repos["spaces/user/circle"].files()


def test_a_push_that_is_interrupted_leaves_no_empty_space(hub, tmp_path):
    command = [sys.executable, str(SPACE / "push.py"), "user/circle", "--model", "user/model"]
    hub.fault = lambda request: "/commit/" in request.path and [process.send_signal(signal.SIGINT), time.sleep(1)]
    settings = environment(hub, tmp_path / "home", HF_HUB_DISABLE_XET="1")
    # What is started in the background ignores the signal, and so would this.
    heeds_it = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, env=settings, preexec_fn=heeds_it)
    assert process.wait(120) == 130
    hub.wait_for_clients_to_leave()
    assert hub.repos == {}


def test_hardware_is_suggested(tmp_path):
    for model, hardware in ((None, "cpu-basic"), ("user/model", "zero-a10g")):
        lay_out(tmp_path / hardware, "user/name", model)
        assert RepoCard.load(tmp_path / hardware / "README.md").data.suggested_hardware == hardware


@pytest.mark.parametrize("arguments", [["name"], ["a/b/c"], ["user/name", "--model", "model"], ["user/na me"]])
def test_bad_names_are_refused(arguments, monkeypatch, capsys):
    assert call(*arguments, monkeypatch=monkeypatch) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_a_full_directory_is_refused(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    assert call("user/name", "--output-dir", tmp_path, monkeypatch=monkeypatch) == 1
    assert "give a new or empty directory" in capsys.readouterr().err


def test_without_the_hub_there_is_one_sentence(tmp_path):
    result = subprocess.run([sys.executable, SPACE / "push.py", "user/name"], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
