"""Decoding with a cache gives what the whole sequence gives, in every way that `generate` decodes."""

import pytest
import torch
from transformers import GenerationConfig

from modeling_qwen2_5_vl_circle_rope import KEEPS_POSITIONS_UP_FRONT, find_cache
from tests.models import (
    GREEDY,
    IMAGE,
    NAMES_OF_THE_CACHE,
    STRATEGIES,
    VIDEO,
    image_batch,
    make_model,
    one_image,
    pad,
    picture,
    text,
    video_batch,
    with_images,
    with_videos,
)

BATCHES = {
    "images": image_batch,
    "video": video_batch,
    "ends in an image": lambda: with_images([text(4) + picture([1, 4, 6])[:-1]], [[1, 4, 6]]),
    "ends in a video": lambda: with_videos([text(4) + picture([2, 4, 6], VIDEO)[:-1]], [[2, 4, 6]], [1.5]),
}


@pytest.fixture(params=[None, "strategy_4"], ids=str)
def model(stock, request):
    return make_model(stock, {"AGE_mode": request.param})


@pytest.fixture(params=STRATEGIES, ids=str)
def every(stock, request):
    """A model of every schedule; what comes of it in each way of decoding is the same code as for two."""
    return make_model(stock, {"AGE_mode": request.param})


@pytest.fixture
def age(stock):
    return make_model(stock, {"AGE_mode": "strategy_4"})


def greedy(model, inputs, **kwargs):
    kwargs = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, **kwargs}
    return model.generate(**inputs, **kwargs)


def whole(inputs, sequences):
    """The inputs of a full forward over generated sequences."""
    mask = inputs["attention_mask"]
    new = mask.new_ones(mask.shape[0], sequences.shape[1] - mask.shape[1])
    return {**inputs, "input_ids": sequences, "attention_mask": torch.cat([mask, new], 1)}


@pytest.mark.parametrize("name", BATCHES)
@torch.no_grad()
def test_generate_equals_the_full_forward(every, name):
    inputs = BATCHES[name]()
    result = greedy(every, inputs, output_logits=True, return_dict_in_generate=True)
    logits = every(**whole(inputs, result.sequences)).logits
    prompt = inputs["input_ids"].shape[1]
    for step, given in enumerate(result.logits):
        torch.testing.assert_close(given, logits[:, prompt - 1 + step], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", BATCHES)
@torch.no_grad()
def test_a_decoding_loop_by_hand_equals_the_full_forward(every, name):
    inputs = BATCHES[name]()
    result = greedy(every, inputs)
    full = whole(inputs, result)
    logits = every(**full).logits
    output = every(**inputs, use_cache=True)
    for slot in range(inputs["input_ids"].shape[1], result.shape[1]):
        output = every(
            input_ids=result[:, slot : slot + 1],
            attention_mask=full["attention_mask"][:, : slot + 1],
            past_key_values=output.past_key_values,
            use_cache=True,
        )
        torch.testing.assert_close(output.logits[:, -1], logits[:, slot], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"use_cache": False},
        {"cache_implementation": "static"},
        {"prompt_lookup_num_tokens": 3},
    ],
    ids=str,
)
@torch.no_grad()
def test_other_ways_of_decoding_give_the_same_tokens(model, options):
    inputs = one_image()
    assert torch.equal(greedy(model, inputs, **options), greedy(model, inputs))


@torch.no_grad()
def test_a_static_cache_serves_a_padded_batch(model):
    inputs = image_batch()
    assert torch.equal(greedy(model, inputs, cache_implementation="static"), greedy(model, inputs))


@pytest.mark.parametrize("chunk", [7, 16, 30])
@pytest.mark.parametrize("prompt", [image_batch, lambda: pad([text(40), text(33)])], ids=["pictures", "text"])
@torch.no_grad()
def test_chunked_prefill_gives_the_same_tokens(model, prompt, chunk):
    inputs = prompt()
    assert torch.equal(greedy(model, inputs, prefill_chunk_size=chunk), greedy(model, inputs))


@torch.no_grad()
def test_a_prompt_fed_in_chunks_by_hand_gives_the_same_logits(model):
    inputs = one_image()
    expected = model(**inputs).logits
    ids, cut = inputs["input_ids"], inputs["input_ids"].shape[1] - 4
    first = model(**{**inputs, "input_ids": ids[:, :cut], "attention_mask": None}, use_cache=True)
    second = model(input_ids=ids[:, cut:], past_key_values=first.past_key_values, use_cache=True)
    torch.testing.assert_close(second.logits, expected[:, cut:], atol=1e-4, rtol=0)


