"""What a cache remembers, in numbers: where its samples go on, whatever was added, cut back or chosen."""

import pytest
import torch

from circle_rope_imp import Ends, Part, Record


def rows(*samples):
    """Positions of one geometry, `(3, batch, length)`: a number is text, three are a picture token."""
    thw = [[token if isinstance(token, tuple) else (token,) * 3 for token in sample] for sample in samples]
    return torch.tensor(thw, dtype=torch.float32).permute(2, 0, 1)


def mask(*samples):
    return torch.tensor(samples, dtype=torch.bool)


def filled(*parts):
    record = Record("a model")
    for part in parts:
        record.add(part)
    return record


# Two samples of six slots: text and a picture of two tokens each, the second behind a pad.
ROWS = rows([0, (1.5, 2, 2.5), (1, 3, 2), 4, 5, 6], [0, 0, (1, 9, 3), (1, 8, 2), 3, 4])
REAL = mask([1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1])
PICTURES = mask([0, 1, 1, 0, 0, 0], [0, 0, 1, 1, 0, 0])
FIRSTS = mask([0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0])
PROMPT = Part(0, ROWS, REAL, PICTURES, FIRSTS)


def says(record, slot):
    ends = record.ends(slot)
    return ends.text[0].tolist(), ends.free[0].tolist(), ends.pictures


@pytest.mark.parametrize(
    "slot, text, free, pictures",
    [
        (6, [7, 5], [7, 10], [1, 1]),  # text goes on one above the last text, a picture above all
        (4, [5, 10], [5, 10], [1, 1]),  # behind the second's picture: above its largest component
        (1, [1, 0], [1, 0], [0, 0]),  # the second has but a pad
        (9, [10, 8], [7, 10], [1, 1]),  # three slots that nobody recorded hold text
    ],
)
def test_where_samples_go_on(slot, text, free, pictures):
    assert says(filled(PROMPT), slot) == (text, free, pictures)


@pytest.mark.parametrize("slot, sample, begin", [(2, 0, 1), (3, 1, 2)])
def test_a_cache_that_ends_inside_a_picture_says_where_it_begins(slot, sample, begin):
    message = f"{slot} slots ends inside a picture of sample {sample}, which begins at slot {begin}: crop .* {begin} "
    with pytest.raises(ValueError, match=message):
        filled(PROMPT).ends(slot)


def test_pads_at_the_end_count_nothing():
    record = filled(PROMPT, Part(6, rows([7, 8], [5, 0]), mask([1, 1], [1, 0])))
    assert says(record, 8) == ([9, 6], [9, 10], [1, 1])


def test_samples_are_chosen_and_chosen_again():
    record = filled(PROMPT)
    record.select(torch.tensor([1, 0, 1]))
    record.add(Part(6, rows([5], [7], [20])))
    record.select(torch.tensor([2, 1]))
    record.select(torch.tensor([1, 0, 0]))
    assert says(record, 7) == ([8, 21, 21], [8, 21, 21], [1, 1, 1])


def test_what_was_cut_back_is_gone():
    record = filled(PROMPT, Part(6, rows([7, 8], [5, 6])))
    record.cut(7)
    assert says(record, 7) == ([8, 6], [8, 10], [1, 1])
    record.add(Part(7, rows([30], [40])))
    assert says(record, 8) == ([31, 41], [31, 41], [1, 1])
    record.cut(5)
    assert says(record, 8) == ([9, 7], [6, 10], [1, 1])  # and three of text
    record.cut(1)
    record.add(Part(1, rows([11], [12])))
    assert says(record, 2) == ([12, 13], [12, 13], [0, 0])


def test_tokens_in_place_of_others_take_their_positions():
    """As in a static cache that is written over from a slot on."""
    record = filled(PROMPT, Part(4, rows([50], [60])))
    assert says(record, 5) == ([51, 61], [51, 61], [1, 1])
    record.add(Part(0, rows([70, 71], [80, 81])))
    assert says(record, 2) == ([72, 82], [72, 82], [0, 0])
    two = torch.arange(10.0).expand(6, 1, -1)  # of two geometries
    record = filled(Part(0, two), Part(4, two[..., :3] + 20))
    assert record.ends(7).text.tolist() == [[23.0], [23.0]]
    record.add(Part(0, two[..., :2] + 50))
    assert record.ends(2).text.tolist() == [[52.0], [52.0]] and record.ends(5).text.tolist() == [[55.0], [55.0]]


def test_text_that_nobody_recorded_lies_between():
    record = filled(PROMPT, Part(9, rows([20], [30])))
    assert record.ends(9).text[0].tolist() == [10, 8] and says(record, 10) == ([21, 31], [21, 31], [1, 1])
    record = filled(Part(3, rows([20])))
    assert says(record, 3) == ([3], [3], [0]) and says(record, 4) == ([21], [21], [0])


def test_pictures_are_numbered_through():
    """A run of picture tokens that was passed in is one picture; two that stand side by side are told apart."""
    two = Part(0, rows([(1, 1, 1), (2, 1, 1), (9, 1, 1)]), None, mask([1, 1, 1]), mask([1, 0, 1]))
    assert says(filled(two), 3) == ([10], [10], [2])
    given = Part(3, rows([10, (11, 1, 1), (12, 3, 1)]), None, mask([0, 1, 1]))
    assert says(filled(two, given), 6) == ([13], [13], [3])
    going_on = Part(6, rows([(15, 1, 1), 16]), None, mask([1, 0]))  # the rest of it, in a chunk of its own
    assert says(filled(two, given, going_on), 8) == ([17], [17], [3])


def test_positions_that_do_not_say_where_text_goes_on_are_refused():
    with pytest.raises(ValueError, match="pass position_ids for the tokens behind them as well"):
        filled(Part(0, rows([0, (1, 2, 1)]))).ends(2)
    assert says(filled(Part(0, rows([0, (1, 2, 1), 3]))), 3) == ([4], [4], [0])


def test_a_text_token_without_a_look():
    record = Record("a model")
    record.add(PROMPT, (6, torch.tensor([[7.0], [5.0]]).expand(3, -1, -1)))
    assert record.text(8, "cpu")[0].flatten().tolist() == [9, 7]
    record.select(torch.tensor([1, 0, 1]))
    assert record.text(6, "cpu")[0].flatten().tolist() == [5, 7, 5]
    record.cut(4)
    assert record.text(8, "cpu")[0].flatten().tolist() == [14, 9, 14]  # four of text behind what was cut back
    assert record.text(5, "cpu")[0].flatten().tolist() == [11, 6, 11]


def test_deltas_are_of_text():
    ends = Ends(torch.tensor([[7.0, 5.0], [3.0, 2.0]]), torch.tensor([[7.0, 9.0], [3.0, 4.0]]), [1, 1])
    assert ends.deltas(6).tolist() == [[1, -3], [-1, -4]] and ends.text_rows()[3:, :, 0].tolist() == [[3, 2]] * 3
