"""Sections that take the rotary frequencies in turns (`mrope_interleaved`), as in Qwen3-VL, under every geometry."""

import numpy
import pytest
import torch
from transformers import Qwen3VLTextConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRotaryEmbedding
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding

from circle_rope_imp import axis_of_pairs, interleaved_section
from configuration_qwen2_5_vl_circle_rope import plain_rope
from modeling_qwen2_5_vl_circle_rope import (
    Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2,
)
from tests.models import AutoModelForVision, image_batch, make_config, make_model, one_image, pad, text, video_batch

INTERLEAVED = {"mrope_interleaved": True}
AGE = {"AGE_mode": "strategy_4", **INTERLEAVED}


def qwen3_rope(section, theta=10000.0):
    """Qwen3-VL's own rotary embedding with these sections."""
    heads = {"hidden_size": 2 * sum(section), "num_attention_heads": 1, "num_key_value_heads": 1}
    rope = {"rope_type": "default", "rope_theta": theta, "mrope_section": list(section)}
    config = Qwen3VLTextConfig(**heads, head_dim=2 * sum(section), rope_theta=theta, rope_scaling=dict(rope))
    if hasattr(config, "rope_parameters"):
        config.rope_parameters = rope
    return Qwen3VLTextRotaryEmbedding(config)


def handed_to_layers(model, inputs):
    """The cos and sin that every layer's attention gets, in order."""
    handed = []
    for layer in model.model.language_model.layers:
        layer.self_attn.register_forward_pre_hook(
            lambda module, args, kwargs: handed.append(kwargs["position_embeddings"]), with_kwargs=True
        )
    model(**inputs)
    return handed


def test_the_share_is_qwen3_vls():
    assert interleaved_section(64) == (24, 20, 20) and interleaved_section(16) == (6, 5, 5)
    for pairs in range(1, 200):
        section = interleaved_section(pairs)
        counts = torch.bincount(axis_of_pairs(section, interleaved=True), minlength=3)
        assert tuple(counts.tolist()) == section and sum(section) == pairs and min(section) >= 0


