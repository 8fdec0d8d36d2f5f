"""Circle-RoPE geometry: position indices of images, videos and whole sequences, and the Per-Token Distance.

Pure functions of tensors (arXiv 2505.16416, section 4). Rows are always ordered (t, h, w); a *merged grid* has one
language-model token per cell; x is a cell's column and y its row. Tensors go in and come out; between them the layout
of a sequence works on float64 arrays, for a batch has many small pieces, and numpy's operations start several times
faster than torch's.
"""

import functools
import math
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


class End(NamedTuple):
    """Where a sample goes on behind its tokens so far.

    Attributes:
        text: index of a text token that comes next, one for each geometry.
        free: first index above all so far, likewise. A picture begins there, or at `text` where that is larger: a ring
            that is moved backwards (`move_to_positive` below 0) sets the two apart.
        pictures: vision blocks so far.
    """

    text: tuple[float, ...]
    free: tuple[float, ...]
    pictures: int = 0

    @classmethod
    def of_text(cls, length: int, geometries: int) -> "End":
        """Behind text whose indices are its slots."""
        return cls((float(length),) * geometries, (float(length),) * geometries)


def text_rows(ends: list[End]) -> torch.Tensor:
    """Positions of one text token that comes next: float32 `(3 * geometries, batch, 1)`, on the CPU."""
    text = torch.tensor([end.text for end in ends], dtype=torch.float64, device="cpu")
    return text.float().T.repeat_interleave(3, 0)[..., None]


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
    position_ids, ends = continue_sequences(blocks, real, shape, geometries)
    return position_ids, [[max(pair) for pair in zip(end.text, end.free)] for end in ends]


def continue_sequences(
    blocks: list[VisionBlock],
    real: torch.Tensor | None,
    shape: tuple[int, int],
    geometries: Sequence[CircleGeometry | MRopeGeometry],
    before: list[End] | None = None,
) -> tuple[torch.Tensor, list[End]]:
    """`sequence_index` of tokens that come behind others.

    Args:
        blocks, real, shape, geometries: of the new tokens, as in `sequence_index`.
        before: where every sample goes on; at index 0 if not given.

    Returns:
        position_ids: as in `sequence_index`.
        ends: where every sample goes on behind the new tokens.
    """
    (batch, length), geometries = shape, tuple(geometries)
    make = torch.empty if real is None else torch.zeros  # every slot but a pad is filled
    position_ids = make(3 * len(geometries), batch, length, dtype=torch.float32, device="cpu")
    rows = position_ids.numpy().reshape(len(geometries), 3, batch, length)
    ramp, indices, ends = _ramp(length), {}, []
    for sample, pieces in enumerate(_pieces(blocks, real, shape)):
        start = before[sample] if before is not None else End.of_text(0, len(geometries))
        text, free, pictures = list(start.text), list(start.free), start.pictures
        for slot, count, block in pieces:
            if block is None:
                for row, index in enumerate(text):
                    rows[row, :, sample, slot : slot + count] = ramp[:count] + index
                    text[row] = index + count
                continue
            size = block.grid_t, block.grid_h, block.grid_w, block.interval
            if size not in indices:
                indices[size] = block.indices(geometries)
            for row, (geometry, points, largest) in enumerate(zip(geometries, *indices[size])):
                above = max(text[row], free[row])
                first = above + geometry.image_stride * pictures
                rows[row, :, sample, slot : slot + count] = points + first  # (3, count)
                text[row] = first + largest + 1
                free[row] = max(above, text[row])
            pictures += 1
        ends.append(End(tuple(text), tuple(free), pictures))
    return position_ids, ends


def _pieces(blocks, real, shape):
    """Runs of text and vision blocks of every sample, in order: (first slot, length, block or None) each."""
    batch, length = shape
    pieces, waiting = [[] for _ in range(batch)], sorted(blocks, reverse=True)
    for sample, slot, count in [(row, 0, length) for row in range(batch)] if real is None else _runs(real.numpy()):
        own, end = pieces[sample], slot + count
        while waiting and waiting[-1].sample == sample and waiting[-1].slot < end:
            block = waiting.pop()
            if slot < block.slot:
                own.append((slot, block.slot - slot, None))
            own.append((block.slot, block.length, block))
            slot = block.slot + block.length
        if slot < end:
            own.append((slot, end - slot, None))
    return pieces


# ---- What a cache remembers -----------------------------------------------------------------------------------------


class Part(NamedTuple):
    """Tokens of a batch from one slot on: their positions, and what they are.

    Attributes:
        slot: of the first token; a tensor where only the device knows it.
        rows: float32 `(3 * geometries, batch, length)`.
        real: `(batch, length)`, 0 where padded, or None.
        is_picture: bool `(batch, length)`, or None for text alone.
        begins: bool `(batch, length)`, where a picture begins; None where a run of picture tokens is one picture.
    """

    slot: int | torch.Tensor
    rows: torch.Tensor
    real: torch.Tensor | None = None
    is_picture: torch.Tensor | None = None
    begins: torch.Tensor | None = None

    def taken(self, samples: torch.Tensor | None, length: int | None) -> "Part":
        """Its first `length` tokens, of these samples, on the CPU, with no None in it."""
        shape = self.rows.shape[1:]
        real = torch.ones(shape, dtype=torch.bool, device="cpu") if self.real is None else self.real.cpu() != 0
        flags = [torch.zeros_like(real) if flag is None else flag.cpu() for flag in self[3:]]
        tensors = [self.rows.cpu(), real, *flags]
        if samples is not None:
            tensors = [tensor.index_select(-2, samples) for tensor in tensors]
        return Part(int(self.slot), *(tensor[..., :length] for tensor in tensors))


