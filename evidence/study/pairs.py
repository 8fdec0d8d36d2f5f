"""The task of coloured shapes on two pictures, whose order no question depends on."""

import random

from shapes.pictures import COLOURS

from . import shapes
from .boards import Board
from .shapes import Thing, make_scene

TRAINED_ON = (Board(2, 2, 2, 3), Board(2, 3, 2, 3), Board(3, 2, 2, 3), Board(3, 3, 2, 3))
TESTS = {"as trained": TRAINED_ON}
TOWER_BOARD = Board(3, 3, 3, 3)
TOWER_STEPS = 1
CONTENTS, ask, draw, sentences = shapes.CONTENTS, shapes.ask, shapes.draw, shapes.sentences


def make_scenes(rng: random.Random, board: Board, held_out: bool) -> tuple[tuple[Thing, ...], ...]:
    """Two scenes, both of the same part, that have no colour in common."""
    first = make_scene(rng, board, held_out)
    others = tuple(colour for colour in COLOURS if colour not in {thing.colour for thing in first})
    return first, make_scene(rng, board, held_out, others)
