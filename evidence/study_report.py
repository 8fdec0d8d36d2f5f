"""Tables and figures of the study, made from its records alone.

Every number over seeds is a mean with the lowest and the highest seed behind it; nothing is left out.
"""

from pathlib import Path
from statistics import mean

import matplotlib.pyplot as plt

from arms import LAYERS, TESTS, make_runs

PLACES, CONTENTS, COUNTS = ("Where is", "Which is"), ("What colour", "What shape"), ("How many",)
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
            [
                [arm, *(_spread([run["tests"][test]["exact"] for run in runs]) for test in TESTS)]
                for arm, runs in arms.items()
            ],
        )
        found[f"{scale} kinds"] = _table(
            [
                "arm",
                "where, which: as trained",
                "larger",
                "what colour, what shape: as trained",
                "larger",
                "how many: as trained",
                "larger",
            ],
            [
                [
                    arm,
                    *(
                        _spread([_kinds(run, test, kinds) for run in runs])
                        for kinds in (PLACES, CONTENTS, COUNTS)
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


def _spread(values):
    return f"{mean(values):.1%} ({min(values):.1%} to {max(values):.1%})".replace("%", " %")


def _while_learning(run):
    """The mean of the learning curve: how much was known, on average, in the course of training."""
    return mean(point["exact"] for point in run["curve"][1:])


def _against(runs, baseline):
    """Percentage points ahead of the baseline, seed by seed, and on how many seeds."""
    measures = [_while_learning, *(lambda run, test=test: run["tests"][test]["exact"] for test in TESTS)]
    for measure in measures:
        ahead = [100 * (measure(run) - measure(other)) for run, other in zip(runs, baseline)]
        yield f"{mean(ahead):+.1f} ({min(ahead):+.1f} to {max(ahead):+.1f})"


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
        last = f"{mean(cost):+.1f} ({min(cost):+.1f} to {max(cost):+.1f})" if arm != "stay" else ""
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
        values = [[100 * run["tests"][test]["exact"] for run in runs] for test in TESTS]
        places = [place + 0.8 * (number + 0.5) / len(arms) - 0.4 for place in range(len(TESTS))]
        axes.bar(places, [mean(each) for each in values], 0.8 / len(arms), color=COLOURS[arm], label=arm, alpha=0.75)
        for place, each in zip(places, values):
            axes.plot([place] * len(each), each, color="0.3", marker="_", markersize=4, linewidth=0.8)
    axes.set_xticks(range(len(TESTS)), [test.replace(", ", ",\n") for test in TESTS], fontsize=8)
    axes.set(ylabel="exact answers, %")
