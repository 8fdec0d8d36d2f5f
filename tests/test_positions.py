"""What `get_rope_index` returns and what reaches the layers."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circle_rope_imp import circle_index
from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2
from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLModel_CircleRoPE_V2, find_cache, split_position_rows
from tests.models import (
    IMAGE,
    NAMES_OF_THE_CACHE,
    VIDEO,
    config_arguments,
    for_stock,
    golden,
    image_batch,
    make_config,
    make_model,
    pad,
    picture,
    pixels,
    text,
    video_batch,
)

GOLDEN = golden()


def index(model, inputs):
    keys = ("input_ids", "image_grid_thw", "video_grid_thw", "second_per_grid_ts", "attention_mask")
    return model.model.get_rope_index(**{key: inputs[key] for key in keys if key in inputs})


@pytest.fixture(scope="module")
def age(stock):
    return make_model(stock, {"AGE_mode": "strategy_4"})


@pytest.fixture(scope="module")
def mrope(stock):
    return make_model(stock, {"AGE_mode": ["mrope"] * 4})


@pytest.mark.parametrize("sequence", GOLDEN["sequences"], ids=lambda sequence: sequence["name"])
def test_the_model_equals_the_reference(sequence):
    arguments = config_arguments()
    arguments["text_config"]["vocab_size"] = 151936
    tokens = GOLDEN["tokens"]
    arguments |= {"image_token_id": tokens["image"], "video_token_id": tokens["video"]}
    block = {**sequence["circle_rope"], "AGE_mode": "strategy_2"}
    config = Qwen2_5_VLConfig_CircleRoPE_V2(circle_rope=block, **arguments)
    with torch.device("meta"):
        model = Qwen2_5_VLModel_CircleRoPE_V2(config)
    mask = torch.tensor(sequence["attention_mask"])
    positions, deltas = model.get_rope_index(
        torch.tensor(sequence["input_ids"]), torch.tensor(sequence["image_grid_thw"]), attention_mask=mask
    )
    expected = torch.cat([torch.tensor(sequence[name]).float().transpose(0, 1) for name in ("circle", "grid")])
    torch.testing.assert_close(positions[:, mask.bool()], expected[:, mask.bool()], atol=1e-4, rtol=0)
    expected = torch.tensor([sequence["circle_delta"], sequence["grid_delta"]]).T
    torch.testing.assert_close(deltas, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("side", ["left", "right"])
def test_mrope_rows_equal_stock_for_images(stock, mrope, side):
    inputs = image_batch(side)
    positions, _ = index(mrope, inputs)
    wanted = for_stock({key: value for key, value in inputs.items() if key != "pixel_values"}, stock)
    expected, _ = stock.model.get_rope_index(**wanted)
    real = inputs["attention_mask"].bool()
    assert torch.equal(positions[:, real], expected[:, real].float())


@pytest.mark.parametrize("seconds", [0.25, 0.7, 1.0, 2.0])
def test_video_rows_follow_the_trained_rule(age, seconds):
    inputs = video_batch()
    inputs["second_per_grid_ts"] = torch.tensor([seconds])
    positions, deltas = index(age, inputs)
    is_video = (inputs["input_ids"] == VIDEO) & inputs["attention_mask"].bool()
    start = positions[3:, is_video].min()
    times = [int(frame * 2 * seconds) for frame in range(3)]
    assert (positions[3, is_video] - start).view(3, 6)[:, 0].tolist() == times
    # Text goes on behind the largest of all rows, whichever row that is.
    first_text = is_video[0].nonzero()[-1] + 1
    assert positions[3:, 0, first_text].flatten().tolist() == [start + max(times[-1], 2) + 1] * 3
    ring = positions[:3, is_video].view(3, 3, 6)
    torch.testing.assert_close(ring - ring[:, :1], torch.tensor(times).view(1, 3, 1).expand(3, 3, 6) * 1.0)


def test_a_video_without_seconds_has_a_second_between_two_frames(age):
    ids, grid = torch.tensor([text(2) + picture([3, 2, 2], VIDEO)]), torch.tensor([[3, 2, 2]])
    positions, _ = age.model.get_rope_index(ids, video_grid_thw=grid)
    assert positions[3, 0, 3:6].tolist() == [3, 5, 7]  # behind two words and a start, two token steps a second
    assert torch.equal(positions, age.model.get_rope_index(ids, video_grid_thw=grid, second_per_grid_ts=1.0)[0])


def test_seconds_may_come_as_a_list(age):
    inputs = video_batch()
    expected, _ = index(age, inputs)
    inputs["second_per_grid_ts"] = [0.7]
    assert torch.equal(index(age, inputs)[0], expected)


def test_a_video_of_one_frame_is_an_image(age):
    parts = text(4), text(5)
    as_image = pad([parts[0] + picture([1, 4, 6]) + parts[1]])["input_ids"]
    as_video = as_image.where(as_image != IMAGE, VIDEO)
    grid = torch.tensor([[1, 4, 6]])
    assert torch.equal(
        age.model.get_rope_index(as_image, image_grid_thw=grid)[0],
        age.model.get_rope_index(as_video, video_grid_thw=grid)[0],
    )


def test_images_and_videos_mix_in_one_sample(age):
    ids = pad([text(3) + picture([2, 4, 4], VIDEO) + text(2) + picture([1, 4, 4]) + text(2)])["input_ids"]
    positions, deltas = age.model.get_rope_index(ids, torch.tensor([[1, 4, 4]]), torch.tensor([[2, 4, 4]]))
    ring = positions[:3, ids == IMAGE]
    start = positions[0, 0, (ids[0] == IMAGE).nonzero()[0, 0] - 1] + 1
    torch.testing.assert_close(ring - start, circle_index(2, 2), atol=1e-5, rtol=0)
    assert deltas.shape == (1, 2) and deltas.dtype == torch.float32


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), max_size=3), st.sampled_from(["left", "right"]))
def test_neither_batch_nor_padding_changes_positions(shapes, side):
    model = _age_on_meta()
    grids = [[1, 2 * h, 2 * w] for h, w in shapes]
    long = [token for grid in grids for token in text(3) + picture(grid)] + text(30)
    short = text(4) + picture([1, 4, 4]) + text(2)
    batch = pad([long, short], side)
    positions, deltas = model.get_rope_index(
        batch["input_ids"], torch.tensor([*grids, [1, 4, 4]]), attention_mask=batch["attention_mask"]
    )
    alone, delta = model.get_rope_index(torch.tensor([short]), torch.tensor([[1, 4, 4]]))
    real = batch["attention_mask"][1].bool()
    assert torch.equal(positions[:, 1, real], alone[:, 0])
    # The first free index does not depend on the padding.
    torch.testing.assert_close(deltas[1] + len(real), delta[0] + len(short))


def _age_on_meta():
    with torch.device("meta"):
        return Qwen2_5_VLModel_CircleRoPE_V2(
            Qwen2_5_VLConfig_CircleRoPE_V2(circle_rope={"AGE_mode": "strategy_4"}, **config_arguments())
        )


def python_calls(call):
    """How many calls Python makes, of its own functions and of those in C, generators' steps included."""
    count = 0

    def tick(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    call()
    sys.setprofile(tick)
    try:
        call()
    finally:
        sys.setprofile(None)
    return count


def test_python_does_no_work_for_single_tokens():
    """The images are as many, and 16 times as large; the text between them is as much longer."""
    model = _age_on_meta()
    calls = []
    for side, gap in ((9, 64), (36, 1024)):
        row = [token for _ in range(64) for token in text(gap) + picture([1, 2 * side, 2 * side])]
        ids, mask = torch.tensor([row, row]), torch.ones(2, len(row), dtype=torch.long)
        mask[0, :3] = 0
        grids = torch.tensor([[1, 2 * side, 2 * side]] * 128)
        calls.append(python_calls(lambda: model.get_rope_index(ids, grids, attention_mask=mask)))  # noqa: B023
    assert calls[0] == calls[1]


def test_text_counts_up_without_pads(age):
    batch = pad([text(5), text(9)])
    positions, deltas = age.model.get_rope_index(batch["input_ids"], attention_mask=batch["attention_mask"])
    assert positions.shape == (6, 2, 9) and positions.dtype == torch.float32
    assert positions[:, 0, 4:].unique(dim=0).tolist() == [[0, 1, 2, 3, 4]]
    assert deltas.tolist() == [[-4, -4], [0, 0]]


@pytest.mark.parametrize(
    "grids, message",
    [
        ([[1, 4, 8]], "sample 0 has 6 image placeholder tokens where row 0 of image_grid_thw.*needs 8"),
        ([[1, 4, 4], [1, 2, 2]], "sample 0 has 1 image placeholder tokens left when all 2 rows"),
        ([[1, 4, 6], [1, 4, 4]], "image_grid_thw has 2 rows, but the 1 samples hold placeholder tokens for only 1"),
        ([], "sample 0 has 6 image placeholder tokens left when all 0 rows"),
    ],
)
def test_placeholders_that_do_not_fit_the_grids_are_refused(age, grids, message):
    ids = pad([text(3) + picture([1, 4, 6]) + text(2)])["input_ids"]
    with pytest.raises(ValueError, match=message):
        age.model.get_rope_index(ids, torch.tensor(grids, dtype=torch.long).view(-1, 3))


def test_the_sample_that_does_not_fit_is_named(age):
    batch = pad([text(3) + picture([1, 4, 6]), text(5) + picture([1, 4, 4])])
    with pytest.raises(ValueError, match="sample 1 has 4 .* needs 9"):
        age.model.get_rope_index(
            batch["input_ids"], torch.tensor([[1, 4, 6], [1, 6, 6]]), attention_mask=batch["attention_mask"]
        )


def test_a_picture_does_not_go_on_in_the_next_sample(age):
    ids = torch.tensor([text(3) + [IMAGE] * 3, [IMAGE] * 3 + text(3)])
    with pytest.raises(ValueError, match="sample 0 has 3 image placeholder tokens .* merged to 1x2x3, needs 6"):
        age.model.get_rope_index(ids, torch.tensor([[1, 4, 6]]))


def test_a_picture_of_nothing_is_refused(age):
    ids = torch.tensor([text(3) + [IMAGE] * 12])
    with pytest.raises(ValueError, match="where row 1 of image_grid_thw, merged to 1x0x2, needs 0"):
        age.model.get_rope_index(ids, torch.tensor([[1, 4, 6], [1, 1, 4], [1, 4, 6]]))


def test_placeholders_without_pictures_are_refused(age):
    ids = pad([text(3) + picture([1, 4, 6])])["input_ids"]
    with pytest.raises(ValueError, match="6 image placeholder tokens"):
        age.model.get_rope_index(ids, torch.empty(0, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="6 image placeholder tokens"):
        age.generate(input_ids=ids, max_new_tokens=2)


def test_a_forward_without_any_picture_reads_placeholders_as_text_as_stock_does(age):
    ids = pad([text(3) + picture([1, 4, 6])])["input_ids"]
    positions = torch.arange(ids.shape[1]).expand(3, 1, -1)
    assert torch.equal(age(input_ids=ids).logits, age(input_ids=ids, position_ids=positions).logits)
    assert torch.equal(age.model.get_rope_index(ids)[0], positions.repeat(2, 1, 1).float())


def test_pictures_without_grids_are_refused(age):
    inputs = image_batch()
    del inputs["image_grid_thw"]
    with pytest.raises(ValueError, match="pixel_values was given without image_grid_thw"):
        age(**inputs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_positions_are_refused(age, dtype):
    inputs = image_batch()
    positions, _ = index(age, inputs)
    with pytest.raises(ValueError, match="cast_forward_inputs"):
        age(**inputs, position_ids=positions.to(dtype))


@pytest.mark.parametrize("geometries, rows", [(1, 5), (1, 6), (2, 5), (2, 8)])
def test_another_number_of_rows_is_refused(geometries, rows):
    with pytest.raises(ValueError, match=r"position_ids has the shape \(\d, 2, 9\)"):
        split_position_rows(torch.zeros(rows, 2, 9), geometries)


@pytest.mark.parametrize("shape", [(2, 9), (3, 2, 9), (4, 2, 9), (6, 2, 9), (7, 2, 9)])
def test_every_documented_layout_is_understood(shape):
    """Three rows are t, h and w of every geometry, one is all of them; the text row comes first."""
    positions = 100 * torch.arange(shape[0])[:, None, None] + torch.arange(9).expand(1, 2, 9)
    positions = positions[0] if shape == (2, 9) else positions
    text_row, rows = split_position_rows(positions, 2)
    assert rows.shape == (6, 2, 9) and rows.dtype == torch.float32
    assert (text_row is not None) == (shape[0] in (4, 7))
    assert text_row is None or (text_row.dtype == torch.int64 and torch.equal(text_row, positions[0]))
    first = {2: [0] * 6, 3: [0, 100, 200] * 2, 4: [100, 200, 300] * 2, 6: range(0, 600, 100), 7: range(100, 700, 100)}
    assert rows[:, 0, 0].tolist() == list(first[shape[0]])


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_pads_of_a_text_have_index_0(age, side):
    seen = []
    age.model.language_model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["position_ids"]), with_kwargs=True
    )
    batch = pad([text(5), text(2)], side)
    age(**batch)
    cache = find_cache(age(input_ids=torch.tensor([text(3), text(3)]), use_cache=True))
    age(**batch, use_cache=True, **{NAMES_OF_THE_CACHE[-1]: cache})
    for rows, first in ((seen[0], 0), (seen[2], 3)):
        is_pad = batch["attention_mask"] == 0
        assert is_pad.sum() == 3 and not rows[:, is_pad].any()
        assert rows[0, 0].tolist() == list(range(first, first + 5))


@pytest.mark.parametrize("mode", ["strategy_2", "strategy_3", "strategy_4"])
def test_every_layer_gets_the_cos_sin_of_its_own_geometry(stock, mode):
    model = make_model(stock, {"AGE_mode": mode})
    inputs = image_batch()
    seen = {}
    for number, layer in enumerate(model.model.language_model.layers):
        layer.self_attn.register_forward_pre_hook(
            lambda _, args, kwargs, number=number: seen.update({number: kwargs["position_embeddings"]}),
            with_kwargs=True,
        )
    with torch.no_grad():
        model(**inputs)
    positions, _ = index(model, inputs)
    hidden = torch.zeros(1)
    for number, name in enumerate(model.config.schedule):
        rows = positions[:3] if name == "circle" else positions[3:]
        for part, expected in zip(seen[number], model.model.language_model.rotary_emb(hidden, rows)):
            assert torch.equal(part, expected)


def video_index(age, seconds):
    ids = pad([text(3) + picture([3, 4, 4], VIDEO) + text(2) + picture([2, 4, 4], VIDEO)])["input_ids"]
    grids = torch.tensor([[3, 4, 4], [2, 4, 4]])
    return age.model.get_rope_index(ids, video_grid_thw=grids, second_per_grid_ts=seconds)[0]


@pytest.mark.parametrize("seconds", [1.5, torch.tensor(1.5), [1.5, 1.5]], ids=str)
def test_one_number_of_seconds_serves_all_videos(age, seconds):
    assert torch.equal(video_index(age, seconds), video_index(age, torch.tensor([1.5, 1.5])))


@pytest.mark.parametrize(
    "seconds, given",
    [
        (torch.ones(2, 1), r"the shape \(2, 1\)"),
        (torch.ones(3), r"the shape \(3,\)"),
        ([[1.0], [1.0]], r"the shape \(2, 1\)"),
        ("fast", "the value 'fast'"),
    ],
    ids=str,
)
def test_seconds_that_do_not_fit_the_videos_are_refused(age, seconds, given):
    with pytest.raises(ValueError, match=f"second_per_grid_ts has {given}, but video_grid_thw has 2 rows"):
        video_index(age, seconds)


# Absolute numbers


def rows_of(model, parts, seconds=None):
    """Positions that the layers are handed, turn by turn over one cache: float32 `(3 * geometries, seq)` each."""
    seen, cache = [], None
    model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["position_ids"][-3 * len(model.model.geometries) :, 0]),
        with_kwargs=True,
    )
    for part in parts:
        given = {**part, "use_cache": True, **({NAMES_OF_THE_CACHE[-1]: cache} if cache else {})}
        cache = find_cache(model(**given))
    return seen


