"""The pages' figures, as PNG: the same files from the same results."""

import random
from pathlib import Path
from statistics import mean

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from circle_rope_imp import per_token_distance

from . import cone
from .geometry import LAYOUTS, logit_spread, place
from .study import shapes
from .study.boards import Board, make_example
from .study.found import Found, right
from .study.statistics import interval

RC = {"figure.facecolor": "white", "font.size": 9, "legend.frameon": False}
RC |= {"axes.spines.top": False, "axes.spines.right": False}
RC |= {"axes.grid": True, "axes.axisbelow": True, "grid.color": "0.9"}
# By layout the colour, by sections the marker's filling.
COLOURS = {"grid": "tab:green", "ring": "#a50f15", "shared": "black", "flattened": "tab:gray"}


def draw(records: dict, scales: dict, folder: Path) -> None:
    """Write every figure into the folder, made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(RC):
        for name, figure in {"cone": cone.draw(), "board": board(), "why": why(records, scales)}.items():
            figure.savefig(folder / f"{name}.png", dpi=80 if name == "board" else 110, metadata={"Software": None})
            plt.close(figure)


def board():
    """One board with its questions and answers."""
    example = make_example(shapes, random.Random(4), Board(3, 3, 4, 4), held_out=True)
    figure, (left, right_of) = plt.subplots(1, 2, figsize=(6.4, 1.9), width_ratios=(1, 2), layout="tight")
    left.imshow(shapes.draw(example)[0])
    for axes in (left, right_of):
        axes.axis("off")
    asked = shapes.ask(example, random.Random(1), 6)
    lines = [f"{question.text}  {question.answer}" for question in asked]
    right_of.text(0, 0.5, "\n".join(lines), va="center", fontsize=10, linespacing=1.6)
    return figure


def why(records: dict, scales: dict):
    """Right answers about place by per-token distance, and by logit spread: a dot for each arm."""
    shown = [found for scale in scales if (found := Found(records, scale, scales)).arms("shapes")]
    figure, panels = plt.subplots(max(1, len(shown)), 2, figsize=(8.2, 0.7 + 2.4 * len(shown)), squeeze=False)
    for found, line in zip(shown, panels):
        scale = scales[found.scale]
        for arm in scale.arms:
            layout, _, sections = arm.partition("-")
            runs = found.runs("shapes", arm).values()
            if not runs:
                continue
            known = [right(record, ("as trained",), ("Where is", "Which is")) for record in runs]
            rope = scale.rope(sections)
            _, image, text = place(LAYOUTS[layout], 3 * scale.cell_tokens, 3 * scale.cell_tokens)
            for axes, x in zip(line, (per_token_distance(text, image).item(), logit_spread(image, rope))):
                fill = "white" if rope.interleaved else COLOURS[layout]
                style = {"color": COLOURS[layout], "markerfacecolor": fill, "fmt": "o", "capsize": 3}
                axes.errorbar(x, mean(known), interval(known), label=arm, **style)
        line[0].set(ylabel=f"{found.scale} models\n“Where is”, “Which is”: right, %", xlim=(-0.5, 17))
        line[1].set(xlim=(-0.02, 0.62))
    panels[-1][0].set_xlabel("per-token distance, index units")
    panels[-1][1].set_xlabel("logit spread")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="lower center", ncols=3)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    return figure
