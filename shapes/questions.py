"""Questions about scenes, each with its only right answer, in the languages and wordings of `words.py`.

A thing is named by `(colour, shape, place)`, any of which may be None. What can be asked of a scene is a list of
facts, in no language yet; all answers are English until they are said.
"""

import random
import re
from typing import NamedTuple

from .pictures import COLOURS, PLACES, SHAPES
from .words import ANSWERS, ANSWERS_OF, FILLERS, LIGHT, NAMES, WORDINGS, name_in

ABSENT, NOTHING = "there is none", "nothing"
SIDES = {"left": (0, -1), "right": (0, 1), "above": (-1, 0), "below": (1, 0)}
ANYTHING = (None, None, None)


class Fact(NamedTuple):
    """What can be asked: `slots` fill the wordings of `wording`; `kind` is for reports.

    `scope` is which picture or part of a video is meant, one of the sections of `wordings.txt`.
    """

    kind: str
    wording: str
    slots: dict
    answer: str
    scope: str | None = None

    @property
    def about(self) -> frozenset:
        """The words that question and answer tell, of the scope's picture."""
        told = f"{[*self.slots.values()]} {self.answer}"
        words = [word for word in (*SHAPES, *COLOURS, *PLACES[3]) if word in told]
        return frozenset((self.scope == "first", word) for word in words or [self.kind])


class Question(NamedTuple):
    """A question as it is asked, and its answer."""

    text: str
    answer: str
    kind: str
    language: str = "en"
    about: frozenset = frozenset()


def facts(scene, side: int, rng: random.Random) -> list[Fact]:
    """What can be asked of a scene on a board of `side` x `side` places."""
    at = {divmod(thing.cell, side): thing for thing in scene}
    things = {(thing.colour, thing.shape, thing.place): thing for thing in scene}
    places = PLACES[side]
    whats = [(colour, shape, None) for colour in (None, *COLOURS) for shape in (None, *SHAPES)]
    meant: dict[tuple, list] = {what: [thing for key, thing in things.items() if _fits(key, what)] for what in whats}
    meant |= {(None, None, place): [thing for thing in scene if thing.place == place] for place in places}
    only = {what: found[0] for what, found in meant.items() if len(found) == 1 and what != ANYTHING}
    found = [Fact("list", "list", {}, ", ".join(at[cell].name for cell in sorted(at)) or NOTHING)]

    def add(kind, wording, answer, **slots):
        found.append(Fact(kind, wording, slots, answer))

    for what, several in meant.items():
        colour, shape, place = what
        if what == ANYTHING:
            add("count", "count", str(len(scene)), what=what)
            continue
        if not place:
            add("count of", "count", str(len(several)), what=what)
        add("is there", "is there", "yes" if several else "no", what=what)
        if several:
            continue
        if not place:
            add("absent", "where", ABSENT, what=what)
            add("absent", "beside", ABSENT, what=what, side=rng.choice(list(SIDES)))
        if not colour:
            add("absent", "colour", ABSENT, what=what)
        if not shape:
            add("absent", "shape", ABSENT, what=what)
        if place:
            add("absent", "what at", ABSENT, place=place)
        elif not shape:
            add("absent", "shape of colour", ABSENT, colour=colour)
    for thing in scene:
        add("what at", "what at", f"a {thing.name}", place=thing.place)
        for place in places:
            exactly = (thing.colour, thing.shape, place)
            add("is there", "is there", "yes" if exactly in things else "no", what=exactly)
    for what, thing in only.items():
        colour, shape, place = what
        row, column = divmod(thing.cell, side)
        if not colour:
            add("colour", "colour", thing.colour, what=what)
            for other in COLOURS:
                add("is", "is", "yes" if other == thing.colour else "no", what=what, colour=other)
        if not shape:
            add("shape", "shape", f"the {thing.shape}", what=what)
            for other in SHAPES:
                add("is", "is", "yes" if other == thing.shape else "no", what=what, shape=other)
        if place:
            continue
        if not shape:
            add("shape", "shape of colour", f"the {thing.shape}", colour=colour)
        add("where", "where", thing.place, what=what)
        for other in places:
            add("is", "is", "yes" if other == thing.place else "no", what=what, place=other)
        for way, step in SIDES.items():
            beside = _first(at, (row, column), step, side)
            add("beside", "beside", f"a {beside.name}" if beside else NOTHING, what=what, side=way)
        neighbours = _next(at, (row, column), side)
        if len(neighbours) == 1:
            add("beside", "beside", f"a {neighbours[0].name}", what=what, side="next")
        elif len(scene) == 1:
            add("beside", "beside", NOTHING, what=what, side="next")
        others = [name for name, another in only.items() if another != thing and not name[2]]
        for way, (down, right) in SIDES.items() if others else ():
            name = rng.choice(others)
            other_row, other_column = divmod(only[name].cell, side)
            is_so = (row - other_row) * down + (column - other_column) * right > 0
            add("is beside", "is", "yes" if is_so else "no", what=what, side=way, other=name)
        for name in rng.sample(others, min(2, len(others))):
            down, right = (abs(a - b) for a, b in zip((row, column), divmod(only[name].cell, side)))
            if (down, right) != (1, 1):  # across a corner: people differ
                add("is beside", "is", "yes" if down + right == 1 else "no", what=what, side="next", other=name)
    return found


