"""The geometry of one image and of whole sequences: against the reference's numbers, and by its properties."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from circle_rope_imp import (
    CircleGeometry,
    Ends,
    MRopeGeometry,
    VisionBlock,
    circle_index,
    find_blocks,
    mrope_index,
    per_token_distance,
    sequence_index,
)
from tests.models import golden

GOLDEN = golden()
SIDES = st.integers(1, 64)

# Of 2 x 2 cells, by hand. Centred, they are seen at -135, -45, 135 and 45 degrees: SA is 0, 120, 360 and 240; GA is 0,
# 90, 180 and 270. Not centred, they are seen at 0, 0, 90 and 45: SA is 0, 0, 360 and 180. At radius 10:
CENTRED = [
    [0, 7.88675, -8.16497, -7.88675],
    [7.07107, -5.7735, 4.08248, 2.11325],
    [-7.07107, -2.11325, 4.08248, 5.7735],
]
NOT_CENTRED = [
    [0, 5.7735, -8.16497, -5.7735],
    [7.07107, 2.11325, 4.08248, -2.11325],
    [-7.07107, -7.88675, 4.08248, 7.88675],
]
FLAT = [
    [-0.40825, -0.40825, 0.40825, 0.40825],
    [-0.14943, 0.55768, -0.55768, 0.14943],
    [0.55768, -0.14943, 0.14943, -0.55768],
]


def assert_index(index, expected):
    torch.testing.assert_close(index.double(), torch.as_tensor(expected).double(), atol=2e-5, rtol=0)


@pytest.mark.parametrize("ring", GOLDEN["rings"], ids=lambda ring: f"{ring['grid_h']}x{ring['grid_w']}")
def test_ring_equals_the_reference(ring):
    index = circle_index(ring["grid_h"], ring["grid_w"], **ring["circle_rope"])
    assert index.dtype == torch.float32
    torch.testing.assert_close(index, torch.tensor(ring["thw"]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("sequence", GOLDEN["sequences"], ids=lambda sequence: sequence["name"])
@pytest.mark.parametrize("name", ["circle", "grid"])
def test_sequence_equals_the_reference(sequence, name):
    ids, real = torch.tensor(sequence["input_ids"]), torch.tensor(sequence["attention_mask"]).bool()
    merged = [(t, h // 2, w // 2) for t, h, w in sequence["image_grid_thw"]]
    blocks = find_blocks(ids, real, GOLDEN["tokens"]["image"], merged, [0.0] * len(merged), "image")
    geometry = CircleGeometry(**sequence["circle_rope"]) if name == "circle" else MRopeGeometry()
    positions, ends = sequence_index(blocks, real, tuple(ids.shape), [geometry])
    expected = torch.tensor(sequence[name], dtype=torch.float32).transpose(0, 1)
    torch.testing.assert_close(positions[:, real], expected[:, real], atol=1e-4, rtol=0)
    deltas = torch.tensor(sequence[f"{name}_delta"], dtype=torch.float64)
    torch.testing.assert_close(torch.maximum(ends.text, ends.free)[0] - ids.shape[1], deltas, atol=1e-4, rtol=0)


def test_the_equations_by_hand():
    assert mrope_index(2, 3).tolist() == [[0] * 6, [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]]
    assert_index(circle_index(2, 2), CENTRED)
    assert_index(circle_index(2, 2, move_to_origin=False), NOT_CENTRED)
    assert_index(circle_index(2, 2, method="no_circle"), FLAT)
    ring, flat = torch.tensor(CENTRED), torch.tensor(FLAT)
    assert_index(circle_index(2, 2, radius="auto-3"), ring * 0.15)
    assert_index(circle_index(2, 2, dff_rate=0.25), 0.75 * ring + 0.25 * flat)
    assert_index(circle_index(2, 2, move_to_positive="auto"), ring + 8.16497)
    assert_index(circle_index(2, 2, move_to_positive=-20), ring - 11.83503)
    # One weight alone: GA is 0, 90, 180 and 270 degrees; SA gives the first cell and the third the same place.
    assert_index(circle_index(2, 2, alpha=0)[0], [0, 8.16497, 0, -8.16497])
    assert_index(circle_index(2, 2, alpha=1)[1], [7.07107, -7.07107, 7.07107, 0])


def test_one_cell_has_an_angle():
    """It is seen at 0 degrees, and at 0 there is nothing to stretch."""
    for options in ({}, {"move_to_origin": False}):
        assert_index(circle_index(1, 1, **options), [[0], [7.07107], [-7.07107]])


@pytest.mark.parametrize(
    "order, radius",
    [((0, False, 0.0), 10 + 1e-9), ((False, 0, 0.0), 10 + 2e-9), ((0.0, False, 0), 10 + 3e-9)],
    ids=str,
)
@pytest.mark.parametrize("key", ["move_to_positive", "dff_rate"])
def test_0_means_false_whichever_came_first(key, order, radius):
    """The three are equal to Python, so what is remembered for one is handed out for the others."""
    for off in order:
        geometry = CircleGeometry(radius, **{key: off})
        assert_index(VisionBlock(0, 0, 1, 2, 2).index(geometry), CENTRED)
    on = CircleGeometry(radius, **{key: 1.0})
    expected = FLAT if key == "dff_rate" else torch.tensor(CENTRED) + 9.16497
    assert_index(VisionBlock(0, 0, 1, 2, 2).index(on), expected)


@given(SIDES, SIDES, st.floats(0, 1), st.floats(0, 100), st.booleans())
def test_every_text_token_is_equally_far_from_all_tokens_of_a_ring(grid_h, grid_w, alpha, radius, move_to_origin):
    ring = circle_index(grid_h, grid_w, radius=radius, alpha=alpha, move_to_origin=move_to_origin)
    on_axis = torch.tensor([-40.0, 0.0, 7.5, 300.0]).expand(3, -1)
    assert per_token_distance(on_axis, ring) < 1e-4


@given(SIDES, SIDES, st.floats(0, 1), st.floats(0.1, 100))
def test_a_ring_has_its_radius_and_lies_across_the_text_axis(grid_h, grid_w, alpha, radius):
    ring = circle_index(grid_h, grid_w, radius=radius, alpha=alpha).double()
    torch.testing.assert_close(ring.norm(dim=0), torch.full((grid_h * grid_w,), radius).double(), rtol=1e-5, atol=1e-5)
    assert ring.sum(0).abs().max() < 1e-4


@given(SIDES, SIDES)
def test_raising_to_positive_leaves_no_negative_index(grid_h, grid_w):
    raised = circle_index(grid_h, grid_w, move_to_positive="auto")
    assert raised.min() == 0
    torch.testing.assert_close(circle_index(grid_h, grid_w, move_to_positive=2.5), raised + 2.5)


@given(st.integers(1, 12), st.integers(1, 12), st.floats(0, 1))
def test_dff_rate_blends_the_flat_grid_in(grid_h, grid_w, rate):
    ring, flat = circle_index(grid_h, grid_w), circle_index(grid_h, grid_w, method="no_circle")
    blended = circle_index(grid_h, grid_w, dff_rate=rate)
    torch.testing.assert_close(blended, (1 - rate) * ring + rate * flat, atol=1e-4, rtol=1e-4)


def test_auto_radius_is_the_largest_coordinate():
    assert torch.equal(circle_index(5, 9, radius="auto"), circle_index(5, 9, radius=4))
    assert torch.equal(circle_index(5, 9, radius="auto-2"), circle_index(5, 9, radius=8))


def test_the_papers_table_of_per_token_distances():
    """Nine image tokens and five text tokens (paper, figure of the encodings)."""
    after = torch.arange(9.0, 14.0)
    hard = per_token_distance(after[None], torch.arange(9.0)[None])
    unordered = per_token_distance(after[None], torch.zeros(1, 9))
    spatial = per_token_distance(torch.arange(3.0, 8.0).expand(2, -1), mrope_index(3, 3)[1:])
    circle = per_token_distance(torch.arange(3.0, 8.0).expand(3, -1), circle_index(3, 3))
    assert hard.item() == pytest.approx(2.22, abs=0.005)
    assert unordered.item() == 0
    assert spatial.item() == pytest.approx(0.64, abs=0.03)
    assert circle.item() == pytest.approx(0, abs=1e-4)


def test_rings_are_computed_once():
    first, second = (VisionBlock(0, slot, 1, 7, 5).points(CircleGeometry(radius=3.25))[0] for slot in (0, 40))
    assert first is second


def test_nobody_changes_a_ring_that_others_see():
    block, geometry = VisionBlock(0, 0, 1, 7, 5), CircleGeometry(radius=3.25)
    before = block.index(geometry)
    block.index(geometry).zero_()
    assert torch.equal(block.index(geometry), before)
    with pytest.raises(ValueError, match="read-only"):
        block.points(geometry)[0][:] = 0


def test_a_video_moves_its_ring_along_the_text_axis():
    video = VisionBlock(0, 0, 4, 3, 2, interval=1.4)
    ring = circle_index(3, 2).double()
    for frame, moved in enumerate((0, 1, 2, 4)):
        part = video.index(CircleGeometry())[:, frame * 6 : frame * 6 + 6]
        torch.testing.assert_close(part, ring + moved, atol=1e-5, rtol=0)
    times = video.index(MRopeGeometry())[0].view(4, 6)[:, 0]
    assert times.tolist() == [0, 1, 2, 4]


def test_a_video_in_both_geometries_by_numbers():
    """Two tokens of text, three frames of 1 x 2 cells 1.5 apart, and text."""
    video = VisionBlock(0, 2, 3, 1, 2, interval=1.5)
    positions, ends = sequence_index([video], None, (1, 10), [CircleGeometry(), MRopeGeometry()])
    # Seen at 180 and 0 degrees and numbered 0 and 180, the two cells are at 180 and 90 on the ring.
    ring = torch.tensor([[0, 8.16497], [-7.07107, -4.08248], [7.07107, -4.08248]])
    frames = torch.cat([ring + 2, ring + 3, ring + 5], 1)  # at 0, 1.5 and 3, cut to whole numbers
    behind = 5 + 8.16497 + 1
    text = torch.tensor([0.0, 1, behind, behind + 1]).expand(3, -1)
    assert_index(positions[:3, 0], torch.cat([text[:, :2], frames, text[:, 2:]], 1))
    assert positions[3:, 0].tolist() == [
        [0, 1, 2, 2, 3, 3, 5, 5, 6, 7],
        [0, 1, 2, 2, 2, 2, 2, 2, 6, 7],
        [0, 1, 2, 3, 2, 3, 2, 3, 6, 7],
    ]
    assert ends.text.flatten().tolist() == pytest.approx([behind + 2, 8], abs=2e-5)
    assert ends.free.flatten().tolist() == pytest.approx([behind, 6], abs=2e-5)


def test_a_negative_shift_puts_a_picture_behind_its_text():
    """Text goes on behind the picture; the next picture begins above all so far."""
    blocks = [VisionBlock(0, 3, 1, 2, 2), VisionBlock(0, 8, 1, 2, 2)]
    geometry = CircleGeometry(move_to_positive=-20)
    positions, ends = sequence_index(blocks, None, (1, 13), [geometry])
    ring = torch.tensor(CENTRED) - 11.83503
    text = 3 + 7.88675 - 11.83503 + 1  # below the 2 of the last token in front of the picture
    assert_index(positions[:, 0, 3:7], ring + 3)
    assert_index(positions[0, 0, [2, 7, 12]], [2, text, text])
    assert_index(positions[:, 0, 8:12], ring + 3)
    assert (ends.text.item(), ends.free.item()) == pytest.approx((text + 1, 3), abs=2e-5) and ends.pictures == [2]


def test_image_stride_moves_later_images_further():
    blocks = [VisionBlock(0, slot, 1, 2, 2) for slot in (2, 8, 14)]
    plain, _ = sequence_index(blocks, None, (1, 20), [CircleGeometry()])
    strided, _ = sequence_index(blocks, None, (1, 20), [CircleGeometry(image_stride=5)])
    moved = (strided - plain)[0, 0]
    # What comes behind an image starts behind it, so the moves add up.
    assert moved[[2, 8, 14]].tolist() == pytest.approx([0, 5, 15], abs=1e-4)
    assert moved[[0, 7, 13, 19]].tolist() == pytest.approx([0, 0, 5, 15], abs=1e-4)


def test_a_later_turn_goes_on_where_the_earlier_ones_end():
    """Text at its index, pictures above all and moved by their number, in whatever order they are given."""
    before = Ends(torch.tensor([[10.0]]).double(), torch.tensor([[14.0]]).double(), [2])
    blocks = [VisionBlock(0, slot, 1, 1, 1) for slot in (5, 1)]
    positions, ends = sequence_index(blocks, None, (1, 7), [MRopeGeometry(image_stride=100)], before)
    assert positions[:, 0].tolist() == [[10, 214, 215, 216, 217, 518, 519]] * 3
    assert (ends.text.item(), ends.free.item(), ends.pictures) == (520, 519, [4])
    assert before.text.item() == 10 and before.pictures == [2]


@pytest.mark.parametrize("geometry", [CircleGeometry(), MRopeGeometry()], ids=["circle", "mrope"])
def test_at_128k_tokens_every_index_is_exact_to_half_a_float32_unit(geometry):
    length = 131072
    blocks = [VisionBlock(0, slot, 1, 8, 8) for slot in range(100, length - 100, 4096)]
    positions, _ = sequence_index(blocks, None, (1, length), [geometry])
    expected = torch.arange(length).double().expand(3, -1).clone()
    for block in blocks:
        end = block.slot + block.length
        index = block.index(geometry) + expected[0, block.slot]
        expected[:, block.slot : end] = index
        expected[:, end:] += index.max() + 1 - expected[0, end]
    # Between 2**16 and 2**17 float32 has steps of 2**-7.
    assert (positions[:, 0].double() - expected).abs().max() <= 2**-8


@given(st.data())
def test_any_mix_of_blocks_follows_the_rule(data):
    """Text counts up by one; a block starts behind the largest index so far; text goes on behind the block."""
    geometry = data.draw(st.sampled_from([CircleGeometry(), CircleGeometry(dff_rate=0.3), MRopeGeometry()]))
    parts = data.draw(
        st.lists(st.one_of(st.integers(0, 5), st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))))
    )
    blocks, slot, expected, largest = [], 0, [], -1.0
    for part in parts:
        if isinstance(part, int):
            expected += [torch.arange(part).double().expand(3, -1) + largest + 1]
            slot += part
            largest += part
        else:
            block = VisionBlock(0, slot, *part, interval=1.5)
            blocks.append(block)
            expected.append(block.index(geometry) + largest + 1)
            slot += block.length
            largest = expected[-1].max().item()
    positions, ends = sequence_index(blocks, None, (1, slot), [geometry])
    if slot:
        torch.testing.assert_close(positions[:, 0], torch.cat(expected, 1).float(), atol=1e-4, rtol=0)
    assert max(ends.text.item(), ends.free.item()) == pytest.approx(largest + 1, abs=1e-6)
