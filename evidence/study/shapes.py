"""The task of coloured shapes on boards, with questions whose answers do not name the board.

A board cell is 32 x 32 pixels, so a larger board is a larger picture. The answers ("top left", "red", "3") are the
same words on every board, so that a model can be asked about pictures larger than it was trained on.
"""

import random
from typing import NamedTuple

from PIL import Image, ImageDraw

from shapes.pictures import COLOURS, SHAPES, draw_thing

from .boards import CELL, LARGEST_SHIFT, PLACES, Board, Example, Question, choose, compare, is_held_out, place_name

MOST_COUNTED = 4  # no model is asked for a number that it was never taught
TRAINED_ON = (Board(2, 2, 2, 4), Board(2, 3, 2, 4), Board(3, 2, 2, 4), Board(3, 3, 2, 4))
TESTS = {
    "as trained": TRAINED_ON,
    "more things": (Board(3, 3, 5, 6),),
    "larger": (Board(4, 4, 2, 4),),
    "much larger": (Board(6, 6, 2, 4),),
}
TOWER_BOARD = Board(3, 3, 4, 6)
TOWER_STEPS = 1  # times the scale's
CONTENTS = [f"{colour} {shape}" for shape in SHAPES for colour in COLOURS]


class Thing(NamedTuple):
    """One shape: what it is, its colour, which no other thing of the example has, and its cell, row by row."""

    shape: str
    colour: str
    cell: int

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def label(self) -> str:
        return self.colour


def make_scene(rng: random.Random, board: Board, held_out: bool, colours=tuple(COLOURS)) -> tuple[Thing, ...]:
    """A random scene of one part: every thing has a colour and a cell of its own; shapes may occur more than once."""
    while True:
        count = rng.randint(board.fewest, board.most)
        cells, chosen = rng.sample(range(board.height * board.width), count), rng.sample(colours, count)
        scene = tuple(Thing(rng.choice(SHAPES), colour, cell) for colour, cell in zip(chosen, cells))
        if is_held_out(scene, board) == held_out:
            return scene


def make_scenes(rng: random.Random, board: Board, held_out: bool) -> tuple[tuple[Thing, ...], ...]:
    """The scene of an example's only picture."""
    return (make_scene(rng, board, held_out),)


def draw(example: Example) -> tuple[Image.Image, ...]:
    """RGB pictures of the scenes, `32 * width` x `32 * height`, with random sizes and small displacements.

    How the n-th thing of a scene looks depends on `look` and n alone, not on its cell.
    """
    rng, board = random.Random(example.look), example.board
    return tuple(_draw_scene(scene, board, rng) for scene in example.scenes)


def _draw_scene(scene, board, rng):
    scale = 2  # drawn large and scaled down, for smooth edges
    cell = CELL * scale
    background = tuple(rng.randint(235, 255) for _ in range(3))
    picture = Image.new("RGB", (board.width * cell, board.height * cell), background)
    pen = ImageDraw.Draw(picture)
    for thing in scene:
        row, column = divmod(thing.cell, board.width)
        reach = cell * rng.uniform(0.32, 0.42)
        free = min(cell / 2 - reach, scale * LARGEST_SHIFT)
        x, y = ((place + 0.5) * cell + rng.uniform(-free, free) for place in (column, row))
        draw_thing(pen, thing.shape, COLOURS[thing.colour], x, y, reach)
    return picture.resize((board.width * CELL, board.height * CELL), Image.Resampling.BOX)


def ask(example: Example, rng: random.Random, count: int) -> list[Question]:
    """`count` questions about the example; of several pictures, none whose answer depends on their order."""
    board, things = example.board, [thing for scene in example.scenes for thing in scene]
    kinds = [[], [], [], [], []]
    if len(example.scenes) == 1 and len(things) <= MOST_COUNTED:
        kinds[0].append(Question("How many", "How many shapes are there?", str(len(things)), None))
    shapes = [thing.shape for thing in things]
    for thing in things:
        shape, colour, cell = thing
        kinds[1].append(Question("What shape", f"What shape is {colour}?", shape, cell))
        kinds[2].append(Question("Where is", f"Where is {colour}?", place_name(cell, board), cell))
        if shapes.count(shape) == 1:
            kinds[3].append(Question("What colour", f"What colour is the {shape}?", colour, cell))
    for scene in example.scenes:
        kinds[4] += compare(scene, board, "Which is")
    return choose(kinds, rng, count)


def sentences():
    """What the tokenizer learns its merges from."""
    yield "system\nYou are a helpful assistant.\nuser\nassistant\n How many shapes are there? 2 3 4"
    for colour in COLOURS:
        yield f"What shape is {colour}? Where is {colour}? {colour}"
        for other in COLOURS:
            yield f"Which is higher, {colour} or {other}? Which is further left, {colour} or {other}?"
    for shape in SHAPES:
        yield f"What colour is the {shape}? {shape}"
    yield from PLACES
