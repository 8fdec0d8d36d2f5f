"""Conversations about pictures and videos of shapes, each question with its only right answer.

Without "in the first picture" a question is about the last picture, and in a video about its end. Of three
conversations, two ask about different things from turn to turn or repeat a question, so that no answer follows from
an earlier one without a look at the picture; the third asks anything.
"""

import random

from . import unknown
from .lessons import FRAMES, Sample
from .pictures import COLOURS, PLACES, SHAPES, draw, draw_video, make_motion, make_scene
from .questions import ABSENT, Question

ORDINALS = ("first", "second")


# What a sample may show, and how often it does in training.
LAYOUTS = {"2x2": 0.12, "3x3": 0.32, "two pictures": 0.32, "a later picture": 0.08, "video": 0.12}
LAYOUTS |= {"photo": 0.02, "no picture": 0.02}


def ask_about(scene, side: int, rng: random.Random) -> dict[str, list[Question]]:
    """All questions about what a scene shows and some about what it lacks, by kind."""
    questions = {kind: [] for kind in ("where", "what at", "colour", "shape", "absent")}
    questions["count"] = [Question("How many shapes are there?", str(len(scene)), "count", frozenset({"count"}))]
    for thing in scene:
        about = frozenset({thing.shape, thing.colour, thing.place})
        questions["where"].append(Question(f"Where is the {thing.name}?", thing.place, "where", about))
        questions["what at"].append(Question(f"What is at the {thing.place}?", f"a {thing.name}", "what at", about))
        questions["colour"].append(Question(f"What colour is the {thing.shape}?", thing.colour, "colour", about))
        questions["shape"].append(Question(f"What shape is {thing.colour}?", f"the {thing.shape}", "shape", about))
    shown = {word for thing in scene for word in (thing.shape, thing.colour, thing.place)}
    names = {thing.name for thing in scene}
    shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
    if f"{colour} {shape}" not in names:
        questions["absent"].append(_lacks(f"Where is the {colour} {shape}?", colour, shape))
    if shape not in shown:
        questions["absent"].append(_lacks(f"What colour is the {shape}?", shape))
    if colour not in shown:
        questions["absent"].append(_lacks(f"What shape is {colour}?", colour))
    place = rng.choice(PLACES[side])
    if place not in shown:
        questions["absent"].append(_lacks(f"What is at the {place}?", place))
    return questions


def _lacks(text, *about):
    return Question(text, ABSENT, "absent", frozenset(about))


def ask_about_motion(before, after, way: str) -> dict[str, list[Question]]:
    """Questions that only a video answers, by kind; the first thing is the one that moves."""
    questions = {"way": [], "mover": [], "start": []}
    moving = after[0]
    moved = frozenset({"motion", moving.shape, moving.colour})
    questions["mover"].append(Question("Which shape moves?", f"the {moving.name}", "mover", moved))
    questions["way"].append(Question(f"Which way does the {moving.name} move?", way, "way", moved))
    for old in before:
        about = frozenset({old.shape, old.colour, old.place})
        questions["start"].append(Question(f"Where is the {old.name} at the start?", old.place, "start", about))
    return questions


def name_picture(questions: dict[str, list[Question]], number: int) -> dict[str, list[Question]]:
    """The questions, about picture `number` (from 0) of several."""
    return {
        kind: [
            Question(
                f"{question.text[:-1]} in the {ORDINALS[number]} picture?",
                question.answer,
                question.kind,
                frozenset((number, word) for word in question.about),
            )
            for question in group
        ]
        for kind, group in questions.items()
    }


def vary(text: str, rng: random.Random) -> str:
    """The question as people may type it: without a capital, in capitals, without a question mark, in American."""
    if rng.random() < 0.5:
        return text
    if rng.random() < 0.3:
        text = text.replace("colour", "color").replace("centre", "center")
    if rng.random() < 0.5:
        text = text.removesuffix("?")
    draw = rng.random()
    return text[:1].lower() + text[1:] if draw < 0.7 else text.upper() if draw < 0.8 else text


# How often a kind of question is asked: those that are learned last more often.
WEIGHTS = {"where": 5, "what at": 5, "colour": 2, "shape": 4, "count": 4, "absent": 6, "unknown": 1}
WEIGHTS |= {"way": 5, "mover": 3, "start": 4}


