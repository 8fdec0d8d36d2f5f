"""The task of handwritten digits on boards: scikit-learn's 1,797 pictures of 8 x 8, split by picture.

1,400 of them, chosen once at random, are for training, of the vision tower too; the other 397 are for tests.
"""

import functools
import random
from typing import NamedTuple

import numpy
from PIL import Image
from sklearn.datasets import load_digits

from .boards import CELL, LARGEST_SHIFT, PLACES, Board, Example, Question, choose, compare, is_held_out, place_name

# With two digits, an example might have too few questions: three always have nine.
TRAINED_ON = (Board(2, 2, 3, 4), Board(2, 3, 3, 4), Board(3, 2, 3, 4), Board(3, 3, 3, 4))
TESTS = {
    "as trained": TRAINED_ON,
    "more things": (Board(3, 3, 5, 6),),
    "larger": (Board(4, 4, 3, 4),),
    "much larger": (Board(6, 6, 3, 4),),
}
TOWER_BOARD = Board(3, 3, 6, 9)
TOWER_STEPS = 3  # times the scale's: handwriting is harder to tell apart than shapes
CONTENTS = list("0123456789")
TRAINING_PICTURES = 1400
INK = (20, 20, 20)


class Digit(NamedTuple):
    """One digit, which no other of the example is, and its cell, row by row."""

    name: str
    cell: int

    @property
    def label(self) -> str:
        return self.name


@functools.cache
def pictures(held_out: bool) -> dict[str, list[Image.Image]]:
    """By digit, the pictures of one part: ink as grey levels from 0 to 255, 8 x 8."""
    loaded = load_digits()
    order = numpy.random.default_rng(0).permutation(len(loaded.target))
    found = {digit: [] for digit in CONTENTS}
    for number in order[TRAINING_PICTURES:] if held_out else order[:TRAINING_PICTURES]:
        ink = (loaded.images[number] * 255 / 16).round().astype(numpy.uint8)
        found[str(loaded.target[number])].append(Image.fromarray(ink))
    return found


def make_scenes(rng: random.Random, board: Board, held_out: bool) -> tuple[tuple[Digit, ...], ...]:
    """The scene of an example's only picture, of one part."""
    while True:
        count = rng.randint(board.fewest, board.most)
        cells, names = rng.sample(range(board.height * board.width), count), rng.sample(CONTENTS, count)
        scene = tuple(Digit(*each) for each in zip(names, cells))
        if is_held_out(scene, board) == held_out:
            return (scene,)


def draw(example: Example) -> tuple[Image.Image, ...]:
    """An RGB picture, `32 * width` x `32 * height`, of digits of the example's part, at random sizes and places."""
    rng, board = random.Random(example.look), example.board
    (scene,) = example.scenes
    background = tuple(rng.randint(235, 255) for _ in range(3))
    picture = Image.new("RGB", (board.width * CELL, board.height * CELL), background)
    for thing in scene:
        size = rng.randint(22, 28)
        free = min((CELL - size) / 2, LARGEST_SHIFT)
        ink = rng.choice(pictures(example.held_out)[thing.name]).resize((size, size), Image.Resampling.BICUBIC)
        row, column = divmod(thing.cell, board.width)
        x, y = (round((place + 0.5) * CELL - size / 2 + rng.uniform(-free, free)) for place in (column, row))
        picture.paste(INK, (x, y), ink)
    return (picture,)


def ask(example: Example, rng: random.Random, count: int) -> list[Question]:
    """`count` questions about the example; which digit is at a place is asked where only one is there."""
    board, (scene,) = example.board, example.scenes
    places = [place_name(digit.cell, board) for digit in scene]
    kinds = [
        [
            Question("Which digit", f"Which digit is {place}?", digit.name, digit.cell)
            for digit, place in zip(scene, places)
            if places.count(place) == 1
        ],
        [
            Question("Where is", f"Where is the {digit.name}?", place, digit.cell)
            for digit, place in zip(scene, places)
        ],
        compare(scene, board, "Which is"),
    ]
    return choose(kinds, rng, count)


def sentences():
    """What the tokenizer learns its merges from."""
    yield "system\nYou are a helpful assistant.\nuser\nassistant\n"
    for digit in CONTENTS:
        yield f"Where is the {digit}? Which is higher, {digit} or {digit}? Which is further left, {digit} or {digit}?"
    for place in PLACES:
        yield f"Which digit is {place}? {place}"
