"""push_to_hub.py before it uploads: what goes up and what does not, cards, checks, trained models, adapters."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from conversion.core import MODULES
from tests import warm_python
from tests.models import CHECKPOINT, ROOT, copy_checkpoint, save_as_stock

SECRET = "hf_" + "a" * 34


def push(*arguments, **variables):
    """Run the command; whatever it tried to reach would fail, since no Hub listens there."""
    command = [warm_python.executable(), str(ROOT / "push_to_hub.py"), *map(str, arguments)]
    env = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_x", **variables}
    return subprocess.run(command, capture_output=True, text=True, env=env)


def publish(base, output, *arguments):
    result = push(base, "--output-dir", output, "--no-upload", *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def assert_refused(result, words):
    assert result.returncode not in (0, None), result.stdout
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and words in lines[0] and "Traceback" not in result.stderr, result.stderr


@pytest.fixture
def trained(tmp_path):
    """The root's checkpoint as a training run leaves it: state and logs beside it, no code, no auto_map."""
    folder = copy_checkpoint(tmp_path / "trained", without=MODULES)
    config = json.loads((folder / "config.json").read_text())
    del config["auto_map"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_dry_run_lists_everything_and_leaves_nothing(tmp_path):
    before = {name: (ROOT / name).stat().st_mtime_ns for name in CHECKPOINT}
    result = push(ROOT, "--repo-id", "user/name", "--branch", "next", "--dry-run", HF_HOME=str(tmp_path / "home"))
    assert result.returncode == 0, result.stderr
    lines = {parts[-1]: parts[0] for parts in map(str.split, result.stdout.splitlines()) if len(parts) == 2}
    assert lines["model.safetensors"] == f"{(ROOT / 'model.safetensors').stat().st_size:,}"
    assert {"config.json", "README.md", "modeling_qwen2_5_vl_circle_rope.py", "tokenizer.json"} <= set(lines)
    total = sum(int(size.replace(",", "")) for size in lines.values() if size.replace(",", "").isdigit())
    assert f"{total:,}  bytes in" in result.stdout
    assert "private repository user/name" in result.stdout and "branch next" in result.stdout
    assert not (tmp_path / "home").exists()
    assert before == {name: (ROOT / name).stat().st_mtime_ns for name in CHECKPOINT}


def test_a_dry_run_says_exactly_what_is_written(tmp_path):
    listed = push(ROOT, "--output-dir", tmp_path / "out", "--no-upload", "--dry-run").stdout
    publish(ROOT, tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        assert f"{path.stat().st_size:,}  {path.name}\n" in listed
    assert f"in {len(list((tmp_path / 'out').iterdir()))} files" in listed


def test_a_dry_run_of_a_hub_id_that_is_not_here_asks_nobody(tmp_path):
    result = push("user/absent", "--repo-id", "user/name", "--dry-run", HF_HOME=str(tmp_path / "home"))
    assert_refused(result, "a dry run asks nobody")


def test_what_a_training_run_leaves_is_put_right_and_the_rest_stays_at_home(trained, tmp_path):
    with open(trained / "added_tokens.json", "wb") as file:
        file.truncate(51 * 1000**3)  # takes no space
    (trained / "checkpoint-10").mkdir()
    (trained / "elsewhere.json").symlink_to("/etc/hostname")
    for name in (".env", "optimizer.pt", "training_args.bin", "pytorch_model.bin", "args.json", "token", "x.pkl"):
        (trained / name).write_text(SECRET)
    before = {path.name for path in trained.iterdir()}
    said = publish(trained, tmp_path / "out")
    for line in (
        ".env: hidden",
        "optimizer.pt: state of a training run",
        "training_args.bin: state of a training run",
        "pytorch_model.bin: a pickle, which can run code when it is loaded",
        "x.pkl: a pickle, which can run code when it is loaded",
        "args.json: no file of a checkpoint",
        "token: no file of a checkpoint",
        "checkpoint-10/: a folder",
        "elsewhere.json: a link that leaves the folder",
        "added_tokens.json: larger than the 50 GB that the Hub takes",
    ):
        assert f"  {line}\n" in said
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == CHECKPOINT
    assert "AutoConfig" in json.loads((tmp_path / "out" / "config.json").read_text())["auto_map"]
    assert {path.name for path in trained.iterdir()} == before
    assert "auto_map" not in json.loads((trained / "config.json").read_text())


def test_the_links_of_the_hubs_cache_are_files_of_the_base(trained, tmp_path):
    """A snapshot links to the repo's blobs, and a blob may link to one that the cache's repos share."""
    repo = tmp_path / "hub" / "models--user--base"
    snapshot = repo / "snapshots" / "0123"
    for folder in (snapshot, repo / "blobs", tmp_path / "hub" / "blobs" / "ab"):
        folder.mkdir(parents=True)
    for number, path in enumerate(sorted(trained.iterdir())):
        path.rename(tmp_path / "hub" / "blobs" / "ab" / str(number))
        (repo / "blobs" / str(number)).symlink_to(Path("..", "..", "blobs", "ab", str(number)))
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", str(number)))
    said = publish(snapshot, tmp_path / "out")
    assert "left out" not in said
    written = list((tmp_path / "out").iterdir())
    assert {path.name for path in written} == CHECKPOINT
    assert not any(path.is_symlink() for path in written)
    assert ModelCard((tmp_path / "out" / "README.md").read_text()).data.base_model == "user/base"


def test_the_text_of_an_owners_card_is_kept(trained, tmp_path):
    (trained / "README.md").write_text(
        "---\nlicense: mit\ntags:\n- mine\nbase_model: /home/me/run\n---\n# Mine\n\nWords.\n"
    )
    publish(trained, tmp_path / "out", "--base-model", "user/base")
    card = ModelCard((tmp_path / "out" / "README.md").read_text())
    assert card.text.strip().startswith("# Mine\n\nWords.") and card.data.license == "mit"
    assert card.data.base_model == "user/base" and {"mine", "custom_code"} <= set(card.data.tags)
    publish(tmp_path / "out", tmp_path / "again", "--alpha", "1")
    again = ModelCard((tmp_path / "again" / "README.md").read_text())
    assert again.text.count("Words.") == 1 and again.text.count("## Use") == 1 and '"alpha": 1' in again.text
    assert again.data.base_model == "user/base"


def card_in(folder):
    return ModelCard((folder / "README.md").read_text())


def test_a_converted_folder_has_a_card_and_hands_it_on(tmp_path):
    base = save_as_stock(tmp_path / "base")
    data = {"license": "other", "license_name": "qwen-research", "license_link": "https://hf.co/q/LICENSE"}
    (base / "README.md").write_text(f"---\n{json.dumps({**data, 'language': ['en', 'zh']})}\n---\n# Theirs\n")
    result = push(base, "--output-dir", tmp_path / "out", "--base-model", "qwen/base")
    assert result.returncode == 0, result.stderr
    publish(tmp_path / "out", tmp_path / "again")
    for name in ("out", "again"):
        card = card_in(tmp_path / name)
        said = card.data.to_dict()
        assert {key: said[key] for key in data} == data and said["language"] == ["en", "zh"]
        assert said["base_model"] == "qwen/base"
        assert card.text.strip().splitlines()[1] == f"# {name}" and "Theirs" not in card.text
        assert "not fine-tuned**" in card.text and "[qwen-research](https://hf.co/q/LICENSE)" in card.text


def test_a_card_of_an_earlier_run_gets_the_id_and_keeps_what_was_edited(tmp_path):
    base, convert = save_as_stock(tmp_path / "base"), ("--output-dir", tmp_path / "out")
    assert push(base, *convert).returncode == 0
    publish_it = (*convert, "--repo-id", "user/name", "--no-upload")
    assert push(base, *publish_it).returncode == 0
    assert 'from_pretrained("user/name"' in card_in(tmp_path / "out").text
    edited = (tmp_path / "out" / "README.md").read_text() + "\nMine.\n"
    (tmp_path / "out" / "README.md").write_text(edited)
    for arguments in (publish_it, convert):
        assert push(base, *arguments).returncode == 0
        assert (tmp_path / "out" / "README.md").read_text() == edited


def test_unchanged_weights_take_no_space_and_survive_a_save_over_them(trained, tmp_path):
    publish(trained, tmp_path / "out")
    weights = tmp_path / "out" / "model.safetensors"
    assert weights.samefile(trained / "model.safetensors") or weights.stat().st_nlink == 1
    before = (trained / "model.safetensors").read_bytes()
    save_file({"x": torch.zeros(1)}, weights)
    assert (trained / "model.safetensors").read_bytes() == before


def test_a_large_model_is_checked_without_its_weights(trained):
    """What takes the place of loading and generating above 1 GB: the meta device."""
    publish(trained, trained.parent / "out")
    (trained.parent / "out" / "model.safetensors").unlink()
    command = [warm_python.executable(), str(ROOT / "conversion" / "load_check.py"), str(trained.parent / "out")]
    assert subprocess.run([*command, "large"], capture_output=True).returncode == 0
    small = subprocess.run([*command, "small"], capture_output=True, text=True)
    assert small.returncode and "error: AutoModelForImageTextToText: " in small.stderr


def test_a_result_that_was_edited_is_not_overwritten(trained, tmp_path):
    publish(trained, tmp_path / "out")
    publish(trained, tmp_path / "out")  # as after an interruption
    (tmp_path / "out" / "tokenizer_config.json").write_text("{}")
    assert_refused(push(trained, "--output-dir", tmp_path / "out", "--no-upload"), "is not an empty directory")
    assert (tmp_path / "out" / "tokenizer_config.json").read_text() == "{}"


def test_a_base_in_the_place_of_the_result_is_never_deleted(tmp_path):
    place = tmp_path / "home" / "circle_rope" / "user--name"
    arguments = ("--repo-id", "user/name", "--no-upload")
    assert push(ROOT, *arguments, HF_HOME=str(tmp_path / "home")).returncode == 0
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    result = push(place, *arguments, "--alpha", "1", HF_HOME=str(tmp_path / "home"))
    assert_refused(result, "is where the result would go")
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def damage_dtype(folder):
    state = load_file(folder / "model.safetensors")
    state[min(state)] = state[min(state)].bfloat16()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def damage_all_dtypes(folder):
    state = {name: tensor.bfloat16() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def damage_extra(folder):
    state = load_file(folder / "model.safetensors")
    save_file({**state, "extra.weight": torch.zeros(1)}, folder / "model.safetensors", metadata={"format": "pt"})


def damage_processor(folder):
    for name in ("tokenizer.json", "vocab.json", "processor_config.json"):
        (folder / name).unlink()


def damage_link(folder):
    (folder / "model.safetensors").rename(folder.parent / "weights.safetensors")
    (folder / "model.safetensors").symlink_to(folder.parent / "weights.safetensors")


def damage_secret(folder):
    (folder / "generation_config.json").write_text(json.dumps({"token": SECRET}))


def damage_folder(folder):
    for step in (5, 10):
        (folder / f"checkpoint-{step}").mkdir()
    (folder / "model.safetensors").rename(folder / "checkpoint-10" / "model.safetensors")


@pytest.mark.parametrize(
    "damage, words",
    [
        (damage_dtype, "save all of them in one dtype"),
        (damage_all_dtypes, "holds BF16 tensors, but its config.json says float32"),
        (damage_extra, "has, beside those of Qwen2.5-VL, 1 tensors"),
        (damage_processor, "does not load: AutoProcessor"),
        (damage_link, "a link that leaves the folder: replace it by the file"),
        (damage_secret, "looks like a token of the Hub"),
        (damage_folder, "give one of them, such as"),
    ],
)
def test_a_damaged_checkpoint_is_refused_before_any_upload(trained, tmp_path, damage, words):
    damage(trained)
    assert_refused(push(trained, "--output-dir", tmp_path / "out", "--no-upload"), words)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((), "neither --output-dir nor --repo-id"),
        (("--repo-id", "no/such/form"), "is no repository id"),
        (("--repo-id", "name"), "is no repository id"),
        (("--repo-id", "user/bad name"), "is no repository id"),
        (("--repo-id", "user/name", "--private", "--public"), "--private and --public contradict"),
        (("--repo-id", "user/name", "--branch", "b", "--create-pr"), "--branch and --create-pr contradict"),
        (("--output-dir", "out", "--public"), "--public is for publishing"),
        (("--output-dir", "out", "--radius", "5", "--circle-rope", '{"circle_r": 4}'), "circle_r 4 and --radius 5"),
        (("--output-dir", "out", "--alpha", "1", "--circle-rope", '{"alpha": 0.5}'), "alpha 0.5 and --alpha 1"),
        (("--output-dir", "out", "--circle-rope", '{"alpha": 0, "alpha": 1}'), "it gives alpha twice"),
        (("--output-dir", "out", "--age-mode", "strategy_1", "--age-mode", "strategy_2"), "--age-mode is given twice"),
        (("--output-dir", "out", "--radius", "-1"), "a number >= 0"),
        (("--output-dir", "out", "--alpha", "much"), "a number from 0 to 1"),
        (("--output-dir", "out", "--no-such-option"), "unrecognized arguments"),
    ],
)
def test_bad_options_are_one_sentence(arguments, words, tmp_path):
    result = push(ROOT, *arguments)
    assert_refused(result, words)
    assert not result.stdout and not Path("out").exists()


def test_an_adapter_goes_up_with_the_reference_of_its_base(tmp_path):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(ROOT, trust_remote_code=True)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    peft.get_peft_model(model, config).save_pretrained(tmp_path / "lora")
    (tmp_path / "lora" / "training_args.bin").write_bytes(b"pickle")

    assert_refused(push(tmp_path / "lora", "--output-dir", tmp_path / "out", "--no-upload"), "--base-model")
    said = publish(tmp_path / "lora", tmp_path / "out", "--base-model", "user/tiny", "--license", "mit")
    assert "training_args.bin" in said
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "README.md",
    }
    card = ModelCard((tmp_path / "out" / "README.md").read_text())
    assert card.data.base_model == "user/tiny" and card.data.base_model_relation == "adapter"
    assert card.data.library_name == "peft" and card.data.license == "mit"
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == "user/tiny"
    assert str(ROOT) not in (tmp_path / "out" / "README.md").read_text()

    state = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    state[min(state)] = torch.zeros(3, 3)
    save_file(state, tmp_path / "lora" / "adapter_model.safetensors", metadata={"format": "pt"})
    arguments = ("--output-dir", tmp_path / "other", "--no-upload", "--base-model", "user/tiny")
    assert_refused(push(tmp_path / "lora", *arguments), "does not load: PEFT")


def test_a_merged_adapter_is_a_model(tmp_path):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(ROOT, trust_remote_code=True)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    peft.get_peft_model(model, config).merge_and_unload().save_pretrained(tmp_path / "merged")
    AutoProcessor.from_pretrained(ROOT, trust_remote_code=True).save_pretrained(tmp_path / "merged")
    publish(tmp_path / "merged", tmp_path / "out")
    assert (tmp_path / "out" / "modeling_qwen2_5_vl_circle_rope.py").is_file()
