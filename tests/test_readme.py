"""The pages: their length, their metadata, their links, and the commands of the first one, run as they are printed.

The commands run in the order of the page, in one shell, in a clone, with the small Hub in the place of the Hub. Where
PAGE_INSTALLS is set, the page makes its environments itself; else this one stands for the first of them, and a command
that needs a package which is not here is left out.
"""

import contextlib
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from configuration_qwen2_5_vl_circle_rope import validate_circle_rope
from tests.hub_client import environment
from tests.hub_server import Repo
from tests.models import ROOT, make_config, save_as_stock

PAGE, CHINESE = ROOT / "README.md", ROOT / "README_zh.md"
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("*/*.md")]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.S | re.M)

INSTALLS = bool(os.environ.get("PAGE_INSTALLS"))
# Commands that fetch packages, from which the tests' own environment is made as well.
INSTALL = re.compile("(uv )?(pip install|venv) ")
# Beginnings of commands that need more than requirements.txt, and a package that tells whether it is there.
NEEDS = {
    "python -m training.sft": "trl",
    ".venv-training/bin/swift": "swift",
    "python -m serving.transformers_serve": "fastapi",
    ".venv-vlmevalkit/bin/python": "vlmeval",
    "from transformers import AutoModelForImageTextToText, BitsAndBytesConfig": "bitsandbytes",
    "python space/app.py": "gradio",
}
# Beginnings of commands that are never run here, and where they are.
ELSEWHERE = {
    "uv venv .venv-vllm": "serving/tests, from the CPU's wheel",
    ".venv-vllm/bin/vllm": "serving/tests, the same server",
    "python space/push.py": "space/tests, to the small Hub",
    "bash tests/run.sh": "this is a part of it",
}
# Commands that serve until they are stopped, and their port.
SERVERS = {"python -m serving.transformers_serve": 8000, "python space/app.py": 7860}
# What a command must print, beside ending well.
SAYS = {
    "python -m examples.ask": "top right",
    "from PIL import Image": "['top right']\n('circle', 'mrope', 'circle', 'mrope', 'circle', 'mrope')\n",
    "python push_to_hub.py Qwen2.5-VL-3B-Circle-RoPE --repo-id USER/NAME --dry-run": "model.safetensors\n",
    "python push_to_hub.py Qwen2.5-VL-3B-Circle-RoPE --repo-id USER/NAME": "published: ",
    "python -m training.sft": "train_loss",
    ".venv-training/bin/swift": "last_model_checkpoint",
    ".venv-vlmevalkit/bin/python -m evaluation.report": "held_out_shapes",
}


def entry(table, command):
    return next((table[key] for key in sorted(table, key=len, reverse=True) if command.startswith(key)), None)


def commands(page):
    """Its commands in their order, without comments; a block of Python is one."""
    for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        block = re.sub(r"(^|\s+)# .*", "", re.sub(r"\\\n\s*", "", block), flags=re.M).strip() + "\n"
        yield from [block] if language == "python" else filter(None, block.splitlines())


def left_out(command):
    """Why a command is not run here, or None."""
    if INSTALL.match(command) and not INSTALLS:
        return "what it installs stands there already"
    needed = entry(NEEDS, command)
    is_here = INSTALLS or needed is None or importlib.util.find_spec(needed)
    return entry(ELSEWHERE, command) or (None if is_here else f"{needed} is not installed")


def as_typed(command):
    """The command for a shell that ends at the first failure."""
    if re.match("(from|import) ", command):
        return f"python - <<'END'\n{command}END"
    if command.startswith("python3 -m venv") and not INSTALLS:
        return f"{command}\necho {sysconfig.get_path('purelib')} > $(echo .venv/lib/python3*/site-packages)/these.pth"
    port = entry(SERVERS, command)
    if port is None:
        return command
    return (
        f"{command} & server=$!\n"
        f"until (: < /dev/tcp/127.0.0.1/{port}) 2> /dev/null; do kill -0 $server; sleep 0.2; done\n"
        "kill $server; wait $server || true"
    )


