"""What is trained: two sizes of model, the arms, and what each result depends on, so that others are told apart."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from circle_rope_imp import MRopeGeometry
from evidence.geometry import FlattenedGeometry, Rope, SharedGeometry, SpacedGeometry

from . import bias, digits, pairs, relations, shapes
from .boards import METRIC
from .sections import section_sizes

TASKS = {"shapes": shapes, "pairs": pairs, "digits": digits, "relations": relations}
# What a run does: it trains on a task, or looks for position bias in the weights of the run on shapes.
BIAS = "bias"
# Or it goes on from the weights of the run on relations, under another block.
CONVERSION = "conversion"
# Experiments whose files name a contrast before the first run.
PLAN_FILES = {name: Path(__file__).with_name(f"{name}.json") for name in ("pictures", "conversion")}
PLANS = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in PLAN_FILES.items()}

LAYERS = 4
# strategy_1 is the ring in every layer.
STRATEGIES = ("strategy_2", "strategy_3", "strategy_4")
GRID, RING = {"AGE_mode": ["mrope"] * LAYERS}, {"radius": 10}


class Arm(NamedTuple):
    """How image tokens are placed: a `circle_rope` block, how its sections lie, and a layout in place of the ring.

    The layout takes the block's `image_stride`, as the ring does; layers under the block's own "mrope" do not.
    `family` is the geometry, grid or ring, at whose best learning rate the arm is trained. `reset` lets h and w begin
    at 0 in every picture, whatever stands before it; t and the text behind are the grid's.
    """

    block: dict
    family: str
    sections: str = "contiguous"
    layout: FlattenedGeometry | MRopeGeometry | None = None
    reset: bool = False


# Where all three rows of an index are the same, sections mean nothing: shared and flattened are one arm each.
ARMS = {
    "grid-contiguous": Arm(GRID, "grid"),
    "ring-contiguous": Arm(RING, "ring"),
    "grid-interleaved": Arm(GRID, "grid", "interleaved"),
    "ring-interleaved": Arm(RING, "ring", "interleaved"),
    "shared": Arm(RING, "ring", layout=SharedGeometry()),
    "flattened": Arm(RING, "grid", layout=FlattenedGeometry()),
    **{
        f"{strategy}-{sections}": Arm({**RING, "AGE_mode": strategy}, "ring", sections)
        for sections in ("contiguous", "interleaved")
        for strategy in STRATEGIES
    },
    # For two pictures alone: how their codes of place lie to each other, and how large they are.
    "grid-reset": Arm(GRID, "grid", "interleaved", reset=True),
    **{f"grid-stride-{n}": Arm({**RING, "image_stride": n}, "grid", "interleaved", MRopeGeometry()) for n in (15, 21)},
    "grid-spaced": Arm(RING, "grid", "interleaved", SpacedGeometry()),
    **{f"ring-stride-{n}": Arm({**RING, "image_stride": n}, "ring", "interleaved") for n in (17, 26)},
}
# What trained weights are converted to: blocks, each from a share of the steps on.
CONVERSIONS: dict[str, dict[float, dict]] = {
    "mrope": {0: GRID},
    "ring": {0: RING},
    **{strategy: {0: {**RING, "AGE_mode": strategy}} for strategy in STRATEGIES},
    "interleaved": {0: {**GRID, "mrope_interleaved": True}},
    "strategy_4 annealed": {
        0: {**RING, "AGE_mode": ["circle"] + ["mrope"] * (LAYERS - 1)},
        0.25: {**RING, "AGE_mode": "strategy_4"},
    },
    "ring by radius": {0: {"radius": 1}, 0.15: {"radius": 2.5}, 0.3: {"radius": 5}, 0.45: RING},
}
# The same with adapters alone that learn, of all that are not by degrees.
LORA = " with LoRA"
CONVERSIONS |= {arm + LORA: blocks for arm, blocks in CONVERSIONS.items() if len(blocks) == 1}


@dataclass(frozen=True)
class Scale:
    """One size of the study: frequencies, how many tokens a board cell has, how long runs are, and what is trained."""

    rope_theta: float
    mrope_section: tuple[int, int, int]
    heads: int
    patch_size: int
    steps: int
    arms: tuple[str, ...]
    seeds: int
    hidden: int
    batch: int = 16
    questions: int = 6
    learning_rate: float = 2e-3
    tower_steps: int = 300
    curve_points: int = 20
    curve_pictures: int = 16  # of every board, as the next
    board_pictures: int = 512
    probe_scenes: int = 64
    until: float | None = None  # stop at this share of watched place questions right; the rate then stays as it is
    before: str | None = None  # a task that the model is trained on first, for as many steps
    plan: str | None = None  # of `PLANS`, whose file is part of every recipe
    rates: tuple[float, ...] = (0.5, 1, 2)
    rate_seeds: tuple[int, ...] = (100, 101)  # not used afterwards

    @property
    def cell_tokens(self) -> int:
        """Tokens along one side of a board cell of 32 pixels; a token is 2 x 2 patches."""
        return 16 // self.patch_size

    def rope(self, sections: str) -> Rope:
        """The rotary embedding of its models, with sections that are contiguous or interleaved."""
        heads = 2 * sum(self.mrope_section)
        return Rope(heads, self.rope_theta, self.mrope_section, sections == "interleaved")


SCALES = {
    # A board cell is 2 x 2 tokens: 4 x 4 to 6 x 6 tokens in training. The tiny checkpoint's frequencies.
    "small": Scale(
        rope_theta=1e4,
        mrope_section=(4, 6, 6),
        heads=3,
        patch_size=8,
        steps=500,
        arms=("grid-contiguous", "ring-contiguous", "grid-interleaved", "ring-interleaved", "shared", "flattened"),
        seeds=8,
        hidden=96,
    ),
    # A board cell is 4 x 4 tokens: 8 x 8 to 12 x 12 in training, 16 x 16 and 24 x 24 in the tests. Qwen2.5-VL's range
    # of frequencies, half as densely: a head is 64 wide instead of 128.
    "real": Scale(
        rope_theta=1e6,
        mrope_section=(8, 12, 12),
        heads=2,
        patch_size=4,
        steps=300,
        arms=("grid-contiguous", "ring-contiguous", "grid-interleaved", "ring-interleaved"),
        seeds=6,
        hidden=128,
    ),
}
# Of the conversion: as its plan says, trained until places are known.
SCALES["converted"] = replace(SCALES["small"], **PLANS["conversion"]["scale"], plan="conversion")
# Of two pictures: as before, for longer, and from weights that know places on one picture.
SCALES["two"] = replace(SCALES["small"], plan="pictures")
SCALES["two long"] = replace(SCALES["two"], steps=1500)
SCALES["two from one"] = replace(SCALES["two"], before="shapes")

# Every step of the study, to see that it works; what it finds means nothing.
FEW = {"steps": 2, "tower_steps": 2, "batch": 2, "curve_points": 2, "board_pictures": 16, "seeds": 2}
QUICK = {name: Scale(**{**asdict(scale), **FEW, "probe_scenes": 2}) for name, scale in SCALES.items()}


@dataclass(frozen=True)
class Run:
    """One run: `what` is a task of `TASKS` to train on, or `BIAS`; `rate` is times the scale's learning rate."""

    what: str
    scale: str
    arm: str
    seed: int
    rate: float = 1

    @property
    def name(self) -> str:
        return f"{self.what}/{self.scale}/{self.arm}/x{self.rate:g}/{self.seed}"

    @property
    def trained(self) -> "Run":
        """The run whose weights it starts from: itself, or the one on shapes (position bias) or on relations."""
        if self.what == CONVERSION:
            return replace(self, what=PLANS["conversion"]["task"], arm="grid-contiguous", rate=1)
        return replace(self, what="shapes") if self.what == BIAS else self


