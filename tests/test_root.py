"""The repo's root is a checkpoint: as it stands, as a clone, and on the Hub after `hf upload USER/NAME .`"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
)

from configuration_qwen2_5_vl_circle_rope import AUTO_MAP
from tests.hub_client import NAME, ask, environment
from tests.hub_server import Repo
from tests.models import CHECKPOINT, ROOT

IN_PLACE = """
import transformers
from PIL import Image
model = transformers.AutoModelForImageTextToText.from_pretrained(".", trust_remote_code=True)
processor = transformers.AutoProcessor.from_pretrained(".", trust_remote_code=True)
text = "<|im_start|>user\\n<|vision_start|><|image_pad|><|vision_end|>Where is the red circle?<|im_end|>\\n"
image = Image.open("examples/shapes.png")
inputs = processor(text=[text + "<|im_start|>assistant\\n"], images=[image], return_tensors="pt")
print(processor.decode(model.generate(**inputs)[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """What a clone of this tree has: its tracked files as they are, in a folder of another name."""
    folder = tmp_path_factory.mktemp("clones") / "circle-rope"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def test_a_clone_answers_in_place(clone):
    done = subprocess.run([sys.executable, "-c", IN_PLACE], cwd=clone, capture_output=True, text=True)
    assert done.stdout.endswith("top right\n"), done.stderr


def test_a_clone_that_is_uploaded_is_a_model_repo(hub, clone, tmp_path):
    """What is ignored stays at home, and what a checkpoint does not need is not asked for when it is loaded."""
    (clone / ".venv").mkdir(exist_ok=True)
    (clone / ".venv" / "pyvenv.cfg").write_text("not for the Hub")
    command = [Path(sys.executable).with_name("hf"), "upload", NAME, "."]
    env = environment(hub, tmp_path / "home", HF_HUB_DISABLE_XET="1")
    done = subprocess.run(command, cwd=clone, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files = hub.repos[NAME].files()
    assert files.keys() >= CHECKPOINT and "push_to_hub.py" in files and not any(".venv/" in name for name in files)
    assert files["model.safetensors"] == (ROOT / "model.safetensors").read_bytes()
    assert b"*.safetensors filter=lfs" in files[".gitattributes"] and b"*.png filter=lfs" in files[".gitattributes"]

    def requests_of_loading(home):
        hub.log.clear()
        assert ask(hub, tmp_path / home) == "top right"
        return [(method, path) for method, path, _ in hub.log]

    whole = requests_of_loading("whole")
    hub.repos[NAME] = Repo()
    hub.repos[NAME].commit({name: files[name] for name in CHECKPOINT})
    alone = requests_of_loading("alone")
    assert len(whole) == len(alone), (whole, alone)


def test_without_trust_in_its_code_nothing_is_loaded(clone):
    with pytest.raises((ValueError, KeyError), match="trust_remote_code=True"):
        AutoModelForImageTextToText.from_pretrained(clone, trust_remote_code=False)


@pytest.mark.parametrize("name", ["Qwen2_5_VLForConditionalGeneration", "Qwen2_5_VLModel"])
def test_the_stock_class_refuses_it_with_advice(name):
    with pytest.raises(KeyError, match="circle_rope, which needs .*trust_remote_code=True"):
        getattr(transformers, name).from_pretrained(ROOT)


def test_its_configuration_and_tokenizer_need_no_more_than_the_root():
    config = AutoConfig.from_pretrained(ROOT, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(ROOT)
    assert config.schedule == ("circle", "mrope") * 3 and config.auto_map == AUTO_MAP
    assert tokenizer.convert_tokens_to_ids("<|image_pad|>") == config.image_token_id


def test_a_step_of_trainer_changes_it_and_what_is_saved_loads(tmp_path):
    model = AutoModelForImageTextToText.from_pretrained(ROOT, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(ROOT, trust_remote_code=True)
    text = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{}<|im_end|>\n"
    text += "<|im_start|>assistant\n{}<|im_end|>"
    picture = [Image.open(ROOT / "examples" / "shapes.png")]
    row = processor(text=[text.format("Where is the red circle?", "bottom left")], images=picture, return_tensors="pt")
    row["labels"] = torch.cat([torch.full((1, row["input_ids"].shape[1] - 4), -100), row["input_ids"][:, -4:]], 1)
    wrong = model(**row).loss.item()
    arguments = TrainingArguments(tmp_path, max_steps=1, learning_rate=1e-3, report_to="none", use_cpu=True)
    trainer = Trainer(model, arguments, train_dataset=[row], data_collator=lambda rows: rows[0])
    assert trainer.train().training_loss == pytest.approx(wrong, abs=1e-4) and wrong > 1
    trainer.save_model(tmp_path / "saved")
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "saved", trust_remote_code=True)
    assert again.config.circle_rope == model.config.circle_rope
    assert again(**row).loss.item() < wrong - 0.1