def converse(questions: dict[str, list[Question]], rng: random.Random, turns: int, held_out: bool) -> list[Question]:
    """A conversation of `turns` questions out of those given, and some that cannot be answered."""
    kinds = [kind for kind, group in questions.items() if group] + ["unknown"]
    anything = rng.random() < 1 / 3
    taken, told = [], set()
    while len(taken) < turns:
        if taken and rng.random() < 0.15:
            question = rng.choice(taken)
        else:
            kind = rng.choices(kinds, [WEIGHTS[kind] for kind in kinds])[0]
            if kind == "unknown":
                question = Question(unknown.make_question(rng, held_out), unknown.ANSWER, "unknown")
            else:
                question = rng.choice(questions[kind])
            if not anything and question.about & told and rng.random() < 0.95:
                continue
        told |= question.about
        taken.append(question)
    return [Question(vary(question.text, rng), question.answer, question.kind, question.about) for question in taken]


def make_sample(rng: random.Random, layout: str, held_out: bool, conversations: int, turns: int) -> Sample:
    """A sample of one of `LAYOUTS` with so many conversations of so many turns each."""
    if layout == "video":
        return _make_video(rng, held_out, conversations, turns)
    if layout in ("two pictures", "a later picture"):
        return _make_pair(rng, layout, held_out, conversations, turns)
    if layout in ("photo", "no picture"):
        picture, questions = _make_photo(rng, held_out)
    else:
        _, picture, questions = _make_picture(rng, int(layout[0]), held_out)
        draw = rng.random()
        if draw < 0.1:
            # There is no second picture to ask about.
            nowhere = name_picture(questions, 1)
            questions["absent"] = [_lacks(question.text) for group in nowhere.values() for question in group]
        elif draw < 0.15:
            questions = name_picture(questions, 0)
    media = [] if layout == "no picture" else [picture]
    return Sample(layout, media, [converse(questions, rng, turns, held_out) for _ in range(conversations)])


def _make_picture(rng, side, held_out):
    scene = make_scene(rng, held_out, 0 if rng.random() < 0.02 else 1, 4, side)
    size = (112, 112) if rng.random() < 0.85 else rng.choice([(128, 96), (96, 128), (136, 92), (92, 136), (140, 84)])
    return scene, draw(scene, rng, size), ask_about(scene, side, rng)


def _make_photo(rng, held_out):
    size = (112, 112) if rng.random() < 0.5 else rng.choice([(128, 96), (96, 128), (136, 92), (92, 136), (150, 84)])
    _, _, questions = _make_picture(rng, rng.choice([2, 3]), held_out)
    questions["absent"] = []
    return unknown.draw_photo(rng, size), {
        kind: [Question(question.text, unknown.ANSWER, "photo", question.about) for question in group]
        for kind, group in questions.items()
    }


def _make_pair(rng, layout, held_out, conversations, turns):
    made = []
    for _ in range(2):
        if rng.random() < 0.04:
            made.append(_make_photo(rng, held_out))
        else:
            made.append(_make_picture(rng, rng.choice([2, 3]), held_out)[1:])
    pictures, asked = zip(*made)
    named = [name_picture(questions, number) for number, questions in enumerate(asked)]
    last = {kind: _of_last(group) for kind, group in asked[1].items()}
    together = {kind: named[0][kind] + named[1][kind] for kind in named[0]}
    if layout == "two pictures":
        for kind, group in last.items():
            together[kind] = together[kind] + (group if rng.random() < 0.3 else [])
        opening = []
    else:
        opening = converse(asked[0], rng, rng.randint(1, 2), held_out)
        for kind, group in last.items():
            together[kind] = together[kind] + group * 2
    several = [converse(together, rng, turns, held_out) for _ in range(conversations)]
    return Sample(layout, list(pictures), several, opening)


def _of_last(group):
    return [
        Question(question.text, question.answer, question.kind, frozenset((1, word) for word in question.about))
        for question in group
    ]


def _make_video(rng, held_out, conversations, turns):
    side = rng.choice([2, 2, 3])
    before, after, way = make_motion(rng, held_out, side=side)
    frames = draw_video(before, after, rng, rng.choice(FRAMES))
    questions = ask_about(after, side, rng) | ask_about_motion(before, after, way)
    questions["where"] += [
        Question(question.text.replace("?", " at the end?"), question.answer, question.kind, question.about)
        for question in questions["where"]
    ]
    several = [converse(questions, rng, turns, held_out) for _ in range(conversations)]
    return Sample("video", [frames], several, fps=rng.choice([2.0, 2.0, 2.0, 1.0, 4.0]))
