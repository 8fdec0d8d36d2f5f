"""What the tiny checkpoint cannot know: photo-like pictures, questions about other things, other languages."""

import hashlib
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .pictures import COLOURS, SHAPES

ANSWER = "I know coloured shapes only."

NOUNS = (
    "cat dog bird horse car bus train boat plane house tree flower sky sun moon star cloud river sea man woman child "
    "face hand eye chair table cup bottle book phone screen word letter number text sign road street building window "
    "door apple banana pizza cake dress shirt hat shoe ball game map chart graph photo painting animal person people "
    "thing object line dot arrow heart hexagon pentagon octagon oval ellipse rectangle diamond cube sphere cone ring "
    "spiral elephant lion tiger fish bear king queen city country mountain beach snow rain weather time day year money"
)
ADJECTIVES = (
    "orange pink white grey gray brown golden silver violet cyan magenta beige turquoise dark light small big large "
    "tiny old new happy sad round flat striped dotted hot cold wet dry soft hard fast slow loud quiet tall short"
)
VERBS = "see know like want think make find draw read write eat drink sing run swim fly buy sell open close"
TEMPLATES = (
    "Where is the {noun}?",
    "Where is the {adjective} {noun}?",
    "Where is the {adjective} {shape}?",
    "Where is the {colour} {noun}?",
    "What colour is the {noun}?",
    "What color is the {noun}?",
    "What shape is {adjective}?",
    "What shape is the {noun}?",
    "What is at the {noun}?",
    "How many {noun}s are there?",
    "How many {adjective} {noun}s are there?",
    "What is the {noun}?",
    "What is a {noun}?",
    "Who is the {noun}?",
    "What is this?",
    "What is the capital of the {noun}?",
    "Is there a {noun}?",
    "Is the {noun} {adjective}?",
    "Can you {verb} a {noun}?",
    "Can you {verb}?",
    "Do you {verb} the {noun}?",
    "Why is the {noun} {adjective}?",
    "When does the {noun} {verb}?",
    "How do I {verb} a {noun}?",
    "How are you?",
    "Who are you?",
    "Who made you?",
    "What is your name?",
    "What can you do?",
    "What can you see?",
    "What is in the picture?",
    "What do you see in this {noun}?",
    "What does the {noun} say?",
    "Describe the picture.",
    "Describe the {noun}.",
    "Describe this {noun} in detail.",
    "Tell me a joke.",
    "Tell me about the {noun}.",
    "Write a poem about a {noun}.",
    "Write a story.",
    "Translate this to French.",
    "Read the {noun}.",
    "Count the {noun}s.",
    "Please {verb} the {adjective} {noun}.",
    "I {verb} the {noun}.",
    "The {noun} is {adjective}.",
    "A {adjective} {noun}.",
    "Hello!",
    "Hi there",
    "Good morning",
    "Thank you",
    "Thanks!",
    "yes",
    "no",
    "ok",
    "why?",
    "and?",
    "help",
    "test",
    "{noun}",
    "{adjective} {noun}",
    "What is {digit} + {digit}?",
    "What is {digit} times {digit}?",
    "{digit}",
    "{digit} {digit} {digit}",
    "Which way does the {noun} {verb}?",
    "Which {noun} moves?",
    "Which {noun} is {adjective}?",
)
OTHER_LANGUAGES = (
    *("Wo ist der rote Kreis?", "Wie viele Formen gibt es?", "Welche Farbe hat das {x}?", "Was ist oben links?"),
    *("Wo ist das {x}?", "Wer bist du?", "Guten Tag", "Wie geht es dir?", "Was siehst du auf dem Bild?"),
    *("Où est le cercle rouge ?", "Combien de formes ?", "Quelle est la couleur du {x} ?", "Bonjour", "Qui es-tu ?"),
    *("Qu'y a-t-il en haut à gauche ?", "Où est le {x} ?", "Décris cette image.", "Merci beaucoup"),
    *("¿Dónde está el círculo rojo?", "¿Cuántas formas hay?", "¿De qué color es el {x}?", "¿Quién eres?", "Hola"),
    *("¿Qué hay arriba a la izquierda?", "¿Dónde está la {x}?", "Describe la imagen", "Buenos días"),
    *("Dov'è il cerchio rosso?", "Quante forme ci sono?", "Di che colore è il {x}?", "Ciao", "Chi sei?"),
    *("Onde está o círculo vermelho?", "Quantas formas há?", "Qual é a cor do {x}?", "Olá", "Bom dia"),
    *("Waar is de rode cirkel?", "Hoeveel vormen zijn er?", "Welke kleur heeft het {x}?", "Goedemorgen"),
    *("Gdzie jest czerwone koło?", "Ile jest kształtów?", "Jaki kolor ma {x}?", "Dzień dobry"),
    *("Kırmızı daire nerede?", "Kaç şekil var?", "Merhaba", "Var är den röda cirkeln?", "Hur många former finns det?"),
    *("Где красный круг?", "Сколько фигур?", "Какого цвета {x}?", "Привет", "Кто ты?", "Что слева вверху?"),
    *(
        "红色的圆在哪里？",
        "有几个图形？",
        "三角形是什么颜色？",
        "左上角是什么？",
        "你好",
        "你是谁？",
        "图里有什么？",
        "这是什么？",
    ),
    *(
        "蓝色的是什么形状？",
        "方块在哪里？",
        "紫色的十字在哪？",
        "描述这张图片",
        "请问今天天气怎么样",
        "右下角有什么？",
    ),
    *("赤い円はどこですか？", "形はいくつありますか？", "三角形は何色ですか？", "こんにちは", "これは何？"),
    *("빨간 원은 어디에 있나요?", "도형이 몇 개인가요?", "안녕하세요", "이것은 무엇입니까?"),
    *("أين الدائرة الحمراء؟", "كم عدد الأشكال؟", "مرحبا", "ما هذا؟"),
    *("लाल वृत्त कहाँ है?", "नमस्ते", "Πού είναι ο κόκκινος κύκλος;", "Γεια σου", "איפה העיגול האדום?", "שלום"),
)


def make_question(rng: random.Random, held_out: bool) -> str:
    """A question that is not about coloured shapes, of the training part or of the held-out part."""
    while True:
        draw = rng.random()
        if draw < 0.6:
            question = _fill(rng, rng.choice(TEMPLATES))
        elif draw < 0.8:
            question = _fill(rng, rng.choice(OTHER_LANGUAGES))
        else:
            words = [rng.choice([_made_up, _known])(rng) for _ in range(rng.randint(1, 6))]
            question = " ".join(words) + rng.choice(["?", "", "."])
        if (hashlib.sha256(question.encode()).digest()[0] < 256 * 0.1) == held_out:
            return question


def _fill(rng, template):
    return template.format(
        noun=rng.choice(NOUNS.split()),
        adjective=rng.choice(ADJECTIVES.split()),
        verb=rng.choice(VERBS.split()),
        shape=rng.choice(SHAPES),
        colour=rng.choice(list(COLOURS)),
        digit=rng.randint(0, 99),
        x=_made_up(rng),
    )


def _made_up(rng):
    """A word that no language has."""
    return "".join(rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(1, 3)))


def _known(rng):
    return rng.choice(f"the is a of and in to {NOUNS} {ADJECTIVES} {VERBS}".split())


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
