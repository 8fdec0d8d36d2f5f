"""What a trainer pushes to the Hub has the card that push_to_hub.py writes; the Hub is a server on this computer."""

import sys

import pytest
from huggingface_hub import ModelCard

from tests.hub_server import Hub

from .conftest import ROOT, run

LORA = ("--use_peft", "--lora_r", "2")


@pytest.mark.parametrize("options, library", [((), "transformers"), (LORA, "peft")])
def test_what_sft_pushes_says_its_block_and_schedule(options, library, stock_dir, pictures, tmp_path):
    command = [sys.executable, "-m", "training.sft", "--model_name_or_path", stock_dir]
    command += ["--dataset_name", pictures, "--output_dir", tmp_path / "out", "--max_steps", "1"]
    command += ["--report_to", "none", "--circle_rope", '{"radius": 7}', "--age_mode", "strategy_2", *options]
    command += ["--push_to_hub", "--hub_model_id", "user/shapes", "--hub_token", "hf_owner"]
    with Hub() as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        done = run(*command, no_proxy="127.0.0.1,localhost", **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        files = hub.repos["user/shapes"].files()
    card = ModelCard(files["README.md"].decode())
    assert "is a fine-tuned version of a Qwen2.5-VL checkpoint" in card.text and "None" not in card.text
    assert "Model Card for Model ID" not in card.text and "## Circle-RoPE" in card.text
    assert '"radius": 7' in card.text and "circle 0 to 2, mrope 3 to 5" in card.text
    assert 'from_pretrained("user/shapes", trust_remote_code=True' in card.text.replace("\n    ", "")
    assert {"circle-rope", "age", "custom_code"} <= set(card.data.tags)
    assert card.data.library_name == library


def test_any_trainer_can_have_the_card(tmp_path):
    from transformers import Trainer, TrainingArguments

    from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2
    from training.own_card import own_card

    model = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2.from_pretrained(ROOT)
    arguments = TrainingArguments(str(tmp_path / "shapes"), use_cpu=True, report_to=[])
    own_card(Trainer(model, arguments)).create_model_card()
    card = ModelCard.load(tmp_path / "shapes" / "README.md")
    assert "## Training procedure" in card.text and "## Circle-RoPE" in card.text
    assert "6, alternating, layer 0 circle" in card.text
    assert {"age", "generated_from_trainer"} <= set(card.data.tags)
