"""The README's Python, as printed, in both languages."""

import contextlib
import io
import re

import pytest

from tests.models import ROOT


@pytest.mark.parametrize("name", ["README.md", "README_zh.md"])
def test_what_it_says_of_using_a_model_runs(name, monkeypatch):
    text = (ROOT / name).read_text(encoding="utf-8")
    begin, end = re.search(r"^## (Use|使用)$", text, re.M), re.search(r"^### (Is it really|真的)", text, re.M)
    use = text[begin.start() : end.start()]
    blocks = re.findall(r"^```python\n(.*?)^```$", use, re.S | re.M)
    monkeypatch.chdir(ROOT)
    printed, names = io.StringIO(), {}
    with contextlib.redirect_stdout(printed):
        for block in blocks:
            exec(compile(block, name, "exec"), names)
    first, second = printed.getvalue().splitlines()
    assert first == "['top right']"
    # Three conversations in one batch, the same as alone, and a video that stands still.
    batch, video = second[: second.index("]") + 1], second[second.index("]") + 2 :]
    assert batch.startswith("['top right', ") and batch.count("', '") == 2 and video == "['top right']"
    length = names["inputs"]["input_ids"].shape[1]
    assert names["position_ids"].shape == (6, 1, length) and names["rope_deltas"].shape == (1, 2)
    assert names["model"].model.schedule == ("circle",) * 3 + ("mrope",) * 3


@pytest.mark.parametrize("name", ["README.md", "README_zh.md"])
def test_its_counts_of_lines_are_about_right(name):
    section = re.search(r"^## (Files|文件)$.*?^## ", (ROOT / name).read_text(encoding="utf-8"), re.S | re.M)[0]
    rows = re.findall(r"^\| (`.*?) \| ([\d,]+) \|", section, re.M)
    assert len(rows) == 12
    for names, count in rows:
        paths = [ROOT / path for path in re.findall(r"`([\w./]+)`", names) if path != "tiny/"]
        files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*.py"))]
        inner = [file for file in files if "tests" not in file.relative_to(ROOT).parts[1:]]
        lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in inner)
        assert int(count.replace(",", "")) == pytest.approx(lines, rel=0.1), names
