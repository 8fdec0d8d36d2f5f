"""The figures of the study, of what there are records of."""

from pathlib import Path
from statistics import mean

import matplotlib.pyplot as plt
import numpy

from evidence.drawing import finish, save_all

from . import bias, digits, shapes
from .arms import BIAS
from .experiments import RATE_ARMS, SCORED
from .found import Found, by_cell, changed, outcomes
from .statistics import interval

# Geometry by colour, sections by line: contiguous solid, interleaved dashed.
STYLE = {
    "flattened": ("tab:gray", "-"),
    "shared": ("black", ":"),
    "grid-contiguous": ("tab:green", "-"),
    "grid-interleaved": ("tab:green", "--"),
    "ring-contiguous": ("#a50f15", "-"),
    "ring-interleaved": ("#a50f15", "--"),
    **{
        f"{strategy}-{sections}": (colour, line)
        for strategy, colour in (("strategy_2", "#9ecae1"), ("strategy_3", "#4292c6"), ("strategy_4", "#084594"))
        for sections, line in (("contiguous", "-"), ("interleaved", "--"))
    },
}
BOARD = "6x6"
ARMS_SHOWN = [arm for arm in STYLE if not arm.startswith("strategy")]


def draw(records: dict, scales: dict, folder: Path) -> None:
    """Write every figure that there are records for into the folder."""
    scales_found = [found for scale in scales if (found := Found(records, scale, scales)).arms("shapes")]
    small = scales_found[:1]
    figures = {}
    if scales_found:
        figures["study_layouts"] = lambda: _layouts(scales_found)
        figures["study_learning"] = lambda: _learning(scales_found)
    if small and small[0].arms(BIAS):
        figures["study_bias"] = lambda: _bias(small[0])
    if small and small[0].arms("digits"):
        figures["study_digits_and_schedules"] = lambda: _digits_and_schedules(small[0])
    save_all(figures, folder)


def _layouts(scales_found):
    """Share of right answers by arm and test: a dot for each seed, the mean and its interval."""
    tests = list(shapes.TESTS)
    figure, panels = plt.subplots(
        len(scales_found), len(tests), figsize=(11.1, 0.6 + 2.2 * len(scales_found)), squeeze=False, sharey="row"
    )
    for line, found in zip(panels, scales_found):
        arms = [arm for arm in ARMS_SHOWN if found.runs("shapes", arm)]
        for axes, test in zip(line, tests):
            for row, arm in enumerate(reversed(arms)):
                _dots(axes, arm, row, [outcomes(each, (test,)).mean() for each in found.runs("shapes", arm).values()])
            axes.set(title=f"{found.scale}: {test}", yticks=range(len(arms)), yticklabels=arms[::-1])
    for axes in panels[-1]:
        axes.set_xlabel("right answers, %")
    figure.tight_layout()
    return figure


def _dots(axes, arm, row, values):
    colour, line = STYLE[arm]
    fill = "white" if line == "--" else colour
    axes.plot(values, [row] * len(values), "o", color=colour, markersize=3, alpha=0.35, markeredgewidth=0)
    axes.errorbar(
        mean(values), row, xerr=interval(values), fmt="D", color=colour, markerfacecolor=fill, markersize=5, capsize=3
    )


def _learning(scales_found):
    """Learning curves on boards as trained: the mean over seeds, with its interval."""
    figure, panels = plt.subplots(1, len(scales_found), figsize=(5.6 * len(scales_found), 3.6), squeeze=False)
    for axes, found in zip(panels[0], scales_found):
        for arm in ARMS_SHOWN:
            runs = list(found.runs("shapes", arm).values())
            if not runs:
                continue
            steps = [step for step, _, _ in runs[0]["curve"]]
            shares = 100 * numpy.array([[right for _, _, right in run["curve"]] for run in runs])
            colour, line = STYLE[arm]
            axes.plot(steps, shares.mean(0), line, color=colour, label=arm, linewidth=1.4)
            if len(runs) > 1:
                half = numpy.array([interval(column.tolist()) for column in shares.T])
                axes.fill_between(steps, shares.mean(0) - half, shares.mean(0) + half, color=colour, alpha=0.12, lw=0)
        axes.set(title=f"{found.scale} scale, boards as trained", xlabel="step", ylabel="right answers, %")
        axes.set_ylim(bottom=30)
    return finish(figure, panels[0][0], columns=3 * len(scales_found), below=0.1 if len(scales_found) > 1 else 0.16)


