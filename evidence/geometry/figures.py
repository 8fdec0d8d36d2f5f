"""The figures of geometry.json."""

from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt

from evidence.drawing import finish, save_all

from . import cone
from .measurements import ROPES
from .spread import Rope
from .tables import grid_name, own_grid, rows_of

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
SECTION_COLOURS = {"t": "tab:red", "h": "tab:blue", "w": "tab:cyan"}


def draw(results: dict, folder: Path) -> None:
    """Write every figure into the folder."""
    figures = {
        "spread_by_grid": _by_grid,
        "spread_by_option": _by_option,
        "spread_by_frequency": _by_frequency,
        "spread_by_distance": _by_distance,
        "spread_by_layer": _by_layer,
        "candidates": _candidates,
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


def _by_option(results):
    figure, panels = _panels(3, width=3.7)
    options = {"radius": "radius", "alpha": "alpha, at R 10", "dff": "dff_rate, at R 10"}
    for axes, (series, title) in zip(panels, options.items()):
        rows = [row for row in rows_of(results, series) if not isinstance(row["x"], str)]
        for grid, style in zip(dict.fromkeys(tuple(row["grid"]) for row in rows), ("-", "--")):
            own = [row for row in rows if tuple(row["grid"]) == grid]
            x, name = [row["x"] for row in own], grid_name(grid)
            mrope = rows_of(results, "sections", layout="M-RoPE", grid=list(grid))[0]["spread"]
            for key, colour, label in (("spread", "#a50f15", "spread"), ("ptd", "tab:blue", "PTD")):
                y = [row[key] for row in own]
                axes.plot(x, y, style, color=colour, marker="o", markersize=3, label=f"circle, {label} {name}")
            axes.axhline(mrope, color="tab:green", linestyle=style, linewidth=1, label=f"M-RoPE, spread {name}")
        axes.set(xlabel=title, ylim=(-0.03, 0.75))
    panels[0].set_ylabel("logits; PTD in index units")
    return finish(figure, panels[0], columns=3, below=0.2)


def _by_frequency(results):
    layouts = ("flattened", "M-RoPE", "circle R 10")
    ropes = {"Qwen2.5-VL": "contiguous", "interleaved": "interleaved"}
    figure, panels = plt.subplots(len(ropes), 3, figsize=(11.1, 5.6), sharey=True)
    for (rope, sections), line in zip(ropes.items(), panels):
        owners = ["thw"[axis] for axis in Rope.of(**ROPES[rope]).axis_of_pairs]
        for axes, layout in zip(line, layouts):
            row = rows_of(results, "sections", rope=rope, layout=layout)[-1]
            # Each pair's part of the variance can be 1 / number of pairs at most.
            heights = [value * len(owners) for value in row["pairs"]]
            axes.bar(range(len(owners)), heights, width=1, color=[SECTION_COLOURS[name] for name in owners])
            shares = row["share"] or (0, 0, 0)
            words = ", ".join(f"{name} {share:.0%}" for name, share in zip("thw", shares))
            axes.set(title=f"{layout}, {grid_name(row['grid'])}: {words}", ylim=(0, 1.02), xlim=(-1, len(owners)))
            axes.grid(axis="x", visible=False)
        line[0].set_ylabel(f"{sections} sections\nvariance over image tokens")
    for axes in panels[-1]:
        axes.set_xlabel("frequency pair, fastest first")
    for section, colour in SECTION_COLOURS.items():
        panels[0, 0].bar(0, 0, color=colour, label=f"{section} section")
    return finish(figure, panels[0, 0], columns=3, below=0.06)


def _by_distance(results):
    figure, panels = _panels(3, width=3.7)
    rows = rows_of(results, "distance")
    grid = rows[-1]["grid"]
    for layout in dict.fromkeys(row["layout"] for row in rows):
        own = rows_of(results, "distance", layout=layout, grid=grid)
        distances = [row["x"] for row in own]
        _line(panels[0], layout, distances, [row["ptd"] for row in own])
        _line(panels[1], layout, distances, [row["spread"] for row in own])
    checkpoint = results["checkpoint"]
    for layout in dict.fromkeys(row["layout"] for row in rows):
        own = [
            entry
            for entry in checkpoint["spreads"]
            if entry["layout"] == layout and entry["grid"] == checkpoint["spreads"][-1]["grid"]
        ]
        means = [sum(entry["identical"]) / len(entry["identical"]) for entry in own]
        _line(panels[2], layout, [entry["behind"] for entry in own], means)
    name, checkpoint_name = grid_name(grid), grid_name(checkpoint["spreads"][-1]["grid"])
    panels[0].set(title=f"Per-token distance, {name}")
    panels[0].set_yscale("symlog", linthresh=1)
    panels[1].set(title=f"Logit spread, {name}, random q and k", ylim=(-0.02, None))
    panels[2].set(title=f"Logit spread, {checkpoint_name}, trained q and k", ylim=(-0.02, None))
    for axes in panels:
        axes.set_xscale("symlog", linthresh=16)
        axes.set_xticks([0, 16, 64, 256, 1024, 4096], [0, 16, 64, 256, 1024, 4096], fontsize=7)
        axes.minorticks_off()
        axes.set(xlabel="text tokens in between", xlim=(-2, 6000))
    return finish(figure, panels[0], columns=6, below=0.1)


def _by_layer(results):
    checkpoint = results["checkpoint"]
    figure, (left, right) = _panels(2)
    layers = range(checkpoint["layers"])
    for layout in ("M-RoPE", "circle R 1", "circle R 5", "circle R 10"):
        own = own_grid(checkpoint, layout)
        _line(left, layout, layers, own["identical"])
        _line(right, layout, layers, own["actual"])
    content = own_grid(checkpoint, "shared index")["actual"]
    for axes in (left, right):
        axes.plot(layers, content, "k:", marker="o", markersize=3, label="content alone (one shared index)")
        axes.set(xlabel="layer", xticks=list(layers)[:: 1 + checkpoint["layers"] // 12])
        axes.set_ylim(bottom=0)
    name = results["about"]["checkpoint"].rstrip("/").split("/")[-1]
    left.set(title=f"{name}: one key at all positions", ylabel="logit spread")
    right.set(title=f"{name}: every key at its own position")
    return finish(figure, left, columns=5, below=0.1)


def _candidates(results):
    """Lower spread against tokens that are harder to tell apart; filled where the Per-Token Distance is 0."""
    figure, panels = _panels(2, height=4.2)
    families = {
        "M-RoPE": ("*", "tab:green", "M-RoPE"),
        "t times": ("s", "0.4", "ring with a smaller t"),
        "dff": ("D", "tab:purple", "ring with dff"),
        "extreme": ("^", "tab:blue", "arc where t is extreme"),
        "zero": ("v", "tab:orange", "arc where t is 0"),
        "ring, R": ("o", "#a50f15", "ring by radius"),
    }
    grids = list(dict.fromkeys(tuple(row["grid"]) for row in rows_of(results, "candidate")))
    for axes, grid in zip(panels, grids):
        for row in rows_of(results, "candidate", grid=list(grid)):
            marker, colour, label = next(family for key, family in families.items() if key in row["layout"])
            fill = colour if row["ptd"] < 1e-3 else "white"
            style = {"color": colour, "markerfacecolor": fill, "markersize": 6, "linestyle": ""}
            axes.plot(row["adjacent"], row["spread"], marker, label=label, **style)
        axes.set(title=f"{grid_name(grid)} (filled: PTD 0)", xlabel="neighbours apart, in logits")
        axes.set(xscale="log", yscale="log")
    panels[0].set_ylabel("logit spread")
    return finish(figure, panels[0], columns=6, below=0.08)
