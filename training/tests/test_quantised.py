"""Quantised by bitsandbytes and torchao: loaded, saved and loaded again, each as stock Qwen2.5-VL is."""

import pytest
import torch
import transformers
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig, TorchAoConfig

from conftest import ROOT
from models import image_batch

TINY = ROOT / "tiny"


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


@pytest.mark.parametrize("kind", KINDS)
def test_it_loads_saves_and_loads_again(kind, stock_dir, tmp_path):
    """The logits of text are those of the stock model, quantised alike, and those of pictures stay what they were."""
    model = load(TINY, quantization_config=KINDS[kind]())
    stock = load(stock_dir, quantization_config=KINDS[kind]())
    text = {"input_ids": torch.tensor([[40, 41, 42, 43, 44, 45]])}
    torch.testing.assert_close(logits(model, text), logits(stock, text), atol=0, rtol=0)
    torch.manual_seed(0)
    batch = image_batch()
    config = model.config
    ids = {190: config.image_token_id, 192: config.vision_start_token_id, 193: config.vision_end_token_id}
    for made_with, token in ids.items():
        batch["input_ids"] = batch["input_ids"].masked_fill(batch["input_ids"] == made_with, token)
    wanted = logits(model, batch)
    # transformers 4 has no safetensors for torchao.
    pickled = {"safe_serialization": False} if transformers.__version__ < "5" and "torchao" in kind else {}
    model.save_pretrained(tmp_path / "saved", **pickled)
    again = load(tmp_path / "saved")
    assert again.config.circle_rope == model.config.circle_rope
    torch.testing.assert_close(logits(again, batch), wanted, atol=0, rtol=0)
