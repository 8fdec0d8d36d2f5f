"""liger-kernel's patches reach the modules that our classes inherit; its kernels themselves need a GPU."""

import pytest
import torch
from liger_kernel.transformers import monkey_patch

from tests.models import image_batch, make_model, make_stock


@pytest.fixture
def model(monkeypatch):
    """With the entry that is made for it where there is a GPU; what the patch does to upstream is undone."""
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as upstream

    from training.liger_kernels import use_liger_kernels

    for name in ("apply_multimodal_rotary_pos_emb", "Qwen2_5_VLRMSNorm", "Qwen2RMSNorm", "Qwen2MLP"):
        monkeypatch.setattr(upstream, name, getattr(upstream, name, None), raising=False)
    monkeypatch.setattr(monkey_patch, "MODEL_TYPE_TO_APPLY_LIGER_FN", dict(monkey_patch.MODEL_TYPE_TO_APPLY_LIGER_FN))
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    use_liger_kernels()
    torch.manual_seed(0)
    return make_model(make_stock(), {"AGE_mode": "strategy_4"})


def test_every_kernel_of_qwen2_5_vl_is_put_in(model):
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as upstream

    monkey_patch._apply_liger_kernel_to_instance(model=model)
    layers = model.model.language_model.layers
    assert {module.forward.__func__.__qualname__.split(".")[0] for layer in layers for module in parts(layer)} == {
        "LigerRMSNorm",
        "LigerSwiGLUMLP",
    }
    assert upstream.apply_multimodal_rotary_pos_emb.__module__.startswith("liger_kernel")
    assert model.forward.__func__.__module__.startswith("liger_kernel")


def parts(layer):
    return layer.mlp, layer.input_layernorm, layer.post_attention_layernorm


def test_its_forward_sees_every_geometry(model):
    """The forward that it puts in, without the kernels: the same logits, from pictures and from given positions."""
    batch = image_batch()
    positions, _ = model.model.get_rope_index(
        batch["input_ids"], batch["image_grid_thw"], attention_mask=batch["attention_mask"]
    )
    with torch.no_grad():
        wanted = model(**batch).logits
        monkey_patch._apply_liger_kernel_to_instance(model=model, rope=False, rms_norm=False, swiglu=False)
        for given in ({}, {"position_ids": positions}):
            torch.testing.assert_close(model(**batch, **given).logits, wanted)


def test_without_a_gpu_it_is_refused(monkeypatch):
    from training.liger_kernels import use_liger_kernels

    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    with pytest.raises(ValueError, match="^use_liger_kernel needs a GPU, and there is none: leave it out.$"):
        use_liger_kernels()
