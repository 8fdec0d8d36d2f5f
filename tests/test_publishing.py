"""push_to_hub.py over HTTP: a checkpoint goes up through the real client, and a clean machine loads it and answers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from conversion.core import MODULES
from conversion.hub import SPLITS_COMMITS
from tests import warm_python
from tests.hub_client import NAME, ask, environment
from tests.hub_http import Refusal
from tests.hub_server import Repo
from tests.models import CHECKPOINT, ROOT, copy_checkpoint

CODE = "user/code"


@pytest.fixture
def push(hub, tmp_path):
    def push(*arguments, token="hf_owner", preexec_fn=None, **variables):
        # A limit is set on a process of its own.
        python = sys.executable if preexec_fn else warm_python.executable()
        command = [python, str(ROOT / "push_to_hub.py"), *map(str, arguments)]
        env = environment(hub, tmp_path / "home", token, **variables)
        options = {"env": env, "cwd": tmp_path, "preexec_fn": preexec_fn}
        return subprocess.run(command, capture_output=True, text=True, **options)

    return push


def sent(hub):
    """Bytes that arrived in large-file storage, by address."""
    return [path for method, path, size in hub.log if method == "PUT" and size]


def assert_refused(result, words):
    assert result.returncode not in (0, None), result.stdout
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and words in lines[0], result.stderr
    assert "Traceback" not in result.stderr and "hf_owner" not in result.stderr + result.stdout
    return lines[0]


@pytest.fixture
def sharded(tmp_path):
    """The root's checkpoint in five files, as a base that a test may damage."""
    folder = copy_checkpoint(tmp_path / "sharded", without=("model.safetensors", *MODULES))
    state = load_file(ROOT / "model.safetensors")
    weight_map = {}
    for number in range(5):
        shard = f"model-0000{number + 1}-of-00005.safetensors"
        part = {name: state[name] for name in sorted(state)[number::5]}
        save_file(part, folder / shard, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, shard)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_published_and_loaded_back_over_the_wire(hub, push, tmp_path):
    result = push(ROOT, "--repo-id", NAME, "--base-model", "user/base")
    assert result.returncode == 0, result.stderr
    assert f"published: {hub.url}/{NAME}/commit/" in result.stdout
    repo = hub.repos[NAME]
    assert repo.private and repo.files()["model.safetensors"] == (ROOT / "model.safetensors").read_bytes()
    for module in MODULES:
        assert repo.files()[module] == (ROOT / module).read_bytes()
    assert any(path.endswith("/complete") for _, path, _ in hub.log)  # in parts
    assert not (tmp_path / "home" / "circle_rope" / "user--circle").exists()

    answer = ask(hub, tmp_path / "clean")
    assert answer == "top right", answer
    commit = repo.oid("main")
    repo.commit({**repo.files(), "modeling_qwen2_5_vl_circle_rope.py": b"raise SystemExit('unread code')\n"})
    assert ask(hub, tmp_path / "pinned", f"revision={commit}", f"code_revision={commit}") == answer

    card = ModelCard(repo.files()["README.md"].decode())
    data = card.data.to_dict()
    assert data["license"] == "apache-2.0" and data["language"] == ["en"]
    assert data["library_name"] == "transformers" and data["pipeline_tag"] == "image-text-to-text"
    assert data["base_model"] == "user/base" and data["base_model_relation"] == "finetune"
    assert {"custom_code", "circle-rope", "age"} <= set(data["tags"])
    for words in (
        "two million weights",
        "code_revision",
        "AutoModelForVision2Seq",
        "8.5k",
        "2505.16416",
        '"alpha"',
    ):
        assert words in card.text


