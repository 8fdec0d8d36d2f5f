"""What training and tests see: conversations about pictures and videos of shapes, in English and Chinese.

Without "in the first picture" a question is about the last picture, and in a video about its end. Of three
conversations, two ask about different things from turn to turn or repeat a question, so that no answer follows from
an earlier one without a look at the picture; the third asks anything.
"""

import math
import random
from dataclasses import dataclass, field

from . import unknown
from .branches import make_turn
from .pictures import draw, draw_video, make_motion, make_scene
from .questions import ABSENT, Fact, Question, ask, facts, name_kinds, of_video, say, vary
from .words import LANGUAGES, UNKNOWN

# What a sample may show, and how often it does in training. An oblong picture has up to three times the width of its
# height, or the other way round; a strip is longer.
LAYOUTS = {"2x2": 0.07, "3x3": 0.3, "oblong": 0.17, "strip": 0.1, "two pictures": 0.17, "a later picture": 0.05}
LAYOUTS |= {"video": 0.1, "photo": 0.02, "no picture": 0.02}
LONGEST = {"oblong": (1, 3), "strip": (3, 17)}
FRAMES = (2, 4, 4, 4, 6, 6, 8)

# How often a kind of question is asked: those that are learned last more often. A list alone has many words to learn.
WEIGHTS = {"where": 6, "what at": 3, "colour": 2, "shape": 3, "count": 4, "count of": 7, "is there": 4, "is": 5}
WEIGHTS |= {"beside": 20, "is beside": 26, "list": 8, "absent": 4, "unknown": 2, "photo": 4}
WEIGHTS |= {"way": 6, "mover": 3, "start": 6}
ABOUT_A_THING = ("where", "colour", "shape", "count", "is there", "is", "beside", "way")


@dataclass
class Sample:
    """Pictures or a video, and conversations about them that do not know of one another.

    Attributes:
        layout: one of `LAYOUTS`, for reports.
        media: PIL pictures, or lists of pictures where they are videos.
        opening: turns that all conversations have in common, about the first picture alone.
        conversations: of turns behind the last of the media.
        fps: frames a second of the videos.
    """

    layout: str
    media: list
    conversations: list[list[Question]]
    opening: list[Question] = field(default_factory=list)
    fps: float = 2.0


def converse(known: list[Fact], rng: random.Random, turns: int, held_out: bool) -> list[Question]:
    """A conversation of `turns` questions out of the facts, and some that cannot be answered."""
    kinds = {"unknown": {}, **name_kinds(known)}
    weights = [WEIGHTS[kind] for kind in kinds]
    language = rng.choices(list(LANGUAGES), list(LANGUAGES.values()))[0]
    anything = rng.random() < 1 / 3
    taken, told = [], set()
    while len(taken) < turns:
        spoken = language if rng.random() < 0.9 else rng.choice(list(LANGUAGES))
        if taken and rng.random() < 0.12:
            fact = rng.choice(taken)[0]
        else:
            kind = rng.choices(list(kinds), weights)[0]
            fact = None
            if kinds[kind]:
                sides = rng.choice(list(kinds[kind].values()))
                fact = rng.choice(rng.choice(list(sides.values())))
            if fact and not anything and fact.about & told and rng.random() < 0.95:
                continue
        told |= fact.about if fact else set()
        question = ask(fact, spoken, rng, held_out) if fact else ask_other(rng, held_out, spoken)
        taken.append((fact, question))
    return [question for _, question in taken]


def ask_other(rng: random.Random, held_out: bool, language: str) -> Question:
    """A question about what is no coloured shape, half of them in the words of those that are."""
    if rng.random() < 0.5:
        text = vary(unknown.make_question(rng, held_out, language), language, rng)
    else:
        wording = rng.choice(ABOUT_A_THING)
        slots = {"what": unknown.make_name(rng, language), "side": rng.choice(["left", "right", "above", "below"])}
        slots |= {"colour": "red", "other": unknown.make_name(rng, language)} if wording == "is" else {}
        text = ask(Fact("unknown", wording, slots, ""), language, rng, held_out).text
    return Question(text, say(UNKNOWN, language), "unknown", language=language)


def make_sample(rng: random.Random, layout: str, held_out: bool, conversations: int, turns: int) -> Sample:
    """A sample of one of `LAYOUTS` with so many conversations of so many turns each."""
    opening, fps = [], 2.0
    if layout == "video":
        media, known = _make_video(rng, held_out)
        fps = rng.choice([2.0, 2.0, 2.0, 1.0, 4.0])
    elif layout in ("two pictures", "a later picture"):
        pictures = [_make_picture(rng, rng.choice(["2x2", "3x3", "oblong", "photo"]), held_out) for _ in range(2)]
        media, (first, last) = [picture for picture, _ in pictures], (known for _, known in pictures)
        if layout == "a later picture":
            opening = converse(first, rng, rng.randint(1, 2), held_out)
        known = _scoped(first, "first") + _scoped(last, "second") + last
    else:
        picture, known = _make_picture(rng, layout, held_out)
        media = [] if layout == "no picture" else [picture]
        if layout != "photo" and rng.random() < 0.1:
            lacking = [fact for fact in known if fact.kind in ("where", "what at", "colour", "shape")]
            known = known + [fact._replace(kind="absent", answer=ABSENT) for fact in _scoped(lacking, "second")]
        elif rng.random() < 0.05:
            known = _scoped(known, "first")
    several = [converse(known, rng, turns, held_out) for _ in range(conversations)]
    return Sample(layout, media, several, opening, fps)


def _scoped(known, scope):
    return [fact._replace(scope=scope) for fact in known]


def _make_picture(rng, layout, held_out):
    side = 2 if layout in ("2x2", "strip") else 3 if layout == "3x3" else rng.choice([2, 3])
    repeats = rng.random() < 0.7
    most = side * side if repeats else 4
    count = min(most, rng.choices(range(10), [0.3, *[2] * 5, *[1] * 4])[0])
    scene = make_scene(rng, held_out, count, count, side, repeats)
    known = facts(scene, side, rng)
    if layout in ("photo", "no picture"):
        known = [fact._replace(kind="photo", answer=UNKNOWN) for fact in known]
        return unknown.draw_photo(rng, make_size(rng, "oblong")), known
    return draw(scene, rng, make_size(rng, layout)), known


def make_size(rng: random.Random, layout: str) -> tuple[int, int]:
    """Width and height of a picture: about 112 x 112 in area or up to four times that, in a shape of the layout."""
    ratio = math.exp(rng.uniform(*map(math.log, LONGEST[layout]))) if layout in LONGEST else rng.uniform(1, 1.2)
    side = rng.choice([112, 112, rng.uniform(112, 224)]) / math.sqrt(ratio)
    size = round(side * ratio), max(round(side), 28)
    return size if rng.random() < 0.5 else size[::-1]


def _make_video(rng, held_out):
    side = rng.choice([2, 2, 3])
    before, after, way = make_motion(rng, held_out, side=side)
    return [draw_video(before, after, rng, rng.choice(FRAMES))], of_video(before, after, way, side, rng)


def to_messages(sample: Sample, conversation: list[Question]) -> list[dict]:
    """The sample's conversation as chat messages, all answers included."""
    kinds = ["video" if isinstance(item, list) else "image" for item in sample.media]
    messages = []
    # Where there is an opening, the first picture comes with it and the others behind it.
    for turns, media in ((sample.opening, kinds[:1]), (conversation, kinds[1:] if sample.opening else kinds)):
        for number, question in enumerate(turns):
            messages += make_turn(question.text, question.answer, media if number == 0 else ())
    return messages
