"""A cache goes on where its own sequences end, whatever was done to it, and whatever the model did in between."""

import copy
import pickle
import threading

import pytest
import torch
from transformers import StaticCache

from modeling_qwen2_5_vl_circle_rope import find_cache
from tests.models import (
    GREEDY,
    NAMES_OF_THE_CACHE,
    VIDEO,
    for_stock,
    image_batch,
    make_model,
    make_stock,
    one_image,
    pad,
    picture,
    text,
    with_images,
    with_videos,
)

LAST = NAMES_OF_THE_CACHE[-1]


@pytest.fixture(scope="module", params=[None, "strategy_4"], ids=str)
def model(stock, request):
    return make_model(stock, {"AGE_mode": request.param})


@pytest.fixture(scope="module")
def age(stock):
    return make_model(stock, {"AGE_mode": "strategy_4"})


def close(given, expected):
    torch.testing.assert_close(given, expected, atol=1e-4, rtol=0)


def fill(model, inputs):
    """The cache behind a prompt, with something else said afterwards."""
    cache = find_cache(model(**inputs, use_cache=True))
    model.generate(**image_batch(), max_new_tokens=2)
    return cache


def go_on(model, cache, ids, mask=None, **kwargs):
    return model(input_ids=ids, attention_mask=mask, use_cache=True, **{LAST: cache}, **kwargs).logits


def without_mask(inputs):
    return {key: value for key, value in inputs.items() if key != "attention_mask"}


@torch.no_grad()
def test_two_conversations_take_turns(model):
    first, second = one_image(), with_videos([text(4) + picture([2, 4, 4], VIDEO) + text(3)], [[2, 4, 4]], [0.5])
    caches = [find_cache(model(**inputs, use_cache=True)) for inputs in (first, second)]
    words = torch.tensor([text(3)])
    for number in range(3):
        for inputs, cache in zip((first, second), caches):
            given = go_on(model, cache, words[:, number : number + 1])
            ids = torch.cat([inputs["input_ids"], words[:, : number + 1]], 1)
            close(given[:, -1], model(**{**without_mask(inputs), "input_ids": ids}).logits[:, -1])


@pytest.mark.parametrize("prefix", ["text", "picture"])
@torch.no_grad()
def test_a_prefix_serves_many_prompts(model, prefix):
    start = one_image() if prefix == "picture" else pad([text(6)])
    cache = fill(model, start)
    for new in (one_image(), with_images([picture([1, 4, 4]) + text(2)], [[1, 4, 4]])):
        given = model(**without_mask(new), use_cache=True, **{LAST: copy.deepcopy(cache)}).logits
        whole = {"input_ids": torch.cat([start["input_ids"], new["input_ids"]], 1)}
        for key in ("pixel_values", "image_grid_thw"):
            whole[key] = torch.cat([part[key] for part in (start, new) if key in part])
        close(given, model(**whole).logits[:, start["input_ids"].shape[1] :])


@pytest.mark.parametrize("length", [3, 5, 6, 19, 20, 23])
@torch.no_grad()
def test_a_cache_may_be_cut_back_anywhere_but_inside_a_picture(model, length):
    inputs = one_image()  # 5 words, a start, 12 of the picture, an end, 6 words
    cache = fill(model, inputs)
    words = torch.tensor([text(4)])
    go_on(model, cache, words)
    cache.crop(length - cache.get_seq_length())
    whole = {"input_ids": torch.cat([inputs["input_ids"][:, :length], words], 1)}
    if length > 6:
        whole |= {key: inputs[key] for key in ("pixel_values", "image_grid_thw")}
    close(go_on(model, cache, words), model(**whole).logits[:, length:])
    close(go_on(model, cache, words[:, :1])[:, -1], model(**extended(whole, words[:, :1])).logits[:, -1])


def extended(inputs, ids):
    return {**inputs, "input_ids": torch.cat([inputs["input_ids"], ids], 1)}


@torch.no_grad()
def test_a_cache_that_ends_inside_a_picture_is_refused(age):
    cache = fill(age, one_image())
    cache.crop(10 - cache.get_seq_length())
    with pytest.raises(ValueError, match="10 slots ends inside a picture of sample 0, .* crop the cache to 6 slots"):
        go_on(age, cache, torch.tensor([text(2)]))


OPERATIONS = {
    "reorder_cache": (lambda cache: cache.reorder_cache(torch.tensor([1, 0])), [1, 0]),
    "batch_select_indices": (lambda cache: cache.batch_select_indices(torch.tensor([1])), [1]),
    "batch_repeat_interleave": (lambda cache: cache.batch_repeat_interleave(2), [0, 0, 1, 1]),
    "deepcopy": (copy.deepcopy, [0, 1]),
    "pickle": (lambda cache: pickle.loads(pickle.dumps(cache)), [0, 1]),
}


