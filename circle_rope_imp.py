"""Circle-RoPE geometry: position indices of images, videos and whole sequences, and the Per-Token Distance.

Pure functions of tensors (arXiv 2505.16416, section 4). Rows are always ordered (t, h, w); a *merged grid* has one
language-model token per cell; x is a cell's column and y its row. The layout of a sequence works on the tensors'
float64 arrays, for a batch has many small pieces, and numpy's operations start several times faster than torch's.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

# ---- Circle-RoPE of one picture (paper section 4.1, equations 2 to 12) ----------------------------------------------

_EXACT = {"dtype": torch.float64, "device": "cpu"}

# An orthonormal basis of the plane perpendicular to the text axis (1, 1, 1), (3, 1) each: u = (-1, 1, 0) / sqrt(2) and
# v = (-1, -1, 2) / sqrt(6) in the paper's order (w, h, t). The rows here are (t, h, w).
_U = torch.tensor([[0], [1], [-1]], **_EXACT) / math.sqrt(2)
_V = torch.tensor([[2], [-1], [-1]], **_EXACT) / math.sqrt(6)


@dataclass(frozen=True)
class CircleGeometry:
    """The circle index: every image token on a ring perpendicular to the text axis.

    Attributes:
        radius: of the ring, in index units, or `"auto"` / `"auto-k"` for k times the absolute value of the largest
            coordinate, as in the published code, which produced the published results (paper eq. 9 says largest L2
            norm).
        alpha: weight of the angle a cell has in the image against the angle by its row-major number.
        method: `"circle"`, or `"no_circle"` for the flat grid turned onto the ring's plane.
        move_to_origin: centre the grid on (0, 0) first.
        move_to_positive: `False`, `"auto"` to raise all components by |smallest one|, or a number to raise further.
        dff_rate: `False`, or the weight of the flat grid that is blended into the ring.
        image_stride: the i-th vision block of a sample moves (i - 1) times this along the text axis (section 4.3).
    """

    radius: float | str = 10
    alpha: float = 0.5
    method: str = "circle"
    move_to_origin: bool = True
    move_to_positive: bool | float | str = False
    dff_rate: bool | float = False
    image_stride: float = 0

    # A later video frame is the same ring moved along (1, 1, 1).
    time_axis = torch.tensor([[1], [1], [1]], **_EXACT)

    def frame(self, grid_h: int, grid_w: int) -> Tensor:
        """Index of one frame of `grid_h` x `grid_w` merged cells: float64 `(3, grid_h * grid_w)`, on the CPU."""
        # Coordinate centralisation: (max + min) / 2 is subtracted from either axis.
        top, left = ((grid_h - 1) / 2, (grid_w - 1) / 2) if self.move_to_origin else (0, 0)
        y = (torch.arange(grid_h, **_EXACT) - top)[:, None].expand(-1, grid_w).flatten()  # (cells,), row by row
        x = (torch.arange(grid_w, **_EXACT) - left).expand(grid_h, -1).flatten()

        points = flat = x * _U + y * _V  # (3, cells): the grid itself in the ring's plane
        if self.method == "circle":
            # Mixed-angle circular mapping, then target plane rotation.
            theta, radius = self._mixed_angle(y, x), self.radius  # (cells,) and a number
            if isinstance(radius, str):
                largest = max(y[-1].item(), x[-1].item())  # after centring, too, the largest absolute value
                radius = float(radius.removeprefix("auto").removeprefix("-") or 1) * largest
            ring_x, ring_y = radius * theta.cos(), radius * theta.sin()  # (cells,) each
            points = ring_x * _U + ring_y * _V
            if self.dff_rate:
                points = (1 - self.dff_rate) * points + self.dff_rate * flat

        # Shift along the text axis.
        if self.move_to_positive:
            points = points + points.min().abs()
            if self.move_to_positive != "auto":
                points = points + self.move_to_positive
        return points

    def _mixed_angle(self, y, x):
        """theta = alpha * SA + (1 - alpha) * GA of the cells, `(cells,)`."""
        # SA, the angle at which the origin sees a cell, stretched so that the smallest is 0 and the largest 2 pi.
        spatial = torch.atan2(y, x)
        low, high = (bound.item() for bound in spatial.aminmax())
        if high > low:
            spatial = (spatial - low) * (2 * math.pi / (high - low))
        # GA, an equal share of the circle for every cell.
        cells = spatial.numel()
        grid = torch.arange(cells, **_EXACT) * (2 * math.pi / cells)
        return self.alpha * spatial + (1 - self.alpha) * grid


# ---- M-RoPE of one picture ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MRopeGeometry:
    """Qwen2.5-VL's own (t, h, w) index (M-RoPE), the same on every transformers release."""

    image_stride: float = 0

    time_axis = torch.tensor([[1], [0], [0]], **_EXACT)

    def frame(self, grid_h: int, grid_w: int) -> Tensor:
        """Index of one frame of `grid_h` x `grid_w` merged cells: float64 `(3, grid_h * grid_w)`, on the CPU."""
        points = torch.zeros(3, grid_h, grid_w, **_EXACT)
        points[1] = torch.arange(grid_h, **_EXACT)[:, None]
        points[2] = torch.arange(grid_w, **_EXACT)
        return points.flatten(1)


