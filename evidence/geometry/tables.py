"""The tables of geometry.json."""

import json
from pathlib import Path

from evidence.markdown import table

FORMAT = 2
TABLES = {
    "geometry_about": "What was run",
    "spread_by_grid": "Logit spread by grid (rows x columns of merged tokens), contiguous sections",
    "interleaved_by_grid": "Logit spread by grid, interleaved sections",
    "ptd_by_grid": "Per-token distance by grid, of the 64 text tokens behind the picture",
    "spread_by_section": "Where the spread comes from: the t, h and w sections",
    "spread_by_radius": "Circle by radius",
    "spread_by_alpha": "Circle R 10 by alpha",
    "spread_by_dff": "Circle R 10 by dff_rate",
    "spread_by_distance": "By distance of the text behind the picture, 36x36",
    "age": "AGE: mean over the 3B's 36 layers, circle R 10 and M-RoPE",
    "candidates": "What could be changed about the ring",
    "small_rope": "The frequencies of the small models (head_dim 32, theta 1e4, sections [4, 6, 6])",
    "checkpoint": "A trained checkpoint's own queries and keys, mean over layers",
    "checkpoint_layers": "The same by layer, on the picture's own grid",
    "checkpoint_age": "The same under AGE, each layer with the geometry that its strategy gives it",
}


INTRODUCTION = """\
The logit spread is the standard deviation over an image's tokens of the attention logit that a text token behind the
image has for them when all have the same key, so that they differ by position only; `geometry/spread.py` defines it.
Where nothing else is said, q and k are random, with the frequencies of Qwen2.5-VL (head_dim 128, theta 1e6) and its
contiguous sections [16, 24, 24]; *interleaved* sections are Qwen3-VL's, [24, 20, 20] in turns. PTD is the per-token
distance on the three rows (t, h, w), in index units. *Variance from t* is the part of the logit's variance that the t
section makes. *Neighbours apart* is the root mean square difference of the logits of two tokens with the same key that
are neighbours in a row or column of the picture, and *most alike* that of a token and the one most like it, the median
over tokens."""


def load_results(path: Path) -> dict:
    """The results that `python -m evidence.geometry` wrote.

    Raises:
        ValueError: there are none, or they are broken, unfinished or of another format.
    """
    remedy = "run python -m evidence.geometry"
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): {remedy}.") from None
    except ValueError as error:
        raise ValueError(f"{path} is broken or unfinished ({error}): {remedy}.") from None
    try:
        if results["format"] != FORMAT:
            raise ValueError(f"{path} has the format {results['format']!r}, but must have {FORMAT}: {remedy}.")
        tables(results)
    except (KeyError, TypeError, IndexError, AttributeError, StopIteration) as error:
        raise ValueError(
            f"{path} is not a whole result of evidence.geometry ({type(error).__name__}: {error}): {remedy}."
        ) from None
    return results


def page(results: dict) -> str:
    """All tables as one Markdown page."""
    parts = ["# What each geometry does to attention", "", INTRODUCTION, ""]
    for name, text in tables(results).items():
        parts += [f"## {TABLES[name]}", "", text, ""]
    return "\n".join(parts)


def tables(results: dict) -> dict[str, str]:
    """Markdown tables by name, the names and titles of `TABLES`."""
    makers = {
        "geometry_about": _about,
        "spread_by_grid": lambda results: _by_grid(results, "grid", "spread"),
        "interleaved_by_grid": lambda results: _by_grid(results, "interleaved grid", "spread"),
        "ptd_by_grid": lambda results: _by_grid(results, "grid", "ptd"),
        "spread_by_section": _by_section,
        "spread_by_radius": lambda results: _by_value(results, "radius", "radius"),
        "spread_by_alpha": lambda results: _by_value(results, "alpha", "alpha"),
        "spread_by_dff": lambda results: _by_value(results, "dff", "dff_rate"),
        "spread_by_distance": _by_distance,
        "age": _age,
        "candidates": _candidates,
        "small_rope": _small,
        "checkpoint": _checkpoint,
        "checkpoint_layers": _checkpoint_layers,
        "checkpoint_age": _checkpoint_age,
    }
    return {name: makers[name](results) for name in TABLES}


def rows_of(results: dict, series: str, **where) -> list[dict]:
    """The rows of a series with the given values, in order."""
    return [
        row
        for row in results["rows"]
        if row["series"] == series and all(row[key] == value for key, value in where.items())
    ]


def grid_name(grid: list[int]) -> str:
    return "x".join(map(str, grid))


def _grids(rows):
    return list(dict.fromkeys(tuple(row["grid"]) for row in rows))


def _number(value):
    """Two or three significant digits, and 0 for what is rounding alone."""
    if value is None:
        return ""
    if abs(value) < 5e-6:
        return "0"
    if abs(value) < 0.01:
        return f"{value:.1g}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 1 else f"{value:.3f}"


def _percent(value):
    return "" if value is None else f"{value:.1%}"


def _share(row):
    return [_percent(part) for part in row["share"] or (None, None, None)]


def _about(results):
    about, checkpoint = results["about"], results["checkpoint"]
    return table(
        ["what", "value"],
        [
            ["command", "`python -m evidence.geometry`"],
            ["random pairs of q and k, seed", f"{about['draws']}, {about['seed']}"],
            ["text tokens behind the picture", about["text_tokens"]],
            ["checkpoint", f"{about['checkpoint']}, {checkpoint['parameters'] / 1e6:.1f} M parameters"],
            ["python, torch, transformers", f"{about['python']}, {about['torch']}, {about['transformers']}"],
            ["processor time", f"{about['seconds']} s on one core"],
        ],
    )


