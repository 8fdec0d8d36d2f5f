"""training/sft.py as a command: full and LoRA, pictures and videos, evaluation, adapters, and what is refused."""

import json
import os
import pty
import re
import shutil
import sys
import warnings

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from training.blocks import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2
from training.save_block import BLOCK

from .conftest import ROOT, warm, write_to_hub_cache
from .pictures_set import write_video

FEW_STEPS = ("--per_device_train_batch_size", 3, "--max_steps", 6, "--logging_steps", 1, "--save_steps", 3)
CONSTANT = ("--lr_scheduler_type", "constant", "--report_to", "none")


@pytest.fixture(scope="module")
def sft():
    """The command, in a process that has TRL imported."""
    command = warm("trl:SFTTrainer", "trl:SFTConfig", "peft:PeftModel", "datasets:load_dataset")

    def run(*arguments):
        return command("-m", "training.sft", *FEW_STEPS, *CONSTANT, *arguments)

    return run


def losses(folder):
    state = json.loads((folder / "checkpoint-6" / "trainer_state.json").read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


@torch.no_grad()
def logits(model, processor, pictures):
    from PIL import Image

    text = "<|vision_start|><|image_pad|><|vision_end|>Name the shapes."
    inputs = processor(text=[text], images=[Image.open(pictures / "0-0.png")], return_tensors="pt")
    return model.eval()(**inputs).logits


@pytest.fixture(scope="module")
def full(tmp_path_factory, stock_dir, pictures, sft):
    """An official checkpoint, with the radius annealed."""
    folder = tmp_path_factory.mktemp("full")
    result = sft(
        *("--model_name_or_path", stock_dir, "--dataset_name", pictures, "--output_dir", folder),
        *("--age_mode", "strategy_3", "--anneal", "radius", "--anneal_steps", 5, "--learning_rate", 1e-3),
    )
    assert result.returncode == 0, result.stdout[-4000:]
    return folder


def test_full_training_learns_and_loads(full):
    assert losses(full)[-1] < 0.8 * losses(full)[0]
    model = AutoModelForImageTextToText.from_pretrained(full, trust_remote_code=True)
    AutoProcessor.from_pretrained(full, trust_remote_code=True)
    assert model.config.schedule == ("mrope",) * 3 + ("circle",) * 3


def test_annealing_ends_at_the_target_and_a_checkpoint_says_where_it_was(full):
    halfway, final = (
        AutoConfig.from_pretrained(full / name, trust_remote_code=True) for name in ("checkpoint-3", ".")
    )
    assert halfway.circle_rope["radius"] == 5.0 and final.circle_rope["radius"] == 10


def test_it_resumes_from_the_last_checkpoint_that_was_saved_to_its_end(full, stock_dir, pictures, sft, tmp_path):
    shutil.copytree(full / "checkpoint-3", tmp_path / "checkpoint-3")
    shutil.copytree(full / "checkpoint-6", tmp_path / "checkpoint-6")
    (tmp_path / "checkpoint-6" / "trainer_state.json").unlink()
    result = sft(
        *("--model_name_or_path", stock_dir, "--dataset_name", pictures, "--output_dir", tmp_path),
        *("--age_mode", "strategy_3", "--anneal", "radius", "--anneal_steps", 5, "--learning_rate", 1e-3),
        *("--resume_from_checkpoint", "true"),
    )
    assert result.returncode == 0, result.stdout[-4000:]
    assert "checkpoint-6 was not saved to its end" in result.stdout and "resuming from" in result.stdout
    assert losses(tmp_path)[3:] == pytest.approx(losses(full)[3:], rel=1e-3)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, stock_dir, pictures, sft):
    """LoRA on an official checkpoint from the Hub, under a schedule that is annealed."""
    folder = tmp_path_factory.mktemp("adapter")
    write_to_hub_cache(stock_dir, "user/base", "0" * 40)
    result = sft(
        *("--model_name_or_path", "user/base", "--dataset_name", pictures, "--output_dir", folder),
        *("--use_peft", "--lora_r", 8, "--learning_rate", 1e-2, "--anneal", "AGE_mode", "--anneal_steps", 6),
    )
    assert result.returncode == 0, result.stdout[-4000:]
    return folder


