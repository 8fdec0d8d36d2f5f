"""What ms-swift is kept from training on: one sentence and a non-zero exit code, before the first step."""

import json
import re
import sys

import pytest

from .conftest import ROOT, run
from .swift_cli import MODEL_TYPE, REGISTER, sft


def refused(result):
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert "Train:" not in result.stderr
    return re.findall(r"^error: (.*)$", result.stderr, re.M)[-1]


def override(block):
    return ("--model_config_override", json.dumps({"circle_rope": block}))


def in_model_kwargs(block):
    return ("--model_kwargs", json.dumps({"model_config_override": {"circle_rope": block}}))


@pytest.mark.parametrize(
    ("base", "block", "words"),
    [
        ("stock", {"AGE_mode": ["circle"] * 4}, "AGE_mode.* 4 entries.* 6 layers"),
        ("stock", {"mrope_section": [16, 24, 24]}, "mrope_section.* head_dim / 2 = 16"),
        ("stock", {"raduis": 4}, "unknown key 'raduis' .*'radius'"),
        ("converted", {"radius": 4}, "converted already.* radius 4 was asked for"),
    ],
)
def test_a_block_that_does_not_fit_is_refused(base, block, words, stock_dir, pictures, tmp_path):
    base = {"stock": stock_dir, "converted": ROOT}[base]
    data = ("--dataset", pictures / "train.jsonl", "--output_dir", tmp_path)
    way = in_model_kwargs if "raduis" in block else override
    assert re.search(words, refused(sft("--model", base, *MODEL_TYPE, *way(block), *data)))


def in_a_file(block, folder):
    file = folder / "config.json"
    file.write_text(json.dumps({"model_config_override": {"circle_rope": block}}))
    return (file,)


@pytest.mark.parametrize("way", ["command line", "model_kwargs", "file"])
def test_a_block_for_a_class_that_reads_none_is_refused(way, stock_dir, pictures, tmp_path):
    block = {"AGE_mode": "strategy_3"}
    ways = {
        "command line": override(block),
        "model_kwargs": in_model_kwargs(block),
        "file": in_a_file(block, tmp_path),
    }
    given = (*ways[way], "--model", stock_dir, "--model_type", "qwen2_5_vl")
    result = sft(*given, "--dataset", pictures / "train.jsonl", "--output_dir", tmp_path / "out")
    assert re.search("model_type is 'qwen2_5_vl', whose class reads none: give qwen2_5_vl_circle", refused(result))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": ["absent.png"]}, "training row \\d+ names the image absent.png, but there is no such file"),
        ({"messages": "two"}, "training row \\d+ has 1 images, but 2 <image> placeholders"),
    ],
)
def test_a_bad_row_is_refused_before_training(change, words, pictures, tmp_path):
    rows = [json.loads(line) for line in (pictures / "train.jsonl").read_text().splitlines()]
    if change.get("messages"):
        change = {"messages": [{"role": "user", "content": "<image><image>Where?"}, rows[0]["messages"][1]]}
    rows[4] = {**rows[0], **change}
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = sft("--model", ROOT, "--dataset", tmp_path / "train.jsonl", "--output_dir", tmp_path / "out")
    assert re.search(words, refused(result))


def test_another_unknown_option_is_still_refused(stock_dir, pictures, tmp_path):
    data = ("--dataset", pictures / "train.jsonl", "--output_dir", tmp_path)
    result = sft("--model", stock_dir, *MODEL_TYPE, *override({"radius": 4}), "--no_such_option", 1, *data)
    assert result.returncode != 0 and "no_such_option" in result.stderr


def test_an_unsupported_pair_of_releases_is_refused(tmp_path):
    """Another transformers is found first; ms-swift's version is read from what is installed."""
    package = tmp_path / "transformers"
    package.mkdir()
    (package / "__init__.py").write_text('__version__ = "5.23.0"\n')
    result = run(sys.executable, "-c", f"import runpy; runpy.run_path({REGISTER!r})", PYTHONPATH=tmp_path)
    assert "with transformers <5.20,>=4.57, but found ms-swift 4.6" in refused(result)


def test_megatron_is_refused():
    """By the name of its arguments, the rest of which needs a GPU to be imported."""
    code = """
from dataclasses import dataclass
from swift.arguments import BaseArguments

@dataclass
class MegatronSftArguments(BaseArguments):
    pass

MegatronSftArguments(model=".", custom_register_path=["training/register_v2.py"])
"""
    words = "Megatron-SWIFT .* has no place for Circle-RoPE's positions: train with swift sft"
    assert re.search(words, refused(run(sys.executable, "-c", code)))
