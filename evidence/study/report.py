"""Tables and figures of the study, made from its records alone.

Every number over seeds is a mean with its 95 % interval (Student's t over seeds); nothing is left out. On boards of
other sizes than those trained on, the words of "Where is" mean other places than in training: it is not counted there.
"""

from pathlib import Path
from statistics import mean

import matplotlib.pyplot as plt
from scipy import stats

from .arms import LAYERS, TESTS, make_runs

UNDEFINED_ELSEWHERE = "Where is"
WHERE, WHICH = (UNDEFINED_ELSEWHERE,), ("Which is",)
CONTENTS, COUNTS = ("What colour", "What shape"), ("How many",)
TRAINED_BOARDS = ("as trained", "more things")
# The arms that have a ring of another shape in every layer.
RINGS = ("dff_0.1", "circle_r1", "circle_r3", "arc_60")
COLOURS = {
    "mrope": "black",
    "stay": "black",
    "circle": "tab:red",
    "strategy_2": "tab:blue",
    "strategy_3": "tab:cyan",
    "strategy_4": "tab:purple",
    "dff_0.1": "tab:orange",
    "circle_r1": "tab:green",
    "circle_r3": "tab:olive",
    "strategy_4_r1": "tab:pink",
    "arc_60": "tab:brown",
    "circle_by_radius": "tab:green",
    "circle_by_dff": "tab:orange",
    "circle_by_layer": "tab:blue",
}


def tables(records: dict[str, dict], scales: dict) -> dict[str, str]:
    """Markdown tables by name.

    `runs`, and for every scale `tests`, `kinds`, `learning`, `switch`, `against mrope` and, for other rings,
    `against circle`.
    """
    found = {"runs": _runs(records, scales)}
    for scale, what in scales.items():
        arms = {arm: _of(records, scales, scale, arm) for arm in what.arms}
        found[f"{scale} tests"] = _table(
            ["arm", *TESTS],
            [[arm, *(_spread([_exact(run, test) for run in runs]) for test in TESTS)] for arm, runs in arms.items()],
        )
        found[f"{scale} kinds"] = _table(
            [
                "arm",
                "where: as trained",
                "which: as trained",
                "larger",
                "what colour, what shape: as trained",
                "larger",
                "how many: as trained",
                "larger",
            ],
            [
                [
                    arm,
                    _spread([_kinds(run, "as trained", WHERE) for run in runs]),
                    *(
                        _spread([_kinds(run, test, kinds) for run in runs])
                        for kinds in (WHICH, CONTENTS, COUNTS)
                        for test in ("as trained", "larger")
                    ),
                ]
                for arm, runs in arms.items()
            ],
        )
        steps = [point["step"] for point in arms["mrope"][0]["curve"]][2::2]
        found[f"{scale} learning"] = _table(
            ["arm", *(f"step {step}" for step in steps)],
            [[arm, *(_spread([_at(run, step) for run in runs]) for step in steps)] for arm, runs in arms.items()],
        )
        for baseline, compared in (("mrope", arms), ("circle", [arm for arm in RINGS if arm in arms])):
            found[f"{scale} against {baseline}"] = _table(
                ["arm", "while learning", *TESTS],
                [[arm, *_against(arms[arm], arms[baseline])] for arm in compared if arm != baseline],
            )
        found[f"{scale} switch"] = _switch(records, scales, scale)
    return found


def draw(records: dict[str, dict], scales: dict, folder: Path) -> None:
    """The figures as PNG and SVG: learning curves, tests and switches, one panel per scale."""
    for name, draw_panel in (("learning", _draw_learning), ("tests", _draw_tests), ("switch", _draw_switch)):
        figure, panels = plt.subplots(1, len(scales), figsize=(11, 4.6), squeeze=False)
        for axes, scale in zip(panels[0], scales):
            draw_panel(axes, records, scales, scale)
            axes.set_title(f"{scale} scale")
            axes.grid(alpha=0.3)
            axes.legend(fontsize=7, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)
        figure.tight_layout()
        save(figure, folder / f"study_{name}")


def save(figure, path: Path) -> None:
    """Write a figure as PNG and as SVG, the same bytes for the same content."""
    with plt.rc_context({"svg.hashsalt": path.name}):
        figure.savefig(path.with_suffix(".png"), dpi=110, metadata={"Software": None})
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)


def _of(records, scales, scale, arm, switch=False):
    """The records of an arm, in the order of seeds."""
    runs = [run for run in make_runs(scales) if (run.scale, run.arm, run.switch) == (scale, arm, switch)]
    return [records[run.name] for run in runs]


def _at(run, step):
    return next(point["exact"] for point in run["curve"] if point["step"] == step)


def _kinds(run, test, kinds):
    return mean(run["tests"][test]["by_kind"][kind] for kind in kinds)