def _fits(key, what):
    return all(wanted is None or wanted == given for given, wanted in zip(key, what))


def _first(at, cell, step, side):
    """The nearest thing in a direction, in the same row or column."""
    for distance in range(1, side):
        beside = at.get((cell[0] + distance * step[0], cell[1] + distance * step[1]))
        if beside:
            return beside
    return None


def _next(at, cell, side):
    """The things in the cells beside a cell in its row; if there are none, in its column."""
    row, column = cell
    for ways in (("left", "right"), ("above", "below")):
        cells = [(row + SIDES[way][0], column + SIDES[way][1]) for way in ways]
        found = [at[beside] for beside in cells if beside in at]
        if found:
            return found
    return []


def of_video(before, after, way: str, side: int, rng: random.Random) -> list[Fact]:
    """What can be asked of a video in which the first thing moves; without a scope its end is meant."""
    moving = after[0]
    what = (moving.colour, moving.shape, None)
    now = facts(after, side, rng)
    then = [fact._replace(kind="start", scope="start") for fact in facts(before, side, rng) if fact.kind == "where"]
    end = [fact._replace(scope="end") for fact in now if fact.kind == "where"]
    return [
        *now,
        *then,
        *end,
        Fact("mover", "mover", {}, f"the {moving.name}"),
        Fact("way", "way", {"what": what}, way),
    ]


def ask(fact: Fact, language: str, rng: random.Random, held_out: bool = False) -> Question:
    """The fact as a question in one of its wordings, as people may type it."""
    part = "held out" if held_out else "taught"
    wording = rng.choice(WORDINGS[fact.wording, language, part])
    if rng.random() < 0.25:
        wording = rng.choice(WORDINGS["frame", language, part])
        wording = wording.replace("{clause}", rng.choice(WORDINGS[fact.wording, language, "clause"]))
    text = wording.format(**_spell(fact.slots, language, rng))
    text = text.replace("是不是是", "是不是").replace("是不是在", rng.choice(["是不是在", "在不在"]))
    scope = fact.scope or ("here" if rng.random() < 0.15 and "picture" not in wording else None)
    if scope:
        words = rng.choice(WORDINGS[scope, language])
        text = words + text if language == "zh" else re.sub(r"[?.]?$", lambda end: f" {words}{end[0]}", text, count=1)
    text = vary(text[:1].upper() + text[1:], language, rng, prefixed=not held_out)
    return Question(text, say(fact.answer, language, fact.kind), fact.kind, language, fact.about)


