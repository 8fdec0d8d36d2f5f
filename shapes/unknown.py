"""What the tiny checkpoint cannot know: photo-like pictures, questions about other things, other languages."""

import hashlib
import itertools
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .pictures import COLOURS, SHAPES
from .words import WORDINGS, WORDS, make_up, name_in


def make_question(rng: random.Random, held_out: bool, language: str = "en") -> str:
    """A question that is not about coloured shapes, of the training part or of the held-out part."""
    while True:
        draw = rng.random()
        if draw < 0.6:
            question = _fill(rng, rng.choice(WORDINGS["unknown", language]), language)
        elif language == "zh":
            question = "".join(rng.choices(WORDS["noun", "zh"], k=rng.randint(1, 3))) + rng.choice(["？", "", "吗？"])
        elif draw < 0.8:
            question = _fill(rng, rng.choice(WORDINGS["unknown", "other"]), language)
        else:
            words = [rng.choice([make_up, _known])(rng) for _ in range(rng.randint(1, 6))]
            question = " ".join(words) + rng.choice(["?", "", "."])
        if (hashlib.sha256(question.encode()).digest()[0] < 256 * 0.1) == held_out:
            return question


def make_name(rng: random.Random, language: str) -> tuple[str, str, None]:
    """A thing that is no coloured shape, as `questions.py` names things."""
    colours, shapes = [None, *COLOURS, *WORDS["adjective", language]], [*SHAPES, *WORDS["noun", language]]
    while True:
        colour, shape = rng.choice(colours), rng.choice([*shapes, make_up(rng, language), make_up(rng, language)])
        if shape not in SHAPES or colour not in (None, *COLOURS):
            return colour, shape, None


def _fill(rng, template, language):
    return template.format(
        noun=rng.choice(WORDS["noun", language]),
        adjective=rng.choice(WORDS["adjective", language]),
        verb=rng.choice(WORDS["verb", "en"]),
        shape=name_in(rng.choice(SHAPES), language, rng),
        colour=name_in(rng.choice(list(COLOURS)), language, rng),
        digit=rng.randint(0, 99),
        x=make_up(rng),
    )


def _known(rng):
    words = (WORDS[kind, "en"] for kind in ("noun", "adjective", "verb"))
    return rng.choice(["the", "is", "a", "of", "and", "in", "to", *itertools.chain(*words)])


def draw_photo(rng: random.Random, size: tuple[int, int] = (112, 112)) -> Image.Image:
    """A picture with the look of a photo, a gradient, a texture, noise or a page of text, and no plain shape."""
    numbers = np.random.default_rng(rng.getrandbits(64))
    kind = rng.choice(["scene", "scene", "scene", "gradient", "texture", "noise", "page", "patches"])
    width, height = size
    if kind == "gradient":
        picture = _gradient(numbers, width, height)
    elif kind == "texture":
        y, x = np.mgrid[:height, :width]
        waves = [
            np.sin(x * numbers.uniform(-0.8, 0.8) + y * numbers.uniform(-0.8, 0.8) + numbers.uniform(0, 7))
            for _ in range(rng.randint(1, 4))
        ]
        share = (np.mean(waves, axis=0)[..., None] + 1) / 2
        if rng.random() < 0.4:
            share = share.round()
        picture = share * numbers.uniform(0, 255, 3) + (1 - share) * numbers.uniform(0, 255, 3)
    elif kind == "noise":
        channels = rng.choice([1, 3])
        picture = numbers.uniform(0, 255, (height, width, channels)).repeat(3 // channels, axis=2)
    elif kind == "page":
        return _page(rng, width, height)
    elif kind == "patches":
        return _patches(rng, width, height)
    else:
        picture = _scene(numbers, width, height)
    picture = picture + numbers.normal(0, rng.choice([0, 3, 10]), (height, width, 1))
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def _gradient(numbers, width, height):
    corners = numbers.uniform(0, 255, (2, 2, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC), np.float32)


def _clouds(numbers, width, height, channels=3):
    """Noise of all scales, as natural surfaces have: `(height, width, channels)` about 0."""
    total = np.zeros((height, width, channels), np.float32)
    for cells in (2, 4, 8, 16, 32):
        coarse = numbers.normal(0, 1 / cells**0.7, (cells, cells, channels)).astype(np.float32)
        for channel in range(channels):
            layer = Image.fromarray(coarse[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
            total[..., channel] += np.asarray(layer)
    return total


def _scene(numbers, width, height):
    """A ground and a sky or neither, with soft and hard things of rough surface before them."""
    light = _clouds(numbers, width, height, 1) * numbers.uniform(20, 90)
    picture = (
        _gradient(numbers, width, height) * 0.6 + light + _clouds(numbers, width, height) * numbers.uniform(5, 40)
    )
    if numbers.random() < 0.5:
        line = height * (numbers.uniform(0.3, 0.7) + 0.1 * _clouds(numbers, width, 1, 1)[0, :, 0])
        below = np.arange(height)[:, None] > line[None]
        picture[below] = picture[below] * 0.5 + numbers.uniform(0, 160, 3)
    for _ in range(numbers.integers(0, 6)):
        mask = Image.new("L", (width, height))
        x, y = numbers.uniform(0, width), numbers.uniform(0, height)
        angles = np.sort(numbers.uniform(0, 2 * np.pi, numbers.integers(4, 12)))
        reach = numbers.uniform(5, width / 2.5) * numbers.uniform(0.4, 1, len(angles))
        ImageDraw.Draw(mask).polygon([(x + r * np.cos(a), y + r * np.sin(a)) for a, r in zip(angles, reach)], fill=255)
        mask = mask.filter(ImageFilter.GaussianBlur(numbers.uniform(0, 4)))
        share = np.asarray(mask, np.float32)[..., None] / 255
        surface = numbers.uniform(0, 255, 3) + _clouds(numbers, width, height, 1) * numbers.uniform(10, 60)
        picture = picture * (1 - share) + surface * share
    return picture


def _page(rng, width, height):
    """Lines of grey words on paper, or light ones on a dark screen."""
    paper, ink = rng.choice([(245, 40), (255, 0), (30, 220), (10, 180)])
    picture = Image.new("RGB", (width, height), (paper,) * 3)
    pen = ImageDraw.Draw(picture)
    y = 4
    while y < height - 4:
        tall, x = rng.randint(2, 6), rng.randint(2, 10)
        while x < width - rng.randint(6, 40):
            wide = rng.randint(2, 14)
            pen.rectangle((x, y, x + wide, y + tall), fill=(ink + rng.randint(-10, 30),) * 3)
            x += wide + rng.randint(2, 4)
        y += tall + rng.randint(3, 8)
    return picture.filter(ImageFilter.GaussianBlur(0.5))


def _patches(rng, width, height):
    """Many overlapping boxes and lines in all colours."""
    picture = Image.new("RGB", (width, height), tuple(rng.randint(0, 255) for _ in range(3)))
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.randint(15, 40)):
        x, y = rng.randint(-10, width), rng.randint(-10, height)
        colour = tuple(rng.randint(0, 255) for _ in range(3))
        if rng.random() < 0.7:
            pen.rectangle((x, y, x + rng.randint(5, width // 2), y + rng.randint(5, height // 2)), fill=colour)
        else:
            pen.line((x, y, rng.randint(0, width), rng.randint(0, height)), fill=colour, width=rng.randint(1, 6))
    return picture
