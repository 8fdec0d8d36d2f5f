"""Boards, places and questions: what every task of the study is made of, the same in training and in tests.

A place has the name of the third of the picture that its cell's centre lies in, down and across, whatever the size of
the board: on 2 x 2 nothing is in the middle, on 4 x 4 the four inner cells are all "middle centre". No centre lies on
the border of two thirds (3 (2 i + 1) is odd, 2 n k is not), and nothing is drawn further than a sixth of a cell
from the centre of its cell, so that its own centre lies in the same third.
"""

import hashlib
import random
from typing import NamedTuple

METRIC = "places by thirds"

CELL = 32  # pixels
LARGEST_SHIFT = CELL / 6
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")
PLACES = [f"{row} {column}" for row in ROWS for column in COLUMNS]
HELD_OUT_SHARE = 0.1


class Board(NamedTuple):
    """How many rows and columns a picture has, and how many things at least and at most."""

    height: int
    width: int
    fewest: int
    most: int


class Question(NamedTuple):
    """A question with its only right answer, and the cell of the thing that it is about (None for all of them)."""

    kind: str
    text: str
    answer: str
    cell: int | None


class Example(NamedTuple):
    """What is asked about: one scene for each picture, which are tuples of things, and the seed of how they look."""

    board: Board
    scenes: tuple[tuple, ...]
    look: float
    held_out: bool


def place_name(cell: int, board: Board) -> str:
    """A cell's place in words, such as "top left"."""
    row, column = divmod(cell, board.width)
    return f"{ROWS[_third(row, board.height)]} {COLUMNS[_third(column, board.width)]}"


def _third(number, count):
    return 3 * (2 * number + 1) // (2 * count)


def place_names(board: Board) -> set[str]:
    """The places that the board has; every other answer to "Where is" is impossible."""
    return {place_name(cell, board) for cell in range(board.height * board.width)}


def is_held_out(scene: tuple, board: Board) -> bool:
    """Whether a scene is for tests alone: a matter of its board and contents, whatever the order of its things."""
    content = f"{sorted((thing.cell, thing.name) for thing in scene)} of {board.height} x {board.width}"
    return hashlib.sha256(content.encode()).digest()[0] < 256 * HELD_OUT_SHARE


def make_example(task, rng: random.Random, board: Board, held_out: bool) -> Example:
    """A random example of a task, of the training part or of the held-out part."""
    return Example(board, task.make_scenes(rng, board, held_out), rng.random(), held_out)


def compare(scene: tuple, board: Board, kind: str) -> list[Question]:
    """Which of two things is higher, which is further left: all pairs of which one is."""
    questions = []
    for thing in scene:
        for other in scene:
            for axis, words in enumerate(("higher", "further left")):
                places = [divmod(each.cell, board.width)[axis] for each in (thing, other)]
                if places[0] != places[1]:
                    first = thing if places[0] < places[1] else other
                    text = f"Which is {words}, {thing.label} or {other.label}?"
                    questions.append(Question(kind, text, first.label, first.cell))
    return questions


def choose(kinds: list[list[Question]], rng: random.Random, count: int) -> list[Question]:
    """`count` of the questions, of different kinds as far as there are."""
    for kind in kinds:
        rng.shuffle(kind)
    rng.shuffle(kinds)
    return [kind[turn] for turn in range(count) for kind in kinds if turn < len(kind)][:count]
