"""Circle-RoPE geometry: position indices of images, videos and whole sequences, and the Per-Token Distance.

Pure functions of tensors (arXiv 2505.16416, section 4). Rows are always ordered (t, h, w); a *merged grid* has one
language-model token per cell; x is a cell's column and y its row. Tensors go in and come out; between them the layout
of a sequence works on float64 arrays, for a batch has many small pieces, and numpy's operations start several times
faster than torch's.
"""

import functools
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

# ---- Circle-RoPE of one picture (paper section 4.1, equations 2 to 12) ----------------------------------------------

_EXACT = {"dtype": torch.float64, "device": "cpu"}

# An orthonormal basis of the plane perpendicular to the text axis (1, 1, 1), (3, 1) each: u = (-1, 1, 0) / sqrt(2) and
# v = (-1, -1, 2) / sqrt(6) in the paper's order (w, h, t). The rows here are (t, h, w).
_U = torch.tensor([[0], [1], [-1]], **_EXACT) / math.sqrt(2)
_V = torch.tensor([[2], [-1], [-1]], **_EXACT) / math.sqrt(6)


def _count(first, count):
    """first, first + 1, ...: float64 `(count,)`."""
    return torch.arange(first, first + count, **_EXACT)


@dataclass(frozen=True)
class CircleGeometry:
    """The circle index: every image token on a ring perpendicular to the text axis.

    Attributes:
        radius: radius of the ring in index units, or `"auto"` / `"auto-k"` for k times the absolute value of the
            largest coordinate. (Paper eq. 9 says largest L2 norm; the published code, which produced the published
            results, takes the largest coordinate, and so do we.)
        alpha: weight of the angle a cell has in the image against the angle by its row-major number.
        method: `"circle"`, or `"no_circle"` for the flat grid turned onto the ring's plane.
        move_to_origin: centre the grid on (0, 0) first.
        move_to_positive: `False` or 0, or `"auto"` to raise every component by |smallest one|, or a number to raise
            that much further.
        dff_rate: `False`, or the weight of the flat grid that is blended into the ring.
        image_stride: the i-th vision block of a sample moves (i - 1) times this further along the text axis
            (section 4.3).
    """

    radius: float | str = 10
    alpha: float = 0.5
    method: str = "circle"
    move_to_origin: bool = True
    move_to_positive: bool | float | str = False
    dff_rate: bool | float = False
    image_stride: float = 0

    # A later video frame is the same ring moved along (1, 1, 1).
    time_axis = (1.0, 1.0, 1.0)

    @property
    def ends_at_its_largest(self) -> bool:
        """Whether what comes behind a picture follows from the largest index alone.

        It does not where a picture may lie behind the text in front of it, nor where its number matters.
        """
        moves_back = not isinstance(self.move_to_positive, str) and self.move_to_positive < 0
        return not moves_back and self.image_stride == 0

    def frame(self, grid_h: int, grid_w: int) -> torch.Tensor:
        """Index of one frame of `grid_h` x `grid_w` merged cells: float64 `(3, grid_h * grid_w)`, on the CPU."""
        # Coordinate centralisation: (max + min) / 2 is subtracted from either axis.
        top, left = ((grid_h - 1) / 2, (grid_w - 1) / 2) if self.move_to_origin else (0, 0)
        y, x = _count(-top, grid_h)[:, None], _count(-left, grid_w)  # (grid_h, 1) and (grid_w,)

        if self.method == "no_circle":
            points = self._flat(y, x)  # (3, cells)
        else:
            # Mixed-angle circular mapping.
            theta, radius = self._mixed_angle(y, x), self._radius(y, x)  # (cells,) and a number
            ring_x, ring_y = radius * theta.cos(), radius * theta.sin()  # (cells,) each
            # Target plane rotation.
            points = ring_x * _U + ring_y * _V  # (3, cells)
            if self.dff_rate:
                points = (1 - self.dff_rate) * points + self.dff_rate * self._flat(y, x)

        # Shift along the text axis.
        if self.move_to_positive:
            points = points + points.min().abs()
            if self.move_to_positive != "auto":
                points = points + self.move_to_positive
        return points

    def _mixed_angle(self, y, x):
        """theta = alpha * SA + (1 - alpha) * GA of the cells in row-major order, `(cells,)`."""
        # SA, the angle at which the origin sees a cell, stretched so that the smallest is 0 and the largest 2 pi.
        spatial = torch.atan2(y, x).flatten()
        low, high = (bound.item() for bound in spatial.aminmax())
        if high > low:
            spatial = (spatial - low) * (2 * math.pi / (high - low))
        # GA, an equal share of the circle for every cell.
        cells = spatial.numel()
        grid = _count(0, cells) * (2 * math.pi / cells)
        return self.alpha * spatial + (1 - self.alpha) * grid

    def _radius(self, y, x):
        if not isinstance(self.radius, str):
            return self.radius
        largest = max(y[-1].item(), x[-1].item())  # after centring, too, no smaller than any other's absolute value
        return float(self.radius.removeprefix("auto").removeprefix("-") or 1) * largest

    def _flat(self, y, x):
        """The grid itself in the ring's plane, `(3, cells)`."""
        return x.expand(len(y), -1).flatten() * _U + y.expand(-1, len(x)).flatten() * _V