@pytest.mark.parametrize("name", OPERATIONS)
@torch.no_grad()
def test_what_is_done_to_the_samples_of_a_cache_is_done_to_where_they_go_on(model, name):
    inputs = image_batch()
    operation, order = OPERATIONS[name]
    cache = fill(model, inputs)
    cache = operation(cache) or cache
    # Once more: a copy follows as the cache did.
    cache.batch_repeat_interleave(2)
    order = [sample for sample in order for _ in range(2)]
    words = torch.randint(3, 180, (2, 3))
    mask = torch.cat([inputs["attention_mask"], torch.ones(2, 3, dtype=torch.long)], 1)
    given = go_on(model, cache, words[order], mask[order])
    expected = model(**{**extended(inputs, words), "attention_mask": mask}).logits[:, -3:]
    close(given, expected[order])


@torch.no_grad()
def test_tokens_for_another_number_of_samples_are_refused(age):
    cache = fill(age, image_batch())
    with pytest.raises(ValueError, match="the cache holds 2 samples, but the tokens are 3"):
        go_on(age, cache, torch.ones(3, 1, dtype=torch.long))
    with pytest.raises(ValueError, match="the cache holds 2 samples, but the tokens are 1"):
        age.generate(**one_image(), **{LAST: cache}, max_new_tokens=2)


@torch.no_grad()
def test_a_turn_of_words_of_different_lengths_goes_on_for_every_sample(model):
    inputs = image_batch()
    cache = fill(model, inputs)
    turn = pad([text(5), text(2)])
    mask = torch.cat([inputs["attention_mask"], turn["attention_mask"]], 1)
    given = go_on(model, cache, turn["input_ids"], mask)
    step = torch.tensor([[7], [8]])
    last = go_on(model, cache, step, torch.cat([mask, torch.ones(2, 1, dtype=torch.long)], 1))
    whole = extended(extended(inputs, turn["input_ids"]), step)
    expected = model(**{**whole, "attention_mask": torch.cat([mask, torch.ones(2, 1, dtype=torch.long)], 1)}).logits
    real = turn["attention_mask"].bool()
    close(given[real], expected[:, -6:-1][real])
    close(last[:, -1], expected[:, -1])


@torch.no_grad()
def test_a_static_cache_is_filled_anew_after_a_reset(age):
    inputs = one_image()
    cache = StaticCache(config=age.config.get_text_config(), max_cache_len=64)
    for prompt in (inputs, pad([text(30)]), inputs):
        given = age.generate(**prompt, **GREEDY, max_new_tokens=3, **{LAST: cache}).sequences
        assert torch.equal(given, age.generate(**prompt, **GREEDY, max_new_tokens=3).sequences)
        cache.reset()


@torch.no_grad()
def test_positions_that_were_passed_in_go_on_too(model):
    inputs = one_image()
    positions, _ = model.model.get_rope_index(inputs["input_ids"], inputs["image_grid_thw"])
    cache = find_cache(model(**inputs, position_ids=positions, use_cache=True))
    words = torch.tensor([text(3)])
    given = [go_on(model, cache, words[:, :1]), go_on(model, cache, words[:, 1:])]
    close(torch.cat(given, 1), model(**extended(without_mask(inputs), words)).logits[:, -3:])


@pytest.mark.parametrize("block", [{"move_to_positive": -30}, {"image_stride": 4}], ids=str)
@torch.no_grad()
def test_positions_that_were_passed_in_go_on_where_their_picture_ends(stock, block):
    model, inputs = make_model(stock, block), one_image()
    positions, _ = model.model.get_rope_index(inputs["input_ids"], inputs["image_grid_thw"])
    cache = find_cache(model(**inputs, position_ids=positions, use_cache=True))
    new = without_mask(one_image())
    both = {key: torch.cat([inputs[key], new[key]], int(key == "input_ids")) for key in new}
    close(
        model(**new, use_cache=True, **{LAST: cache}).logits, model(**both).logits[:, inputs["input_ids"].shape[1] :]
    )


@torch.no_grad()
def test_passed_in_positions_that_do_not_say_where_to_go_on_are_not_guessed_from(age):
    """A picture's positions, and embeddings that hold it already: nothing says where it begins."""
    inputs = with_images([text(3) + picture([1, 4, 4])[:-1]], [[1, 4, 4]])
    positions, _ = age.model.get_rope_index(inputs["input_ids"], inputs["image_grid_thw"])
    embeds = torch.randn(*inputs["input_ids"].shape, 64)
    cache = find_cache(age(inputs_embeds=embeds, position_ids=positions, use_cache=True))
    with pytest.raises(ValueError, match="pass position_ids for the tokens behind them as well"):
        go_on(age, cache, torch.tensor([text(1)]))