class Record:
    """The positions of what a cache holds, as they were used; where its samples go on follows from them.

    Nothing is looked at before somebody goes on: tokens are added as they come, and stand in place of what was
    recorded from their slot on. Slots behind all that is recorded hold text.

    Attributes:
        made_for: whose positions they are; for others they mean nothing.
        log: in order, parts, lengths that the cache was cut back to before the next one, and choices of its samples.
        length: what the cache was cut back to after the last part, or None.
        text_from: a slot behind which all is text, and the positions of a text token there, float32
            `(3 * geometries, batch, 1)`; None where nobody has looked.
    """

    def __init__(self, made_for):
        self.made_for, self.log, self.length, self.text_from = made_for, [], None, None

    def add(self, part: Part, text_from: tuple[int, torch.Tensor] | None = None) -> None:
        """The cache holds these tokens now; `text_from` is the attribute, where it is known without a look at them."""
        if self.length is not None:
            self.log.append(self.length)
        self.log.append(part)
        self.length, self.text_from = None, text_from

    def cut(self, length: int) -> None:
        """The cache was cut back to so many slots."""
        self.length = length if self.length is None else min(length, self.length)
        if length == 0:
            self.log, self.length = [], None
        if length == 0 or (self.text_from is not None and self.text_from[0] > length):
            self.text_from = None

    def select(self, samples: torch.Tensor) -> None:
        """The cache holds these samples now, in this order."""
        self.log.append(samples)
        if self.text_from is not None:
            slot, rows = self.text_from
            self.text_from = slot, rows[:, samples.to(rows.device)]

    def text(self, slot: int, device: torch.device | str) -> torch.Tensor:
        """Positions of a text token at `slot`: float32 `(3 * geometries, batch, 1)`. Raises as `ends` does."""
        if self.text_from is None or self.text_from[0] > slot:
            self.text_from = slot, text_rows(self.ends(slot)).to(device)
        return self.text_from[1] + (slot - self.text_from[0])

    def ends(self, slot: int) -> list[End]:
        """Where every sample goes on when the cache holds `slot` slots.

        Raises:
            ValueError: it ends inside a picture, or where a picture ends is not known.
        """
        whole = self._look()
        self.log = [whole]
        return _ends(whole, slot, self.length)

    def _look(self):
        """All parts as one, from slot 0 on."""
        parts, samples, end = [], None, None
        for entry in reversed(self.log):
            if isinstance(entry, Part):
                slot = int(entry.slot)
                if end is None or slot < end:
                    parts.append(entry.taken(samples, None if end is None else end - slot))
                    end = slot
            elif isinstance(entry, int):
                end = entry if end is None else min(entry, end)
            else:
                samples = entry.cpu() if samples is None else entry.cpu()[samples]
        whole, held = [], 0
        for part in reversed(parts):
            if held < part.slot:  # text that nobody recorded: of another model, or of a compiled step
                batch, count = part.rows.shape[1], len(part.rows) // 3
                ends = _ends(_joined(whole), held) if whole else [End.of_text(0, count)] * batch
                rows = text_rows(ends) + torch.arange(part.slot - held, device="cpu")
                whole.append(Part(held, rows).taken(None, None))
            whole.append(part)
            held = part.slot + part.rows.shape[-1]
        return _joined(whole)


def _joined(parts):
    """Neighbouring parts, the first at slot 0, as one."""
    rows, real, is_picture, begins = (torch.cat(tensors, -1) for tensors in zip(*(part[1:] for part in parts)))
    begins |= is_picture & ~torch.nn.functional.pad(is_picture[:, :-1], (1, 0))
    return Part(0, rows, real, is_picture, begins)


def _ends(whole, slot, cut=None):
    held = whole.rows.shape[-1]
    length = min(slot, held if cut is None else min(cut, held))
    largest = whole.rows.double().unflatten(0, (-1, 3)).amax(1)  # (geometries, batch, held)
    number = whole.begins.cumsum(-1) * whole.is_picture  # (batch, held): of the token's picture, 0 for text
    ends = []
    for sample, own in enumerate(number):
        if 0 < length < held and own[length] == own[length - 1] > 0:
            begin = int((own == own[length]).nonzero()[0])
            raise ValueError(
                f"a cache of {length} slots ends inside a picture of sample {sample}, which begins at slot {begin}: "
                f"crop the cache to {begin} slots, or to the picture's end."
            )
        own, index = own[:length], largest[:, sample, :length]  # (geometries, length)
        real = whole.real[sample, :length].nonzero()[:, 0]
        text = free = torch.zeros(len(largest), dtype=torch.float64, device="cpu")
        if len(real):
            last = int(real[-1])
            rows = whole.rows[:, sample, last].view(-1, 3)
            if not own[last] and (rows != rows[:, :1]).any():
                raise ValueError(
                    "the cache holds tokens whose position_ids were passed in, and where they go on does not follow "
                    "from them: pass position_ids for the tokens behind them as well."
                )
            text = (index[:, own == own[last]].amax(-1) if own[last] else index[:, last]) + 1
            free = index[:, real].amax(-1) + 1
        ends.append(End(tuple((text + slot - length).tolist()), tuple(free.tolist()), int(own.max()) if length else 0))
    return ends
