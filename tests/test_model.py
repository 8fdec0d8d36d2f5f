"""The model as a whole: what stays stock, which class is chosen, and how it trains and saves."""

import pytest
import torch

from modeling_qwen2_5_vl_circle_rope import (
    Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2,
    Qwen2_5_VLModel_AGE_V2,
    Qwen2_5_VLModel_CircleRoPE_V2,
    find_cache,
)
from tests.models import (
    NAMES_OF_THE_CACHE,
    STRATEGIES,
    for_stock,
    image_batch,
    make_config,
    make_model,
    one_image,
    pad,
    text,
    video_batch,
)

ALL_MROPE = {"AGE_mode": ["mrope"] * 4}


@pytest.mark.parametrize("block", [None, {"method": "no_circle"}, {"AGE_mode": "strategy_4"}, ALL_MROPE], ids=str)
@torch.no_grad()
def test_text_alone_is_bit_identical_to_stock(stock, block):
    model = make_model(stock, block)
    ids = torch.tensor([text(9), text(9)])
    assert torch.equal(model(ids).logits, stock(ids).logits)
    padded = pad([text(5), text(9)])
    real = padded["attention_mask"].bool()
    assert torch.equal(model(**padded).logits[real], stock(**padded).logits[real])


@torch.no_grad()
def test_generated_text_is_bit_identical_to_stock(stock):
    model = make_model(stock, {"AGE_mode": "strategy_4"})
    options = {"max_new_tokens": 5, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    padded = pad([text(5), text(9)])
    given, expected = model.generate(**padded, **options), stock.generate(**padded, **options)
    assert all(torch.equal(a, b) for a, b in zip(given.logits, expected.logits))


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_an_all_mrope_schedule_is_bit_identical_to_stock_on_images(stock, side):
    inputs = image_batch(side)
    real = inputs["attention_mask"].bool()
    expected = stock(**for_stock(inputs, stock)).logits
    assert torch.equal(make_model(stock, ALL_MROPE)(**inputs).logits[real], expected[real])


@torch.no_grad()
def test_what_the_first_layer_was_given_serves_every_layer(stock):
    """Tools that calibrate layer by layer keep the first one's arguments, and give them to all with its own states."""
    model, inputs, given = make_model(stock, {"AGE_mode": "strategy_4"}), one_image(), []
    text_model = model.model.language_model
    first = text_model.layers[0]
    hook = first.register_forward_pre_hook(lambda layer, *arguments: given.extend(arguments), with_kwargs=True)
    expected = model(**inputs, use_cache=False).logits
    hook.remove()
    (states, *args), kwargs = given
    for layer in text_model.layers:
        output = layer(states, *args, **kwargs)
        states = output[0] if isinstance(output, tuple) else output  # older releases
    assert torch.equal(model.lm_head(text_model.norm(states)), expected)


@torch.no_grad()
def test_the_circle_changes_what_a_model_says_of_an_image(stock):
    inputs = one_image()
    circle, mrope = make_model(stock)(**inputs).logits, make_model(stock, ALL_MROPE)(**inputs).logits
    assert (circle - mrope).abs().max() > 1e-4


@pytest.mark.parametrize(
    "block, cls",
    [
        (None, Qwen2_5_VLModel_CircleRoPE_V2),
        ({"AGE_mode": "strategy_1"}, Qwen2_5_VLModel_CircleRoPE_V2),
        ({"AGE_mode": "strategy_3"}, Qwen2_5_VLModel_AGE_V2),
        (ALL_MROPE, Qwen2_5_VLModel_AGE_V2),
    ],
    ids=str,
)
def test_the_block_chooses_the_class(block, cls):
    assert type(Qwen2_5_VLModel_CircleRoPE_V2(make_config(block))) is cls
    assert type(Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(make_config(block)).model) is cls


def test_a_model_says_the_geometry_of_each_layer_as_it_runs(stock):
    model = make_model(stock, {"AGE_mode": "strategy_2"})
    assert model.model.schedule == ("circle", "circle", "mrope", "mrope")
    model.set_circle_rope({"AGE_mode": ["mrope", "circle", "mrope", "mrope"]})
    assert model.model.schedule == ("mrope", "circle", "mrope", "mrope")


def test_a_block_assigned_later_takes_effect_when_the_model_is_built():
    config = make_config()
    config.circle_rope = {"circle_r": 4, "AGE_mode": "strategy_2"}
    model = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(config)
    assert model.model.geometries[0].radius == 4 and len(model.model.geometries) == 2


@torch.no_grad()
def test_a_block_set_on_a_loaded_model_is_as_if_it_had_been_built_with_it(stock):
    model, inputs = make_model(stock), image_batch()
    blocks = [
        {"AGE_mode": "strategy_4", "radius": 3},
        {"AGE_mode": "strategy_2", "dff_rate": 0.5, "image_stride": 2},
        ALL_MROPE,
        {"base": 10000, "mrope_section": [4, 2, 2]},
        None,
    ]
    section = [2, 3, 3]
    for block in blocks:
        model.set_circle_rope(block)
        section = (block or {}).get("mrope_section", section)
        fresh = make_model(stock, {"mrope_section": section, **(block or {})})
        assert model.config.circle_rope == (block or {}) and type(model.model) is type(fresh.model)
        assert torch.equal(model(**inputs).logits, fresh(**inputs).logits)
        options = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
        assert torch.equal(model.generate(**inputs, **options), fresh.generate(**inputs, **options))


@torch.no_grad()
def test_another_base_set_on_a_loaded_model_reaches_its_frequencies(stock):
    model, inputs = make_model(stock), image_batch()
    with pytest.warns(UserWarning, match="rope_theta"):
        model.set_circle_rope({"base": 500})
        fresh = make_model(stock, {"base": 500})
    assert torch.equal(model(**inputs).logits, fresh(**inputs).logits)


@torch.no_grad()
def test_a_bad_block_set_on_a_loaded_model_changes_nothing(stock):
    model, inputs = make_model(stock, {"AGE_mode": "strategy_3", "radius": 2}), image_batch()
    expected = model(**inputs).logits
    for block in ({"radiu": 1}, {"alpha": 2}, {"AGE_mode": ["circle"]}, {"radius": 1, "mrope_section": [1, 1, 1]}, 3):
        with pytest.raises(ValueError, match="circle_rope"):
            model.set_circle_rope(block)
    assert model.config.circle_rope == {"AGE_mode": "strategy_3", "radius": 2}
    assert torch.equal(model(**inputs).logits, expected)


def test_a_block_set_on_a_loaded_model_is_saved(stock, tmp_path):
    model = make_model(stock)
    model.set_circle_rope({"AGE_mode": "strategy_4", "radius": "auto"})
    model.save_pretrained(tmp_path)
    loaded = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2.from_pretrained(tmp_path)
    assert loaded.config.circle_rope == {"AGE_mode": "strategy_4", "radius": "auto"}
    assert type(loaded.model) is Qwen2_5_VLModel_AGE_V2


def test_a_block_changed_in_place_is_validated_when_the_model_is_built():
    config = make_config({"radius": 10})
    config.circle_rope["alpha"] = 2
    with pytest.raises(ValueError, match="alpha"):
        Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(config)


@torch.no_grad()
def test_the_text_model_by_itself_counts_on_behind_a_cache(stock):
    text_model, ids = make_model(stock, {"AGE_mode": "strategy_4"}).model.language_model, torch.tensor([text(9)])
    expected = stock.model.language_model(input_ids=ids).last_hidden_state
    first = text_model(input_ids=ids[:, :5], use_cache=True)
    later = text_model(input_ids=ids[:, 5:], use_cache=True, **{NAMES_OF_THE_CACHE[-1]: find_cache(first)})
    given = torch.cat([first.last_hidden_state, later.last_hidden_state], 1)
    torch.testing.assert_close(given, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", STRATEGIES, ids=str)
@pytest.mark.parametrize("make_inputs", [image_batch, video_batch])
@torch.no_grad()
def test_padding_and_batching_do_not_change_logits(stock, mode, make_inputs):
    model = make_model(stock, {"AGE_mode": mode})
    inputs = make_inputs()
    real = inputs["attention_mask"].bool()
    logits = model(**inputs).logits
    ids = inputs["input_ids"][1][real[1]]
    alone = {"input_ids": ids[None]}
    if "image_grid_thw" in inputs:
        grid = inputs["image_grid_thw"][2:]
        alone |= {"image_grid_thw": grid, "pixel_values": inputs["pixel_values"][-int(grid.prod()) :]}
    torch.testing.assert_close(model(**alone).logits[0], logits[1][real[1]], atol=1e-4, rtol=0)


@torch.no_grad()
def test_attention_implementations_agree(stock):
    model = make_model(stock, {"AGE_mode": "strategy_4"})
    inputs = image_batch()
    real = inputs["attention_mask"].bool()
    logits = {}
    for implementation in ("eager", "sdpa", "flex_attention"):
        # Upstream's vision tower has no flex attention.
        vision = "sdpa" if implementation == "flex_attention" else implementation
        model.set_attn_implementation({"text_config": implementation, "vision_config": vision})
        assert model.model.language_model.config._attn_implementation == implementation
        logits[implementation] = model(**inputs).logits[real]
    torch.testing.assert_close(logits["sdpa"], logits["eager"], atol=1e-4, rtol=0)
    torch.testing.assert_close(logits["flex_attention"], logits["eager"], atol=1e-4, rtol=0)


def gradients(model, inputs):
    model.zero_grad()
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    model(**inputs, labels=labels).loss.backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients(stock, use_reentrant):
    model = make_model(stock, {"AGE_mode": "strategy_4"}).train()
    inputs = image_batch()
    expected = gradients(model, inputs)
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    for given, wanted in zip(gradients(model, inputs), expected, strict=True):
        torch.testing.assert_close(given, wanted)


@pytest.mark.parametrize("mode", STRATEGIES, ids=str)
@torch.no_grad()
def test_bfloat16_keeps_float32_positions(stock, mode):
    model = make_model(stock, {"AGE_mode": mode}).bfloat16()
    inputs = one_image()
    exact = make_model(stock, {"AGE_mode": mode})(**inputs).logits
    assert model.model.get_rope_index(inputs["input_ids"], inputs["image_grid_thw"])[0].dtype == torch.float32
    logits = model(**inputs).logits
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), exact, atol=0.05, rtol=0.05)
    assert model.generate(**inputs, max_new_tokens=3, do_sample=False).shape[1] > inputs["input_ids"].shape[1]


@torch.no_grad()
def test_inputs_embeds_give_the_same_logits(stock):
    model = make_model(stock, {"AGE_mode": "strategy_4"})
    inputs = image_batch()
    expected = model(**inputs).logits
    embeds = model.get_input_embeddings()(inputs.pop("input_ids"))
    assert torch.equal(model(inputs_embeds=embeds, **inputs).logits, expected)


@torch.no_grad()
def test_given_positions_are_used_as_they_are(stock):
    model = make_model(stock, {"AGE_mode": "strategy_4"})
    inputs = image_batch()
    expected = model(**inputs).logits
    positions, _ = model.model.get_rope_index(
        inputs["input_ids"], inputs["image_grid_thw"], attention_mask=inputs["attention_mask"]
    )
    assert torch.equal(model(**inputs, position_ids=positions).logits, expected)
    text_row = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)[None]
    assert torch.equal(model(**inputs, position_ids=torch.cat([text_row.float(), positions])).logits, expected)


def test_a_training_step_lowers_the_loss(stock):
    model = make_model(stock, {"AGE_mode": "strategy_4"}).train()
    inputs = image_batch()
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        loss = model(**inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