def _exact(run, test):
    """Share of exact answers; on boards of other sizes the mean over the kinds of question that are defined there."""
    found = run["tests"][test]
    if test in TRAINED_BOARDS:
        return found["exact"]
    return mean(share for kind, share in found["by_kind"].items() if kind != UNDEFINED_ELSEWHERE)


def _interval(values):
    """Half the width of the 95 % interval of the mean; None for a single seed."""
    if len(values) < 2:
        return None
    return stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)


def _spread(values):
    half = _interval(values)
    return f"{100 * mean(values):.1f} %" + ("" if half is None else f" ± {100 * half:.1f}")


def _ahead(points):
    """Percentage points with the interval's ends."""
    middle, half = mean(points), _interval(points)
    return f"{middle:+.1f}" + ("" if half is None else f" [{middle - half:+.1f}, {middle + half:+.1f}]")


def _while_learning(run):
    """The mean of the learning curve: how much was known, on average, in the course of training."""
    return mean(point["exact"] for point in run["curve"][1:])


def _against(runs, baseline):
    """Percentage points ahead of the baseline from the same seed."""
    measures = [_while_learning, *(lambda run, test=test: _exact(run, test) for test in TESTS)]
    for measure in measures:
        yield _ahead([100 * (measure(run) - measure(other)) for run, other in zip(runs, baseline)])


def _runs(records, scales):
    rows = []
    for scale, what in scales.items():
        for switch in (False, True):
            own = [records[run.name] for run in make_runs(scales) if (run.scale, run.switch) == (scale, switch)]
            if own:
                rows.append(
                    [
                        scale + (", switch" if switch else ""),
                        str(len(own)),
                        str(what.switch_steps if switch else what.steps),
                        f"{LAYERS} x {what.hidden}, {own[0]['parameters'] / 1e6:.2f} M",
                        f"{what.rope_theta:g}, {list(what.mrope_section)}",
                        f"{sum(run['seconds'] for run in own) / 60:.0f} min",
                    ]
                )
    return _table(
        ["scale", "runs", "steps each", "layers x width, parameters trained", "theta, sections", "time"], rows
    )


def _switch(records, scales, scale):
    arms = {arm: _of(records, scales, scale, arm, switch=True) for arm in scales[scale].switches}
    steps = [point["step"] for point in arms["stay"][0]["curve"]]
    end = len(steps) - 1
    shown = [steps[number] for number in sorted({0, end // 10, end // 5, end // 2, end})]
    rows = []
    for arm, runs in arms.items():
        cost = [100 * (_while_learning(run) - _while_learning(stay)) for run, stay in zip(runs, arms["stay"])]
        last = _ahead(cost) if arm != "stay" else ""
        rows.append([arm, *(_spread([_at(run, step) for run in runs]) for step in shown), last])
    return _table(["arm", *(f"step {step}" for step in shown), "against staying, all steps"], rows)


def _table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _draw_learning(axes, records, scales, scale):
    # Nothing is known at the first point.
    _draw_curves(axes, {arm: _of(records, scales, scale, arm) for arm in scales[scale].arms}, first=1)


def _draw_switch(axes, records, scales, scale):
    _draw_curves(axes, {arm: _of(records, scales, scale, arm, switch=True) for arm in scales[scale].switches})
    axes.set_xlabel("steps after the switch from M-RoPE")


def _draw_curves(axes, arms, first=0):
    for arm, runs in arms.items():
        steps = [point["step"] for point in runs[0]["curve"][first:]]
        values = [[100 * point["exact"] for point in run["curve"][first:]] for run in runs]
        axes.plot(steps, [mean(column) for column in zip(*values)], color=COLOURS[arm], label=arm, linewidth=1.5)
        axes.fill_between(
            steps, *([edge(column) for column in zip(*values)] for edge in (min, max)), color=COLOURS[arm], alpha=0.08
        )
    axes.set(xlabel="steps", ylabel="exact answers, %")


def _draw_tests(axes, records, scales, scale):
    arms = scales[scale].arms
    for number, arm in enumerate(arms):
        runs = _of(records, scales, scale, arm)
        values = [[100 * _exact(run, test) for run in runs] for test in TESTS]
        places = [place + 0.8 * (number + 0.5) / len(arms) - 0.4 for place in range(len(TESTS))]
        axes.bar(places, [mean(each) for each in values], 0.8 / len(arms), color=COLOURS[arm], label=arm, alpha=0.75)
        for place, each in zip(places, values):
            axes.plot([place] * len(each), each, color="0.3", marker="_", markersize=4, linewidth=0.8)
    axes.set_xticks(range(len(TESTS)), [test.replace(", ", ",\n") for test in TESTS], fontsize=8)
    axes.set(ylabel="exact answers, %")
