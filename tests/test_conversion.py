"""push_to_hub.py: what it writes, that it reads no tensor, and that bad input leaves nothing behind."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoProcessor, GenerationConfig

from conversion.core import MODULES
from tests import warm_python
from tests.models import ROOT, AutoModelForVision, make_stock


def run(*arguments):
    command = [warm_python.executable(), str(ROOT / "push_to_hub.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def convert(base, output, *arguments):
    result = run(base, "--output-dir", output, *arguments)
    assert result.returncode == 0, result.stderr
    return json.loads((output / "config.json").read_text())


@pytest.fixture
def base(base_dir, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(base_dir, tmp_path / "base")


@pytest.fixture
def sharded(base):
    shutil.rmtree(base / "unused", ignore_errors=True)
    make_stock().save_pretrained(base, max_shard_size="200KB")
    (base / "model.safetensors").unlink(missing_ok=True)
    return base


def test_a_converted_checkpoint_is_complete(base, tmp_path):
    config = convert(base, tmp_path / "out")
    output = tmp_path / "out"
    assert config["circle_rope"] == json.loads((ROOT / "config.json").read_text())["circle_rope"]
    assert config["auto_map"] == json.loads((ROOT / "config.json").read_text())["auto_map"]
    for module in MODULES:
        assert (output / module).read_text() == (ROOT / module).read_text()
        assert not (output / module).is_symlink()
    before, after = load_file(base / "model.safetensors"), load_file(output / "model.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    processor = AutoProcessor.from_pretrained(output, trust_remote_code=True)
    assert processor.chat_template == AutoProcessor.from_pretrained(base).chat_template
    assert GenerationConfig.from_pretrained(output).to_dict() == GenerationConfig.from_pretrained(base).to_dict()
    assert AutoModelForVision.from_pretrained(output, trust_remote_code=True).config.schedule[1] == "mrope"


def test_shards_and_index_are_carried_over(sharded, tmp_path):
    convert(sharded, tmp_path / "out")
    names = {path.name for path in sharded.glob("*.safetensors*")}
    assert len(names) > 3 and names == {path.name for path in (tmp_path / "out").glob("*.safetensors*")}


def test_the_block_may_be_json_or_a_file_with_a_schedule_beside_it(base, tmp_path):
    config = convert(base, tmp_path / "a", "--circle-rope", '{"radius": 4, "alpha": 1}', "--age-mode", "strategy_2")
    assert config["circle_rope"]["radius"] == 4 and config["circle_rope"]["alpha"] == 1
    assert config["circle_rope"]["AGE_mode"] == "strategy_2"
    (tmp_path / "block.json").write_text('{"circle_r": "auto"}')
    schedule = '["circle", "circle", "circle", "mrope"]'
    config = convert(base, tmp_path / "b", "--circle-rope", tmp_path / "block.json", "--age-mode", schedule)
    assert config["circle_rope"]["circle_r"] == "auto" and "radius" not in config["circle_rope"]
    loaded = AutoConfig.from_pretrained(tmp_path / "b", trust_remote_code=True)
    assert loaded.schedule == ("circle", "circle", "circle", "mrope")


def test_a_base_of_another_frequency_is_written_to_the_text_config(base, tmp_path):
    config = convert(base, tmp_path / "out", "--circle-rope", '{"base": 5000, "mrope_section": [4, 2, 2]}')
    text = json.dumps(config.get("text_config", config))
    assert "5000.0" in text and "[4, 2, 2]" in text


def test_sections_that_take_turns_are_converted_and_verified(base, tmp_path):
    config = convert(base, tmp_path / "out", "--circle-rope", '{"mrope_interleaved": true}')
    assert config["circle_rope"]["mrope_interleaved"] is True
    loaded = AutoConfig.from_pretrained(tmp_path / "out", trust_remote_code=True)
    assert loaded.interleaved_section == (4, 2, 2)


def test_a_converted_checkpoint_converts_again_and_keeps_its_block(base, tmp_path):
    convert(base, tmp_path / "first", "--circle-rope", '{"radius": 4, "image_stride": 1}')
    config = convert(tmp_path / "first", tmp_path / "second", "--age-mode", "strategy_3")
    assert config["circle_rope"]["radius"] == 4 and config["circle_rope"]["image_stride"] == 1
    assert config["circle_rope"]["AGE_mode"] == "strategy_3"


def test_an_empty_output_directory_is_used(base, tmp_path):
    (tmp_path / "out").mkdir()
    convert(base, tmp_path / "out")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from Linux's /proc")
def test_memory_does_not_grow_with_the_checkpoint(base, tmp_path):
    """Half a gigabyte more of weights, the same peak of memory."""
    small = peak_memory(base, tmp_path / "small")
    config = json.loads((base / "config.json").read_text())
    (config.get("text_config") or config)["vocab_size"] = 1_000_000
    (base / "config.json").write_text(json.dumps(config))
    state = load_file(base / "model.safetensors")
    state = {name: torch.zeros(1_000_000, 64) if tensor.shape[0] == 400 else tensor for name, tensor in state.items()}
    save_file(state, base / "model.safetensors", metadata={"format": "pt"})
    del state
    assert (base / "model.safetensors").stat().st_size > 500e6
    assert peak_memory(base, tmp_path / "large") < small + 100e6


def peak_memory(base, output):
    """Bytes that the conversion held at its peak (ru_maxrss would count the memory of this process, too)."""
    code = (
        "import runpy, re, sys\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])"
    )
    script = f"import sys; sys.argv = {['push_to_hub.py', str(base), '--output-dir', str(output)]!r}\n{code}"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return int(result.stdout.split()[-1]) * 1024


def missing_shard(base):
    next(iter(sorted(base.glob("model-*.safetensors")))).unlink()


def truncated_shard(base):
    shard = sorted(base.glob("model-*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-100])


def escaping_index(base):
    path = base / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    first = next(iter(index["weight_map"]))
    index["weight_map"][first] = "../elsewhere.safetensors"
    path.write_text(json.dumps(index))


def wrong_index(base):
    path = base / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    first, *_, last = index["weight_map"]
    index["weight_map"][first] = index["weight_map"][last]
    path.write_text(json.dumps(index))


def missing_tensor(base):
    for shard in sorted(base.glob("model-*.safetensors"))[:1]:
        state = load_file(shard)
        name = next(iter(state))
        del state[name]
        save_file(state, shard, metadata={"format": "pt"})
    path = base / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    del index["weight_map"][name]
    path.write_text(json.dumps(index))


def edit_config(**values):
    def edit(base):
        path = base / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return edit


def no_weights(base):
    for path in base.glob("*.safetensors*"):
        path.unlink()


def broken_config(base):
    (base / "config.json").write_text("{")


def deeper_config(base):
    path = base / "config.json"
    config = json.loads(path.read_text())
    text = config.get("text_config") or config
    text["num_hidden_layers"] = 5
    text.pop("layer_types", None)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    "damage, arguments, words",
    [
        (missing_shard, (), "lacks the shard model-00001"),
        (truncated_shard, (), "model-00002.* is truncated or damaged"),
        (escaping_index, (), "points to '../elsewhere.safetensors', which is outside"),
        (wrong_index, (), "but it does not"),
        (missing_tensor, (), "lacks 1 tensors"),
        (no_weights, (), "only safetensors checkpoints"),
        (broken_config, (), "config.json is not valid JSON"),
        (deeper_config, (), "lacks 12 tensors"),
        (edit_config(model_type="llama"), (), "is a 'llama' model"),
        (None, ("--circle-rope", '{"radiu": 1}'), "did you mean 'radius'"),
        (None, ("--circle-rope", "{"), "not valid JSON"),
        (None, ("--circle-rope", "nowhere.json"), "neither a JSON object nor a file"),
        (None, ("--age-mode", "strategy_9"), "strategy_9"),
        (None, ("--age-mode", '["circle"]'), "1 entries, but the text model has 4 layers"),
        (None, ("--circle-rope", '{"AGE_mode": "strategy_2"}', "--age-mode", "strategy_3"), "give one"),
        (None, ("--revision", "main"), "--revision main was given"),
    ],
    ids=lambda value: getattr(value, "__name__", None) or (str(value) if isinstance(value, tuple) else None),
)
def test_bad_input_gets_one_sentence_and_leaves_nothing(sharded, tmp_path, damage, arguments, words):
    if damage is not None:
        damage(sharded)
    output = tmp_path / "deep" / "out"
    result = run(sharded, "--output-dir", output, *arguments)
    assert result.returncode != 0 and not result.stdout
    assert re.search(words, result.stderr), result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in result.stderr
    assert not output.exists() and not output.parent.exists()


def test_an_output_directory_with_something_in_it_is_refused(base, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("mine")
    result = run(base, "--output-dir", tmp_path / "out")
    assert result.returncode != 0 and "is not an empty directory" in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious.txt"]
    assert run(base, "--output-dir", base).returncode != 0


@pytest.mark.parametrize("base", ["no/such/place/at-all", "user/absent-repository", "bad name!"])
def test_a_base_that_is_not_there_is_refused(tmp_path, base):
    result = run(base, "--output-dir", tmp_path / "out")
    assert result.returncode != 0 and result.stderr.startswith("error: ")
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_help_shows_examples():
    result = run("--help")
    assert result.returncode == 0 and "examples:" in result.stdout