def recipe(run: Run, scales: dict[str, Scale]) -> dict:
    """What the run's result depends on beside its name; two results may be compared if they agree here."""
    arm, task = ARMS[run.trained.arm], TASKS[run.trained.what]
    left_out = ("arms", "seeds", "rates", "rate_seeds")
    scale = {key: value for key, value in asdict(scales[run.scale]).items() if value is not None}
    if "plan" in scale:  # runs are not mixed with those of a plan that was changed after them
        scale["plan"] = hashlib.sha256(PLAN_FILES[scale["plan"]].read_bytes()).hexdigest()
    return {
        **{key: value for key, value in scale.items() if key not in left_out},
        "block": arm.block,
        "sections": arm.sections,
        "mrope_section": list(section_sizes(arm.sections, scale["mrope_section"])),
        "layout": type(arm.layout).__name__ if arm.layout else None,
        **({"reset": True} if arm.reset else {}),
        "trained_on": [list(board) for board in task.TRAINED_ON],
        "tests": {name: [list(board) for board in boards] for name, boards in task.TESTS.items()},
        **(bias.recipe() if run.what == BIAS else {}),
        **({"blocks": [list(each) for each in CONVERSIONS[run.arm].items()]} if run.what == CONVERSION else {}),
    }


def weights_path(run: Run, scales: dict[str, Scale], work: Path) -> Path:
    """Where the weights are that the run ends with, in a folder for this recipe alone."""
    return work / f"{run.trained.name.replace('/', '-')}-{_digest(recipe(run.trained, scales))}.safetensors"


def tower_path(run: Run, scales: dict[str, Scale], work: Path) -> Path:
    """Where the vision tower is that all runs of a scale and a task share."""
    scale, task = scales[run.scale], TASKS[run.trained.what]
    made_of = [METRIC, scale.patch_size, scale.hidden, scale.batch, task.TOWER_STEPS * scale.tower_steps]
    return work / f"tower-{run.trained.what}-{run.scale}-{_digest(made_of)}.safetensors"


def _digest(what):
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]
