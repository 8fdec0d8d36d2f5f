"""A run that one can watch: one line at its start that says what is trained, and a plot of its losses at its end."""

import importlib.util
from collections import Counter
from pathlib import Path

from transformers import TrainerCallback

from .blocks import circle_rope_model, schedule_in_words

PLOT = "loss.png"


def start_line(model, processes: int) -> str:
    """Geometry per layer, trained parameters by part, dtype of weights and positions, processes.

    Args:
        model: with a Circle-RoPE model somewhere in it, wrapped or not.
        processes: how many train together.
    """
    inner = circle_rope_model(model).model
    trained = Counter(dict.fromkeys(("language model", "projector", "vision tower"), 0))
    for name, parameter in model.named_parameters():
        part = "language model" if "visual." not in name else "projector" if ".merger." in name else "vision tower"
        # Under ZeRO-3 a process holds none of it but its own part.
        trained[part] += parameter.requires_grad * getattr(parameter, "ds_numel", parameter.numel())
    parts = ", ".join(f"{count:,} of the {part}" for part, count in trained.items())
    return (
        f"Circle-RoPE: layers: {schedule_in_words(inner.schedule)}; trained parameters: {parts}; "
        f"weights {str(inner.dtype).removeprefix('torch.')}, positions float32; processes: {processes}"
    )


def plot(history: list[dict], file: Path) -> None:
    """Draw `loss` and `eval_loss` of a Trainer's `log_history` over the steps; without matplotlib there is no plot."""
    curves = {key: [(entry["step"], entry[key]) for entry in history if key in entry] for key in ("loss", "eval_loss")}
    if not any(curves.values()) or importlib.util.find_spec("matplotlib") is None:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for key, points in curves.items():
        if points:
            axes.plot(*zip(*points), marker="." if len(points) < 50 else None, label=key)
    axes.set(xlabel="step", ylabel="loss")
    axes.legend()
    figure.savefig(file, dpi=150)


class Watch(TrainerCallback):
    """Prints the line when training begins, and leaves `loss.png` in the output folder when it ends."""

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        if state.is_world_process_zero:
            print(start_line(model, args.world_size), flush=True)

    def on_train_end(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            plot(state.log_history, Path(args.output_dir) / PLOT)