@torch.no_grad()
def test_beams_score_what_the_full_forward_scores(model):
    inputs = image_batch()
    result = greedy(model, inputs, num_beams=3, return_dict_in_generate=True, output_scores=True)
    logits = model(**whole(inputs, result.sequences)).logits.log_softmax(-1)
    prompt = inputs["input_ids"].shape[1]
    new = result.sequences[:, prompt:]
    scores = logits[:, prompt - 1 : -1].gather(-1, new[:, :, None]).sum((1, 2))
    torch.testing.assert_close(scores / new.shape[1], result.sequences_scores, atol=1e-4, rtol=0)


@torch.no_grad()
def test_several_samples_of_a_prompt_keep_their_positions(model):
    inputs = image_batch()
    options = {"do_sample": True, "num_return_sequences": 3, "output_logits": True, "return_dict_in_generate": True}
    result = greedy(model, inputs, **options)
    pictures = inputs["pixel_values"].split(inputs["image_grid_thw"].prod(-1).tolist())
    order = [0, 1] * 3 + [2] * 3
    repeated = {
        "input_ids": inputs["input_ids"].repeat_interleave(3, 0),
        "attention_mask": inputs["attention_mask"].repeat_interleave(3, 0),
        "pixel_values": torch.cat([pictures[number] for number in order]),
        "image_grid_thw": inputs["image_grid_thw"][order],
    }
    logits = model(**whole(repeated, result.sequences)).logits
    for step, given in enumerate(result.logits):
        column = inputs["input_ids"].shape[1] - 1 + step
        torch.testing.assert_close(given, logits[:, column], atol=1e-4, rtol=0)


def second_turn(model, inputs, grid):
    """A first turn's cache, and the whole conversation with a new image in its second turn."""
    first = greedy(model, inputs, return_dict_in_generate=True, max_new_tokens=4, min_new_tokens=4)
    new = with_images([text(3) + picture(grid) + text(5)], [grid])
    ids = torch.cat([first.sequences, new["input_ids"]], 1)
    conversation = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.cat([inputs["pixel_values"], new["pixel_values"]]),
        "image_grid_thw": torch.cat([inputs["image_grid_thw"], new["image_grid_thw"]]),
    }
    return first.past_key_values, conversation, new


@pytest.mark.parametrize("image_stride", [0, 3])
@pytest.mark.parametrize("given", ["all pictures", "the new picture"])
@torch.no_grad()
def test_a_cache_goes_on_with_a_new_image_in_a_later_turn(stock, given, image_stride):
    model = make_model(stock, {"AGE_mode": "strategy_4", "image_stride": image_stride})
    cache, conversation, new = second_turn(model, one_image(), [1, 4, 6])
    passed = dict(conversation)
    if given == "the new picture":
        passed |= {"pixel_values": new["pixel_values"], "image_grid_thw": new["image_grid_thw"]}
    options = {"output_logits": True, "return_dict_in_generate": True}
    result = greedy(model, passed, past_key_values=cache, **options)
    expected = greedy(model, conversation, **options)
    assert torch.equal(result.sequences, expected.sequences)
    for given_logits, logits in zip(result.logits, expected.logits):
        torch.testing.assert_close(given_logits, logits, atol=1e-4, rtol=0)


GIVEN = ["all pictures", "the new picture", "new tokens alone"]  # the last by releases that make positions up front


@pytest.mark.parametrize("given", GIVEN[: 2 + KEEPS_POSITIONS_UP_FRONT])
@torch.no_grad()
def test_a_later_turn_may_begin_with_its_picture(age, given):
    inputs, new = one_image(), with_images([[IMAGE] * 6 + text(3)], [[1, 4, 6]])
    keys = ("pixel_values", "image_grid_thw")
    ids = torch.cat([inputs["input_ids"], new["input_ids"]], 1)
    whole = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    whole |= {key: torch.cat([inputs[key], new[key]]) for key in keys}
    passed = whole if given == "all pictures" else {**whole, **{key: new[key] for key in keys}}
    if given == "new tokens alone":
        passed["input_ids"] = new["input_ids"]
    cache = find_cache(age(**inputs, use_cache=True))
    assert torch.equal(greedy(age, passed, past_key_values=cache)[:, -8:], greedy(age, whole)[:, -8:])


