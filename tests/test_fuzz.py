"""Decoding equals the full forward, over random schedules, grids, padding, videos, caches and turns.

A few minutes on two cores with `--hypothesis-profile fuzz`; a handful of examples otherwise.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import StaticCache

from modeling_qwen2_5_vl_circle_rope import find_cache
from tests.models import GREEDY, NAMES_OF_THE_CACHE, VIDEO, make_model, make_stock, pad, picture, pixels, text

LAST = NAMES_OF_THE_CACHE[-1]
BATCH = 2

schedules = st.lists(st.sampled_from(["circle", "mrope"]), min_size=4, max_size=4)
blocks = st.fixed_dictionaries(
    {"AGE_mode": schedules},
    optional={
        "radius": st.sampled_from([0, 3, "auto", 25]),
        "move_to_positive": st.sampled_from([-30, "auto", 4]),
        "image_stride": st.sampled_from([2, 7]),
        "method": st.just("no_circle"),
    },
)
grids = st.tuples(st.just(1), st.sampled_from([2, 4, 6]), st.sampled_from([2, 4, 6]))
videos = st.tuples(st.integers(1, 3), st.sampled_from([2, 4]), st.sampled_from([2, 4]))
# A part of a turn: words, an image or a video.
parts = st.one_of(
    st.integers(1, 6),
    grids.map(lambda grid: ("image", grid)),
    st.tuples(st.just("video"), videos, st.sampled_from([0.5, 1.0, 1.7])),
)
turns = st.lists(st.lists(parts, min_size=1, max_size=3), min_size=BATCH, max_size=BATCH)


def turn_of(samples, side):
    """The inputs of one turn of a batch, and every sample's own, for a forward of its own."""
    rows, images, clips, seconds = [], [], [], []
    for sample in samples:
        row = text(1)
        for part in sample:
            if isinstance(part, int):
                row += text(part)
            elif part[0] == "image":
                row += picture(part[1])
                images.append(list(part[1]))
            else:
                row += picture(part[1], VIDEO)
                clips.append(list(part[1]))
                seconds.append(part[2])
        rows.append(row + text(1))
    inputs = pad(rows, side)
    if images:
        inputs |= {"pixel_values": pixels(images), "image_grid_thw": torch.tensor(images)}
    if clips:
        inputs |= {"pixel_values_videos": pixels(clips), "video_grid_thw": torch.tensor(clips)}
        inputs["second_per_grid_ts"] = torch.tensor(seconds)
    return inputs


def by_sample(conversation, key, counts, sizes):
    """Concatenate a key's parts of several turns sample by sample, as a batch's pictures stand in order."""
    pieces = [[] for _ in range(BATCH)]
    for inputs, count, size in zip(conversation, counts, sizes):
        if key not in inputs:
            continue
        values = inputs[key].split(size if key.startswith("pixel") else [1] * sum(count))
        start = 0
        for sample, number in enumerate(count):
            pieces[sample] += values[start : start + number]
            start += number
    return torch.cat([piece for sample in pieces for piece in sample])


def whole_of(conversation, turns, ids, mask):
    """The inputs of a full forward over several turns."""
    whole = {"input_ids": ids, "attention_mask": mask}
    for kind, pixel_key, grid_key in (
        ("image", "pixel_values", "image_grid_thw"),
        ("video", "pixel_values_videos", "video_grid_thw"),
    ):
        counts = [
            [sum(1 for part in sample if not isinstance(part, int) and part[0] == kind) for sample in turn]
            for turn in turns
        ]
        if not any(map(sum, counts)):
            continue
        sizes = [inputs[grid_key].prod(-1).tolist() if grid_key in inputs else [] for inputs in conversation]
        for key in (pixel_key, grid_key, *(["second_per_grid_ts"] if kind == "video" else [])):
            whole[key] = by_sample(conversation, key, counts, sizes)
    return whole


@pytest.fixture(scope="module")
def base():
    torch.manual_seed(0)
    return make_stock()


def close(given, expected, note):
    torch.testing.assert_close(given, expected, atol=2e-4, rtol=0, msg=lambda text: f"{note}: {text}")


@given(
    block=blocks,
    first=turns,
    second=turns,
    side=st.sampled_from(["left", "right"]),
    is_static=st.booleans(),
    seed=st.integers(0, 99),
)
@torch.no_grad()
def test_turns_by_hand_equal_the_full_forward(base, block, first, second, side, is_static, seed):
    torch.manual_seed(seed)
    model = make_model(base, block)
    cache = StaticCache(config=model.config.get_text_config(), max_cache_len=256) if is_static else None
    masks, ids, logits, held = [], [], [], 0
    conversation = [turn_of(first, side), turn_of(second, side)]
    steps = [*conversation, *({"input_ids": torch.randint(3, 180, (BATCH, 1))} for _ in range(2))]
    for inputs in steps:
        own = inputs["input_ids"]
        masks.append(inputs.get("attention_mask", torch.ones_like(own)))
        ids.append(own)
        mask = torch.cat(masks, 1)
        # Older releases cannot tell the length of a static cache.
        where = {"cache_position": torch.arange(held, held + own.shape[1])} if is_static else {}
        output = model(**{**inputs, "attention_mask": mask}, use_cache=True, **{LAST: cache}, **where)
        cache = find_cache(output)
        logits.append(output.logits)
        held += own.shape[1]
    whole = whole_of(conversation, [first, second], torch.cat(ids, 1), mask)
    real = mask.bool()
    close(torch.cat(logits, 1)[real], model(**whole).logits[real], (block, first, second))


@given(
    block=blocks,
    first=turns,
    options=st.sampled_from([{}, {"num_beams": 2}, {"cache_implementation": "static"}, {"use_cache": False}]),
    seed=st.integers(0, 99),
)
@torch.no_grad()
def test_generate_equals_the_full_forward(base, block, first, options, seed):
    torch.manual_seed(seed)
    model = make_model(base, block)
    inputs = turn_of(first, "left")
    given_options = {
        **GREEDY,
        "max_new_tokens": 3,
        "min_new_tokens": 3,
        "output_logits": True,
        "disable_compile": True,
    }
    result = model.generate(**inputs, **given_options, **options)
    length = inputs["input_ids"].shape[1]
    mask = torch.cat([inputs["attention_mask"], torch.ones(BATCH, 3, dtype=torch.long)], 1)
    logits = model(**{**inputs, "input_ids": result.sequences, "attention_mask": mask}).logits
    if "num_beams" in options:  # beams change places between steps: what was chosen must score what it scores
        scores = logits.log_softmax(-1)
        scores[..., GREEDY["suppress_tokens"]] = -float("inf")
        new = result.sequences[:, length:]
        chosen = scores[:, length - 1 : -1].gather(-1, new[..., None]).sum((1, 2)) / new.shape[1]
        again = model.generate(**inputs, **{**given_options, "output_scores": True}, **options).sequences_scores
        close(chosen, again, (block, first))
        return
    for step, one in enumerate(result.logits):
        close(one, logits[:, length - 1 + step], (block, first, options))