@pytest.fixture
def clone(tmp_path):
    """A clone of this tree, with what is not committed yet."""
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, folder], check=True)
    changes = subprocess.run(["git", "diff", "--binary", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    if changes:
        subprocess.run(["git", "apply"], cwd=folder, input=changes, check=True)
    return folder


def untracked(folder):
    listed = subprocess.run(["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if line.startswith("??")]


def test_every_command_of_the_page_runs_in_its_order(hub, clone, tmp_path):
    hub.roles = {"hf_owner": ("USER", "write")}
    base = save_as_stock(tmp_path / "base")
    hub.repos["Qwen/Qwen2.5-VL-3B-Instruct"] = Repo()
    hub.repos["Qwen/Qwen2.5-VL-3B-Instruct"].commit({path.name: path.read_bytes() for path in base.iterdir()})
    if not INSTALLS:
        for folder in (".venv-training", ".venv-vlmevalkit"):
            (clone / folder).symlink_to(sys.prefix)
    ran = [command for command in commands(PAGE) if left_out(command) is None]
    script = [f"exec > ../{number}.txt 2>&1\n{as_typed(command)}" for number, command in enumerate(ran)]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = environment(hub, tmp_path / "home", HF_HUB_DISABLE_XET="1", PATH=path)
    done = subprocess.run(["bash", "-c", "\n".join(["set -euo pipefail", *script])], cwd=clone, env=env)
    outputs = [tmp_path / f"{number}.txt" for number in range(len(ran))]
    texts = [output.read_text() for output in outputs if output.is_file()]
    assert done.returncode == 0, f"{ran[len(texts) - 1]}\n{texts[-1][-5000:]}"
    for command, text in zip(ran, texts):
        assert (entry(SAYS, command) or "") in text, f"{command}\n{text}"
        assert "Kwargs passed" not in text
    assert {"model.safetensors", "config.json", "README.md"} <= hub.repos["USER/NAME"].files().keys()
    assert untracked(clone) == [], "what the page writes is ignored"


def test_every_exception_is_a_command_of_the_page():
    for key in (*NEEDS, *ELSEWHERE, *SERVERS, *SAYS):
        assert any(command.startswith(key) for command in commands(PAGE)), key


def test_both_languages_have_the_same_commands_and_as_many_headings_rows_and_limits():
    assert list(commands(CHINESE)) == list(commands(PAGE))
    english, chinese = (page.read_text(encoding="utf-8").split("\n# ")[-1] for page in (PAGE, CHINESE))
    for kind in ("^## ", "^[|] ", "^- ", r"\]\("):
        assert len(re.findall(kind, english, re.M)) == len(re.findall(kind, chinese, re.M)), kind


def test_the_page_is_one_reading():
    for page in (PAGE, CHINESE):
        assert len(page.read_text(encoding="utf-8").split()) <= 1700


@pytest.mark.parametrize("page", [PAGE, CHINESE], ids=lambda page: page.name)
def test_its_table_has_every_key_of_the_block_and_its_default(page):
    rows = re.findall(r"^\| `(\w+)`.* \| `?([^|`]+)`? \|$", page.read_text(encoding="utf-8"), re.M)
    assert len(rows) == 11
    for key, default in rows:
        block = {} if default in ("absent", "无") else {key: json.loads(default)}
        assert make_config(block).make_geometry("circle") == make_config().make_geometry("circle"), key
        validate_circle_rope({key: None} if default == "null" else block)


def test_the_hub_reads_its_scores_and_no_base():
    """The scores are those of shapes/README.md."""
    data = ModelCard.load(PAGE).data
    scores = {result.metric_name: result.metric_value for result in data.eval_results}
    table = (ROOT / "shapes" / "README.md").read_text(encoding="utf-8")
    assert len(scores) == 5 and all(result.metric_type == "exact_match" for result in data.eval_results)
    for name, value in scores.items():
        row = name.removesuffix(" places")
        assert f"\n| {row} | {value} |" in table, name
    assert data.get("base_model") is None and (data.license, data.library_name) == ("apache-2.0", "transformers")


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_what_the_page_of_examples_shows_is_what_comes_out(monkeypatch):
    text = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(ROOT)
    printed, names = io.StringIO(), {}
    with contextlib.redirect_stdout(printed):
        for _, block in BLOCK.findall(text):
            exec(compile(block, "examples/README.md", "exec"), names)
    # Three conversations in one batch, a video that stands still, and the schedules as the comments have them.
    said = re.findall(r"^print\(model.model.schedule\)  # (.*)$", text, re.M)
    assert printed.getvalue().splitlines() == ["['top right', 'top right', 'top right']", "['top right']", *said]
    length = names["inputs"]["input_ids"].shape[1]
    assert names["position_ids"].shape == (6, 1, length) and names["rope_deltas"].shape == (1, 2)
