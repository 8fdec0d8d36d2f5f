"""Quantised by bitsandbytes and torchao: loaded, saved, loaded again and published, each as stock Qwen2.5-VL is."""

import json
import random

import pytest
import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig, TorchAoConfig

from shapes.evaluate import ask
from shapes.pictures import draw, make_questions, make_scene
from tests.models import image_batch, read_tensors
from tests.warm_python import executable

from .conftest import ROOT, run


def torchao(bits):
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerGroup

    if bits == 8:
        return TorchAoConfig(Int8WeightOnlyConfig())
    # The int4 that runs on a CPU.
    return TorchAoConfig(IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(32)))


KINDS = {
    "bitsandbytes 8 bit": lambda: BitsAndBytesConfig(load_in_8bit=True),
    "bitsandbytes nf4": lambda: BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
    "torchao int8": lambda: torchao(8),
    "torchao int4": lambda: torchao(4),
}


@torch.no_grad()
def logits(model, inputs):
    return model.eval()(**inputs).logits


def load(directory, **options):
    return AutoModelForImageTextToText.from_pretrained(
        directory, trust_remote_code=True, dtype=torch.bfloat16, device_map="cpu", **options
    )


def quantised_modules(model):
    """The modules whose weights are quantised, and by what."""
    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    kinds = {name: (type(module), type(module.weight.data)) for name, module in linear.items()}
    return {name: kind for name, kind in kinds.items() if kind != (torch.nn.Linear, torch.Tensor)}


def save(model, kind, directory):
    """transformers 4 has no safetensors for torchao."""
    pickled = {"safe_serialization": False} if transformers.__version__ < "5" and "torchao" in kind else {}
    model.save_pretrained(directory, **pickled)
    AutoProcessor.from_pretrained(ROOT, trust_remote_code=True).save_pretrained(directory)
    return directory


def push(*arguments, tmp_path):
    return run(executable(), "push_to_hub.py", *arguments, HF_HOME=tmp_path / "home")


@pytest.mark.parametrize("kind", KINDS)
def test_it_loads_saves_and_loads_again(kind, stock_dir, tmp_path):
    """The logits of text are those of the stock model, quantised alike, and those of pictures stay what they were."""
    model = load(ROOT, quantization_config=KINDS[kind]())
    # Before anything is computed: on CPUs with AVX512-BF16, bitsandbytes saves other scales afterwards.
    again = load(save(model, kind, tmp_path / "saved"))
    stock = load(stock_dir, quantization_config=KINDS[kind]())
    assert quantised_modules(model) and quantised_modules(model) == quantised_modules(stock)
    text = {"input_ids": torch.tensor([[40, 41, 42, 43, 44, 45]])}
    torch.testing.assert_close(logits(model, text), logits(stock, text), atol=0, rtol=0)
    torch.manual_seed(0)
    batch = image_batch()
    config = model.config
    ids = {190: config.image_token_id, 192: config.vision_start_token_id, 193: config.vision_end_token_id}
    for made_with, token in ids.items():
        batch["input_ids"] = batch["input_ids"].masked_fill(batch["input_ids"] == made_with, token)
    wanted = logits(model, batch)
    assert again.config.circle_rope == model.config.circle_rope
    assert quantised_modules(again) == quantised_modules(model)
    torch.testing.assert_close(logits(again, batch), wanted, atol=0, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_it_answers_as_before(kind, tmp_path):
    """Saved and loaded again, the tiny checkpoint still answers every question about held-out pictures."""
    model = load(save(load(ROOT, quantization_config=KINDS[kind]()), kind, tmp_path / "saved"))
    rng = random.Random(1)
    scenes = [make_scene(rng, held_out=True) for _ in range(40)]
    pictures = [draw(scene, rng) for scene in scenes]
    questions, answers = zip(*(make_questions(scene, rng, 1)[0] for scene in scenes))
    processor = AutoProcessor.from_pretrained(ROOT, trust_remote_code=True)
    assert ask(model.eval(), processor, pictures, questions) == list(answers)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_published_with_its_code(kind, tmp_path):
    model = load(ROOT, quantization_config=KINDS[kind]())
    saved = save(model, kind, tmp_path / "saved")
    (saved / "modeling_qwen2_5_vl_circle_rope.py").unlink()
    done = push(saved, "--repo-id", "user/name", "--output-dir", tmp_path / "out", "--no-upload", tmp_path=tmp_path)
    if not (saved / "model.safetensors").exists():
        assert done.returncode == 1 and "only safetensors checkpoints" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["auto_map"]["AutoModelForImageTextToText"] and config["quantization_config"]
    assert (tmp_path / "out" / "modeling_qwen2_5_vl_circle_rope.py").is_file()
    assert f"pillow {kind.split()[0]}\n" in (tmp_path / "out" / "README.md").read_text()
    published = load(tmp_path / "out")
    assert quantised_modules(published) == quantised_modules(model)
    text = {"input_ids": torch.tensor([[40, 41, 42, 43, 44, 45]])}
    torch.testing.assert_close(logits(published, text), logits(model, text), atol=0, rtol=0)


def test_a_quantised_checkpoint_that_lacks_a_matrix_is_refused(tmp_path):
    saved = save(load(ROOT, quantization_config=KINDS["bitsandbytes nf4"]()), "bitsandbytes", tmp_path / "saved")
    tensors = {name: value for name, value in read_tensors(saved).items() if "layers.2.mlp.up_proj" not in name}
    save_file(tensors, saved / "model.safetensors", metadata={"format": "pt"})
    done = push(saved, "--output-dir", tmp_path / "out", tmp_path=tmp_path)
    assert done.returncode == 1 and "lacks 1 tensors, model.language_model.layers.2.mlp.up_proj" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "ending, dtype, said",
    [
        ("k_proj.bias", torch.float16, None),
        ("k_proj.bias", torch.int32, "must be one of"),
        ("norm.weight", torch.float16, "save all of them in one dtype"),
    ],
)
def test_the_bias_of_a_quantised_matrix_may_have_its_kernels_dtype(ending, dtype, said, tmp_path):
    """As GPTQModel saves it: float16 beside bfloat16."""
    saved = save(load(ROOT, quantization_config=KINDS["bitsandbytes nf4"]()), "bitsandbytes", tmp_path / "saved")
    tensors = read_tensors(saved)
    tensors |= {name: value.to(dtype) for name, value in tensors.items() if name.endswith(ending)}
    save_file(tensors, saved / "model.safetensors", metadata={"format": "pt"})
    done = push(saved, "--output-dir", tmp_path / "out", tmp_path=tmp_path)
    assert said in done.stderr if said else done.returncode == 0, done.stderr


def test_a_quantised_stock_checkpoint_is_refused_with_the_order_of_the_two(stock_dir, tmp_path):
    stock = load(stock_dir, quantization_config=KINDS["bitsandbytes nf4"]())
    done = push(save(stock, "bitsandbytes", tmp_path / "saved"), "--output-dir", tmp_path / "out", tmp_path=tmp_path)
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "convert first, quantise then" in sentence and "python push_to_hub.py" in sentence