def _by_grid(results, series, key):
    rows = rows_of(results, series)
    grids = _grids(rows)
    layouts = dict.fromkeys(row["layout"] for row in rows)
    cells = {(row["layout"], tuple(row["grid"])): _number(row[key]) for row in rows}
    return table(
        ["layout", *map(grid_name, grids)], [[layout, *(cells[layout, grid] for grid in grids)] for layout in layouts]
    )


def _by_section(results):
    lines = []
    for row in rows_of(results, "sections"):
        numbers = [row["spread"], row["rms"], *row["spreads"]]
        sections = "interleaved" if row["rope"] == "interleaved" else "contiguous"
        lines.append([sections, grid_name(row["grid"]), row["layout"], *map(_number, numbers), *_share(row)])
    titles = ["sections", "grid", "layout", "spread", "root mean square", "t alone", "h alone", "w alone"]
    return table([*titles, "variance from t", "from h", "from w"], lines)


def _by_value(results, series, title):
    rows = rows_of(results, series)
    grids = _grids(rows)
    titles, lines = [title], {}
    for grid in grids:
        titles += [f"spread {grid_name(grid)}", f"PTD {grid_name(grid)}", f"variance from t {grid_name(grid)}"]
        for row in rows_of(results, series, grid=list(grid)):
            lines.setdefault(str(row["x"]), []).extend([_number(row["spread"]), _number(row["ptd"]), _share(row)[0]])
    return table(titles, [[value, *cells] for value, cells in lines.items()])


def _by_distance(results):
    rows = rows_of(results, "distance", grid=[36, 36])
    distances = list(dict.fromkeys(row["x"] for row in rows))
    lines = {}
    for row in rows:
        lines.setdefault((row["layout"], "spread"), []).append(_number(row["spread"]))
        lines.setdefault((row["layout"], "PTD"), []).append(_number(row["ptd"]))
    titles = ["layout", "", *(f"{distance} tokens between" for distance in distances)]
    return table(titles, [[*name, *cells] for name, cells in lines.items()])


def _age(results):
    return _columns(results, "age", "strategy", {"spread": "spread", "PTD": "ptd"})


def _candidates(results):
    columns = {"PTD": "ptd", "spread": "spread", "neighbours apart": "adjacent", "most alike": "nearest"}
    return _columns(results, "candidate", "layout", columns)


def _columns(results, series, title, columns):
    """A line for every layout, and the given columns for every grid."""
    rows = rows_of(results, series)
    titles, lines = [title], {}
    for grid in _grids(rows):
        titles += [f"{column} {grid_name(grid)}" for column in columns]
        for row in rows_of(results, series, grid=list(grid)):
            lines.setdefault(row["layout"], []).extend(_number(row[key]) for key in columns.values())
    return table(titles, [[layout, *cells] for layout, cells in lines.items()])


def _small(results):
    rows = rows_of(results, "small")
    radii = [{**row, "layout": f"circle R {row['x']}"} for row in rows_of(results, "small radius")]
    titles, lines = ["layout"], {}
    for grid in _grids(rows):
        titles += [f"{title} {grid_name(grid)}" for title in ("PTD", "spread")]
    for row in [row for row in rows if row["layout"] not in {circle["layout"] for circle in radii}] + radii:
        lines.setdefault(row["layout"], []).extend([_number(row["ptd"]), _number(row["spread"])])
    return table(titles, [[layout, *cells] for layout, cells in lines.items()])


def _mean(values):
    return None if values is None else sum(values) / len(values)


def _checkpoint(results):
    checkpoint = results["checkpoint"]
    lines = [
        [
            entry["layout"],
            grid_name(entry["grid"]),
            entry["behind"],
            _number(_mean(entry["identical"])),
            _percent(_mean(entry["t_share"])) if any(entry["t_share"]) else "",
            _number(_mean(entry["actual"])),
        ]
        for entry in checkpoint["spreads"]
    ]
    titles = ["layout", "grid", "tokens between", "spread, same key", "variance from t", "spread, every key its own"]
    return table(titles, lines)


def own_grid(checkpoint: dict, layout: str) -> dict:
    """The spreads of a layout on the picture's own grid, the question right behind it."""
    return next(
        entry
        for entry in checkpoint["spreads"]
        if (entry["layout"], entry["grid"], entry["behind"]) == (layout, checkpoint["grid"], 0)
    )


def _checkpoint_layers(results):
    checkpoint = results["checkpoint"]
    layouts = ["M-RoPE", "circle R 1", "circle R 5", "circle R 10"]
    titles = ["layer", "trained under", *(f"same key, {layout}" for layout in layouts), "content alone"]
    content = own_grid(checkpoint, "shared index")["actual"]
    lines = [
        [
            layer,
            checkpoint["schedule"][layer],
            *(_number(own_grid(checkpoint, layout)["identical"][layer]) for layout in layouts),
            _number(content[layer]),
        ]
        for layer in range(checkpoint["layers"])
    ]
    return table(titles, lines)


def _checkpoint_age(results):
    checkpoint = results["checkpoint"]
    lines = [
        [entry["strategy"], entry["schedule"].count("circle"), _number(_mean(entry["identical"]))]
        for entry in checkpoint["age"]
    ]
    return table(["strategy", "circle layers", f"spread, same key, {grid_name(checkpoint['grid'])}"], lines)
