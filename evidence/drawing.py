"""How all figures look, and how they are written: as PNG, the same files from the same results."""

from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

RC = {
    "figure.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "font.size": 9,
    "axes.titlesize": 10,
    "legend.frameon": False,
}


def save_all(figures: dict[str, Callable], folder: Path) -> None:
    """Write NAME.png of every figure, which a function makes, into the folder, made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(RC):
        for name, make in figures.items():
            figure = make()
            figure.savefig(folder / f"{name}.png", dpi=110, metadata={"Software": None})
            plt.close(figure)


def finish(figure, axes, columns: int = 4, below: float = 0.16):
    """The figure with the legend of some axes below everything, in that share of its height."""
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles))
    figure.legend(unique.values(), unique, loc="lower center", ncols=columns)
    figure.tight_layout(rect=(0, below, 1, 1))
    return figure
