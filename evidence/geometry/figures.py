"""The figures of geometry.json."""

from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt

from evidence.drawing import finish, save_all

from . import cone
from .tables import rows_of

STYLE = {
    "flattened": ("tab:gray", "-"),
    "shared index": ("black", ":"),
    "M-RoPE": ("tab:green", "-"),
    "circle R 1": ("#f9a65a", "-"),
    "circle R 5": ("#e8601c", "-"),
    "circle R 10": ("#a50f15", "-"),
    "circle R auto": ("tab:purple", "-"),
    "circle R 10, dff 0.1": ("#a50f15", "--"),
    "AGE strategy_4": ("tab:blue", "-"),
}


def draw(results: dict, folder: Path) -> None:
    """Write every figure into the folder."""
    figures = {
        "spread_by_grid": _by_grid,
        "cone": lambda results: cone.draw(),
    }
    save_all({name: partial(make, results) for name, make in figures.items()}, folder)


def _panels(count, height=3.4, width=4.6):
    figure, axes = plt.subplots(1, count, figsize=(width * count, height), squeeze=False)
    return figure, axes[0]


def _line(axes, layout, x, y):
    colour, style = STYLE[layout]
    axes.plot(x, y, style, color=colour, marker="o", markersize=3, linewidth=1.4, label=layout)


def _by_grid(results):
    figure, panels = _panels(3, width=3.7)
    left, middle, right = panels
    for axes, series, key in (
        (left, "grid", "ptd"),
        (middle, "grid", "spread"),
        (right, "interleaved grid", "spread"),
    ):
        rows = [row for row in rows_of(results, series) if row["grid"][0] == row["grid"][1]]
        for layout in STYLE:
            own = [row for row in rows if row["layout"] == layout]
            _line(axes, layout, [row["grid"][0] for row in own], [row[key] for row in own])
    ticks = sorted({row["grid"][0] for row in rows})
    left.set(title="Per-token distance", ylabel="index units (log above 1)")
    left.set_yscale("symlog", linthresh=1)
    left.set_ylim(bottom=-0.1)
    middle.set(title="Logit spread, contiguous sections", ylabel="logits", ylim=(-0.02, 0.8))
    right.set(title="Logit spread, interleaved sections", ylim=(-0.02, 0.8))
    for axes in panels:
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks[:: 1 if len(ticks) < 7 else 2], minor=False)
        axes.xaxis.set_major_formatter(lambda side, _: f"{side:.0f}")
        axes.minorticks_off()
        axes.set_xlabel("side of a square grid, in merged tokens")
    return finish(figure, left, columns=5)