def test_a_lora_adapter_learns_loads_and_merges(adapter, stock_dir, pictures, tmp_path):
    from peft import PeftModel

    assert losses(adapter)[-1] < 0.8 * losses(adapter)[0]
    config = AutoConfig.from_pretrained(adapter, trust_remote_code=True)
    assert config.circle_rope["AGE_mode"] == "strategy_4"
    base = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2.from_pretrained(stock_dir, config=config)
    processor = AutoProcessor.from_pretrained(stock_dir)
    plain = logits(base, processor, pictures)
    model = PeftModel.from_pretrained(base, adapter)
    adapted = logits(model, processor, pictures)
    assert not torch.allclose(adapted, plain, atol=1e-2)
    merged = model.merge_and_unload()
    torch.testing.assert_close(logits(merged, processor, pictures), adapted, atol=1e-3, rtol=1e-3)
    merged.save_pretrained(tmp_path / "merged")
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged", trust_remote_code=True)
    torch.testing.assert_close(logits(again, processor, pictures), adapted, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "circle_layers"), [(".", (0, 2, 4)), ("checkpoint-3", (0,)), ("checkpoint-6", (0, 2, 4))]
)
def test_every_folder_of_an_adapter_says_its_block_and_opens(name, circle_layers, adapter, stock_dir, pictures):
    from peft import PeftModel

    folder = adapter / name
    said = json.loads((folder / "adapter_config.json").read_text())
    assert said["base_model_name_or_path"] == "user/base" and "user/base" in (folder / "README.md").read_text()
    schedule = tuple("circle" if layer in circle_layers else "mrope" for layer in range(6))
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    assert config.schedule == schedule and said[BLOCK] == config.circle_rope
    base = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2.from_pretrained(stock_dir, config=config)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        by_hand = PeftModel.from_pretrained(base, folder)
        opened = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)
    assert any(BLOCK in str(warning.message) for warning in caught)
    if not hasattr(opened.config, "circle_rope"):  # transformers 4 goes to the base first; it was told, above
        return
    assert opened.config.schedule == schedule
    processor = AutoProcessor.from_pretrained(stock_dir)
    torch.testing.assert_close(logits(opened, processor, pictures), logits(by_hand, processor, pictures))


def test_a_quantised_base_is_trained_and_its_adapter_loads_exactly(pictures, sft, tmp_path):
    """QLoRA: the loss on the training set is the same before saving and after loading."""
    from peft import PeftModel
    from transformers import BitsAndBytesConfig

    write_rows(tmp_path / "data", *read_rows(pictures)[:3])
    result = sft(
        *("--model_name_or_path", ROOT, "--dataset_name", tmp_path / "data", "--output_dir", tmp_path / "out"),
        *("--use_peft", "--load_in_4bit", "--learning_rate", 1e-2, "--dataset_test_split", "train"),
        *("--per_device_eval_batch_size", 8),
    )
    assert result.returncode == 0, result.stdout[-4000:]
    assert losses(tmp_path / "out")[-1] < losses(tmp_path / "out")[0]
    quantised = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype="float32")
    model = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2.from_pretrained(
        ROOT, quantization_config=quantised, dtype=torch.float32, device_map="cpu"
    )
    model = PeftModel.from_pretrained(model, tmp_path / "out")
    for name, parameter in model.named_parameters():
        if "lora_" in name:  # TRL trained and saved them in bfloat16, and PEFT makes them float32
            parameter.data = parameter.data.to(torch.bfloat16)
    assert evaluated(tmp_path / "out") == pytest.approx(loss_on(model, tmp_path / "data"), rel=1e-4)


