"""Generated pictures of coloured shapes, with questions and exact answers.

A scene is a few shapes, each of its own kind and colour, in the cells of a 2 x 2 board. Scenes are split once, by
their content, into a training part and a held-out part, so that no training run ever sees a held-out scene.
"""

import hashlib
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {
    "red": (214, 40, 40),
    "green": (44, 160, 44),
    "blue": (31, 90, 200),
    "yellow": (240, 200, 20),
    "purple": (140, 60, 180),
    "black": (20, 20, 20),
}
PLACES = ("top left", "top right", "bottom left", "bottom right")
HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class Thing:
    """One shape of a scene: what it is, its colour, and the number of its cell, row by row."""

    shape: str
    colour: str
    cell: int


def make_scene(rng: random.Random, held_out: bool, fewest: int = 2, most: int = 4) -> tuple[Thing, ...]:
    """A random scene of `fewest` to `most` things, of the training part or of the held-out part."""
    while True:
        count = rng.randint(fewest, most)
        scene = tuple(
            Thing(shape, colour, cell)
            for shape, colour, cell in zip(
                rng.sample(SHAPES, count), rng.sample(list(COLOURS), count), rng.sample(range(len(PLACES)), count)
            )
        )
        if is_held_out(scene) == held_out:
            return scene


def is_held_out(scene: tuple[Thing, ...]) -> bool:
    """Which part a scene belongs to: a matter of its content alone, whatever the order of its things."""
    content = repr(sorted((thing.cell, thing.shape, thing.colour) for thing in scene))
    return hashlib.sha256(content.encode()).digest()[0] < 256 * HELD_OUT_SHARE


def draw(scene: tuple[Thing, ...], rng: random.Random, size: int = 112) -> Image.Image:
    """An RGB picture of the scene, `size` x `size`, with random background, sizes and small displacements."""
    background = tuple(rng.randint(225, 255) for _ in range(3))
    # Drawn large and scaled down, for smooth edges.
    scale = 4
    picture = Image.new("RGB", (size * scale, size * scale), background)
    pen = ImageDraw.Draw(picture)
    cell = size * scale / 2
    for thing in scene:
        row, column = divmod(thing.cell, 2)
        reach = cell * rng.uniform(0.30, 0.42)
        free = cell / 2 - reach
        x = (column + 0.5) * cell + rng.uniform(-free, free)
        y = (row + 0.5) * cell + rng.uniform(-free, free)
        draw_thing(pen, thing.shape, COLOURS[thing.colour], x, y, reach)
    return picture.resize((size, size), Image.Resampling.LANCZOS)


def draw_thing(pen, shape, fill, x, y, reach):
    box = (x - reach, y - reach, x + reach, y + reach)
    if shape == "circle":
        pen.ellipse(box, fill=fill)
    elif shape == "square":
        pen.rectangle(box, fill=fill)
    elif shape == "triangle":
        pen.polygon([(x, y - reach), (x + reach, y + reach), (x - reach, y + reach)], fill=fill)
    else:
        arm = reach / 3
        pen.rectangle((x - arm, y - reach, x + arm, y + reach), fill=fill)
        pen.rectangle((x - reach, y - arm, x + reach, y + arm), fill=fill)


def make_questions(scene: tuple[Thing, ...], rng: random.Random, count: int | None = None) -> list[tuple[str, str]]:
    """`count` different questions about the scene (or all), in random order, each with its only right answer."""
    questions = [("How many shapes are there?", str(len(scene)))]
    for thing in scene:
        questions += [
            (f"Where is the {thing.colour} {thing.shape}?", PLACES[thing.cell]),
            (f"What is at the {PLACES[thing.cell]}?", f"a {thing.colour} {thing.shape}"),
            (f"What colour is the {thing.shape}?", thing.colour),
            (f"What shape is {thing.colour}?", f"the {thing.shape}"),
        ]
    rng.shuffle(questions)
    return questions[:count]
