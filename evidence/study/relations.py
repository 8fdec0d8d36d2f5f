"""The task of things beside things: what is left of, right of, above or below another, which is higher, where.

No place or relation can be read off one cell, which is all that the tower sees. Content is asked, too, so that what a
model forgets can be told from what it no longer places.
"""

import random

from . import shapes
from .boards import Board, Example, Question, choose, compare, place_name
from .shapes import COLOURS

TRAINED_ON = (Board(2, 3, 5, 6), Board(3, 2, 5, 6), Board(3, 3, 5, 6), Board(4, 4, 5, 6))
TESTS = {"as trained": TRAINED_ON, "larger": (Board(5, 5, 6, 6),)}
PLACE_KINDS = ("What is", "Where is", "Which is")
TOWER_BOARD, TOWER_STEPS, CONTENTS = shapes.TOWER_BOARD, shapes.TOWER_STEPS, shapes.CONTENTS
make_scenes, draw = shapes.make_scenes, shapes.draw
WAYS = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}


def ask(example: Example, rng: random.Random, count: int) -> list[Question]:
    """`count` questions about the example, of different kinds as far as there are."""
    board, (scene,) = example.board, example.scenes
    at = {divmod(thing.cell, board.width): thing for thing in scene}
    beside = [
        Question("What is", f"What is {way} {thing.colour}?", other.shape, thing.cell)
        for (row, column), thing in at.items()
        for way, (down, right) in WAYS.items()
        if (other := at.get((row + down, column + right)))
    ]
    where = [
        Question("Where is", f"Where is {each.colour}?", place_name(each.cell, board), each.cell) for each in scene
    ]
    what = [Question("What shape", f"What shape is {each.colour}?", each.shape, each.cell) for each in scene]
    return choose([beside, where, what, compare(scene, board, "Which is")], rng, count)


def sentences():
    """What the tokenizer learns its merges from."""
    yield from shapes.sentences()
    for colour in COLOURS:
        for way in WAYS:
            yield f"What is {way} {colour}?"