@torch.no_grad()
def test_another_conversation_in_between_does_not_disturb_a_cache(age):
    cache, conversation, _ = second_turn(age, one_image(), [1, 4, 6])
    greedy(age, image_batch())
    assert torch.equal(greedy(age, conversation, past_key_values=cache), greedy(age, conversation))


@torch.no_grad()
def test_a_text_turn_goes_on_behind_a_picture(model):
    inputs = one_image()
    first = greedy(model, inputs, return_dict_in_generate=True)
    ids = torch.cat([first.sequences, torch.tensor([text(4)])], 1)
    conversation = {**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    expected = greedy(model, conversation)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    assert torch.equal(greedy(model, given, past_key_values=first.past_key_values), expected)


@torch.no_grad()
def test_a_later_image_by_hand_equals_the_full_forward(model):
    inputs = one_image()
    output = model(**inputs, use_cache=True)
    new = with_images([text(3) + picture([1, 4, 6]) + text(5)], [[1, 4, 6]])
    new.pop("attention_mask")
    later = model(**new, past_key_values=output.past_key_values, use_cache=True)
    last = model(input_ids=torch.tensor([[7, 8]]), past_key_values=later.past_key_values, use_cache=True)
    logits = model(
        input_ids=torch.cat([inputs["input_ids"], new["input_ids"], torch.tensor([[7, 8]])], 1),
        pixel_values=torch.cat([inputs["pixel_values"], new["pixel_values"]]),
        image_grid_thw=torch.cat([inputs["image_grid_thw"], new["image_grid_thw"]]),
    ).logits
    given = torch.cat([later.logits, last.logits], 1)
    torch.testing.assert_close(given, logits[:, inputs["input_ids"].shape[1] :], atol=1e-4, rtol=0)


@torch.no_grad()
def test_embedded_prompts_decode_like_token_prompts(model):
    inputs = one_image()
    expected = greedy(model, inputs)[:, inputs["input_ids"].shape[1] :]
    embedded = {key: value for key, value in inputs.items() if key != "input_ids"}
    embedded["inputs_embeds"] = model.get_input_embeddings()(inputs["input_ids"])
    assert torch.equal(greedy(model, embedded), expected)


@torch.no_grad()
def test_text_after_a_picture_starts_afresh(age):
    greedy(age, one_image())
    ids = torch.tensor([text(9)])
    logits = age(input_ids=ids).logits
    output = age(input_ids=ids[:, :-1], use_cache=True)
    last = age(input_ids=ids[:, -1:], past_key_values=output.past_key_values).logits
    torch.testing.assert_close(last, logits[:, -1:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@torch.no_grad()
def test_packed_samples_see_only_themselves(model, implementation):
    """Two samples in one row, positions side by side, the text row in front telling them apart."""
    model.set_attn_implementation(implementation)
    inputs = image_batch()
    grids = inputs["image_grid_thw"]
    real = inputs["attention_mask"].bool()
    rows = [ids[mask] for ids, mask in zip(inputs["input_ids"], real)]
    positions = torch.cat(
        [
            model.model.get_rope_index(row[None], image_grid_thw=part)[0]
            for row, part in zip(rows, (grids[:2], grids[2:]))
        ],
        -1,
    )
    text_row = torch.cat([torch.arange(len(row)) for row in rows])[None, None].float()
    packed = model(
        input_ids=torch.cat(rows)[None],
        position_ids=torch.cat([text_row, positions]),
        pixel_values=inputs["pixel_values"],
        image_grid_thw=grids,
        use_cache=False,
    ).logits[0]
    torch.testing.assert_close(packed, model(**inputs).logits[real], atol=1e-4, rtol=0)


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"use_cache": False}], ids=str)
@torch.no_grad()
def test_generate_takes_given_positions(age, options):
    """As for a picture of which some tokens were left out: ten of eighteen are kept."""
    whole = one_image_of(18)
    kept = torch.tensor([*range(16), *range(24, 31)])
    positions = age.model.get_rope_index(whole["input_ids"], whole["image_grid_thw"])[0][..., kept]
    given = {"input_ids": whole["input_ids"][:, kept], "position_ids": positions}
    options = {**GREEDY, "max_new_tokens": 4, "min_new_tokens": 4, **options, "output_logits": True}
    result = age.generate(**given, **options, output_scores=True)
    longer = torch.cat([positions, positions[..., -1:] + torch.arange(1, 5)], -1)
    logits = age(input_ids=result.sequences, position_ids=longer).logits[:, 22:-1]
    if "num_beams" not in options:
        torch.testing.assert_close(torch.stack(result.logits, 1), logits, atol=1e-4, rtol=0)
    else:  # beams change places: what was chosen must score what it scores
        scores = logits.log_softmax(-1).gather(-1, result.sequences[:, 23:, None]).mean(1)[:, 0]
        torch.testing.assert_close(result.sequences_scores, scores, atol=1e-4, rtol=0)


