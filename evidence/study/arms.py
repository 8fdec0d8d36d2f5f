"""What the study compares: two sizes of model, the arms trained from scratch, and the arms of the switch.

Everything that a result depends on stands here, so that results made under another recipe can be told apart.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from .task import Board

LAYERS = 4
MROPE = ["mrope"] * LAYERS

# Name of an arm: its `circle_rope` block. What a block does not say is the published default: radius 10, alpha 0.5.
ARMS = {
    "mrope": {"AGE_mode": MROPE},
    "circle": {},
    "strategy_2": {"AGE_mode": "strategy_2"},
    "strategy_3": {"AGE_mode": "strategy_3"},
    "strategy_4": {"AGE_mode": "strategy_4"},
    "dff_0.1": {"dff_rate": 0.1},
    "circle_r1": {"radius": 1},
    "circle_r3": {"radius": 3},
    "strategy_4_r1": {"radius": 1, "AGE_mode": "strategy_4"},
    "arc_60": {},
}
# Arms whose ring is not one of the block's options but a candidate for one, by its name in `geometry/candidates.py`.
CANDIDATE_OF = {"arc_60": "arc of 60 degrees at t extreme, R 10"}

# From weights trained under M-RoPE: the block to switch to, and the key that is annealed over the first half.
SWITCHES = {
    "stay": ({"AGE_mode": MROPE}, None),
    "circle": ({}, None),
    "circle_by_radius": ({}, "radius"),
    "circle_by_dff": ({}, "dff_rate"),
    "circle_by_layer": ({}, "AGE_mode"),
    "strategy_4": ({"AGE_mode": "strategy_4"}, None),
}

TRAINED_ON = (Board(2, 2, 2, 4), Board(2, 3, 2, 4), Board(3, 2, 2, 4), Board(3, 3, 2, 4))
TESTS = {
    "as trained": TRAINED_ON,
    "more things": (Board(3, 3, 5, 6),),
    "larger": (Board(4, 4, 2, 4),),
    "larger, more things": (Board(4, 4, 5, 6),),
    "much larger": (Board(6, 6, 2, 4),),
}


@dataclass(frozen=True)
class Scale:
    """One size of the study: the frequencies, how many tokens a board cell has, and how long runs are."""

    rope_theta: float
    mrope_section: tuple[int, int, int]
    heads: int
    patch_size: int
    steps: int
    switch_steps: int
    arms: tuple[str, ...]
    switches: tuple[str, ...]
    hidden: int
    batch: int = 16
    questions: int = 6
    learning_rate: float = 2e-3
    tower_steps: int = 300
    curve_pictures: int = 64
    test_pictures: int = 128
    seeds: tuple[int, ...] = (0, 1, 2)

    @property
    def cell_tokens(self) -> int:
        """Tokens along one side of a board cell of 32 pixels; a token is 2 x 2 patches."""
        return 16 // self.patch_size


SCALES = {
    # A board cell is 2 x 2 tokens: 4 x 4 to 6 x 6 tokens in training. The tiny checkpoint's frequencies.
    "small": Scale(
        rope_theta=1e4,
        mrope_section=(4, 6, 6),
        heads=3,
        patch_size=8,
        steps=500,
        switch_steps=200,
        arms=tuple(ARMS),
        switches=tuple(SWITCHES),
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
        switch_steps=150,
        arms=("mrope", "circle", "strategy_2", "strategy_4", "circle_r1"),
        switches=("stay", "circle"),
        hidden=128,
    ),
}


# Every step of the study within a minute, to see that it works; what it finds means nothing.
QUICK = {
    "small": replace(
        SCALES["small"],
        steps=2,
        switch_steps=2,
        tower_steps=2,
        batch=2,
        curve_pictures=16,
        test_pictures=16,
        arms=("mrope", "strategy_4"),
        switches=("stay", "circle_by_layer"),
        seeds=(0,),
    )
}


@dataclass(frozen=True)
class Run:
    """One training run. `arm` is of `ARMS`, or of `SWITCHES` where `switch` is true."""

    scale: str
    arm: str
    seed: int
    switch: bool = False

    @property
    def name(self) -> str:
        return "/".join([self.scale, *(["switch"] if self.switch else []), self.arm, str(self.seed)])

    @property
    def block(self) -> dict:
        return SWITCHES[self.arm][0] if self.switch else ARMS[self.arm]

    @property
    def starts_from(self) -> "Run | None":
        """The run whose weights this one starts from."""
        return Run(self.scale, "mrope", self.seed) if self.switch else None


def make_runs(scales: dict[str, Scale]) -> list[Run]:
    """All runs of the study; a run may start from another one."""
    return [
        Run(scale, arm, seed, switch)
        for scale, what in scales.items()
        for seed in what.seeds
        for switch, arms in ((False, what.arms), (True, what.switches))
        for arm in arms
    ]


def recipe(run: Run, scales: dict[str, Scale]) -> dict:
    """What the run's result depends on beside its seed; two results may be compared if they agree here."""
    what = asdict(scales[run.scale])
    del what["arms"], what["switches"], what["seeds"]
    anneals = SWITCHES[run.arm][1] if run.switch else None
    tests = {name: [list(board) for board in boards] for name, boards in TESTS.items()}
    return {
        **what,
        "mrope_section": list(what["mrope_section"]),
        "block": run.block,
        "anneals": anneals,
        "tests": tests,
    }


def weights_path(run: Run, scales: dict[str, Scale], work: Path) -> Path:
    """Where the weights are that the run ends with, in a folder for weights of this recipe alone."""
    return work_folder(run, scales, work) / f"{run.name.replace('/', '-')}.safetensors"


def work_folder(run: Run, scales: dict[str, Scale], work: Path) -> Path:
    """The folder within `work` for what the runs of the same recipe share, whatever their block."""
    shared = recipe(Run(run.scale, "mrope", run.seed), scales)
    return work / hashlib.sha256(json.dumps(shared).encode()).hexdigest()[:12]
