"""Generated pictures and videos of coloured shapes, with questions and exact answers.

A scene is a few shapes, each of its own kind and colour, in the cells of a board of 2 x 2 or 3 x 3 places; in a video
one of them moves to another cell. Scenes are split once, by their content, into a training part and a held-out part,
so that no training run ever sees a held-out scene.
"""

import hashlib
import random
from dataclasses import dataclass, replace

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
PLACES = {
    2: ("top left", "top right", "bottom left", "bottom right"),
    3: (
        *("top left", "top middle", "top right"),
        *("middle left", "centre", "middle right"),
        *("bottom left", "bottom middle", "bottom right"),
    ),
}
WAYS = {(0, 1): "right", (0, -1): "left", (1, 0): "down", (-1, 0): "up"}
HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class Thing:
    """One shape of a scene: what it is, its colour, and the number of its cell, row by row of `side` cells."""

    shape: str
    colour: str
    cell: int
    side: int = 2

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def place(self) -> str:
        return PLACES[self.side][self.cell]


def make_scene(
    rng: random.Random, held_out: bool, fewest: int = 2, most: int = 4, side: int = 2, repeats: bool = False
) -> tuple[Thing, ...]:
    """A random scene of `fewest` to `most` things, of the training part or of the held-out part.

    With `repeats`, shapes and colours may come several times, and there may be as many things as places.
    """
    while True:
        count = rng.randint(fewest, most)
        shapes, colours = list(SHAPES), list(COLOURS)
        if repeats:
            # Of all shapes and colours or of some, so that some are there once and others often.
            shapes = rng.choices(rng.sample(shapes, rng.randint(2, 4)), k=count)
            colours = rng.choices(rng.sample(colours, rng.randint(2, 6)), k=count)
        else:
            shapes, colours = rng.sample(shapes, count), rng.sample(colours, count)
        cells = rng.sample(range(side * side), count)
        scene = tuple(Thing(shape, colour, cell, side) for shape, colour, cell in zip(shapes, colours, cells))
        if not scene or is_held_out(scene) == held_out:  # there is one empty board, for both parts
            return scene


def make_motion(rng: random.Random, held_out: bool, fewest: int = 1, most: int = 3, side: int = 2):
    """A random scene before and after its first thing has moved along its row or column: two scenes and the way."""
    while True:
        first, *others = before = make_scene(rng, held_out=False, fewest=fewest, most=most, side=side)
        row, column = divmod(first.cell, side)
        (down, right), way = rng.choice(list(WAYS.items()))
        steps = rng.randint(1, side - 1)
        row, column = row + steps * down, column + steps * right
        cell = row * side + column
        if not (0 <= row < side and 0 <= column < side) or cell in {thing.cell for thing in others}:
            continue
        after = (replace(first, cell=cell), *others)
        if is_held_out(after) == held_out:
            return before, after, way


def is_held_out(scene: tuple[Thing, ...]) -> bool:
    """Which part a scene belongs to: a matter of its content alone, whatever the order of its things."""
    content = repr(sorted((thing.cell, thing.shape, thing.colour) for thing in scene))
    if any(thing.side != 2 for thing in scene):
        content += f" of {scene[0].side}"
    return hashlib.sha256(content.encode()).digest()[0] < 256 * HELD_OUT_SHARE


def draw(scene: tuple[Thing, ...], rng: random.Random, size: int | tuple[int, int] = 112) -> Image.Image:
    """An RGB picture of the scene with random background, sizes and small displacements.

    `size` is (width, height), or one number for both.
    """
    return draw_video(scene, scene, rng, 1, size)[0]


def draw_video(before, after, rng: random.Random, count: int, size: int | tuple[int, int] = 112) -> list[Image.Image]:
    """`count` pictures from the scene `before` to the scene `after`, between which things move evenly."""
    width, height = (size, size) if isinstance(size, int) else size
    background = tuple(rng.randint(225, 255) for _ in range(3))
    # Drawn large and scaled down, for smooth edges.
    scale = 4
    tracks = []
    for old, new in zip(before, after):
        cell = scale * width / old.side, scale * height / old.side
        reach = min(cell) * rng.uniform(0.30, 0.42)
        x, y = (0.5 * length + rng.uniform(-length / 2 + reach, length / 2 - reach) for length in cell)
        ends = (divmod(thing.cell, thing.side) for thing in (old, new))
        tracks.append((new, reach, [(x + column * cell[0], y + row * cell[1]) for row, column in ends]))
    pictures = []
    for number in range(count):
        picture = Image.new("RGB", (width * scale, height * scale), background)
        pen = ImageDraw.Draw(picture)
        done = number / max(count - 1, 1)
        for thing, reach, (start, end) in reversed(tracks):
            x, y = (a + done * (b - a) for a, b in zip(start, end))
            draw_thing(pen, thing.shape, COLOURS[thing.colour], x, y, reach)
        pictures.append(picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0))
    return pictures


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
            (f"Where is the {thing.name}?", thing.place),
            (f"What is at the {thing.place}?", f"a {thing.name}"),
            (f"What colour is the {thing.shape}?", thing.colour),
            (f"What shape is {thing.colour}?", f"the {thing.shape}"),
        ]
    rng.shuffle(questions)
    return questions[:count]