def say(answer: str, language: str, kind: str = "") -> str:
    """An English answer in a language."""
    if language == "en":
        return answer
    words = {word: forms.split("|")[0] for word, forms in NAMES[language].items() if word}
    words |= ANSWERS | ANSWERS_OF.get(kind, {})
    pattern = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    return re.sub(pattern, lambda found: words[found[0]], answer)


def _spell(slots, language, rng):
    """What the wordings are filled with."""
    spelled = {slot: name_in(word, language, rng) for slot, word in slots.items() if isinstance(word, str)}
    if "place" in slots:
        spelled["at"] = _at(slots["place"], language, rng)
    the, a = ("", "") if language == "zh" else ("the ", "a ")
    if "other" in slots:
        spelled["other"] = the + "".join(_name(slots["other"], language, rng))
    if "what" in slots:
        noun, behind = _name(slots["what"], language, rng)
        plural = noun if language == "zh" else noun + ("es" if noun.endswith("s") else "s")
        forms = {"the": the + noun, "a": a + noun, "thing": noun, "things": plural}
        spelled |= {form: words + behind for form, words in forms.items()}
    said = "side" if "other" in slots else next((name for name in ("place", "shape", "colour") if name in slots), "")
    if said:
        spelled["is"] = rng.choice(WORDINGS[f"is {said}", language]).format(**spelled)
    return spelled


def _at(place, language, rng):
    place = name_in(place, language, rng)
    return place if language == "zh" else f"{rng.choice(['at', 'at', 'at', 'in', 'on'])} the {place}"


def _name(what, language, rng):
    """A thing, and what English says behind it."""
    colour, shape, place = what
    noun = name_in(shape or ("" if colour or place else "anything"), language, rng)
    colour = name_in(colour, language, rng) if colour else ""
    place = _at(place, language, rng) if place else ""
    if language == "en":
        return f"{colour} {noun}".strip(), f" {place}" if place else ""
    return "".join(word + rng.choice(["", "的"]) for word in (place, colour) if word) + noun, ""


def vary(text: str, language: str, rng: random.Random, prefixed: bool = True) -> str:
    """The question as people may type it: contracted, American, hurried, without capitals or a question mark."""
    if rng.random() < 0.35:
        return text
    if language == "zh":
        if prefixed and rng.random() < 0.3:
            text = rng.choice(WORDINGS["prefix", "zh"]) + text
        if rng.random() < 0.3:
            text = text.replace("？", "?").replace("，", ",")
        return text[:-1] if rng.random() < 0.4 else text
    if rng.random() < 0.35:
        text = text.replace("colour", "color").replace("centre", "center")
    if rng.random() < 0.35:
        text = re.sub(r"\b(Where|What|Who|There|where|what|there) is\b", rng.choice([r"\1's", r"\1’s", r"\1s"]), text)
    if prefixed and rng.random() < 0.2:
        text = f"{rng.choice(WORDINGS['prefix', 'en'])} {text[:1].lower()}{text[1:]}"
    if prefixed and rng.random() < 0.2:
        words = text.split()
        words.insert(rng.randint(1, len(words) - 1) if len(words) > 1 else 0, rng.choice(FILLERS))
        text = " ".join(words)
    if prefixed and rng.random() < 0.1:
        text = " ".join(word for word in text.split() if word not in LIGHT or rng.random() < 0.5)
    if rng.random() < 0.5:
        text = text.rstrip("?.")
    draw = rng.random()
    return text.lower() if draw < 0.6 else text.upper() if draw < 0.7 else text


def name_kinds(found: list[Fact]) -> dict[str, dict[str, list[Fact]]]:
    """The facts by kind and answer, so that every answer of a kind can be as frequent as the others."""
    kinds: dict[str, dict[str, list[Fact]]] = {}
    for fact in found:
        kinds.setdefault(fact.kind, {}).setdefault(fact.answer, []).append(fact)
    return kinds
