"""Positions through the runner's rows: nothing is rounded, and places are used again."""

import gc

import pytest
import torch
from circle_rope_vllm.circle_rope_imp import (
    CircleGeometry,
    MRopeGeometry,
    VisionBlock,
    sequence_index,
)

from circle_rope_vllm.rows import DeltaTable, encode, places_for

GEOMETRIES = (CircleGeometry(), MRopeGeometry())
LONG = 131_072


def long_sequence():
    """131,072 tokens with 61 pictures and a video."""
    blocks = [VisionBlock(0, 5 + 2100 * number, 1, 30 + number % 7, 40) for number in range(61)]
    return [*blocks, VisionBlock(0, LONG - 2000, 8, 10, 12, 1.4)]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_a_long_prompt_keeps_every_bit(dtype):
    positions, _ = sequence_index(long_sequence(), None, (1, LONG), GEOMETRIES)
    rows = encode(positions[:, 0]).to(dtype)
    assert rows.shape == (6, LONG)
    assert torch.equal(DeltaTable(2, LONG).decode(rows.long()).flatten(0, 1), positions[:, 0])


def decoded(table, place, slots, dtype=torch.int64):
    """Positions of decoded tokens as a runner asks for them: slot plus one integer in every row, in its type."""
    rows = (slots.to(dtype) + torch.tensor(table.delta_of(place), dtype=dtype)).expand(3 * table.geometries, -1)
    return table.decode(rows.long())


def test_no_position_looks_like_a_decoded_token():
    exponents = torch.arange(-126, 65).float().exp2()
    positions = torch.cat(
        [
            exponents,
            exponents.nextafter(torch.tensor(torch.inf)),
            torch.zeros(1),
            -exponents,
            -(2**41) * torch.rand(99),
        ]
    )
    rows = encode(positions.expand(3, -1)).long()
    assert torch.equal(DeltaTable(1, LONG).decode(rows), positions.expand(1, 3, -1))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_decoding_goes_on_exactly_where_the_prompt_ends(dtype):
    prompt = LONG - 500
    positions, ends = sequence_index(long_sequence(), None, (1, LONG), GEOMETRIES)
    table = DeltaTable(2, LONG)
    others = [table.take((float(-number), number / 3)) for number in range(places_for(LONG) - 1)]
    place = table.take(tuple((ends.text[:, 0] - LONG).tolist()))
    assert place.number == places_for(LONG) - 1 == 8_191 == len(others)
    slots = torch.arange(prompt, LONG)
    assert torch.equal(decoded(table, place, slots, dtype).flatten(0, 1), positions[:, 0, prompt:])


def test_prompts_and_decoded_tokens_share_a_step():
    table = DeltaTable(1, 4096)
    first, second = table.take((-3.25,)), table.take((7.5,))
    prompt = torch.tensor([[0.5, 1.5], [2.25, -3.0], [1e-3, 4000.125]])
    tokens = [torch.full((3, 1), table.delta_of(place) + slot) for place, slot in ((first, 100), (second, 7))]
    rows = torch.cat([tokens[0], encode(prompt).long(), tokens[1]], dim=1)
    expected = torch.cat([torch.full((3, 1), 96.75), prompt, torch.full((3, 1), 14.5)], dim=1)
    assert torch.equal(table.decode(rows), expected[None])


def test_requests_with_the_same_deltas_share_a_place():
    table = DeltaTable(2, 1024)
    assert table.take((-1.5, -2.0)) is (kept := table.take((-1.5, -2.0)))
    assert table.take((-1.5, -3.0)).number != kept.number


def test_more_requests_than_places_can_follow_one_another():
    table = DeltaTable(1, 1 << 21)
    assert len(table.values) == places_for(1 << 21) == 512
    under_way = []
    for number in range(5000):
        place = table.take((number / 7,))
        assert all(place.number != other.number for other in under_way)
        under_way = [*under_way[-99:], place]
        assert decoded(table, place, torch.tensor([3])).tolist() == [[[pytest.approx(number / 7 + 3, rel=2**-23)]] * 3]
    del under_way, place
    gc.collect()
    assert len(table._free) == 512


def test_a_full_table_says_so():
    table = DeltaTable(1, 1 << 29)
    taken = [table.take((float(number),)) for number in range(places_for(1 << 29))]
    with pytest.raises(RuntimeError, match="all 2 places .* are taken: start vLLM with a smaller --max-model-len"):
        table.take((-1.0,))
    taken.pop()
    assert table.take((-1.0,)).number == 1


def test_padding_of_any_content_is_harmless():
    table = DeltaTable(2, 131_072)
    rows = torch.tensor([-(1 << 62), -2, 0, (1 << 31) - 1, (1 << 62)]).expand(6, -1)
    assert table.decode(rows).shape == (2, 3, 5)