# ---- M-RoPE of one picture ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MRopeGeometry:
    """Qwen2.5-VL's own (t, h, w) index (M-RoPE), the same on every transformers release."""

    image_stride: float = 0

    time_axis = (1.0, 0.0, 0.0)
    ends_at_its_largest = True

    def frame(self, grid_h: int, grid_w: int) -> torch.Tensor:
        """Index of one frame of `grid_h` x `grid_w` merged cells: float64 `(3, grid_h * grid_w)`, on the CPU."""
        points = torch.zeros(3, grid_h, grid_w, **_EXACT)
        rows = points.numpy()  # the same numbers, assigned faster
        rows[1] = _ramp(grid_h)[:, None]
        rows[2] = _ramp(grid_w)
        return points.flatten(1)


def _read_only(values):
    """A tensor's values as an array that may be kept and handed out."""
    array = values.numpy()
    array.setflags(write=False)
    return array


def _ramp(length):
    """0, 1, 2, ... as a float64 array `(length,)`, which nobody may change."""
    return _long_ramp(length.bit_length())[:length]


@functools.lru_cache(maxsize=32)
def _long_ramp(bits):
    return _read_only(_count(0, 1 << bits))


def circle_index(
    grid_h: int, grid_w: int, *values, device: torch.device | str | None = None, **named_values
) -> torch.Tensor:
    """Circle index of one image (paper eq. 2-12), before it is shifted to its place in a sequence.

    Args:
        grid_h, grid_w: rows and columns of the merged grid.
        values, named_values: radius, alpha, method, move_to_origin, move_to_positive, dff_rate: see `CircleGeometry`.
        device: where the result is wanted; the CPU if not given.

    Returns:
        float32 `(3, grid_h * grid_w)`, rows (t, h, w), tokens in row-major order.
    """
    return CircleGeometry(*values, **named_values).frame(grid_h, grid_w).to(torch.float32).to(device)


def mrope_index(grid_h: int, grid_w: int, device: torch.device | str | None = None) -> torch.Tensor:
    """M-RoPE index of one image: float32 `(3, grid_h * grid_w)`, rows (t, h, w), tokens in row-major order."""
    return MRopeGeometry().frame(grid_h, grid_w).to(torch.float32).to(device)


# ---- Which frequency pairs an axis turns ----------------------------------------------------------------------------