def one_image_of(tokens):
    grid = [1, 6, 2 * tokens // 3]
    return with_images([text(5) + picture(grid) + text(6)], [grid])


@pytest.mark.parametrize("as_list", [False, True], ids=["tensor", "list"])
@torch.no_grad()
def test_seconds_of_all_videos_serve_a_later_turn(age, as_list):
    first = with_videos([text(4) + picture([2, 4, 4], VIDEO) + text(3)], [[2, 4, 4]], [0.5])
    new = with_videos([text(3) + picture([3, 4, 4], VIDEO) + text(2)], [[3, 4, 4]], [1.5])
    options = {**GREEDY, "max_new_tokens": 3, "min_new_tokens": 3}
    earlier = age.generate(**first, **options)
    ids = torch.cat([earlier.sequences, new["input_ids"]], 1)
    both = {key: torch.cat([first[key], new[key]]) for key in ("pixel_values_videos", "video_grid_thw")}
    both |= {"input_ids": ids, "second_per_grid_ts": [0.5, 1.5] if as_list else torch.tensor([0.5, 1.5])}
    cache = {NAMES_OF_THE_CACHE[-1]: earlier[NAMES_OF_THE_CACHE[-1]]}
    result = age.generate(**both, **options, **cache, output_logits=True)
    logits = age(**{**both, "input_ids": result.sequences}).logits
    torch.testing.assert_close(torch.stack(result.logits, 1), logits[:, ids.shape[1] - 1 : -1], atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_later_turn_has_a_video_beside_an_image(age):
    rows = [text(3) + picture([1, 4, 4]) + text(2), text(3) + picture([1, 4, 4]) + picture([2, 4, 4], VIDEO) + text(2)]
    first = with_images(rows[:1], [[1, 4, 4]])
    new = with_images(rows[1:], [[1, 4, 4]]) | with_videos(rows[1:], [[2, 4, 4]], [1.5])
    ids = torch.cat([first["input_ids"], new["input_ids"]], 1)
    both = {**new, **{key: torch.cat([first[key], new[key]]) for key in ("pixel_values", "image_grid_thw")}}
    both |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    cache = find_cache(age(**first, use_cache=True))
    assert torch.equal(greedy(age, both, past_key_values=cache), greedy(age, both))


@pytest.mark.skipif(not KEEPS_POSITIONS_UP_FRONT, reason="this release wants the whole sequence")
@torch.no_grad()
def test_pictures_of_an_earlier_turn_may_come_with_a_text_turn(age):
    inputs, words = one_image(), torch.tensor([text(4)])
    ids = torch.cat([inputs["input_ids"], words], 1)
    whole = {**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    cache = find_cache(age(**inputs, use_cache=True))
    given = greedy(age, {**whole, "input_ids": words}, past_key_values=cache)
    assert torch.equal(given[:, -6:], greedy(age, whole)[:, -6:])


def test_continuous_batching_says_of_texts_what_stock_says(stock, age):
    config = GenerationConfig(max_new_tokens=4, do_sample=False, eos_token_id=399, pad_token_id=0)
    prompts = [text(5), text(9)]
    given, expected = (model.generate_batch(prompts, generation_config=config) for model in (age, stock))
    assert [one.generated_tokens for one in given.values()] == [one.generated_tokens for one in expected.values()]
    assert all(len(one.generated_tokens) == 4 for one in given.values())


def test_continuous_batching_refuses_pictures(age):
    prompts = [text(5), one_image()["input_ids"][0].tolist()]
    with pytest.raises(ValueError, match="continuous batching was given a prompt with pictures"):
        age.generate_batch(prompts)
    manager = age.init_continuous_batching(GenerationConfig(max_new_tokens=4, eos_token_id=399, pad_token_id=0))
    with pytest.raises(ValueError, match="continuous batching was given a prompt with pictures"):
        manager.add_request(prompts[1])