@pytest.mark.parametrize("mode", [None, "strategy_4"])
@torch.no_grad()
def test_a_ring_that_is_moved_backwards_decodes_as_the_full_forward(stock, mode):
    model = make_model(stock, {"move_to_positive": -30, "AGE_mode": mode})
    grids = [[1, 4, 6], [1, 4, 4]]
    inputs = with_images([text(40) + picture(grids[0]) + text(3) + picture(grids[1]) + text(2)], grids)
    result = model.generate(**inputs, **GREEDY, max_new_tokens=4, min_new_tokens=4, output_logits=True)
    logits = model(**{**without_mask(inputs), "input_ids": result.sequences}).logits
    prompt = inputs["input_ids"].shape[1]
    for step, given in enumerate(result.logits):
        close(given, logits[:, prompt - 1 + step])
    cache = fill(model, inputs)
    close(go_on(model, cache, result.sequences[:, prompt : prompt + 1])[:, -1], logits[:, prompt])


@torch.no_grad()
def test_calls_in_several_threads_do_not_meet(model):
    prompts = [one_image(), image_batch(), with_images([picture([1, 4, 4]) + text(9)], [[1, 4, 4]])]
    expected = [model.generate(**prompt, **GREEDY, max_new_tokens=6).sequences for prompt in prompts]
    given = [None] * len(prompts)

    def run(number):
        given[number] = model.generate(**prompts[number], **GREEDY, max_new_tokens=6).sequences

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(*pair) for pair in zip(given, expected))


@pytest.mark.parametrize("assistant", ["stock", "circle", "strategy_4", "itself"])
@pytest.mark.parametrize("prompt", [one_image, lambda: pad([text(8)])], ids=["picture", "text"])
@torch.no_grad()
def test_an_assistant_changes_no_answer(stock, model, assistant, prompt):
    blocks = {"circle": None, "strategy_4": {"AGE_mode": "strategy_4"}}
    helper = {"stock": make_stock, "itself": lambda: make_model(stock, model.config.circle_rope)}.get(
        assistant, lambda: make_model(stock, blocks[assistant])
    )()
    inputs = prompt()
    # Releases of 4 take no least length beside an assistant.
    options = {**GREEDY, "max_new_tokens": 8, "suppress_tokens": [*GREEDY["suppress_tokens"], 2]}
    given = model.generate(**inputs, **options, assistant_model=helper).sequences
    assert torch.equal(given, model.generate(**inputs, **options).sequences)


@torch.no_grad()
def test_virtual_tokens_of_prefix_tuning_are_text_in_front(stock):
    peft = pytest.importorskip("peft")
    model = make_model(stock, {"AGE_mode": "strategy_4"})
    config = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    tuned = peft.get_peft_model(model, config).eval()
    seen = []
    language_model = tuned.get_base_model().model.language_model
    language_model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["position_ids"]), with_kwargs=True
    )
    inputs, positions = one_image(), []
    for prompt in (inputs, image_batch(), inputs):
        tuned(**prompt)
        alone, _ = model.model.get_rope_index(
            prompt["input_ids"], prompt["image_grid_thw"], attention_mask=prompt["attention_mask"]
        )
        real = prompt["attention_mask"].bool()
        positions.append((seen[-1][-6:][:, real], alone[:, real] + 4))
    for given, expected in positions:
        close(given, expected)