def read_rows(folder):
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def write_rows(folder, *rows, split="train"):
    folder.mkdir(exist_ok=True)
    (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def evaluated(folder):
    return json.loads((folder / "eval_results.json").read_text())["eval_loss"]


@torch.no_grad()
def loss_on(model, folder, split="train"):
    from datasets import Image, List

    from training.sft_collator import Collator
    from training.sft_examples import load_examples

    examples = load_examples(str(folder), None, split).cast_column("images", List(Image()))
    batch = Collator(AutoProcessor.from_pretrained(ROOT, trust_remote_code=True))(list(examples))
    return model.eval()(**batch).loss.item()


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """A folder with a video, a picture and a video, and neither."""
    folder = tmp_path_factory.mktemp("moving")
    write_video(folder / "moving.mp4", frames=24, frames_per_second=8)
    shutil.copy(ROOT / "examples" / "shapes.png", folder / "still.png")
    answer = {"role": "assistant", "content": "A BAR"}
    return write_rows(
        folder,
        {"messages": [{"role": "user", "content": "<video>What moves?"}, answer], "videos": ["moving.mp4"]},
        {
            "messages": [{"role": "user", "content": "<image>or<video>?"}, answer],
            "images": ["still.png"],
            "videos": "moving.mp4",
        },
        {"messages": [{"role": "user", "content": "What?"}, answer]},
    )


def test_videos_are_learned_and_a_test_split_is_evaluated(moving, sft, tmp_path):
    """The loss on the test split is that of the model that was saved; batches are made by length."""
    write_rows(moving, *read_rows(moving)[:2], split="test")
    group = ("--train_sampling_strategy", "group_by_length")
    if "train_sampling_strategy" not in vars(trl_config()):  # transformers 4
        group = ("--group_by_length", "true")
    result = sft(
        *("--model_name_or_path", ROOT, "--dataset_name", moving, "--output_dir", tmp_path, *group),
        *("--do_eval", "--learning_rate", 1e-3, "--per_device_eval_batch_size", 8),
    )
    assert result.returncode == 0, result.stdout[-4000:]
    assert losses(tmp_path)[-1] < 0.8 * losses(tmp_path)[0]
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, trust_remote_code=True)
    assert evaluated(tmp_path) == pytest.approx(loss_on(model, moving, "test"), rel=1e-4)


def trl_config():
    from trl import SFTConfig

    return SFTConfig("unused", use_cpu=True, bf16=False)


def test_a_batch_has_two_frames_a_second_and_its_lengths_are_known_ahead(moving):
    import numpy as np
    from datasets import Image, List

    from training.sft_collator import Collator
    from training.sft_examples import load_examples

    processor = AutoProcessor.from_pretrained(ROOT, trust_remote_code=True)
    examples, collator = load_examples(str(moving), None, "train"), Collator(processor)
    lengths = [collator.measure(example, "row")["length"] for example in examples]
    examples = examples.cast_column("images", List(Image()))
    batch = collator(list(examples))
    assert batch["attention_mask"].sum(1).tolist() == lengths
    assert batch["video_grid_thw"].tolist() == [[3, 8, 8]] * 2 and batch["second_per_grid_ts"].tolist() == [1.0, 1.0]
    frames, metadata = collator.read_video(examples[0]["videos"][0])
    assert len(frames) == 6 and list(metadata.frames_indices) == [0, 4, 9, 13, 18, 23] or len(frames) == 6
    by_hand = processor(
        text=["<|video_pad|>"], videos=[np.asarray(frames)], do_sample_frames=False, return_tensors="pt"
    )
    torch.testing.assert_close(batch["pixel_values_videos"][:192], by_hand["pixel_values_videos"])
    answers = [processor.tokenizer.decode(row[row >= 0]) for row in batch["labels"]]
    assert [answer.split("<")[0] for answer in answers] == ["A BAR"] * 3


def test_every_answer_is_an_example_with_the_pictures_before_it(pictures, tmp_path):
    """Of rows in a folder, and of the same rows as a parquet file with the pictures inside, as on a hub."""
    from datasets import Dataset, Image, List

    from training.sft_examples import load_examples

    rows = read_rows(pictures)
    examples = load_examples(str(pictures), None, "train")
    answers = [message["content"] for row in rows for message in row["messages"] if message["role"] == "assistant"]
    assert [example["completion"][0]["content"][0]["text"] for example in examples] == answers
    for example in examples:
        placeholders = sum(part["type"] == "image" for message in example["prompt"] for part in message["content"])
        assert placeholders == len(example["images"])
    Dataset.from_list(rows).cast_column("images", List(Image())).to_parquet(tmp_path / "train.parquet")
    again = load_examples(str(tmp_path), None, "train").cast_column("images", List(Image()))
    examples = examples.cast_column("images", List(Image()))
    assert again["prompt"] == examples["prompt"]
    assert [[image.size for image in images] for images in again["images"]] == [
        [image.size for image in images] for images in examples["images"]
    ]