def circle_index(grid_h: int, grid_w: int, *values, device=None, **named_values) -> Tensor:
    """Circle index of one image of `grid_h` x `grid_w` merged cells (paper eq. 2-12), not yet shifted to its place.

    float32 `(3, grid_h * grid_w)`, rows (t, h, w), tokens in row-major order; the values are `CircleGeometry`'s.
    """
    return CircleGeometry(*values, **named_values).frame(grid_h, grid_w).to(torch.float32).to(device)


def mrope_index(grid_h: int, grid_w: int, device=None) -> Tensor:
    """M-RoPE index of one image: float32 `(3, grid_h * grid_w)`, rows (t, h, w), tokens in row-major order."""
    return MRopeGeometry().frame(grid_h, grid_w).to(torch.float32).to(device)


# ---- Which frequency pairs an axis turns ----------------------------------------------------------------------------


def interleaved_section(pairs: int) -> tuple[int, int, int]:
    """Of that many frequency pairs, how many t, h and w have where they take them in turns: Qwen3-VL's 24:20:20."""
    each = min(round(pairs * 20 / 64), pairs // 3)
    return pairs - 2 * each, each, each


def axis_of_pairs(mrope_section: Sequence[int], interleaved: bool = False) -> Tensor:
    """Which of t, h and w (0, 1, 2) turns each frequency pair, highest frequency first: int64 `(head_dim / 2,)`.

    `mrope_section` says how many t, h and w have: each its own in one piece, as in Qwen2.5-VL, or `interleaved`: t, h,
    w, t, ..., until h and w have theirs, as in Qwen3-VL.
    """
    axes = torch.arange(3).repeat_interleave(torch.tensor(mrope_section))
    if interleaved:
        axes.zero_()
        for axis, pairs in turns(mrope_section):
            axes[pairs] = axis
    return axes


def turns(mrope_section: Sequence[int]) -> list[tuple[int, slice]]:
    """The pairs that h and then w have of those handed out in turns, as (axis, slice of pairs); t has the others."""
    return [(axis, slice(axis, 3 * mrope_section[axis], 3)) for axis in (1, 2)]


# ---- Per-Token Distance (paper equation 1) --------------------------------------------------------------------------


def per_token_distance(text_positions: Tensor, image_positions: Tensor) -> Tensor:
    """Per-Token Distance (paper eq. 1): how unevenly far a text token is from the tokens of an image.

    The mean over text tokens of the mean absolute deviation of the Euclidean distances to all image tokens: float32
    scalar of `(3, text_tokens)` and `(3, image_tokens)`, on their device; 0 where every text token is equally far from
    all image tokens.
    """
    distances = torch.cdist(  # (text_tokens, image_tokens)
        text_positions.double().T, image_positions.double().T, compute_mode="donot_use_mm_for_euclid_dist"
    )
    return (distances - distances.mean(-1, keepdim=True)).abs().mean().float()


# ---- Layout of a sequence (paper section 4.3) -----------------------------------------------------------------------


@dataclass(frozen=True, order=True)
class VisionBlock:
    """One image or video in a batch: which sample it stands in, its first slot there, and its merged grid."""

    sample: int
    slot: int
    grid_t: int
    grid_h: int
    grid_w: int
    interval: float = 0.0  # between two frames, in index units

    @property
    def length(self):
        return self.grid_t * self.grid_h * self.grid_w

    def index(self, geometry) -> Tensor:
        """The block's index under `geometry`, float64 `(3, length)`, before it is shifted to its place."""
        return torch.tensor(self.points(geometry)[0], device="cpu")

    def points(self, geometry):
        """The same as an array that is not to be changed, and its largest component."""
        points, of_rows, largest = _frame(geometry, self.grid_h, self.grid_w)  # (3, cells), (3,) and a number
        if self.grid_t > 1:
            # float32 on purpose: Qwen2.5-VL was trained with long(f * interval) rounded that way.
            times = (torch.arange(self.grid_t, dtype=torch.float32, device="cpu") * self.interval).long()
            moves = (geometry.time_axis * times).numpy()  # (3, grid_t)
            points = (points[:, None] + moves[..., None]).reshape(3, -1)
            largest = float((of_rows + moves.max(1)).max())
        return points, largest


@functools.lru_cache(maxsize=512)
def _frame(geometry, grid_h, grid_w):
    """One frame under a geometry, `(3, cells)`, its rows' largest components and the largest of all; not to change."""
    points = geometry.frame(grid_h, grid_w).numpy()
    points.setflags(write=False)
    return points, points.max(1), float(points.max())


def find_blocks(
    ids: Tensor, real: Tensor | None, token_id: int, grids: list[tuple[int, int, int]], intervals: list, kind: str
) -> list[VisionBlock]:
    """Match the placeholder tokens of a batch with the grids of its images or videos, in order.

    `ids` and `real` (bool, False where padded, or None) are `(batch, seq)` on the CPU; every block has a merged grid
    (t, h, w) and an interval between frames; `kind` is `"image"` or `"video"`. A ValueError if they do not fit.
    """
    is_placeholder = ids.numpy() == token_id
    if real is not None:
        is_placeholder &= real.numpy()
    batch, seq = is_placeholder.shape
    rest = is_placeholder.reshape(-1).nonzero()[0]  # slots of all samples, counted through: (placeholders,)
    remedy = f"pass one grid per {kind} of the batch, in order, and the input_ids that the processor made with them"

    def misfit(words):
        """The error about the placeholders that stand in one piece in one sample from the next one on."""
        piece = (rest - rest[0] == range(len(rest))) & (rest // seq == rest[0] // seq)
        return ValueError(f"sample {rest[0] // seq} has {piece.sum()} {kind} placeholder tokens {words}: {remedy}")

    blocks = []
    for row, (grid, interval) in enumerate(zip(grids, intervals)):
        if not len(rest):
            raise ValueError(
                f"{kind}_grid_thw has {len(grids)} rows, but the {batch} samples hold placeholder tokens for "
                f"only {row}: {remedy}"
            )
        (sample, slot), length = divmod(int(rest[0]), seq), math.prod(grid)
        last = int(rest[min(length, len(rest)) - 1])
        if length <= 0 or last - rest[0] != length - 1 or last // seq != sample:
            raise misfit(f"where row {row} of {kind}_grid_thw, merged to {'x'.join(map(str, grid))}, needs {length}")
        blocks.append(VisionBlock(sample, slot, *grid, interval))
        rest = rest[length:]
    if len(rest):
        raise misfit(f"left when all {len(grids)} rows of {kind}_grid_thw are used up")
    return blocks


class Ends(NamedTuple):
    """Where the samples of a batch go on behind their tokens so far.

    Attributes:
        text: index of a text token that comes next, float64 `(geometries, batch)`.
        free: first index above all so far, likewise. A picture begins there, or at `text` where that is larger: a ring
            that is moved backwards (`move_to_positive` below 0) sets the two apart.
        pictures: vision blocks so far, of each sample.
    """

    text: Tensor
    free: Tensor
    pictures: list[int]

    @classmethod
    def of_text(cls, length: int, geometries: int, batch: int) -> "Ends":
        """Behind text whose indices are its slots."""
        text, free = torch.full((2, geometries, batch), length, **_EXACT)
        return cls(text, free, [0] * batch)

    def text_rows(self) -> Tensor:
        """Positions of one text token that comes next: float32 `(3 * geometries, batch, 1)`."""
        return self.text.float().repeat_interleave(3, 0)[..., None]

    def deltas(self, slots: int) -> Tensor:
        """Index of a text token that comes next, minus the slots so far: float32 `(batch, geometries)`."""
        return (self.text.T - slots).float()


def sequence_index(
    blocks: list[VisionBlock], real: Tensor | None, shape: tuple, geometries: Sequence, before: Ends | None = None
) -> tuple[Tensor, Ends]:
    """Position index of sequences: text counts up, a vision block starts behind the largest index so far.

    `blocks` are the batch's, in any order; `real` is bool `(batch, seq)` on the CPU, False where padded, or None when
    nothing is; `shape` is (batch, seq); every geometry has a set of three rows; `before` is where every sample goes
    on, at index 0 if not given.

    Returns positions, float32 `(3 * geometries, batch, seq)`, pads 0, on the CPU, computed in float64 and rounded
    once; and where every sample goes on behind these tokens.
    """
    (batch, seq), count = shape, len(geometries)
    position_ids = torch.empty(3 * count, batch, seq, dtype=torch.float32, device="cpu")
    rows = position_ids.numpy().reshape(count, 3, batch, seq)
    before = before or Ends.of_text(0, count, batch)
    text, free, pictures = before.text.numpy().copy(), before.free.numpy().copy(), list(before.pictures)
    # How many tokens of its sample stand in front of each slot, pads not counted, and in all.
    ramps = [torch.arange(seq, **_EXACT).numpy()] * batch if real is None else (real.cumsum(-1) - real.long()).numpy()
    lengths = [seq] * batch if real is None else real.sum(-1).tolist()
    blocks_of: list[list[VisionBlock]] = [[] for _ in range(batch)]
    for block in sorted(blocks):
        blocks_of[block.sample].append(block)
    for sample, (ramp, length, own) in enumerate(zip(ramps, lengths, blocks_of)):
        for number, geometry in enumerate(geometries):
            index = rows[number, :, sample]  # (3, seq)
            slot, start, above = 0, float(text[number, sample]), float(free[number, sample])
            for picture, block in enumerate(own, pictures[sample]):
                index[:, slot : block.slot] = ramp[slot : block.slot] + start
                points, largest = block.points(geometry)
                above = max(above, start + ramp[block.slot])
                first = above + geometry.image_stride * picture
                slot = block.slot + block.length
                index[:, block.slot : slot] = points + first
                behind = first + largest + 1
                above = max(above, behind)
                start = behind - ramp[block.slot] - block.length  # a text token's index, less its number
            index[:, slot:] = ramp[slot:] + start
            text[number, sample], free[number, sample] = start + length, above
        pictures[sample] += len(own)
    if real is not None:
        position_ids.masked_fill_(~real, 0)
    return position_ids, Ends(torch.from_numpy(text), torch.from_numpy(free), pictures)


# ---- What a cache remembers -----------------------------------------------------------------------------------------


class Part(NamedTuple):
    """Tokens of a batch from one slot on: their positions, and what they are.

    The flags are `(batch, length)`; a run of picture tokens that none begins is one picture.
    """

    slot: int  # of the first token, pads counted
    rows: Tensor  # float32 (3 * geometries, batch, length)
    real: Tensor | None = None  # 0 where padded; None: no pads
    is_picture: Tensor | None = None  # bool; None: text alone
    begins: Tensor | None = None  # bool, where a picture begins

    def filled(self, samples: Tensor | None) -> list[Tensor]:
        """All but its slot, of these samples, on the CPU, with no None in it."""
        shape = self.rows.shape[1:]
        real = torch.ones(shape, dtype=torch.bool, device="cpu") if self.real is None else self.real.cpu() != 0
        flags = [torch.zeros_like(real) if flag is None else flag.cpu() for flag in self[3:]]
        tensors = [self.rows.cpu(), real, *flags]
        return tensors if samples is None else [tensor.index_select(-2, samples) for tensor in tensors]


class Record:
    """The positions of what a cache holds, as they were used; where its samples go on follows from them.

    Nothing is looked at before somebody goes on. Slots behind all that is recorded hold text.

    Attributes:
        made_for: whose positions they are; for others they mean nothing.
        log: parts, one behind the other from slot 0 on, and choices of the samples of those in front.
        length, held: how many slots the parts have, and how many of them the cache still holds.
        text_from: a slot behind which all is text, and the positions of a text token there, float32
            `(3 * geometries, batch, 1)`; None where nobody has looked.
    """

    def __init__(self, made_for):
        self.made_for, self.log, self.length, self.held, self.text_from = made_for, [], 0, 0, None

    def add(self, part: Part, text_from: tuple[int, Tensor] | None = None) -> None:
        """The cache holds these tokens now; `text_from` is the attribute, where it is known without a look at them."""
        self.cut(part.slot)
        while self.log and isinstance(self.log[-1], Part) and self.log[-1].slot >= self.held:
            self.length = self.log.pop().slot
        if self.held < self.length:
            whole = self._whole()
            self.log = [Part(0, *(tensor[..., : self.held] for tensor in whole[1:]))] if self.held else []
        if self.held < part.slot:  # text that nobody recorded: of another model, or of a compiled step
            first = self.text(self.held, "cpu") if self.log else torch.zeros_like(part.rows[..., :1], device="cpu")
            self.log.append(Part(self.held, first + torch.arange(part.slot - self.held, device="cpu")))
        self.log.append(part)
        self.length = self.held = part.slot + part.rows.shape[-1]
        self.text_from = text_from

    def cut(self, length: int) -> None:
        """The cache was cut back to so many slots."""
        self.held = min(self.held, length)
        if self.text_from is not None and self.text_from[0] > length:
            self.text_from = None

    def select(self, samples: Tensor) -> None:
        """The cache holds these samples now, in this order."""
        self.log.append(samples)
        if self.text_from is not None:
            slot, rows = self.text_from
            self.text_from = slot, rows[:, samples.to(rows.device)]

    def text(self, slot: int, device: torch.device | str) -> Tensor:
        """Positions of a text token at `slot`: float32 `(3 * geometries, batch, 1)`. Raises as `ends` does."""
        if self.text_from is None or self.text_from[0] > slot:
            self.text_from = slot, self.ends(slot).text_rows().to(device)
        return self.text_from[1] + (slot - self.text_from[0])

    def ends(self, slot: int) -> Ends:
        """Where every sample goes on when the cache holds `slot` slots.

        A ValueError if it ends inside a picture, or if where a picture ends is not known.
        """
        whole, length = self._whole(), min(slot, self.held)
        number = whole.begins.cumsum(-1) * whole.is_picture  # (batch, slots): of the token's picture, 0 for text
        if length < number.shape[1]:
            inside = (number[:, length] == number[:, length - 1]) & (number[:, length] > 0)
            for sample in inside.nonzero()[:, 0].tolist():
                begin = int((number[sample] == number[sample, length]).nonzero()[0])
                raise ValueError(
                    f"a cache of {length} slots ends inside a picture of sample {sample}, which begins at slot "
                    f"{begin}: crop the cache to {begin} slots, or to the picture's end."
                )
        number, real = number[:, :length], whole.real[:, :length]
        rows = whole.rows[..., :length].double().unflatten(0, (-1, 3))  # (geometries, 3, batch, length)
        place = torch.arange(length, device="cpu")
        last = (place * real).argmax(-1, keepdim=True)  # (batch, 1): the last token that is no pad
        number_of_last = number.gather(1, last)
        is_last, in_picture = (place == last) & real, number_of_last > 0
        if ((rows != rows[:, :1]).any(1).any(0) & is_last & ~in_picture).any():
            raise ValueError(
                "the cache holds tokens whose position_ids were passed in, and where they go on does not follow "
                "from them: pass position_ids for the tokens behind them as well."
            )

        def behind(tokens):
            index = rows.amax(1).masked_fill(~tokens, -math.inf).amax(-1) + 1  # (geometries, batch)
            return index.masked_fill(~real.any(-1), 0)

        text = behind(torch.where(in_picture, number == number_of_last, is_last))
        return Ends(text + (slot - length), behind(real), number.amax(-1).tolist())

    def _whole(self):
        """All parts as one."""
        parts, samples = [], None
        for entry in reversed(self.log):
            if isinstance(entry, Part):
                parts.append(entry.filled(samples))
            else:
                samples = entry.cpu() if samples is None else entry.cpu()[samples]
        rows, real, is_picture, begins = (torch.cat(tensors, -1) for tensors in zip(*reversed(parts)))
        begins |= is_picture & ~torch.nn.functional.pad(is_picture[:, :-1], (1, 0))
        self.log = [Part(0, rows, real, is_picture, begins)]
        return self.log[0]