def test_many_checkpoints_share_the_code_of_one_repository(hub, push, tmp_path):
    result = push(ROOT, "--repo-id", NAME, "--code-repo", CODE)
    assert result.returncode == 0, result.stderr
    files, code = hub.repos[NAME].files(), hub.repos[CODE]
    assert code.private and {name: code.files()[name] for name in MODULES} == {
        name: (ROOT / name).read_bytes() for name in MODULES
    }
    assert not any(name.endswith(".py") for name in files)
    auto_map = json.loads(files["config.json"])["auto_map"]
    assert auto_map["AutoConfig"] == f"{CODE}--configuration_qwen2_5_vl_circle_rope.Qwen2_5_VLConfig_CircleRoPE_V2"
    assert all(reference.startswith(f"{CODE}--") for reference in auto_map.values())
    commit = code.oid("main")
    assert f'code_revision="{commit}"' in files["README.md"].decode()
    assert ask(hub, tmp_path / "clean") == "top right"

    name = "modeling_qwen2_5_vl_circle_rope.py"
    code.commit({**code.files(), name: code.files()[name] + b"\nprint('corrected')\n"})
    assert "corrected" in ask(hub, tmp_path / "clean", lines=True)
    assert "corrected" not in ask(hub, tmp_path / "pinned", f"code_revision={commit}", lines=True)
    assert_refused(push(ROOT, "--repo-id", "user/second", "--code-repo", CODE), f"{name} of {CODE} is not this repo's")
    assert code.files()[name].endswith(b"print('corrected')\n") and "user/second" not in hub.repos


PUSH = """
import sys
from transformers import AutoModelForImageTextToText
model = AutoModelForImageTextToText.from_pretrained(sys.argv[1], trust_remote_code=True)
model.set_circle_rope({"radius": 7, "AGE_mode": "strategy_2"})
model.push_to_hub(sys.argv[2], private=True)
"""


def test_a_loaded_model_pushes_itself_with_the_same_card(hub, push, tmp_path):
    assert push(ROOT, "--output-dir", "out", "--no-upload", "--base-model", "user/base").returncode == 0
    env = environment(hub, tmp_path / "home", HF_HUB_DISABLE_XET="1")
    for _ in range(2):  # the second finds the card of the first
        command = [warm_python.executable(), "-c", PUSH, str(tmp_path / "out"), NAME]
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        text = hub.repos[NAME].files()["README.md"].decode()
        card = ModelCard(text)
        assert "Model Card for Model ID" not in text and text.count("## Use") == 1
        assert '"radius": 7' in text and "circle 0 to 2, mrope 3 to 5" in text and f'from_pretrained("{NAME}"' in text
        assert card.data.base_model == "user/base" and card.data.license == "apache-2.0"
        assert {"circle-rope", "age", "custom_code"} <= set(card.data.tags)
    assert set(MODULES) <= set(hub.repos[NAME].files())


def test_the_token_that_was_checked_is_the_one_that_is_used(hub, push):
    """Also where the client has been told to send none by itself."""
    result = push(ROOT, "--repo-id", NAME, HF_HUB_DISABLE_IMPLICIT_TOKEN="1")
    assert result.returncode == 0, result.stderr
    assert "model.safetensors" in hub.repos[NAME].files()