def ids_of(*rows):
    return {"input_ids": torch.tensor([[token for row in rows for token in row]])}


def picture_of(*rows, grid=(1, 4, 4)):
    return {**ids_of(*rows), "pixel_values": pixels([grid]), "image_grid_thw": torch.tensor([grid])}


BARE = [IMAGE] * 4  # a picture of 2 x 2 tokens, without the tokens around it


@torch.no_grad()
def test_two_geometries_in_a_conversation_that_goes_on_with_a_picture(stock):
    """Radius 0: a picture lies on one point of the ring's rows, and takes one index; on M-RoPE's grid it takes two."""
    model = make_model(stock, {"AGE_mode": "strategy_4", "radius": 0})
    turns = [picture_of(text(2), BARE, text(1)), picture_of(BARE, text(2)), ids_of(text(1))]
    first, second, third = rows_of(model, turns)
    assert first[0].tolist() == first[2].tolist() == [0, 1, 2, 2, 2, 2, 3]
    assert first[3:].tolist() == [[0, 1, 2, 2, 2, 2, 4], [0, 1, 2, 2, 3, 3, 4], [0, 1, 2, 3, 2, 3, 4]]
    assert second[1].tolist() == [4, 4, 4, 4, 5, 6]
    assert second[3:].tolist() == [[5, 5, 5, 5, 7, 8], [5, 5, 6, 6, 7, 8], [5, 6, 5, 6, 7, 8]]
    assert third[:, 0].tolist() == [7, 7, 7, 9, 9, 9]