@torch.no_grad()
def test_a_picture_that_stock_has_cached_comes_along_once_more(stock):
    model, inputs = make_model(stock, {"AGE_mode": ["mrope"] * 4}), one_image()
    ids = torch.cat([inputs["input_ids"], torch.tensor([text(3)])], 1)
    whole = {**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for cut in (0, 4):
        cache = find_cache(stock(**for_stock(inputs, stock), use_cache=True))
        if cut:
            cache.crop(-cut)
        given = model.generate(**whole, **GREEDY, max_new_tokens=4, **{LAST: cache}).sequences
        assert torch.equal(given, model.generate(**whole, **GREEDY, max_new_tokens=4).sequences)


# Corners that were wrong without a word


@torch.no_grad()
def test_pads_count_nothing_when_a_turn_is_fed_token_by_token(model):
    inputs = image_batch()
    cache = fill(model, inputs)
    turn = pad([text(5), text(2)], "right")
    mask = torch.cat([inputs["attention_mask"], turn["attention_mask"]], 1)
    given = []
    for slot in range(5):
        seen = mask[:, : mask.shape[1] - 4 + slot]
        given.append(go_on(model, cache, turn["input_ids"][:, slot : slot + 1], seen))
    step, real = torch.tensor([[7], [8]]), turn["attention_mask"].bool()
    mask = torch.cat([mask, torch.ones(2, 1, dtype=torch.long)], 1)
    given.append(go_on(model, cache, step, mask))
    whole = {**extended(extended(inputs, turn["input_ids"]), step), "attention_mask": mask}
    expected = model(**whole).logits[:, -6:]
    close(torch.cat(given[:-1], 1)[real], expected[:, :-1][real])
    close(given[-1], expected[:, -1:])


@torch.no_grad()
def test_a_cache_knows_the_geometries_that_it_was_filled_under(stock):
    circle, age = make_model(stock), make_model(stock, {"AGE_mode": "strategy_4"})
    words = torch.tensor([text(2)])
    for filler, reader in ((circle, age), (age, circle), (age, make_model(stock, {"AGE_mode": "strategy_2"}))):
        with pytest.raises(ValueError, match="filled under other geometries .* start with a new cache"):
            go_on(reader, find_cache(filler(**one_image(), use_cache=True)), words)
    cache = find_cache(age(**one_image(), use_cache=True))
    for block in ({"radius": 3, "AGE_mode": "strategy_4"}, {"AGE_mode": "strategy_4", "mrope_section": [4, 2, 2]}):
        age.set_circle_rope(block)
        with pytest.raises(ValueError, match="filled under other geometries"):
            go_on(age, cache, words)
        with pytest.raises(ValueError, match="filled under other geometries"):
            age.generate(input_ids=torch.ones(1, 30, dtype=torch.long), **{LAST: cache}, max_new_tokens=2)
    age.set_circle_rope({"AGE_mode": "strategy_4", "mrope_section": [2, 3, 3]})
    go_on(age, cache, words)


@torch.no_grad()
def test_text_by_embeddings_is_text_whatever_another_call_does_meanwhile(stock, model):
    ids = torch.tensor([text(9)])
    expected = stock(input_ids=ids).logits
    embeds = model.get_input_embeddings()(ids)
    model(**image_batch())  # leaves rope_deltas behind, for two samples
    model.model.rope_deltas = torch.full((2, len(model.model.geometries)), -5.0)
    assert torch.equal(model(inputs_embeds=embeds).logits, expected)


@torch.no_grad()
def test_beams_over_the_cache_of_one_sample_are_refused(age):
    cache = fill(age, one_image())
    ids = torch.cat([one_image()["input_ids"], torch.tensor([text(3)])], 1)
    with pytest.raises(ValueError, match="the cache holds 1 samples, but the tokens are 3"):
        age.generate(input_ids=ids, **{LAST: cache}, num_beams=3, max_new_tokens=2)


@pytest.mark.parametrize("turn", ["text", "picture"])
@pytest.mark.parametrize("helper", ["prompt lookup", "itself", "stock"])
@torch.no_grad()
def test_assisted_decoding_goes_on_behind_a_cache(stock, helper, turn):
    model = make_model(stock, {"AGE_mode": "strategy_4"})
    options = {**GREEDY, "max_new_tokens": 6, "suppress_tokens": [*GREEDY["suppress_tokens"], 2]}
    first, new = one_image(), one_image() if turn == "picture" else pad([text(5)])
    earlier = model.generate(**first, **options)
    ids = torch.cat([earlier.sequences, new["input_ids"]], 1)
    conversation = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for key in ("pixel_values", "image_grid_thw"):
        conversation[key] = torch.cat([part[key] for part in (first, new) if key in part])
    caches = [find_cache(earlier), copy.deepcopy(find_cache(earlier))]
    plain = model.generate(**conversation, **options, **{LAST: caches[0]})
    extra = {"prompt lookup": {"prompt_lookup_num_tokens": 3}, "itself": {"assistant_model": model}}
    extra = extra.get(helper, {"assistant_model": stock})
    assert torch.equal(
        model.generate(**conversation, **options, **{LAST: caches[1]}, **extra).sequences, plain.sequences
    )


@torch.no_grad()
def test_where_a_cache_was_cut_back_text_of_others_may_follow(age):
    inputs, words = one_image(), torch.tensor([text(6)])
    cache = fill(age, inputs)
    cache.crop(4 - cache.get_seq_length())
    position_ids = torch.arange(4, 9)[None]
    age.model.language_model(input_ids=words[:, :5], position_ids=position_ids, use_cache=True, **{LAST: cache})
    ids = torch.cat([inputs["input_ids"][:, :4], words], 1)
    close(go_on(age, cache, words[:, 5:])[:, -1], age(input_ids=ids).logits[:, -1])
