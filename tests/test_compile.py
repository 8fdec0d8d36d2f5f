"""torch.compile and torch.export: one graph, few compilations, the same results as without."""

import inspect

import pytest
import torch
from torch._dynamo.utils import counters
from transformers import Qwen2_5_VLForConditionalGeneration, StaticCache
from transformers.generation import CompileConfig

from tests.models import IMAGE, make_model, one_image, picture, text, with_images

BLOCKS = [None, {"AGE_mode": "strategy_4"}]
CACHE_LENGTH = 128
# Releases that take the slots of the new tokens as an argument cannot count them within a graph.
TAKES_CACHE_POSITION = "cache_position" in inspect.signature(Qwen2_5_VLForConditionalGeneration.forward).parameters


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    counters.clear()


@pytest.fixture(params=BLOCKS, ids=["circle", "AGE"], scope="module")
def model(request, stock):
    return make_model(stock, request.param)


def graphs():
    assert not counters["graph_break"]
    return counters["stats"]["unique_graphs"]


def prompt(model, height):
    """Embeddings and positions of a prompt with one picture, `height` patches high, and its `rope_deltas`."""
    grid = [1, height, 8]
    inputs = with_images([text(5) + picture(grid) + text(6)], [grid])
    ids = inputs["input_ids"]
    features = model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"])
    features = torch.cat(list(getattr(features, "pooler_output", features)))
    embeddings = model.get_input_embeddings()(ids).masked_scatter((ids == IMAGE)[..., None], features)
    position_ids, rope_deltas = model.model.get_rope_index(ids, inputs["image_grid_thw"])
    return {"inputs_embeds": embeddings, "position_ids": position_ids}, rope_deltas


def step(call, slot, length, cache, **inputs):
    if TAKES_CACHE_POSITION:
        inputs["cache_position"] = torch.arange(slot, slot + length)
    return call(past_key_values=cache, use_cache=True, **inputs).logits[:, -1]


def decode(call, model, inputs, rope_deltas, steps=4):
    """Last logits of a prefill and of some steps over a static cache, and the graphs there were after each."""
    length = inputs["inputs_embeds"].shape[1]
    cache = StaticCache(config=model.config.get_text_config(), max_cache_len=CACHE_LENGTH)
    logits, counts = [step(call, 0, length, cache, **inputs)], [graphs()]
    for slot in range(length, length + steps):
        position_ids = (rope_deltas + slot).T[:, :, None].repeat_interleave(3, dim=0)
        logits.append(step(call, slot, 1, cache, input_ids=torch.tensor([[slot]]), position_ids=position_ids))
        counts.append(graphs())
    return torch.stack(logits), counts


@torch.no_grad()
def test_prefill_is_one_graph_and_a_second_one_fits_every_other_size(model):
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    counts = []
    for height in (4, 6, 8, 10, 14):
        inputs, _ = prompt(model, height)
        torch.testing.assert_close(compiled(**inputs).logits, model(**inputs).logits, atol=1e-5, rtol=1e-5)
        counts.append(graphs())
    assert counts == [1, 2, 2, 2, 2]


@torch.no_grad()
def test_decoding_over_a_static_cache_compiles_once(model):
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    growth = []
    for height in (4, 6, 8, 10):
        inputs, rope_deltas = prompt(model, height)
        expected, _ = decode(model, model, inputs, rope_deltas)
        logits, counts = decode(compiled, model, inputs, rope_deltas)
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
        assert len(set(counts[1:])) == 1
        growth.append(counts[-1])
    # Two for the prefill of the first two sizes, one for all steps.
    assert growth == [2, 3, 3, 3]


