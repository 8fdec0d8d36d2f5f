"""The task of things beside things, on one picture or two: what is beside another, where it is, in which picture.

No place or relation can be read off one cell, which is all that the tower sees. Content is asked, too, so that what a
model forgets can be told from what it no longer places.
"""

import random
from typing import NamedTuple

from . import pairs, shapes
from .boards import Example, Question, choose, compare, place_name
from .shapes import COLOURS


class Boards(NamedTuple):
    """A board as others, and how many pictures of it."""

    height: int
    width: int
    fewest: int
    most: int
    pictures: int


ONE = (Boards(2, 2, 2, 3, 1), Boards(2, 3, 2, 4, 1), Boards(3, 2, 2, 4, 1), Boards(3, 3, 2, 4, 1))
TWO = (Boards(2, 2, 2, 3, 2), Boards(2, 3, 2, 3, 2))
TRAINED_ON = ONE + TWO
TESTS = {"one picture": ONE, "two pictures": TWO, "larger": (Boards(4, 4, 3, 5, 1),)}
PLACE_KINDS = ("What is", "Where is", "Which is", "Which picture")
TOWER_BOARD, TOWER_STEPS, CONTENTS, draw = Boards(3, 3, 4, 6, 1), shapes.TOWER_STEPS, shapes.CONTENTS, shapes.draw
WAYS = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}


def make_scenes(rng: random.Random, board: Boards, held_out: bool) -> tuple[tuple[shapes.Thing, ...], ...]:
    """A scene for every picture, all of one part, that have no colour in common."""
    return (pairs if board.pictures == 2 else shapes).make_scenes(rng, board, held_out)


def ask(example: Example, rng: random.Random, count: int) -> list[Question]:
    """`count` questions about the example, of different kinds as far as there are."""
    board, kinds = example.board, [[], [], [], [], []]
    for number, scene in enumerate(example.scenes):
        at = {divmod(thing.cell, board.width): thing for thing in scene}
        for (row, column), thing in at.items():
            colour, cell = thing.colour, thing.cell
            for way, (down, right) in WAYS.items():
                if other := at.get((row + down, column + right)):
                    kinds[0].append(Question("What is", f"What is {way} {colour}?", other.shape, cell))
            kinds[1].append(Question("Where is", f"Where is {colour}?", place_name(cell, board), cell))
            kinds[2].append(Question("What shape", f"What shape is {colour}?", thing.shape, cell))
            if len(example.scenes) == 2:
                nth = ("first", "second")[number]
                kinds[3].append(Question("Which picture", f"Which picture is {colour} in?", nth, cell))
        kinds[4] += compare(scene, board, "Which is")
    return choose(kinds, rng, count)


def sentences():
    """What the tokenizer learns its merges from."""
    yield from shapes.sentences()
    for colour in COLOURS:
        yield f"Which picture is {colour} in? first second"
        yield from (f"What is {way} {colour}?" for way in WAYS)