@pytest.mark.parametrize("turns", [1, 2, 3])
@torch.no_grad()
def test_a_ring_that_is_moved_back_sets_the_next_text_and_the_next_picture_apart(stock, turns):
    """Radius 0, 5 back: the picture at 6 lies at 1, text goes on at 2, and the next picture begins at 6 again."""
    model = make_model(stock, {"radius": 0, "move_to_positive": -5})
    parts = [text(6), BARE, text(2), BARE, text(1)]
    cuts = {1: [5], 2: [3, 5], 3: [2, 3, 5]}[turns]
    inputs, begin = [], 0
    for end in cuts:
        own = parts[begin:end]
        count = own.count(BARE)
        grids = {"pixel_values": pixels([[1, 4, 4]] * count), "image_grid_thw": torch.tensor([[1, 4, 4]] * count)}
        inputs.append({**ids_of(*own), **(grids if count else {})})
        begin = end
    rows = torch.cat(rows_of(model, inputs), -1)
    assert rows[0].tolist() == [0, 1, 2, 3, 4, 5, 1, 1, 1, 1, 2, 3, 1, 1, 1, 1, 2]
    assert torch.equal(rows[0], rows[1]) and torch.equal(rows[0], rows[2])


@torch.no_grad()
def test_a_later_video_stands_at_its_own_seconds(stock):
    """M-RoPE's rows; two frames a second, so that frames 1.5 seconds apart are 3 apart."""
    model = make_model(stock, {"AGE_mode": ["mrope"] * 4})
    grid = [2, 2, 4]
    turns = [
        {
            **ids_of(row, [VIDEO] * 4, text(1)),
            "pixel_values_videos": pixels([grid]),
            "video_grid_thw": torch.tensor([grid]),
            "second_per_grid_ts": [seconds],
        }
        for row, seconds in ((text(1), 0.5), ([], 1.5))
    ]
    first, second = rows_of(model, turns)
    assert first.tolist() == [[0, 1, 1, 2, 2, 3], [0, 1, 1, 1, 1, 3], [0, 1, 2, 1, 2, 3]]
    assert second.tolist() == [[4, 4, 7, 7, 8], [4, 4, 4, 4, 8], [4, 5, 4, 5, 8]]