def test_the_axis_of_every_frequency():
    assert axis_of_pairs([2, 3, 3]).tolist() == [0, 0, 1, 1, 1, 2, 2, 2]
    assert axis_of_pairs([4, 2, 2], interleaved=True).tolist() == [0, 1, 2, 0, 1, 2, 0, 0]
    assert make_config().axis_of_pairs.tolist() == [0, 0, 1, 1, 1, 2, 2, 2]
    assert make_config(INTERLEAVED).axis_of_pairs.tolist() == [0, 1, 2, 0, 1, 2, 0, 0]
    assert make_config({"mrope_section": [6, 1, 1], **INTERLEAVED}).axis_of_pairs.tolist() == [0, 1, 2, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("make", [image_batch, video_batch], ids=["images", "video"])
@pytest.mark.parametrize("section", [None, [6, 1, 1]], ids=["qwen3-vl's share", "own sections"])
@torch.no_grad()
def test_every_layer_gets_qwen3_vls_cos_and_sin_at_the_positions_of_its_geometry(stock, make, section):
    inputs = make()
    model = make_model(stock, {**AGE, **({"mrope_section": section} if section else {})})
    positions, _ = model.model.get_rope_index(**{key: value for key, value in inputs.items() if "pixel" not in key})
    rope = qwen3_rope(section or (4, 2, 2))
    handed = handed_to_layers(model, inputs)
    real = inputs["attention_mask"].bool()
    assert len(handed) == 4
    for layer, embeddings in enumerate(handed):
        circle, mrope = positions.split(3)
        for given, wanted in zip(embeddings, rope(torch.zeros(1), mrope if layer % 2 else circle)):
            # Older releases want cos and sin three times, to take sections from.
            for row in given.view(-1, *wanted.shape):
                torch.testing.assert_close(row[real], wanted[real], atol=1e-6, rtol=0)


@torch.no_grad()
def test_it_turns_queries_and_keys_as_the_formula_says(stock):
    """A layer's queries, turned by hand in float64, against the attention logits that sdpa saw."""
    model, inputs = make_model(stock, INTERLEAVED), one_image()
    seen = {}
    attention = model.model.language_model.layers[0].self_attn
    for name in ("q_proj", "k_proj"):
        getattr(attention, name).register_forward_hook(lambda module, args, out, name=name: seen.update({name: out}))
    real = torch.nn.functional.scaled_dot_product_attention

    def spy(query, key, *args, **kwargs):
        seen.setdefault("turned", (query, key))
        return real(query, key, *args, **kwargs)

    positions, _ = model.model.get_rope_index(inputs["input_ids"], inputs["image_grid_thw"])
    with pytest.MonkeyPatch.context() as patch:
        model.model.visual.requires_grad_(False)
        features = model.model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"])
        features = torch.cat(list(getattr(features, "pooler_output", features)))
        embeds = model.get_input_embeddings()(inputs["input_ids"])
        embeds[inputs["input_ids"] == model.config.image_token_id] = features
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
        model.model.language_model(inputs_embeds=embeds, position_ids=positions)
    frequencies = 10000.0 ** -(numpy.arange(8) / 8)
    angles = positions[:, 0].double().numpy()[[0, 1, 2, 0, 1, 2, 0, 0]] * frequencies[:, None]
    for name, turned in zip(("q_proj", "k_proj"), seen["turned"]):
        heads = seen[name][0].unflatten(-1, (-1, 16)).double().numpy()  # (seq, heads, head_dim)
        first, second = heads[..., :8], heads[..., 8:]
        cos, sin = numpy.cos(angles).T[:, None], numpy.sin(angles).T[:, None]
        expected = numpy.concatenate([first * cos - second * sin, second * cos + first * sin], -1)
        shared = turned.shape[1] // expected.shape[1]
        expected = numpy.repeat(expected, shared, axis=1).transpose(1, 0, 2)
        numpy.testing.assert_allclose(turned[0].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("block", [INTERLEAVED, AGE], ids=["circle", "AGE"])
@torch.no_grad()
def test_text_alone_is_bit_identical_to_stock(stock, block):
    model = make_model(stock, block)
    padded = pad([text(5), text(9)])
    real = padded["attention_mask"].bool()
    assert torch.equal(model(**padded).logits[real], stock(**padded).logits[real])
    options = {"max_new_tokens": 5, "do_sample": False}
    assert torch.equal(model.generate(**padded, **options), stock.generate(**padded, **options))


@pytest.mark.parametrize("block", [INTERLEAVED, AGE, {"AGE_mode": ["mrope"] * 4, **INTERLEAVED}], ids=str)
@pytest.mark.parametrize("make", [image_batch, video_batch], ids=["images", "video"])
@torch.no_grad()
def test_decoding_is_that_of_the_whole_sequence(stock, block, make):
    model, inputs = make_model(stock, block), make()
    plain = make_model(stock, {key: value for key, value in block.items() if key != "mrope_interleaved"})
    ids = inputs["input_ids"]
    out = model.generate(
        **inputs, max_new_tokens=4, min_new_tokens=4, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    whole = {**inputs, "input_ids": out.sequences, "attention_mask": pad_ones(inputs["attention_mask"], 4)}
    if "mm_token_type_ids" in inputs:
        whole["mm_token_type_ids"] = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, 4))
    logits = model(**whole).logits[:, ids.shape[1] - 1 : -1]
    torch.testing.assert_close(torch.stack(out.logits, 1), logits.float(), atol=1e-4, rtol=0)
    assert (plain(**whole).logits - model(**whole).logits).abs().max() > 1e-4


def pad_ones(mask, count):
    return torch.nn.functional.pad(mask, (0, count), value=1)


@torch.no_grad()
def test_it_is_set_and_taken_back_on_a_loaded_model(stock):
    model, inputs = make_model(stock), image_batch()
    before = model(**inputs).logits
    for block in (INTERLEAVED, AGE, {"mrope_interleaved": False}, None):
        model.set_circle_rope(block)
        assert torch.equal(model(**inputs).logits, make_model(stock, block)(**inputs).logits)
    assert torch.equal(model(**inputs).logits, before)


@torch.no_grad()
def test_it_is_saved_and_loaded(stock, tmp_path):
    model, inputs = make_model(stock, AGE), image_batch()
    model.save_pretrained(tmp_path)
    loaded = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2.from_pretrained(tmp_path)
    assert loaded.config.circle_rope == AGE
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
    remote = AutoModelForVision.from_pretrained(tmp_path, trust_remote_code=True)
    assert torch.equal(remote(**inputs).logits, model(**inputs).logits)


@torch.no_grad()
def test_one_range_of_frequencies_for_all_axes_where_it_grows_with_the_sequence():
    """Dynamic scaling goes by the largest position of all, not by each axis's own."""
    rope = {"rope_type": "dynamic", "factor": 3.0, "mrope_section": [4, 2, 2]}
    for block in (INTERLEAVED, {**INTERLEAVED, "mrope_section": [4, 2, 2]}):
        embedding = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(make_config(block, rope_scaling=rope))
        embedding = embedding.model.language_model.rotary_emb
        text = make_config(rope_scaling=rope).text_config
        with plain_rope(text):
            stock = Qwen2_5_VLRotaryEmbedding(text)
        positions = torch.stack([torch.arange(700.0), torch.arange(700.0) / 7, torch.arange(700.0) / 70])[:, None]
        cos, _ = embedding(torch.zeros(1), positions)
        frequencies = embedding.inv_freq.double()
        stock(torch.zeros(1), positions)
        assert torch.equal(embedding.inv_freq, stock.inv_freq)
        angles = positions[axis_of_pairs((4, 2, 2), interleaved=True), 0].double() * frequencies[:, None]
        expected = torch.cat([angles, angles]).cos().T.float()
        torch.testing.assert_close(cos.reshape(-1, *expected.shape)[0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("value", [1, "true", None, "Qwen3-VL"], ids=repr)
def test_only_true_and_false_are_allowed(value):
    with pytest.raises(ValueError, match="'mrope_interleaved'.*must be true or false"):
        make_config({"mrope_interleaved": value})


def test_sections_that_do_not_fit_turns_are_refused():
    with pytest.raises(ValueError, match=r"\[2, 3, 3\], which cannot be interleaved.*at most \(2\)"):
        make_config({"mrope_section": [2, 3, 3], **INTERLEAVED})
    make_config({"mrope_section": [2, 3, 3], "mrope_interleaved": False})
