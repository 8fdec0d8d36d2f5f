"""Questions about scenes, each with its only right answer, in the languages and wordings of `words.py`.

A thing is named by `(colour, shape, place)`, any of which may be None. What can be asked of a scene is a list of
facts, in no language yet; all answers are English until they are said.
"""

import itertools
import random
import re
from typing import NamedTuple

from .pictures import COLOURS, PLACES, SHAPES
from .words import ANSWERS, ANSWERS_OF, NAMES, WORDINGS, WORDS, any_of, make_up, name_in, split

ABSENT, NOTHING = "there is none", "nothing"
SIDES = {"left": (0, -1), "right": (0, 1), "above": (-1, 0), "below": (1, 0)}
ANYTHING = (None, None, None)
PARTS = {"colour": "colour", "shape": "shape", "where": "place"}  # of a thing, by the kind that asks for it


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
    """A question as it is asked, and its answer; `kind` is for reports, `about` says what the two tell."""

    text: str
    answer: str
    kind: str
    about: frozenset = frozenset()
    language: str = "en"


def facts(scene, side: int, rng: random.Random) -> list[Fact]:
    """What can be asked of a scene on a board of `side` x `side` places."""
    at = {divmod(thing.cell, side): thing for thing in scene}
    options = {"colour": list(COLOURS), "shape": list(SHAPES), "place": list(PLACES[side])}
    whats = [*itertools.product((None, *COLOURS), (None, *SHAPES), (None,)), *((None, None, p) for p in PLACES[side])]
    meant = {what: [thing for thing in scene if _fits(thing, what)] for what in whats}
    only = {what: several[0] for what, several in meant.items() if len(several) == 1 and what != ANYTHING}
    found = [Fact("list", "list", {}, ", ".join(at[cell].name for cell in sorted(at)) or NOTHING)]

    def add(kind, wording, answer, **slots):
        found.append(Fact(kind, wording, slots, {True: "yes", False: "no"}.get(answer, answer)))

    add("count", "count", str(len(scene)), what=ANYTHING)
    del meant[ANYTHING]
    for what, several in meant.items():
        colour, _, place = what
        add("is there", "is there", bool(several), what=what)
        if place:
            kind, answer = ("what at", f"a {several[0].name}") if several else ("absent", ABSENT)
            add(kind, "what at", answer, what=what)
        else:
            add("count of", "count", str(len(several)), what=what)
        for (kind, part), given in zip(PARTS.items(), what):
            wording = rng.choice(["shape", "shape of colour"]) if kind == "shape" and colour else kind
            if not given and not several:
                add("absent", wording, ABSENT, what=what)
            elif not given and len(several) == 1:
                value = getattr(several[0], part)
                add(kind, wording, f"the {value}" if kind == "shape" else value, what=what)
                for other in options[part]:
                    add("is", "is", other == value, what=what, **{part: other})
        if not several and not place:
            add("absent", "beside", ABSENT, what=what, side=rng.choice(list(SIDES)))
    for thing in scene:
        for place in options["place"]:
            exactly = (thing.colour, thing.shape, place)
            add("is there", "is there", any(_fits(each, exactly) for each in scene), what=exactly)
    cells = {what: divmod(thing.cell, side) for what, thing in only.items() if not what[2]}
    for what, cell in cells.items():
        others = {name: other for name, other in cells.items() if other != cell}
        for kind, answer, slots in _relations(at, cell, others, rng):
            add(kind, kind.split()[0], answer, what=what, **slots)
    return found


def _fits(thing, what):
    return all(wanted in (None, given) for wanted, given in zip(what, (thing.colour, thing.shape, thing.place)))


def _relations(at, cell, others, rng):
    """What is beside a cell's thing, the nearest in its row or column, and on which side of others it is itself."""
    row, column = cell
    touching = {}
    for way, (down, right) in SIDES.items():
        touching[way], further = (at.get((row + n * down, column + n * right)) for n in (1, 2))
        nearest = touching[way] or further
        yield "beside", f"a {nearest.name}" if nearest else NOTHING, {"side": way}
        for name in rng.sample(list(others), min(1, len(others))):
            is_so = (row - others[name][0]) * down + (column - others[name][1]) * right > 0
            yield "is beside", is_so, {"side": way, "other": name}
    # Next to it is what touches it in its row, or else in its column; across a corner people differ.
    around = [touching[way] for way in ("left", "right") if touching[way]]
    around = around or [touching[way] for way in ("above", "below") if touching[way]]
    if len(around) == 1 or len(at) == 1:
        yield "beside", f"a {around[0].name}" if around else NOTHING, {"side": "next"}
    for name in rng.sample(list(others), min(2, len(others))):
        distance = abs(row - others[name][0]), abs(column - others[name][1])
        if distance != (1, 1):
            yield "is beside", sum(distance) == 1, {"side": "next", "other": name}


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
    return Question(text, say(fact.answer, language, fact.kind), fact.kind, fact.about, language)


def say(answer: str, language: str, kind: str = "") -> str:
    """An English answer in a language."""
    if language == "en":
        return answer
    words = {word: forms.split("|")[0] for word, forms in NAMES[language].items() if word}
    words |= ANSWERS | ANSWERS_OF.get(kind, {})
    return re.sub(any_of(words), lambda found: words[found[0]], answer)


def _spell(slots, language, rng):
    """What the wordings are filled with."""
    spelled = {slot: name_in(word, language, rng) for slot, word in slots.items() if isinstance(word, str)}
    colour, _, place = slots.get("what", ANYTHING)
    if "place" in slots or place:
        spelled["at"] = _at(slots.get("place", place), language, rng)
    if "colour" not in slots and colour:
        spelled["colour"] = name_in(colour, language, rng)
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
    if language == "en" and rng.random() < 0.35:
        text = text.replace("colour", "color").replace("centre", "center")
    if language == "en" and rng.random() < 0.35:
        text = re.sub(r"\b(Where|What|Who|There|where|what|there) is\b", rng.choice([r"\1's", r"\1’s", r"\1s"]), text)
    if prefixed:
        text = _disturb(text, language, rng)
    if language == "zh" and rng.random() < 0.3:
        text = text.replace("？", "?").replace("，", ",")
    if rng.random() < 0.5:
        text = text.rstrip("?.？。")
    draw = rng.random()
    return text.lower() if draw < 0.6 else text.upper() if draw < 0.7 else text


def _disturb(text, language, rng):
    """With other words before it, in it, or in place of its light ones, which leave what is asked as it was."""
    between = "" if language == "zh" else " "
    if rng.random() < 0.25:
        text = rng.choice(WORDINGS["prefix", language]) + between + text[:1].lower() + text[1:]
    words = split(text, language)
    if rng.random() < 0.25:
        # A strange word alone does not make a question one that cannot be answered.
        filler = rng.choice(WORDS["filler", language]) if rng.random() < 0.6 else make_up(rng, language)
        words.insert(rng.randint(0, len(words)), filler)
    if rng.random() < 0.25:
        light = WORDS["light", language]
        words = [rng.choice([*4 * [word], "", make_up(rng, language)]) if word in light else word for word in words]
    return between.join(filter(None, words))


def name_kinds(found: list[Fact]) -> dict[str, dict[str, dict[str | None, list[Fact]]]]:
    """The facts by kind, answer and side, so that each can be as frequent as the others of its kind."""
    kinds: dict[str, dict[str, dict[str | None, list[Fact]]]] = {}
    for fact in found:
        sides = kinds.setdefault(fact.kind, {}).setdefault(fact.answer, {})
        sides.setdefault(fact.slots.get("side"), []).append(fact)
    return kinds
