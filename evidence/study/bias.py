"""Position bias of trained weights: by where a thing lies, and by how far off the text is.

Content is asked for, never a place, and everything but the position stays as it is. Nothing is trained here.
"""

import random

import torch

from . import shapes
from .answers import answer, in_parts
from .boards import Board, Question, make_example

# On boards near those of training every arm may be right everywhere, which says nothing: so on a far larger one, too.
MOVED_ON = {"3x3": Board(3, 3, 4, 4), "4x4": Board(4, 4, 4, 4), "6x6": Board(6, 6, 4, 4)}
DISTANCES = (0, 4, 16, 64, 256)
AXES = {"all axes": (0, 1, 2), "t": (0,), "h and w": (1, 2)}
FAR_BOARD = Board(3, 3, 2, 4)
QUESTIONS = 6


def recipe() -> dict:
    """What the probes' results depend on beside the weights and the seed."""
    moved_on = {name: list(board) for name, board in MOVED_ON.items()}
    return {"moved_on": moved_on, "distances": list(DISTANCES), "far_board": list(FAR_BOARD), "asked": QUESTIONS}


def measure(model, processor, seed: int, scenes: int) -> dict:
    """Both probes of one model on shapes, as `cells` and `distance` return them."""
    return {
        "cells": {name: cells(model, processor, board, seed, scenes) for name, board in MOVED_ON.items()},
        "distance": distance(model, processor, seed, scenes),
    }


def cells(model, processor, board: Board, seed: int, scenes: int) -> dict:
    """One thing, drawn the same, goes through all cells among things that stay; "What shape is red?" is asked.

    Where another thing lies in its way, the two change places.

    Returns:
        for every cell, row by row, the outcomes of the scenes in turn (1 where right, else 0), and the mean `margin`
        in logits.
    """
    rng = random.Random(f"cells {seed}")
    examples = [make_example(shapes, rng, board, held_out=True) for _ in range(scenes)]
    outcomes, margins = [], []
    for cell in range(board.height * board.width):
        moved = [example._replace(scenes=(_move_first(example.scenes[0], cell),)) for example in examples]
        asked = []
        for example in moved:
            thing = example.scenes[0][0]
            asked.append([Question("What shape", f"What shape is {thing.colour}?", thing.shape, cell)])
        found = _answers(model, processor, moved, asked)
        outcomes.append("".join(str(int(each)) for answers in found for each in answers.exact.flatten().tolist()))
        margins.append(round(torch.cat([answers.margin for answers in found]).mean().item(), 4))
    return {"outcomes": outcomes, "margin": margins}


def _move_first(scene, cell):
    """The scene with its first thing in the cell, and in that one's old cell what was there."""
    first, *others = scene
    others = [other._replace(cell=first.cell) if other.cell == cell else other for other in others]
    return first._replace(cell=cell), *others


def distance(model, processor, seed: int, scenes: int) -> dict:
    """The questions of a test, with the text behind the picture moved away from it by its positions alone.

    Returns:
        for every choice of axes and every distance in index units, [share of right answers, mean margin in logits,
        share of answers that are not those of distance 0].
    """
    rng = random.Random(f"distance {seed}")
    examples = [make_example(shapes, rng, FAR_BOARD, held_out=True) for _ in range(scenes)]
    asked = [shapes.ask(example, rng, QUESTIONS) for example in examples]
    near = _answers(model, processor, examples, asked)
    found = {}
    for axes, rows in AXES.items():
        found[axes] = []
        for far in DISTANCES:
            answers = _answers(model, processor, examples, asked, text_mover(rows, far)) if far else near
            parts = [(each.exact, each.margin, differ(each, before)) for each, before in zip(answers, near)]
            found[axes].append([round(torch.cat(part).float().mean().item(), 4) for part in zip(*parts)])
    return found


def text_mover(rows: tuple[int, ...], far: float):
    """For `answer`: moves what stands behind the pictures along some of the rows t, h, w of every geometry."""

    def move(position_ids, begin):
        for row in rows:
            position_ids[row::3, :, begin:] += far

    return move


def differ(some, others) -> torch.Tensor:
    """Whether two answers to the same question differ in a token, bool `(n, q)`."""
    return (some.chosen != others.chosen).any(-1)


def _answers(model, processor, examples, asked, move=None):
    return [
        answer(model, processor, [shapes.draw(example) for example in some], questions, move)
        for some, questions in zip(in_parts(examples), in_parts(asked))
    ]
