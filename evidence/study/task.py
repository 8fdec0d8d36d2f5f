"""The study's task: pictures of coloured shapes on boards of any size, with questions whose answers do not name one.

A board cell is 32 x 32 pixels, so a larger board is a larger picture. The answers ("top left", "red", "3") are the
same words on every board, so that a model can be asked about pictures larger than it was trained on.
"""

import random
from typing import NamedTuple

from PIL import Image, ImageDraw

from shapes.pictures import COLOURS, SHAPES, Thing, draw_thing

CELL = 32  # pixels
MOST_COUNTED = 4  # no model is asked for a number that it was never taught
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")


class Board(NamedTuple):
    """How many rows and columns a picture has, and how many things at least and at most."""

    height: int
    width: int
    fewest: int
    most: int


def make_scene(rng: random.Random, board: Board) -> tuple[Thing, ...]:
    """A random scene: every thing has a colour and a cell of its own; shapes may occur more than once."""
    count = rng.randint(board.fewest, board.most)
    cells = rng.sample(range(board.height * board.width), count)
    colours = rng.sample(list(COLOURS), count)
    return tuple(Thing(rng.choice(SHAPES), colour, cell) for colour, cell in zip(colours, cells))


def draw(scene: tuple[Thing, ...], board: Board, rng: random.Random) -> Image.Image:
    """An RGB picture of the scene, `32 * width` x `32 * height`, with random sizes and small displacements."""
    scale = 2  # drawn large and scaled down, for smooth edges
    cell = CELL * scale
    background = tuple(rng.randint(235, 255) for _ in range(3))
    picture = Image.new("RGB", (board.width * cell, board.height * cell), background)
    pen = ImageDraw.Draw(picture)
    for thing in scene:
        row, column = divmod(thing.cell, board.width)
        reach = cell * rng.uniform(0.32, 0.42)
        free = cell / 2 - reach
        x, y = ((place + 0.5) * cell + rng.uniform(-free, free) for place in (column, row))
        draw_thing(pen, thing.shape, COLOURS[thing.colour], x, y, reach)
    return picture.resize((board.width * CELL, board.height * CELL), Image.Resampling.BOX)


def make_questions(scene: tuple[Thing, ...], board: Board, rng: random.Random, count: int) -> list[tuple[str, str]]:
    """`count` questions about the scene, each with its only right answer; of different kinds as far as there are."""
    kinds = [[], [], [], [], []]
    if len(scene) <= MOST_COUNTED:
        kinds[0].append(("How many shapes are there?", str(len(scene))))
    shapes = [thing.shape for thing in scene]
    for thing in scene:
        kinds[1].append((f"What shape is {thing.colour}?", thing.shape))
        kinds[2].append((f"Where is {thing.colour}?", place_name(thing.cell, board)))
        if shapes.count(thing.shape) == 1:
            kinds[3].append((f"What colour is the {thing.shape}?", thing.colour))
        for other in scene:
            (row, column), (other_row, other_column) = (divmod(each.cell, board.width) for each in (thing, other))
            if row != other_row:
                higher = thing if row < other_row else other
                kinds[4].append((f"Which is higher, {thing.colour} or {other.colour}?", higher.colour))
            if column != other_column:
                further = thing if column < other_column else other
                kinds[4].append((f"Which is further left, {thing.colour} or {other.colour}?", further.colour))
    for kind in kinds:
        rng.shuffle(kind)
    rng.shuffle(kinds)
    in_turns = [kind[turn] for turn in range(count) for kind in kinds if turn < len(kind)]
    return in_turns[:count]


def place_name(cell: int, board: Board) -> str:
    """A cell's place in words, such as "top left": which part of the picture its centre lies in."""
    row, column = divmod(cell, board.width)
    return f"{ROWS[_part(row, board.height)]} {COLUMNS[_part(column, board.width)]}"


def _part(number, count):
    """0 for the first part of `count` places, 2 for the last part, 1 for the very middle of an odd number."""
    return 1 + ((2 * number + 1 > count) - (2 * number + 1 < count))


def sentences():
    """What the tokenizer learns its merges from."""
    yield "system\nYou are a helpful assistant.\nuser\nassistant\n How many shapes are there? 2 3 4"
    for colour in COLOURS:
        yield f"What shape is {colour}? Where is {colour}? {colour}"
        for other in COLOURS:
            yield f"Which is higher, {colour} or {other}? Which is further left, {colour} or {other}?"
    for shape in SHAPES:
        yield f"What colour is the {shape}? {shape}"
    for row in ROWS:
        for column in COLUMNS:
            yield f"{row} {column}"