def test_an_interrupted_upload_goes_on_where_it_was(hub, push, sharded, tmp_path):
    def stop_at_third(request):
        if request.method == "PUT" and len(sent(hub)) > 2:
            process.send_signal(signal.SIGINT)
            time.sleep(1)
            raise ConnectionError

    hub.fault = stop_at_third
    command = [sys.executable, str(ROOT / "push_to_hub.py"), str(sharded), "--repo-id", NAME]
    process = subprocess.Popen(
        command, env=environment(hub, tmp_path / "home"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    _, errors = process.communicate()
    kept = tmp_path / "home" / "circle_rope" / "user--circle"
    assert process.returncode == 130 and "interrupted" in errors and str(kept) in errors
    assert (kept / "config.json").is_file() and set(hub.repos[NAME].files()) == {".gitattributes"}

    hub.wait_for_clients_to_leave()
    arrived = set(hub.blobs)
    assert 0 < len(arrived) < 5
    hub.fault, hub.log[:] = lambda request: None, []
    result = push(sharded, "--repo-id", NAME)
    assert result.returncode == 0 and "from an earlier run" in result.stdout, result.stderr
    again = [path.split("/")[2] for path in sent(hub)]
    assert not arrived & set(again) and len(again) == len(set(again))
    for shard in sharded.glob("*.safetensors"):
        assert hub.repos[NAME].files()[shard.name] == shard.read_bytes()
    assert "total_size 1:" in result.stdout
    index = json.loads(hub.repos[NAME].files()["model.safetensors.index.json"])
    state = load_file(ROOT / "model.safetensors").values()
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in state)


def test_an_update_sends_what_changed_and_leaves_no_stale_weights(hub, push, sharded):
    assert push(ROOT, "--repo-id", NAME, "--public").returncode == 0
    assert not hub.repos[NAME].private
    hub.repos[NAME].commit({**hub.repos[NAME].files(), "notes.txt": b"the owner's"})
    there = {**hub.repos[NAME].files(), **{path.name: path.read_bytes() for path in sharded.glob("*-00005.*")}}
    del there["model-00003-of-00005.safetensors"]
    hub.repos[NAME].commit(there)
    hub.log.clear()
    assert push(sharded, "--repo-id", NAME, "--public", "--commit-message", "In five files").returncode == 0
    assert hub.repos[NAME].messages[-1] == "In five files" and len(sent(hub)) == 1
    assert hub.repos[NAME].files()["notes.txt"] == b"the owner's"
    assert "model.safetensors" not in hub.repos[NAME].files()


def test_a_large_folder_goes_up_by_the_client_that_is_made_for_it(hub, tmp_path):
    if SPLITS_COMMITS:
        pytest.skip("this client's upload_folder does it by itself")
    code = "import sys, conversion.hub as hub; hub.LARGE = 0; import push_to_hub; sys.exit(push_to_hub.main())"
    command = [warm_python.executable(), "-c", code, str(ROOT), "--repo-id", NAME, "--commit-message", "Large"]
    env = environment(hub, tmp_path / "home")
    result = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert set(hub.repos[NAME].files()) == {".gitattributes", *CHECKPOINT}
    assert hub.repos[NAME].messages[-1] == "Large" and len(sent(hub)) == 3  # the parts of one file, once


def test_a_branch_and_a_pull_request_leave_main_alone(hub, push):
    hub.repos[NAME] = Repo()
    hub.repos[NAME].commit({"config.json": b"{}"})
    assert push(ROOT, "--repo-id", NAME, "--branch", "next", "--public").returncode == 0
    result = push(ROOT, "--repo-id", NAME, "--create-pr", token="hf_stranger")
    assert result.returncode == 0 and f"{hub.url}/{NAME}/discussions/1" in result.stdout, result.stderr
    for ref in ("next", "refs/pr/1"):
        assert "model.safetensors" in hub.repos[NAME].files(ref)
    assert hub.repos[NAME].files() == {"config.json": b"{}"}


def test_a_base_from_the_hub_is_converted_and_published(hub, push, base_dir, tmp_path):
    """An official-layout repository with its licence, fetched into the cache, whose links become files."""
    card = (
        b"---\nlicense_name: qwen-research\nlicense_link: https://example.org/LICENSE\nlanguage:\n- en\n---\nQwen.\n"
    )
    files = {path.name: path.read_bytes() for path in base_dir.iterdir() if path.is_file()}
    hub.repos["qwen/vl"] = Repo()
    hub.repos["qwen/vl"].commit({**files, "README.md": card, "LICENSE": b"Qwen's own"})
    result = push("qwen/vl", "--repo-id", NAME, "--output-dir", "out", "--no-upload", "--radius", "4", "--alpha", "1")
    assert (tmp_path / "out" / "config.json").is_file(), result.stderr
    text = (tmp_path / "out" / "README.md").read_text()
    data = ModelCard(text).data.to_dict()
    assert data["base_model"] == "qwen/vl" and "not fine-tuned" in text
    assert (data["license"], data["license_name"]) == ("other", "qwen-research")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["circle_rope"]["radius"] == 4
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())
    assert NAME not in hub.repos


