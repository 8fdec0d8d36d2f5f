"""What is pushed, and the command that pushes it."""

import subprocess
import sys

import pytest
from huggingface_hub import HfApi, RepoCard

from conftest import SPACE
from push import lay_out, main


def call(*arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["push.py", *map(str, arguments)])
    return main()


def test_a_push_holds_real_files_and_the_tiny_checkpoint(pushed):
    files = {str(path.relative_to(pushed)) for path in pushed.rglob("*") if path.is_file()}
    assert {"app.py", "README.md", "requirements.txt", "thumbnail.png", "tiny/model.safetensors"} <= files
    assert "tiny/modeling_qwen2_5_vl_circle_rope.py" in files
    assert not any(path.is_symlink() for path in pushed.rglob("*"))
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


def test_the_push_goes_through_huggingface_hub(monkeypatch, capsys):
    """The Hub alone is left out: what it would be told is looked at."""
    told = {}
    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **rest: told.update(create=rest) or "address")
    monkeypatch.setattr(HfApi, "add_space_variable", lambda self, *variable: told.update(variable=variable))
    monkeypatch.setattr(HfApi, "upload_folder", lambda self, **rest: told.update(upload=rest))
    assert call("user/name", "--model", "user/model", "--private", monkeypatch=monkeypatch) == 0
    assert told["create"] == {"repo_type": "space", "space_sdk": "gradio", "private": True, "exist_ok": True}
    assert told["variable"] == ("user/name", "MODEL_ID", "user/model")
    assert told["upload"]["repo_type"] == "space" and told["upload"]["repo_id"] == "user/name"
    assert capsys.readouterr().out == "address\n"


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