def test_pads_on_both_sides_have_index_0_and_count_nothing(mrope):
    row = [0, 0, *text(2), *BARE, *text(1), 0, 0]
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0]])
    positions, deltas = mrope.model.get_rope_index(torch.tensor([row]), torch.tensor([[1, 4, 4]]), attention_mask=mask)
    assert positions[:, 0].tolist() == [
        [0, 0, 0, 1, 2, 2, 2, 2, 4, 0, 0],
        [0, 0, 0, 1, 2, 2, 3, 3, 4, 0, 0],
        [0, 0, 0, 1, 2, 3, 2, 3, 4, 0, 0],
    ]
    assert deltas.tolist() == [[5 - 11]]


@torch.no_grad()
def test_what_comes_next_follows_from_the_positions_that_were_used(age):
    """Given positions begin at 100: text goes on behind them, and a picture too."""
    ids = ids_of(text(2))
    given = {**ids, "position_ids": torch.tensor([[100, 101]])}
    _, text_rows, picture_rows = rows_of(age, [given, ids_of(text(1)), picture_of(BARE, text(1))])
    assert text_rows.tolist() == [[102]] * 6
    assert picture_rows[3:].tolist() == [[103] * 4 + [105], [103, 103, 104, 104, 105], [103, 104, 103, 104, 105]]


@pytest.mark.parametrize("stride", [0, 5])
@torch.no_grad()
def test_a_later_picture_is_moved_by_its_number(stock, stride):
    model = make_model(stock, {"radius": 0, "image_stride": stride})
    turns = [picture_of(text(1), BARE), picture_of(BARE), picture_of(text(1), BARE)]
    rows = torch.cat(rows_of(model, turns), -1)[0].tolist()
    first, second, third = 1, 2 + stride, 4 + 3 * stride
    assert rows == [0, *[first] * 4, *[second] * 4, second + 1, *[third] * 4]


@torch.no_grad()
def test_a_fractional_text_row_is_refused(age):
    inputs = image_batch()
    positions, _ = index(age, inputs)
    with pytest.raises(ValueError, match="row 0 of position_ids, the text row, is fractional"):
        age(**inputs, position_ids=torch.cat([positions[:1], positions]))


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tgi"])
def test_an_engine_that_makes_positions_itself_is_refused(engine):
    config = make_config()
    config.text_config._attn_implementation = engine
    with pytest.raises(ValueError, match=f"the Transformers backend of {engine} makes positions itself"):
        Qwen2_5_VLModel_CircleRoPE_V2(config)