def test_no_question_is_asked_in_a_terminal(pictures, tmp_path):
    """On a converted checkpoint, which brings code of its own."""
    seen = []

    def read(terminal):
        seen.append(os.read(terminal, 1024))
        return seen[-1]

    command = (sys.executable, "-m", "training.sft", *FEW_STEPS, *CONSTANT, "--dataset_name", pictures)
    command = (*command, "--model_name_or_path", ROOT, "--output_dir", tmp_path, "--max_steps", 1)
    assert pty.spawn(list(map(str, command)), read, lambda _: b"") == 0, b"".join(seen)[-3000:].decode()
    assert b"custom code" not in b"".join(seen)


@pytest.mark.parametrize(
    ("arguments", "change", "words"),
    [
        ((), {"images": ["absent.png"]}, "row 1, names the image absent.png, but there is no such file"),
        ((), {"images": []}, "row 1, has 0 images, but 1 <image> placeholders"),
        ((), {"videos": ["absent.mp4"]}, "row 1, names the video absent.mp4, but there is no such file"),
        ((), {"videos": ["train.jsonl"]}, "row 1, has the video .*train.jsonl, which cannot be read"),
        ((), {"images": ["train.jsonl"]}, "row 1, has the image .*train.jsonl, which cannot be read"),
        ((), {"videos": [["a.png"]]}, "row 1, names the video a.png, but there is no such file"),
        (("--circle_rope", '{"radius": 3}'), {}, "converted already.* radius 3 was asked for"),
        (("--age_mode", '["circle", "mrope"]'), {}, "2 entries.* 6 layers"),
        (("--anneal", "alpha"), {}, "annealing was asked for 'alpha'"),
        (("--model_name_or_path", "absent/model"), {}, "absent/model"),
        (("--max_length", 20), {}, "row 1, has a picture or video that ends at token .*--max_length 20 cuts it"),
        (("--max_length", 50), {}, "row 1, has an answer that begins at token .*--max_length 50 leaves nothing"),
        (("--resume_from_checkpoint", "true"), {}, "--resume_from_checkpoint true was given, but .* no checkpoint"),
        (("--resume_from_checkpoint", "absent"), {}, "absent"),
        (("--dataset_test_split", "nosuch"), {}, "neither nosuch.jsonl nor parquet"),
        (("--do_eval",), {}, "neither test.jsonl nor parquet"),
        (("--trust_remote_code",), {}, "--trust_remote_code has no use here"),
        (("--model_revision", "v2"), {}, "--model_revision v2 was given, but the model is a local directory"),
        (("--load_in_4bit",), {}, "--load_in_4bit was given without --use_peft"),
        (("--lora_r", 4), {}, "--lora_r was given without --use_peft"),
        (("--use_peft", "--train_vision"), {}, "--train_vision was given with --use_peft"),
        (("--packing",), {}, "--packing has no use here"),
        (("--dataset_streaming",), {}, "--dataset_streaming has no use here"),
        (("--label_smoothing_factor", 0.1), {}, "--label_smoothing_factor has no use here"),
        (("--pad_token", "nosuch"), {}, "--pad_token nosuch is not in the vocabulary"),
        (("--eos_token", "nosuch"), {}, "nosuch"),
        (("--chat_template_path", "nosuch"), {}, "nosuch is no template"),
        (("--use_liger_kernel",), {}, "use_liger_kernel"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, change, words, pictures, sft, tmp_path):
    row = read_rows(pictures)[0] | change
    write_rows(tmp_path, row)
    base = () if "--model_name_or_path" in arguments else ("--model_name_or_path", ROOT)
    result = sft(*base, "--dataset_name", tmp_path, "--output_dir", tmp_path / "out", *arguments)
    assert result.returncode != 0 and "Traceback" not in result.stdout
    assert re.search(words, re.findall(r"^error: (.*)$", result.stdout, re.M)[-1]), result.stdout[-1000:]
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_a_missing_package_is_named(monkeypatch):
    from training.sft_options import check_options

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    options, defaults = trl_options("--use_peft", "--load_in_4bit"), trl_options()
    with pytest.raises(ValueError, match="^--(use_peft needs peft|load_in_4bit needs bitsandbytes): pip install"):
        check_options(options, defaults)


def trl_options(*arguments):
    from trl import ModelConfig, SFTConfig, TrlParser

    from training.sft import GeometryArguments

    parser = TrlParser((SFTConfig, ModelConfig, GeometryArguments))
    parser.set_defaults(use_cpu=True, bf16=False)
    return parser.parse_args_and_config(list(arguments))
