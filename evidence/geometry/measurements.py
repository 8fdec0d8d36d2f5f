"""The series that are measured with random queries and keys, as rows of numbers.

A row has `series`, `rope` (whose frequencies, a key of `ROPES`), `layout`, `grid` (rows, columns), `spread`
(logit spread), `rms` (the root of the exact mean variance), `share` (the parts of that variance that come from the
t, h and w sections, or None where there is none) and `ptd` (Per-Token Distance); and `x`, what a series varies.
"""

from collections.abc import Iterator

from circle_rope_imp import CircleGeometry, MRopeGeometry, per_token_distance
from configuration_qwen2_5_vl_circle_rope import STRATEGIES, age_schedule

from .candidates import CANDIDATES
from .layouts import MAIN, place
from .spread import SECTIONS, Rope, expected_variance, logit_differences, logit_spread

REFERENCE = ((16, 16), (36, 36))
RADII = (0.5, 1, 2, 3, 5, 7, 10, 14, 20, "auto")
ALPHAS = (0, 0.25, 0.5, 0.75, 1)
DFF_RATES = (0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1)
DISTANCES = (0, 16, 64, 256, 1024, 4096)
TEXT_TOKENS = 64
FROM_AFAR = ("flattened", "shared index", "M-RoPE", "circle R 10", "circle R 10, dff 0.1", "AGE strategy_4")

# The geometry of each of the 3B's layers under every strategy, with the published ring.
_GEOMETRIES = {"circle": CircleGeometry(), "mrope": MRopeGeometry()}
AGE = {name: tuple(_GEOMETRIES[own] for own in age_schedule(name, 36)) for name in STRATEGIES}

_QWEN = {"head_dim": 128, "theta": 1e6, "mrope_section": (16, 24, 24)}
ROPES: dict[str, dict] = {
    "Qwen2.5-VL": _QWEN,
    # The same frequencies, handed out in turns.
    "interleaved": {**_QWEN, "sections": "interleaved"},
    # Of the models that are trained from scratch in this repo.
    "small": {"head_dim": 32, "theta": 1e4, "mrope_section": (4, 6, 6)},
}
SMALL_GRIDS = ((4, 4), (8, 8), (16, 16))


def all_series(grids: list[tuple[int, int]], draws: int, seed: int) -> Iterator[list[dict]]:
    """Every series in turn.

    Args:
        grids: of the series over grids; the others are measured on 16x16 and 36x36.
        draws, seed: of q and k.
    """
    large = Measure("Qwen2.5-VL", draws, seed)
    interleaved = Measure("interleaved", draws, seed)
    small = Measure("small", draws, seed)
    radii = {radius: CircleGeometry(radius=radius) for radius in RADII}
    with_age = {**MAIN, "AGE strategy_4": AGE["strategy_4"]}
    for measure, series in ((large, "grid"), (interleaved, "interleaved grid")):
        yield [measure(series, layout, geometry, grid) for grid in grids for layout, geometry in with_age.items()]
    knobs: dict[str, dict] = {
        "radius": radii,
        "alpha": {alpha: CircleGeometry(alpha=alpha) for alpha in ALPHAS},
        "dff": {rate: CircleGeometry(dff_rate=rate) for rate in DFF_RATES},
    }
    for series, values in knobs.items():
        yield [large(series, "circle", geometry, grid, x=x) for grid in REFERENCE for x, geometry in values.items()]
    yield [
        large("distance", layout, with_age[layout], grid, behind, x=behind)
        for grid in REFERENCE
        for layout in FROM_AFAR
        for behind in DISTANCES
    ]
    yield [
        measure.sections(layout, geometry, grid)
        for measure in (large, interleaved)
        for grid in REFERENCE
        for layout, geometry in MAIN.items()
    ]
    yield [large("age", layout, geometry, grid) for grid in REFERENCE for layout, geometry in AGE.items()]
    yield [large.candidate(layout, geometry, grid) for grid in REFERENCE for layout, geometry in CANDIDATES.items()]
    yield [small("small", layout, geometry, grid) for grid in SMALL_GRIDS for layout, geometry in MAIN.items()]
    yield [
        small("small radius", "circle", geometry, grid, x=x) for grid in SMALL_GRIDS for x, geometry in radii.items()
    ]


class Measure:
    """Rows for one rotary embedding. A geometry may be a tuple of one for every layer: the mean over layers, then."""

    def __init__(self, rope: str, draws: int, seed: int):
        self.name, self.rope, self.draws, self.seed = rope, Rope.of(**ROPES[rope]), draws, seed
        self._known = {}

    def __call__(self, series, layout, geometry, grid, behind=0, **more) -> dict:
        """One layout on one grid, seen from 64 text tokens `behind` text tokens after it."""
        layers = geometry if isinstance(geometry, tuple) else (geometry,)
        numbers = [self._measure(own, grid, behind) for own in layers]
        spread, ptd, *parts = (sum(values) / len(layers) for values in zip(*numbers))
        variance = sum(parts)
        return {
            "series": series,
            "rope": self.name,
            "layout": layout,
            "grid": list(grid),
            "spread": spread,
            "rms": variance**0.5,
            "share": [part / variance for part in parts] if variance else None,
            "ptd": ptd,
            **more,
        }

    def _measure(self, geometry, grid, behind):
        """Spread, Per-Token Distance, and exact variance of the t, h and w sections."""
        key = geometry, grid, behind
        if key not in self._known:
            text, image = place(geometry, *grid, text_tokens=TEXT_TOKENS, behind=behind)
            pairs = expected_variance(image, self.rope)
            self._known[key] = (
                logit_spread(text, image, self.rope, self.draws, self.seed),
                per_token_distance(text, image).item(),
                *(pairs[self.rope.pairs(section)].sum().item() for section in SECTIONS),
            )
        return self._known[key]

    def sections(self, layout, geometry, grid: tuple[int, int]) -> dict:
        """The spread of each section by itself, and the exact variance of every frequency pair."""
        text, image = place(geometry, *grid, text_tokens=TEXT_TOKENS)
        return {
            **self("sections", layout, geometry, grid),
            "spreads": [logit_spread(text, image, self.rope, self.draws, self.seed, part) for part in SECTIONS],
            "pairs": expected_variance(image, self.rope).tolist(),
        }

    def candidate(self, layout, geometry, grid: tuple[int, int]) -> dict:
        """How well tokens remain apart, too: `nearest` and `adjacent`, in units of the logit.

        `nearest` is the root mean square difference of the logits of a token and of the one most like it, the median
        over tokens; `adjacent` the mean over neighbours in the picture's rows and columns.
        """
        _, image = place(geometry, *grid, text_tokens=TEXT_TOKENS)
        differences = logit_differences(image, self.rope)
        height, width = grid
        cells = differences.view(height, width, height, width)
        rows = cells[:-1].diagonal(dim1=1, dim2=3)
        below = rows[:, 1:].diagonal(dim1=0, dim2=1)
        right = cells.diagonal(dim1=0, dim2=2)[:-1, 1:].diagonal(dim1=0, dim2=1)
        adjacent = (below.sum() + right.sum()) / (below.numel() + right.numel())
        nearest = differences.fill_diagonal_(float("inf")).min(1).values
        return {
            **self("candidate", layout, geometry, grid),
            "nearest": nearest.median().item(),
            "adjacent": adjacent.item(),
        }