def interleaved_section(pairs: int) -> tuple[int, int, int]:
    """Of that many frequency pairs, how many t, h and w have where they take them in turns: Qwen3-VL's 24:20:20."""
    each = min(round(pairs * 20 / 64), pairs // 3)
    return pairs - 2 * each, each, each


def axis_of_pairs(mrope_section: Sequence[int], interleaved: bool = False) -> torch.Tensor:
    """Which of t, h and w (0, 1, 2) turns each frequency pair, highest frequency first: int64 `(head_dim / 2,)`.

    Args:
        mrope_section: frequency pairs of t, h and w.
        interleaved: whether they take them in turns, t, h, w, t, ..., until h and w have theirs, as in Qwen3-VL; else
            each has its own in one piece, as in Qwen2.5-VL.
    """
    if not interleaved:
        return torch.tensor([axis for axis, pairs in enumerate(mrope_section) for _ in range(pairs)])
    axes = torch.zeros(sum(mrope_section), dtype=torch.long)
    for axis, pairs in turns(mrope_section):
        axes[pairs] = axis
    return axes


def turns(mrope_section: Sequence[int]) -> list[tuple[int, slice]]:
    """The pairs that h and then w have of those handed out in turns, as (axis, slice of pairs); t has the others."""
    return [(axis, slice(axis, 3 * mrope_section[axis], 3)) for axis in (1, 2)]


# ---- Per-Token Distance (paper equation 1) --------------------------------------------------------------------------


def per_token_distance(text_positions: torch.Tensor, image_positions: torch.Tensor) -> torch.Tensor:
    """Per-Token Distance (paper eq. 1): how unevenly far a text token is from the tokens of an image.

    The mean over text tokens of the mean absolute deviation of the Euclidean distances to all image tokens.

    Args:
        text_positions: `(3, text_tokens)` (or any number of rows).
        image_positions: `(3, image_tokens)`, as many rows.

    Returns:
        float32 scalar, on the device of the input; 0 means that every text token is equally far from all of them.
    """
    distances = torch.cdist(  # (text_tokens, image_tokens)
        text_positions.double().T, image_positions.double().T, compute_mode="donot_use_mm_for_euclid_dist"
    )
    return (distances - distances.mean(-1, keepdim=True)).abs().mean().float()


# ---- Layout of a sequence -------------------------------------------------------------------------------------------


@dataclass(frozen=True, order=True)
class VisionBlock:
    """One image or video in a batch: which sample it stands in, its first slot there, and its merged grid.

    `interval` is the temporal distance of two frames in index units (0 for images).
    """

    sample: int
    slot: int
    grid_t: int
    grid_h: int
    grid_w: int
    interval: float = 0.0

    @property
    def length(self):
        return self.grid_t * self.grid_h * self.grid_w

    def index(self, geometry) -> torch.Tensor:
        """The block's index under `geometry`, float64 `(3, length)`, before it is shifted to its place."""
        points, _ = self.indices((geometry,))
        return torch.tensor(points[0], device="cpu")

    def indices(self, geometries: tuple) -> tuple:
        """The same under several, an array `(geometries, 3, length)` that is not to be changed, and their largest."""
        points, largest, rows = _frames(geometries, self.grid_h, self.grid_w)
        if self.grid_t == 1:
            return points, largest
        moves, furthest = _moves(geometries, self.grid_t, self.interval)
        points = points[:, :, None] + moves  # (geometries, 3, grid_t, cells)
        return points.reshape(len(geometries), 3, -1), (rows + furthest).amax(-1).tolist()


@functools.lru_cache(maxsize=256)
def _frames(geometries, grid_h, grid_w):
    """One frame under each geometry: a float64 array `(geometries, 3, cells)`, and each geometry's and row's largest.

    The largest are floats `(geometries,)` and a float64 tensor `(geometries, 3)`.
    """
    points = torch.stack([geometry.frame(grid_h, grid_w) for geometry in geometries])
    rows = points.amax(-1)
    return _read_only(points), tuple([max(largest) for largest in rows.tolist()]), rows


@functools.lru_cache(maxsize=128)
def _moves(geometries, grid_t, interval):
    """How far each frame of a video moves, a float64 array `(geometries, 3, grid_t, 1)`, and how far the furthest."""
    # float32 on purpose: Qwen2.5-VL was trained with long(f * interval) rounded that way.
    times = (torch.arange(grid_t, dtype=torch.float32, device="cpu") * interval).long().double()
    axes = torch.tensor([geometry.time_axis for geometry in geometries], dtype=torch.float64, device="cpu")
    moves = axes[:, :, None] * times
    return _read_only(moves[..., None]), moves.amax(-1)


def find_blocks(
    input_ids: torch.Tensor,
    real: torch.Tensor | None,
    token_id: int,
    merged_grids: list[tuple[int, int, int]],
    intervals: list[float],
    kind: str,
) -> list[VisionBlock]:
    """Match the placeholder tokens of a batch with the grids of its images or videos, in order.

    Args:
        input_ids: `(batch, seq)` on the CPU.
        real: bool `(batch, seq)`, False where padded, or None.
        token_id: the placeholder's id.
        merged_grids: (t, h, w) of every block, merged, in the order of the batch.
        intervals: temporal distance of two frames for every block.
        kind: `"image"` or `"video"`, for messages.

    Raises:
        ValueError: the placeholders do not fit the grids.
    """
    placeholders = input_ids.numpy() == token_id
    if real is not None:
        placeholders &= real.numpy()
    if not merged_grids and not placeholders.any():
        return []
    blocks, grids = [], zip(merged_grids, intervals)
    remedy = f"pass one grid per {kind} of the batch, in order, and the input_ids that the processor made with them"
    for sample, slot, run in _runs(placeholders):
        # Blocks may stand side by side, so one run of placeholders can hold several.
        while run > 0:
            grid, interval = next(grids, (None, None))
            if grid is None:
                raise ValueError(
                    f"sample {sample} has {run} {kind} placeholder tokens left when all {len(merged_grids)} rows of "
                    f"{kind}_grid_thw are used up: {remedy}"
                )
            length = math.prod(grid)
            if not 0 < length <= run:
                raise ValueError(
                    f"sample {sample} has {run} {kind} placeholder tokens where row {len(blocks)} of {kind}_grid_thw, "
                    f"merged to {'x'.join(map(str, grid))}, needs {length}: {remedy}"
                )
            blocks.append(VisionBlock(sample, slot, *grid, interval))
            slot, run = slot + length, run - length
    if len(blocks) < len(merged_grids):
        raise ValueError(
            f"{kind}_grid_thw has {len(merged_grids)} rows, but the {len(placeholders)} samples hold placeholder "
            f"tokens for only {len(blocks)}: {remedy}"
        )
    return blocks


def _runs(mask):
    """Runs of True in the rows of a bool array, in order: (row, first slot, length) each."""
    length = mask.shape[1]
    flat = mask.reshape(-1)
    edges = ((flat[1:] != flat[:-1]).nonzero()[0] + 1).tolist()
    if flat.size and flat[0]:
        edges.insert(0, 0)
    if len(edges) % 2:
        edges.append(flat.size)
    for begin, end in zip(edges[::2], edges[1::2]):
        while begin < end:
            row, slot = divmod(begin, length)
            count = min(end - begin, length - slot)
            yield row, slot, count
            begin += count


TEXT, PADS, BLOCK = "text", "pads", "block"
GIVEN = "given"  # tokens whose positions somebody else made


class Mark(NamedTuple):
    """Where a sample of a sequence goes on behind one of its pieces.

    Attributes:
        slot: first slot behind the piece, pads counted.
        kind: what the piece is: `TEXT`, `PADS`, `BLOCK` or `GIVEN`.
        text: index of a text token that comes next, one for each geometry; None where nobody knows.
        free: first index above all so far, likewise. A ring that is moved backwards (`move_to_positive` below 0) sets
            the two apart.
        blocks: vision blocks so far.
    """

    slot: int
    kind: str
    text: tuple[float, ...] | None
    free: tuple[float, ...] | None
    blocks: int


def sequence_index(
    blocks: list[VisionBlock],
    real: torch.Tensor | None,
    shape: tuple[int, int],
    geometries: Sequence[CircleGeometry | MRopeGeometry],
) -> tuple[torch.Tensor, list[list[float]]]:
    """Position index of whole sequences: text counts up, a vision block starts behind the largest index so far.

    Args:
        blocks: the batch's vision blocks, in any order.
        real: bool `(batch, seq)` on the CPU, False where padded, or None when nothing is.
        shape: (batch, seq).
        geometries: one set of three rows is computed for each.

    Returns:
        position_ids: float32 `(3 * geometries, batch, seq)`, pads 0, on the CPU. Computed in float64 and rounded
            once, so an index is exact to half a float32 unit in the last place.
        next_index: the first free index behind every sample under every geometry, `[batch][geometry]`.
    """
    position_ids, marks = continue_sequences(blocks, real, shape, geometries)
    return position_ids, [[max(pair) for pair in zip(own[-1].text, own[-1].free)] for own in marks]


def continue_sequences(
    blocks: list[VisionBlock],
    real: torch.Tensor | None,
    shape: tuple[int, int],
    geometries: Sequence[CircleGeometry | MRopeGeometry],
    before: list[Mark] | None = None,
) -> tuple[torch.Tensor, list[list[Mark]]]:
    """`sequence_index` of tokens that come behind others.

    Args:
        blocks, real, shape, geometries: of the new tokens, as in `sequence_index`.
        before: where every sample goes on (`Continuation.last`); at index 0 if not given.

    Returns:
        position_ids: as in `sequence_index`.
        marks: where every sample goes on behind each of its pieces, at least one for every sample.
    """
    batch, length = shape
    geometries = tuple(geometries)
    pieces = _lay_out(blocks, real, shape, geometries)
    if before is None:
        before = [start for (start,) in Continuation.of_text(batch, len(geometries)).samples]
    offsets, marks = _place(pieces, geometries, before)

    # (geometries, 3, batch * length), every piece in its place, and one addition for all of them.
    exact = torch.empty(len(geometries), 3, batch * length, dtype=torch.float64, device="cpu").numpy()
    counts, slot = [], 0
    for own in pieces:
        for piece in own:
            exact[:, :, slot : slot + piece.count] = piece.index
            counts.append(piece.count)
            slot += piece.count
    if counts:
        offsets = torch.tensor(offsets, dtype=torch.float64, device="cpu").numpy().T
        exact += offsets.repeat(counts, axis=1)[:, None]
    position_ids = torch.empty(3 * len(geometries), batch, length, dtype=torch.float32, device="cpu")
    position_ids.numpy()[:] = exact.reshape(position_ids.shape)
    return position_ids, marks


@dataclass(slots=True)
class Piece:
    """Neighbouring slots of a sample which are laid out as one.

    Attributes:
        kind: `TEXT`, `PADS` or `BLOCK`.
        count: how many slots.
        index: float64, from 0: `(count,)` of text, `(geometries, 3, count)` of a block, 0 of pads.
        largest: a block's largest index under each geometry.
    """

    kind: str
    count: int
    index: object
    largest: Sequence[float] = ()


def _lay_out(blocks, real, shape, geometries):
    """The pieces of every sample in order."""
    batch, length = shape
    pieces, filled, parts = [[] for _ in range(batch)], [0] * batch, {}
    ramp = _ramp(length)
    waiting = sorted(blocks, reverse=True)
    for sample, slot, count in _runs(real.numpy()) if real is not None else [(row, 0, length) for row in range(batch)]:
        own, end = pieces[sample], slot + count
        if filled[sample] < slot:
            own.append(Piece(PADS, slot - filled[sample], 0.0))
        while waiting and waiting[-1].sample == sample and waiting[-1].slot < end:
            block = waiting.pop()
            begin, size = block.slot, (block.grid_t, block.grid_h, block.grid_w, block.interval)
            if size not in parts:
                parts[size] = block.indices(geometries)
            if slot < begin:
                own.append(Piece(TEXT, begin - slot, ramp[: begin - slot]))
            slot = begin + block.length
            own.append(Piece(BLOCK, slot - begin, *parts[size]))
        if slot < end:
            own.append(Piece(TEXT, end - slot, ramp[: end - slot]))
        filled[sample] = end
    for own, end in zip(pieces, filled):
        if end < length:
            own.append(Piece(PADS, length - end, 0.0))
    return pieces


def _place(pieces, geometries, before):
    """What is added to the index of every piece, a row of one number per geometry, and every sample's marks."""
    offsets, marks = [], []
    strides = [geometry.image_stride for geometry in geometries]
    nothing = [0.0] * len(strides)
    for own, (slot, kind, text, free, blocks) in zip(pieces, before):
        behind = []
        for piece in own:
            kind, count = piece.kind, piece.count
            slot += count
            if kind == TEXT:
                offsets.append(text)
                text = tuple([index + count for index in text])
            elif kind == PADS:
                offsets.append(nothing)
            else:
                above = [max(pair) for pair in zip(text, free)]
                start = [index + stride * blocks for index, stride in zip(above, strides)]
                offsets.append(start)
                text = tuple([index + most + 1 for index, most in zip(start, piece.largest)])
                free = tuple([max(pair) for pair in zip(text, above)])
                blocks += 1
            behind.append(Mark(slot, kind, text, free, blocks))
        marks.append(behind or [Mark(slot, kind, text, free, blocks)])
    return offsets, marks


class Continuation:
    """Where the samples of a batch go on, at every length that they may be cut back to.

    Attributes:
        samples: the marks of every sample, in order; the first stands in front of its pieces. Behind the last one all
            is text.
        end: slot behind which all is text, for every sample.
    """

    def __init__(self, samples: list[list[Mark]]):
        self._samples = samples
        self._given = []  # positions that were passed in, and are not looked at before somebody wants to go on
        self._rows = {}  # what text_position_ids adds a slot to, by device

    @property
    def samples(self) -> list[list[Mark]]:
        while self._given:
            self._add_marks(*self._given.pop(0))
        return self._samples

    @property
    def end(self) -> int:
        return max(marks[-1].slot for marks in self.samples)

    def give(
        self, slot: int | torch.Tensor, positions: torch.Tensor, real: torch.Tensor | None, is_enough: bool
    ) -> None:
        """Add tokens whose positions were passed in; what comes next goes on behind the largest of them.

        Args:
            slot: of the first token.
            positions: float32 `(3 * geometries, batch, length)`.
            real: `(batch, length)`, 0 where padded, or None.
            is_enough: whether their largest index says where to go on (`CircleGeometry.ends_at_its_largest`).
        """
        self._rows.clear()
        self._given.append((slot, positions, real, is_enough))
        if len(self._given) > 256:  # a long loop of steps
            _ = self.samples

    def _add_marks(self, slot, positions, real, is_enough):
        slot, length = int(slot), positions.shape[-1]
        largest = positions.unflatten(0, (-1, 3)).amax(1)
        if real is not None:
            largest = largest.masked_fill(real.to(largest.device) == 0, -1.0)
        samples = []
        for sample, own in enumerate((largest.amax(-1).T.double() + 1).tolist()):
            marks = self._until(slot, sample)
            last, index = marks[-1], None
            if is_enough and last.text is not None:
                index = tuple([max(known) for known in zip(own, last.text, last.free)])
            samples.append([*marks, Mark(slot + length, GIVEN, index, index, last.blocks)])
        self._samples = samples

    @classmethod
    def of_text(cls, batch: int, geometries: int, length: int = 0) -> "Continuation":
        """Behind `length` slots of text whose indices are their slots."""
        index = (float(length),) * geometries
        start = Mark(0, TEXT, (0.0,) * geometries, (0.0,) * geometries, 0)
        marks = [start, Mark(length, TEXT, index, index, 0)] if length else [start]
        return cls([list(marks) for _ in range(batch)])

    @classmethod
    def from_index(cls, starts: list[float], geometries: int) -> "Continuation":
        """Before any token, where each sample has a first index of its own."""
        return cls([[Mark(0, TEXT, (start,) * geometries, (start,) * geometries, 0)] for start in starts])

    def until(self, length: int) -> "Continuation":
        """The same, cut back or grown by text to `length` slots.

        Behind a cut inside a picture, or inside tokens whose positions were passed in, nobody knows where to go on.
        """
        if self.end == length:
            return self
        return Continuation([self._until(length, sample) for sample in range(len(self.samples))])

    def _until(self, length, sample):
        marks = self._samples[sample]
        if marks[-1].slot == length:
            return marks
        number = bisect_left(marks, length, key=lambda mark: mark.slot)
        kept, rest = marks[:number], marks[number:]
        if rest and rest[0].slot == length:
            return [*kept, rest[0]]
        last = kept[-1]
        if not rest or rest[0].kind == TEXT:
            text = None if last.text is None else tuple([index + length - last.slot for index in last.text])
            return [*kept, last._replace(slot=length, kind=TEXT, text=text)]
        if rest[0].kind == PADS:
            return [*kept, last._replace(slot=length, kind=PADS)]
        return [*kept, last._replace(slot=length, kind=rest[0].kind, text=None, free=None)]

    def extend(self, more: list[list[Mark]]) -> "Continuation":
        """The same, with further marks for every sample."""
        return Continuation([marks + new for marks, new in zip(self.samples, more)])

    def select(self, samples: list[int]) -> "Continuation":
        """That of a batch which holds these samples of this one, in this order."""
        return Continuation([self.samples[sample] for sample in samples])

    def last(self) -> list[Mark]:
        """The last mark of every sample.

        Raises:
            ValueError: where a sample goes on is not known.
        """
        last = [marks[-1] for marks in self.samples]
        for sample, (mark, marks) in enumerate(zip(last, self.samples)):
            if mark.text is None and mark.kind == BLOCK:
                raise ValueError(
                    f"a cache of {mark.slot} slots ends inside a picture of sample {sample}, which begins at slot "
                    f"{marks[-2].slot}: crop the cache to {marks[-2].slot} slots, or to the picture's end."
                )
            if mark.text is None:
                raise ValueError(
                    "the cache holds tokens whose position_ids were passed in, and where they go on does not follow "
                    "from them: pass position_ids for the tokens behind them as well."
                )
        return last

    def deltas(self, device: torch.device | str | None = None) -> torch.Tensor:
        """Index of a text token that comes next, minus its slot: float32 `(batch, geometries)`.

        Raises:
            ValueError: as `last`.
        """
        rows = [[index - mark.slot for index in mark.text] for mark in self.last()]
        return torch.tensor(rows, dtype=torch.float32, device="cpu").to(device)

    def text_position_ids(self, slot: int, length: int, device: torch.device | str | None = None) -> torch.Tensor:
        """Positions of text that fills `length` slots from `slot` on, behind all marks.

        Returns:
            float32 `(3 * geometries, batch, length)`.

        Raises:
            ValueError: as `last`.
        """
        if device not in self._rows:
            self._rows[device] = self.deltas(device).T.repeat_interleave(3, dim=0)[..., None]
        if length == 1:
            return self._rows[device] + slot
        return self._rows[device] + torch.arange(slot, slot + length, device=device)
