"""Anneal the positions during training: a Trainer callback that moves one key of the `circle_rope` block."""

from fractions import Fraction

from transformers.trainer_callback import ExportableState

from .blocks import age_schedule, circle_rope_model, validate_circle_rope
from .save_block import SaveBlock


class CircleRopeAnnealing(SaveBlock, ExportableState):
    """Moves `key` of the block from `start` to `end` over the first `steps` optimiser steps, and leaves it there.

    - `radius`: from 0, where all image tokens of a picture share one position, to a ring.
    - `dff_rate`: from 1, the flat grid turned into the plane of the ring, to 0, the ring alone. Neither end is M-RoPE.
    - `AGE_mode`: from one schedule, by default M-RoPE in every layer, to another: the layers in which they differ
      change one by one, from layer 0 upwards. The start is exactly what a stock checkpoint was trained with.

    The value depends on the number of the step alone, so a resumed run goes on where it was. A checkpoint says in its
    config the value that its last step was trained with. The steps-th step is the first with `end` itself.

    Args:
        key: `radius`, `dff_rate` or `AGE_mode`.
        start: value at the first step; None means 0, 1 or all mrope.
        end: value in the end; None means that of the model's block when training begins, which must then be a number
            (`radius` "auto" has no way from 0), and for `dff_rate` 0 where the block has none.
        steps: a number of optimiser steps, or as a float up to 1.0 the share of all of them.

    Raises:
        ValueError: another key, or steps out of range; at the beginning of training, ends that the block does not
            allow.
    """

    KEYS = ("radius", "dff_rate", "AGE_mode")

    def __init__(self, key: str = "AGE_mode", start=None, end=None, steps: int | float = 0.5):
        if key not in self.KEYS:
            raise ValueError(f"annealing was asked for {key!r}, but can move {', '.join(self.KEYS)}.")
        is_share = isinstance(steps, float)
        if (
            isinstance(steps, bool)
            or not isinstance(steps, (int, float))
            or not 0 < steps <= (1 if is_share else steps)
        ):
            raise ValueError(
                f"annealing was given steps={steps!r}, but needs a number of steps >= 1, or a share of all steps as a "
                "float above 0 and up to 1.0."
            )
        self.key, self.start, self.end, self.steps = key, start, end, steps
        self.ends: tuple | None = None
        self._block = None

    def state(self) -> dict:
        """What trainer_state.json keeps: without it, a run resumed from a half-way checkpoint would end half-way."""
        args = {"key": self.key, "start": self.start, "end": self.end, "steps": self.steps}
        return {"args": args, "attributes": {"ends": self.ends}}

    def value(self, step: int, max_steps: int):
        """The key's value at the optimiser step of that number (from 0), of `max_steps` in all."""
        steps = max(1, round(self.steps * max_steps)) if isinstance(self.steps, float) else self.steps
        start, end = self.ends
        if step >= steps - 1:
            return end
        # A fraction is exact: a layer changes at the same step on every machine.
        progress = Fraction(step, steps - 1)
        if self.key != "AGE_mode":
            return float(start + (end - start) * progress)
        start, end = (age_schedule(mode, self._layers) for mode in (start, end))
        different = [layer for layer in range(self._layers) if start[layer] != end[layer]]
        changed = set(different[: int(progress * len(different))])
        return [end[layer] if layer in changed else start[layer] for layer in range(self._layers)]

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        model = circle_rope_model(model)
        self._layers = model.config.text_config.num_hidden_layers
        if self.ends is None:
            saved = (state.stateful_callbacks or {}).get(type(self).__name__) if state.global_step else None
            self.ends = self.check(model.config, (saved or {}).get("attributes", {}).get("ends"))
        if not isinstance(self.steps, float) and self.steps > state.max_steps:
            raise ValueError(
                f"annealing takes {self.steps} steps, but training has {state.max_steps}: give at most as many."
            )
        self._block = dict(model.config.circle_rope)
        if self.key == "radius":
            self._block.pop("circle_r", None)  # lest the block say two
        self._set(model, state)

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        self._set(circle_rope_model(model), state)

    def check(self, config, saved: list | None = None) -> list:
        """Start and end for a model of this config: as given, else as a run that is resumed had them, else defaults.

        Raises:
            ValueError: ends between which nothing can be moved, or that the block does not allow.
        """
        layers = config.text_config.num_hidden_layers
        geometry = config.make_geometry("circle")
        defaults = (
            saved
            or {
                "radius": (0, geometry.radius),
                "dff_rate": (1, geometry.dff_rate or 0),
                "AGE_mode": (["mrope"] * layers, config.circle_rope.get("AGE_mode")),
            }[self.key]
        )
        ends = [given if given is not None else default for given, default in zip((self.start, self.end), defaults)]
        if self.key != "AGE_mode" and not all(
            isinstance(value, (int, float)) and not isinstance(value, bool) for value in ends
        ):
            raise ValueError(
                f"annealing would move {self.key} from {ends[0]!r} to {ends[1]!r}, but can only move between numbers: "
                "give start and end."
            )
        for value in ends:
            age_schedule(validate_circle_rope({self.key: value}).get("AGE_mode"), layers)
        return ends

    def _set(self, model, state):
        block = {**self._block, self.key: self.value(state.global_step, state.max_steps)}
        if model.config.circle_rope != block:
            model.set_circle_rope(block)