@torch.no_grad()
def test_a_compiled_model_that_makes_its_own_positions_goes_on_behind_them(model):
    compiled = torch.compile(model, backend="eager")
    inputs, logits = one_image(), []
    words = torch.tensor([text(2)])
    for call in (model, compiled):
        output = call(**inputs, use_cache=True)
        later = [call(input_ids=words[:, :1], past_key_values=output.past_key_values, use_cache=True)]
        later.append(call(input_ids=words[:, 1:], past_key_values=later[0].past_key_values, use_cache=True))
        logits.append(torch.cat([output.logits, *(one.logits for one in later)], 1))
    torch.testing.assert_close(logits[1], logits[0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_cache_that_one_graph_filled_is_not_guessed_from(model):
    inputs, _ = prompt(model, 6)
    length = inputs["inputs_embeds"].shape[1]
    cache = StaticCache(config=model.config.get_text_config(), max_cache_len=CACHE_LENGTH)
    step(torch.compile(model, fullgraph=True, backend="eager"), 0, length, cache, **inputs)
    with pytest.raises(ValueError, match="a compiled call that was given position_ids"):
        step(model, length, 1, cache, input_ids=torch.tensor([[7]]))
    cache.reset()
    step(model, 0, length, cache, **inputs)
    step(model, length, 1, cache, input_ids=torch.tensor([[7]]))


@torch.no_grad()
def test_the_compiled_backend_gives_the_eager_results(model):
    inputs, rope_deltas = prompt(model, 6)
    expected, _ = decode(model, model, inputs, rope_deltas)
    logits, _ = decode(torch.compile(model, fullgraph=True), model, inputs, rope_deltas)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rows", ["with a text row", "one geometry's rows"])
@torch.no_grad()
def test_every_form_of_positions_compiles(model, rows):
    inputs, _ = prompt(model, 6)
    position_ids = inputs["position_ids"]
    text_row = torch.arange(position_ids.shape[-1])[None, None].to(position_ids)
    inputs["position_ids"] = torch.cat([text_row, position_ids]) if "text" in rows else position_ids[:3]
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(**inputs).logits, model(**inputs).logits, atol=1e-5, rtol=1e-5)
    assert graphs() == 1


def test_generate_compiles_its_steps_over_a_static_cache(model):
    options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    compile_config = CompileConfig(fullgraph=True, backend="eager", mode=None)
    compile_config._compile_all_devices = True  # generate compiles on accelerators only, unless told otherwise
    inputs = one_image()
    expected = model.generate(**inputs, **options)
    for _ in range(2):
        output = model.generate(**inputs, **options, cache_implementation="static", compile_config=compile_config)
        assert torch.equal(output, expected)
        assert graphs() == 1


def test_without_given_positions_the_rest_of_the_model_still_compiles(model):
    inputs = one_image()
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(**inputs).logits, model(**inputs).logits, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_compiled_model_follows_a_block_that_is_set_on_it(stock):
    model = make_model(stock, {"AGE_mode": "strategy_2"})
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for block in ({"AGE_mode": "strategy_2"}, {"AGE_mode": "strategy_3"}, None):
        model.set_circle_rope(block)
        inputs, _ = prompt(model, 6)
        expected = make_model(stock, block)(**inputs).logits
        torch.testing.assert_close(compiled(**inputs).logits, expected, atol=1e-5, rtol=1e-5)


def test_training_steps_compile(model):
    inputs, _ = prompt(model, 6)
    inputs = {key: value.detach() for key, value in inputs.items()}
    gradients = []
    for call in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        model.zero_grad()
        call(**inputs).logits.square().mean().backward()
        gradients.append(model.model.language_model.layers[1].self_attn.q_proj.weight.grad.clone())
    model.zero_grad()
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)
    assert graphs() == 1


def test_training_from_pictures_of_any_size_compiles_no_more_than_stock(stock):
    """As a Trainer compiles it, with the vision tower."""
    growth = {}
    for name, model in (("stock", stock), ("AGE", make_model(stock, {"AGE_mode": "strategy_4"}))):
        torch._dynamo.reset()
        compiled, counts = torch.compile(model, backend="eager"), []
        for grid in ([1, 4, 8], [1, 6, 8], [1, 8, 10], [1, 12, 4], [1, 10, 10]):
            inputs = with_images([text(5) + picture(grid) + text(6)], [grid])
            inputs["labels"] = inputs["input_ids"]
            loss = compiled(**inputs).loss
            loss.backward()
            counts.append(counters["stats"]["unique_graphs"])
            assert loss.item() == pytest.approx(model(**inputs).loss.item(), rel=1e-5)
        model.zero_grad()
        growth[name] = [count - counts[0] for count in counts]
    assert all(ours <= theirs for ours, theirs in zip(growth["AGE"], growth["stock"]))


@torch.no_grad()
def test_the_text_model_exports_with_positions_as_an_input(model):
    text_model = model.model.language_model
    length = torch.export.Dim("length", min=2, max=512)
    program = torch.export.export(
        text_model,
        (),
        {**prompt(model, 4)[0], "use_cache": False},
        dynamic_shapes={"inputs_embeds": {1: length}, "position_ids": {2: length}, "use_cache": None},
    ).module()
    inputs, _ = prompt(model, 10)
    exported = program(**inputs, use_cache=False).last_hidden_state
    torch.testing.assert_close(exported, text_model(**inputs).last_hidden_state, atol=1e-5, rtol=1e-5)
