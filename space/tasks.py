"""What the Space does for a visitor, with every input checked first; the page and the API both call these."""

from collections.abc import Iterator

import numpy as np

import limits
import model
import positions
from limits import BadInput, check_number

Sliders = tuple[float | None, float | None, float | None]  # radius, alpha, dff_rate; None is the model's own


def check_settings(geometry: str, radius: float | None, alpha: float | None, dff_rate: float | None) -> dict:
    """The `circle_rope` block of the visitor's choice; raises BadInput when one of them is not allowed."""
    if not isinstance(geometry, str) or geometry not in model.SCHEDULES:
        raise BadInput("bad_choice", name="geometry", given=str(geometry)[:40], allowed=", ".join(model.SCHEDULES))
    sliders = (("radius", radius, limits.MAX_RADIUS), ("alpha", alpha, 1), ("dff_rate", dff_rate, 1))
    values = [None if value is None else check_number(name, value, 0, high) for name, value, high in sliders]
    return model.make_block(geometry, *values)


def _check(question, turns, max_new_tokens):
    if len(turns) >= limits.MAX_TURNS:
        raise BadInput("too_many_turns", allowed=limits.MAX_TURNS)
    question = limits.check_question(question, model.SPECIAL_TOKENS)
    return question, check_number("max_new_tokens", max_new_tokens, 1, limits.MAX_NEW_TOKENS, whole=True)


def ask(
    paths: list[str],
    turns: list[tuple[str, str]],
    question: str,
    settings: tuple[str, float | None, float | None, float | None],
    max_new_tokens: int,
    temperature: float,
) -> Iterator[str]:
    """The answer as it grows; `settings` are the geometry, radius, alpha and dff_rate.

    Raises:
        BadInput: at once, before any work.
    """
    question, max_new_tokens = _check(question, turns, max_new_tokens)
    temperature = check_number("temperature", temperature, 0, limits.MAX_TEMPERATURE)
    block = check_settings(*settings)
    inputs = model.prepare(limits.open_media(paths), turns, question)
    return model.answer(inputs, block, max_new_tokens, temperature)


def compare(
    paths: list[str],
    turns: list[tuple[str, str]],
    question: str,
    sliders: Sliders,
    max_new_tokens: int,
) -> Iterator[list[dict]]:
    """One entry for every geometry, one more of them answered each time.

    An entry has geometry, layers, ptd and trained, and once it is answered, answer, seconds and tokens.
    """
    question, max_new_tokens = _check(question, turns, max_new_tokens)
    blocks = {geometry: check_settings(geometry, *sliders) for geometry in model.SCHEDULES}
    inputs = model.prepare(limits.open_media(paths), turns, question)
    layout = positions.lay_out(inputs)
    ptd = positions.distances(layout, positions.place(layout, blocks["circle"]))
    entries = []
    for geometry in blocks:
        layers = model.layers_of(geometry)
        mean = float(np.mean([ptd[layer] for layer in layers])) if ptd else None
        entries.append(
            {"geometry": geometry, "layers": layers, "ptd": mean, "trained": geometry == model.OWN_SCHEDULE}
        )
    yield entries
    results = model.compare(inputs, list(blocks.values()), max_new_tokens)
    for entry, (answer, seconds, tokens) in zip(entries, results):
        entry |= {"answer": answer, "seconds": seconds, "tokens": tokens}
        yield entries


def see(
    paths: list[str], turns: list[tuple[str, str]], question: str, sliders: Sliders
) -> tuple[positions.Layout, dict[str, np.ndarray], dict[str, float]]:
    """The tokens, their index under both geometries, and the Per-Token Distance of each; the question may be empty."""
    block = check_settings("circle", *sliders)
    if (question or "").strip():
        question = limits.check_question(question, model.SPECIAL_TOKENS)
    layout = positions.lay_out(model.prepare(limits.open_media(paths), turns, question or ""))
    places = positions.place(layout, block)
    return layout, places, positions.distances(layout, places)


def attend(
    paths: list[str],
    turns: list[tuple[str, str]],
    question: str,
    geometries: list[str],
    sliders: Sliders,
    max_new_tokens: int,
) -> tuple[list, list[model.Attended]]:
    """For every picture or step of a video its `Frame` and its PIL image; for every geometry what it attends to."""
    question, max_new_tokens = _check(question, turns, max_new_tokens)
    blocks = [check_settings(geometry, *sliders) for geometry in geometries]
    media = limits.open_media(paths)
    if not media:
        raise BadInput("no_picture")
    inputs = model.prepare(media, turns, question)
    frames = [(frame, _image(media, frame)) for frame in positions.lay_out(inputs).frames]
    return frames, model.attend(inputs, blocks, max_new_tokens)


def _image(media, frame):
    """What a frame shows: the picture, or the first of the video's frames that are merged into its step."""
    images = media[frame.picture - 1].frames
    merged = model.MODEL.config.vision_config.temporal_patch_size
    return images[min(max(frame.step - 1, 0) * merged, len(images) - 1)]


def at_step(weights: np.ndarray, step: int) -> np.ndarray:
    """float32 `(layers, heads, vision tokens)` of one step of the answer; step 0 is the mean of all."""
    return weights[:, :, min(step, weights.shape[2] - 1)].astype(np.float32)


def choose(weights: np.ndarray, layer: int, head: int, step: int = 0) -> np.ndarray:
    """`(vision tokens,)` of one step, layer and head, or the mean over layers or heads for -1."""
    weights = at_step(weights, step)
    weights = weights.mean(0) if layer < 0 else weights[layer]
    return weights.mean(0) if head < 0 else weights[head]


def split_maps(frames: list, weights: np.ndarray) -> list[np.ndarray]:
    """`(vision tokens,)` as one array `(rows, columns)` for every frame."""
    sizes = [frame.rows * frame.columns for frame, _ in frames]
    parts = np.split(weights, np.cumsum(sizes)[:-1])
    return [part.reshape(frame.rows, frame.columns) for part, (frame, _) in zip(parts, frames)]