def _bias(found):
    """By cell, by the distance of the text, and by the order of pictures."""
    arms = [arm for arm in ARMS_SHOWN if found.runs(BIAS, arm)]
    figure = plt.figure(figsize=(11.1, 5.8), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.35))
    panels = top.subplots(1, len(arms) + 1, width_ratios=[1] * len(arms) + [0.07])
    cells = {
        arm: numpy.mean([by_cell(run, BOARD).mean(1) for run in found.runs(BIAS, arm).values()], 0) for arm in arms
    }
    lowest = min(each.min() for each in cells.values())
    for axes, arm in zip(panels, arms):
        side = round(len(cells[arm]) ** 0.5)
        shown = axes.imshow(cells[arm].reshape(side, side), vmin=lowest, vmax=100, cmap="viridis")
        axes.set(title=arm, xticks=[], yticks=[])
        axes.grid(visible=False)
        for (row, column), value in numpy.ndenumerate(cells[arm].reshape(side, side)):
            colour = "black" if value > (lowest + 100) / 2 else "white"
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=6, color=colour)
    top.colorbar(shown, cax=panels[-1])
    top.suptitle(f'"What shape is red?" with the thing in each cell of {BOARD}, right answers, %', fontsize=10)

    paired = [arm for arm in ARMS_SHOWN if found.runs("pairs", arm)]
    panels = bottom.subplots(1, len(bias.AXES) + bool(paired))
    for axes in panels[1 : len(bias.AXES)]:
        axes.sharey(panels[0])
    for axes, name in zip(panels, bias.AXES):
        for arm in arms:
            shares = 100 * numpy.array(
                [[right for right, _, _ in run["distance"][name]] for run in found.runs(BIAS, arm).values()]
            )
            colour, line = STYLE[arm]
            half = [interval(column.tolist()) or 0 for column in shares.T]
            axes.errorbar(
                range(len(bias.DISTANCES)),
                shares.mean(0),
                half,
                fmt=line,
                color=colour,
                label=arm,
                capsize=2,
                linewidth=1.3,
            )
        axes.set(title=f"text moved away on {name}", xticks=range(len(bias.DISTANCES)), xticklabels=bias.DISTANCES)
        axes.set_xlabel("index units")
    panels[0].set_ylabel("right answers, %")
    if paired:
        for row, arm in enumerate(reversed(paired)):
            _dots(panels[-1], arm, row, [changed(run).mean() for run in found.runs("pairs", arm).values()])
        panels[-1].set(title="order of two pictures", yticks=range(len(paired)), yticklabels=paired[::-1])
        panels[-1].set_xlabel("answers that change, %")
    bottom.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure


def _digits_and_schedules(found):
    """Handwritten digits, and AGE's strategies beside the ring in every layer, on shapes and on digits."""
    tests = (SCORED, "larger")
    lines = {"digits": list(STYLE)}
    ring = [arm for arm in STYLE if arm.startswith("strategy") and found.runs("shapes", arm)]
    if ring:
        sections = ring[0].split("-")[1]
        lines["shapes"] = [f"{family}-{sections}" for family in RATE_ARMS] + ring
    figure, panels = plt.subplots(len(lines), 2, figsize=(11.1, 2.7 * len(lines)), squeeze=False)
    shown_in = [(what, arms, test) for what, arms in lines.items() for test in tests]
    for axes, (what, arms, test) in zip(panels.flat, shown_in):
        shown = [arm for arm in arms if found.runs(what, arm)]
        for row, arm in enumerate(reversed(shown)):
            _dots(axes, arm, row, [outcomes(run, (test,)).mean() for run in found.runs(what, arm).values()])
        assert what in ("shapes", "digits") and set(tests) <= set(digits.TESTS)
        axes.set(title=f"{what}: {test}", yticks=range(len(shown)), yticklabels=shown[::-1] if test == SCORED else [])
        axes.set_xlabel("right answers, %")
    figure.tight_layout()
    return figure
