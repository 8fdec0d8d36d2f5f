"""Where the tokens of one input stand under M-RoPE and under the circle geometry, and their Per-Token Distance."""

import copy
from dataclasses import dataclass

import numpy as np
import torch

from model import GEOMETRY, MODEL, PROCESSOR, SPECIAL_TOKENS, VISION_TOKENS

MAX_WORDS = 12  # of a question, that stand beside its picture


@dataclass
class Frame:
    """One picture, or one step in time of a video: the slots of its tokens and its merged grid."""

    picture: int  # number of the picture or video in the input, from 1
    step: int  # number of the step in time, from 1; 0 for a picture
    slots: slice
    rows: int
    columns: int


@dataclass
class Logits:
    """What position alone does to the attention of one word to the tokens of one picture, under one geometry."""

    distances: np.ndarray  # (tokens,) of the index, from the word
    logits: np.ndarray  # (tokens,) with a query and keys of which every component is 1
    spread: float  # root mean square of the standard deviation over the tokens, for unit normal queries and keys


@dataclass
class Layout:
    """The tokens of one input in order, and its frames."""

    tokens: list[str]
    words: np.ndarray  # slots of the words to show: some before the first picture and those of the question behind it
    all_words: np.ndarray  # slots of every word
    is_vision: np.ndarray  # bool (seq,)
    frames: list[Frame]
    blocks: list
    length: int

    @property
    def word(self) -> int:
        """Slot of the word whose distances are shown: the last of the first question."""
        return int(self.words[-1])


def lay_out(inputs: dict[str, torch.Tensor]) -> Layout:
    """What the model reads: the tokens of what `model.prepare` has made."""
    ids = inputs["input_ids"]
    blocks = MODEL.model.vision_blocks(
        ids, inputs.get("image_grid_thw"), inputs.get("video_grid_thw"), inputs.get("second_per_grid_ts")
    )
    blocks.sort(key=lambda block: block.slot)
    frames = []
    for number, block in enumerate(blocks, 1):
        cells = block.grid_h * block.grid_w
        for step in range(block.grid_t):
            start = block.slot + step * cells
            is_video = ids[0, start] == MODEL.config.video_token_id
            frames.append(
                Frame(number, step + 1 if is_video else 0, slice(start, start + cells), block.grid_h, block.grid_w)
            )
    tokens = [PROCESSOR.tokenizer.decode([token]) for token in ids[0].tolist()]
    is_vision = torch.isin(ids[0], torch.tensor(VISION_TOKENS)).numpy()
    every = _words(tokens)
    return Layout(tokens, _near(tokens, every, frames), every, is_vision, frames, blocks, ids.shape[1])


def _words(tokens):
    """Slots of what somebody said: no control tokens, and not who speaks, which the first line of a turn names."""
    said, is_role = [], False
    for token in tokens:
        is_role = token == "<|im_start|>" or is_role and "\n" not in token
        said.append(not is_role and token not in SPECIAL_TOKENS and any(map(str.isalnum, token)))
    return np.flatnonzero(said)


def _near(tokens, words, frames):
    if not frames:
        return words
    first = frames[0].slots.start
    end = next((slot for slot in range(first, len(tokens)) if tokens[slot] == "<|im_end|>"), len(tokens))
    behind = words[(words > first) & (words < end)][:MAX_WORDS]
    # Where nothing is asked yet, what follows the pictures stands in for it.
    behind = behind if len(behind) else np.array([frames[-1].slots.stop])
    return np.concatenate([words[words < first][-3:], behind])


def place(layout: Layout, block: dict) -> dict[str, np.ndarray]:
    """The index of every token under both geometries, float32 `(3, seq)` each, rows (t, h, w)."""
    config = copy.deepcopy(MODEL.config)
    config.circle_rope = block
    geometries = [config.make_geometry("mrope"), config.make_geometry("circle")]
    rows, _ = GEOMETRY.sequence_index(layout.blocks, None, (1, layout.length), geometries)
    return {"mrope": rows[:3, 0].numpy(), "circle": rows[3:, 0].numpy()}


def distances(layout: Layout, places: dict[str, np.ndarray]) -> dict[str, float]:
    """Per-Token Distance under each geometry, the mean over pictures and frames; nothing when there is no picture."""
    if not layout.frames:
        return {}
    return {
        name: float(
            np.mean(
                [
                    GEOMETRY.per_token_distance(
                        torch.from_numpy(rows[:, ~layout.is_vision]), torch.from_numpy(rows[:, frame.slots])
                    )
                    for frame in layout.frames
                ]
            )
        )
        for name, rows in places.items()
    }


def logits(layout: Layout, rows: np.ndarray) -> Logits:
    """From `layout.word` to the first picture or frame, whose tokens all have the same key."""
    picture = rows[:, layout.frames[0].slots].astype(float)
    apart = rows[:, [layout.word]] - picture
    turned = np.exp(1j * _angles(apart))
    return Logits(
        distances=np.linalg.norm(apart, axis=0),
        logits=2 * turned.real.sum(1) / np.sqrt(2 * turned.shape[1]),
        spread=float(np.sqrt(np.mean(1 - np.abs(turned.mean(0)) ** 2))),
    )


def _angles(rows):
    """By how much rotary embedding turns each pair of components, `(tokens, pairs)`, at an index `(3, tokens)`."""
    frequencies = MODEL.model.language_model.rotary_emb.inv_freq.cpu().double().numpy()
    return rows[MODEL.config.axis_of_pairs.numpy()].T * frequencies