def wrong_token(hub):
    return "hf_nobody"


def no_permission(hub):
    return "hf_stranger"


def may_only_read(hub):
    return "hf_reader"


def not_logged_in(hub):
    return None


def another_model(hub):
    hub.repos[NAME] = Repo(private=True)
    hub.repos[NAME].commit({"config.json": b'{"model_type": "llama"}', "model.safetensors": b"precious"})
    return "hf_owner"


def public_already(hub):
    hub.repos[NAME] = Repo()
    hub.repos[NAME].commit({})
    return "hf_owner"


def server_refuses(hub):
    def refuse(request):
        if "/commit/" in request.path:
            raise Refusal(413, None, "Payload too large")

    hub.fault = refuse
    return "hf_owner"


@pytest.mark.parametrize(
    "trouble, words",
    [
        (wrong_token, "does not accept the token"),
        (no_permission, "may not write to user/circle"),
        (may_only_read, "the token may only read"),
        (not_logged_in, "there is no token"),
        (another_model, "exists and holds a 'llama' model"),
        (public_already, "exists and is public"),
        (server_refuses, "did not take the upload"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence_and_the_result_is_kept(hub, push, tmp_path, trouble, words):
    token = trouble(hub)
    before = {name: repo.files() for name, repo in hub.repos.items()}
    result = push(ROOT, "--repo-id", NAME, "--output-dir", "out", token=token)
    assert "out is kept" in assert_refused(result, words)
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert all(hub.repos[name].files() == files for name, files in before.items())


def test_a_lost_connection_is_one_sentence_and_the_result_is_kept(hub, push, tmp_path):
    def drop(request):
        if request.method == "PUT":
            hub.shutdown()
            hub.server_close()
            raise ConnectionError

    hub.fault = drop
    result = push(ROOT, "--repo-id", NAME, "--output-dir", "out")
    assert_refused(result, f"the connection to {hub.url} failed")
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_a_hub_that_is_not_there_is_one_sentence_and_the_result_is_kept(hub, push, tmp_path):
    hub.shutdown()
    hub.server_close()
    result = push(ROOT, "--repo-id", NAME)
    assert str(tmp_path / "home" / "circle_rope" / "user--circle") in assert_refused(result, f"{hub.url} failed")
    assert (tmp_path / "home" / "circle_rope" / "user--circle" / "model.safetensors").is_file()


def test_a_full_disk_is_one_sentence_and_nothing_is_half_written(push, tmp_path):
    resource = pytest.importorskip("resource")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))  # noqa: E731
    elsewhere = Path("/dev/shm")  # another file system: no hard links
    if not elsewhere.is_dir():
        pytest.skip("needs a second file system")
    output = elsewhere / f"circle_rope_{os.getpid()}"
    assert_refused(push(ROOT, "--output-dir", output, preexec_fn=limit), "could not be written")
    assert not output.exists() and not list(elsewhere.glob(f".{output.name}*"))


@pytest.mark.parametrize(
    "base, arguments, words",
    [
        ("user/absent", (), "no such repository"),
        ("qwen/gated", (), "is gated"),
        (ROOT, ("--create-pr",), "no repository user/circle to open a pull request on"),
        ("user/absent", ("--dry-run",), "a dry run asks nobody"),
    ],
)
def test_what_is_not_there_is_one_sentence(hub, push, base, arguments, words):
    hub.repos["qwen/gated"] = Repo(gated=True)
    hub.repos["qwen/gated"].commit({"config.json": b"{}"})
    assert_refused(push(base, "--repo-id", NAME, *arguments), words)
    assert NAME not in hub.repos


def test_a_gated_base_without_a_token_is_one_sentence(hub, push):
    hub.repos["qwen/gated"] = Repo(gated=True)
    hub.repos["qwen/gated"].commit({"config.json": b"{}"})
    assert_refused(push("qwen/gated", "--output-dir", "out", token=None), "is gated")
