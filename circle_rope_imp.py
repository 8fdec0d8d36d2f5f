"""Circle-RoPE geometry: position indices of images, videos and whole sequences, and the Per-Token Distance.

Pure tensor functions (arXiv 2505.16416, section 4). Rows are always ordered (t, h, w); a *merged grid* has one
language-model token per cell; x is a cell's column and y its row.
"""

import functools
import math
from dataclasses import dataclass
from itertools import groupby

import torch


@dataclass(frozen=True)
class CircleGeometry:
    """The circle index (paper 4.1): every image token on a ring perpendicular to the text axis.

    Attributes:
        radius: radius of the ring in index units, or `"auto"` / `"auto-k"` for k times the absolute value of the
            largest coordinate. (Paper eq. 9 says largest L2 norm; the published code, which produced the published
            results, takes the largest coordinate, and so do we.)
        alpha: weight of the angle a cell has in the image against the angle by its row-major number.
        method: `"circle"`, or `"no_circle"` for the flat grid turned onto the ring's plane.
        move_to_origin: centre the grid on (0, 0) first.
        move_to_positive: `False`, or `"auto"` to raise every component by |smallest one|, or a number to raise
            that much further.
        dff_rate: `False`, or the weight of the flat grid that is blended into the ring.
        image_stride: the i-th vision block of a sample moves (i - 1) times this further along the text axis.
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
        return _frame(self, grid_h, grid_w)

    def _compute_frame(self, grid_h, grid_w):
        y, x = _cells(grid_h, grid_w)
        if self.move_to_origin:
            x = x - (x.max() + x.min()) / 2
            y = y - (y.max() + y.min()) / 2
        # An orthonormal basis of the plane perpendicular to (1, 1, 1); its components are (w, h, t).
        u = torch.tensor([-1.0, 1.0, 0.0], dtype=torch.float64) / math.sqrt(2)
        v = torch.tensor([-1.0, -1.0, 2.0], dtype=torch.float64) / math.sqrt(6)

        def on_plane(along_u, along_v):
            return (u[:, None] * along_u + v[:, None] * along_v).flip(0)

        flat = on_plane(x, y)
        if self.method == "no_circle":
            points = flat
        else:
            theta = self._angles(x, y)
            radius = self._radius(x, y)
            points = on_plane(radius * theta.cos(), radius * theta.sin())
            if self.dff_rate is not False:
                points = (1 - self.dff_rate) * points + self.dff_rate * flat
        if self.move_to_positive is not False:
            points = points + points.min().abs()
            if self.move_to_positive != "auto":
                points = points + self.move_to_positive
        return points

    def _angles(self, x, y):
        spatial = torch.atan2(y, x)
        low, high = spatial.min(), spatial.max()
        if high > low:
            spatial = (spatial - low) / (high - low) * (2 * math.pi)
        by_number = torch.arange(x.numel(), dtype=torch.float64) * (2 * math.pi / x.numel())
        return self.alpha * spatial + (1 - self.alpha) * by_number

    def _radius(self, x, y):
        if not isinstance(self.radius, str):
            return self.radius
        factor = float(self.radius.removeprefix("auto").removeprefix("-") or 1)
        return factor * torch.maximum(x.max(), y.max()).abs()


@dataclass(frozen=True)
class MRopeGeometry:
    """Qwen2.5-VL's own (t, h, w) index (M-RoPE), the same on every transformers release."""

    image_stride: float = 0

    time_axis = (1.0, 0.0, 0.0)

    def frame(self, grid_h: int, grid_w: int) -> torch.Tensor:
        """Index of one frame of `grid_h` x `grid_w` merged cells: float64 `(3, grid_h * grid_w)`, on the CPU."""
        return _frame(self, grid_h, grid_w)

    def _compute_frame(self, grid_h, grid_w):
        y, x = _cells(grid_h, grid_w)
        return torch.stack([torch.zeros_like(x), y, x])


def _cells(grid_h, grid_w):
    """Row and column of every cell in row-major order, float64 `(grid_h * grid_w,)` each."""
    y, x = torch.meshgrid(
        torch.arange(grid_h, dtype=torch.float64), torch.arange(grid_w, dtype=torch.float64), indexing="ij"
    )
    return y.flatten(), x.flatten()


@functools.lru_cache(maxsize=128)
def _frame(geometry, grid_h, grid_w):
    with torch.device("cpu"):
        return geometry._compute_frame(grid_h, grid_w)


def circle_index(
    grid_h: int,
    grid_w: int,
    radius: float | str = 10,
    alpha: float = 0.5,
    method: str = "circle",
    move_to_origin: bool = True,
    move_to_positive: bool | float | str = False,
    dff_rate: bool | float = False,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Circle index of one image (paper eq. 2-12), before it is shifted to its place in a sequence.

    Args:
        grid_h, grid_w: rows and columns of the merged grid.
        radius, alpha, method, move_to_origin, move_to_positive, dff_rate: see `CircleGeometry`.
        device: where the result is wanted; the CPU if not given.

    Returns:
        float32 `(3, grid_h * grid_w)`, rows (t, h, w), tokens in row-major order.
    """
    geometry = CircleGeometry(radius, alpha, method, move_to_origin, move_to_positive, dff_rate)
    return geometry.frame(grid_h, grid_w).to(torch.float32).to(device)


def mrope_index(grid_h: int, grid_w: int, device: torch.device | str | None = None) -> torch.Tensor:
    """M-RoPE index of one image: float32 `(3, grid_h * grid_w)`, rows (t, h, w), tokens in row-major order."""
    return MRopeGeometry().frame(grid_h, grid_w).to(torch.float32).to(device)


@dataclass(frozen=True)
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
        frame = geometry.frame(self.grid_h, self.grid_w)
        if self.grid_t == 1:
            return frame
        # float32 on purpose: Qwen2.5-VL was trained with long(f * interval) rounded that way.
        times = (torch.arange(self.grid_t) * self.interval).long().double()
        axis = torch.tensor(geometry.time_axis, dtype=torch.float64)
        return (frame[:, None, :] + (axis[:, None] * times)[:, :, None]).flatten(1)


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
    placeholders = input_ids == token_id
    if real is not None:
        placeholders &= real
    sequence_length = input_ids.shape[1]
    slots = placeholders.flatten().nonzero().squeeze(1)
    lengths = torch.tensor([t * h * w for t, h, w in merged_grids], dtype=torch.long)
    ends = lengths.cumsum(0)
    fits = slots.numel() == (int(ends[-1]) if merged_grids else 0)
    if fits and merged_grids:
        first, last = slots[ends - lengths], slots[ends - 1]
        fits = bool(((last - first == lengths - 1) & (first // sequence_length == last // sequence_length)).all())
    if not fits:
        raise ValueError(_mismatch(placeholders, merged_grids, kind))
    if not merged_grids:
        return []
    return [
        VisionBlock(slot // sequence_length, slot % sequence_length, *grid, interval)
        for slot, grid, interval in zip(first.tolist(), merged_grids, intervals)
    ]


def _mismatch(placeholders, merged_grids, kind):
    """One sentence on the first sample whose placeholders do not fit the grids that are left for it."""
    remedy = f"pass one grid per {kind} of the batch, in order, and the input_ids that the processor made with them"
    remaining = iter(enumerate(merged_grids))
    for sample, row in enumerate(placeholders.tolist()):
        for run in (len(list(run)) for is_placeholder, run in groupby(row) if is_placeholder):
            # Blocks may stand side by side, so one run of placeholders can hold several.
            while run > 0:
                number, grid = next(remaining, (None, None))
                if grid is None:
                    return (
                        f"sample {sample} has {run} {kind} placeholder tokens left when all {len(merged_grids)} "
                        f"rows of {kind}_grid_thw are used up: {remedy}"
                    )
                length = math.prod(grid)
                if length > run:
                    return (
                        f"sample {sample} has {run} {kind} placeholder tokens where row {number} of "
                        f"{kind}_grid_thw, merged to {'x'.join(map(str, grid))}, needs {length}: {remedy}"
                    )
                run -= length
    surplus = len(list(remaining))
    return (
        f"{kind}_grid_thw has {len(merged_grids)} rows, but the {len(placeholders)} samples hold placeholder tokens "
        f"for only {len(merged_grids) - surplus}: {remedy}"
    )


def sequence_index(
    blocks: list[VisionBlock],
    real: torch.Tensor | None,
    shape: tuple[int, int],
    geometries: list[CircleGeometry | MRopeGeometry],
    start: list[list[float]] | None = None,
    blocks_before: list[int] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Position index of whole sequences: text counts up, a vision block starts behind the largest index so far.

    Args:
        blocks: the batch's vision blocks, in any order.
        real: bool `(batch, seq)` on the CPU, False where padded, or None when nothing is.
        shape: (batch, seq).
        geometries: one set of three rows is computed for each.
        start: first free index of every sample and geometry, `[batch][geometry]`; zeros if not given. This is how a
            sequence goes on behind a cache.
        blocks_before: vision blocks of every sample that are already in the cache (for `image_stride`).

    Returns:
        position_ids: float32 `(3 * geometries, batch, seq)`, pads 0, on the CPU. Computed in float64 and rounded
            once, so an index is exact to half a float32 unit in the last place.
        next_index: float64 `(batch, geometries)`, the first free index behind each sample.
    """
    batch, length = shape
    if real is None:
        ordinals = torch.arange(length, dtype=torch.float64).expand(batch, length)
        totals = [length] * batch
    else:
        ordinals = real.cumsum(-1).sub_(1)
        totals = (ordinals[:, -1] + 1).tolist() if length else [0] * batch
    blocks = sorted(blocks, key=lambda block: (block.sample, block.slot))
    if real is None:
        firsts = [block.slot for block in blocks]
    else:
        firsts = ordinals[[block.sample for block in blocks], [block.slot for block in blocks]].tolist()
    by_sample = {
        sample: list(group) for sample, group in groupby(zip(blocks, firsts), key=lambda item: item[0].sample)
    }

    position_ids = torch.empty(3 * len(geometries), batch, length, dtype=torch.float32)
    next_index = torch.empty(batch, len(geometries), dtype=torch.float64)
    for number, geometry in enumerate(geometries):
        rows = position_ids[3 * number : 3 * number + 3]
        # A text token's index is its ordinal plus a shift that changes behind every block.
        shifts, spans, placed = [], [], []
        for sample in range(batch):
            shift = start[sample][number] if start is not None else 0.0
            largest = shift - 1
            slot = 0
            before = blocks_before[sample] if blocks_before is not None else 0
            for order, (block, first) in enumerate(by_sample.get(sample, ()), start=before):
                index = block.index(geometry)
                behind_all = max(first + shift, largest + 1)
                offset = behind_all + order * geometry.image_stride
                block_largest = offset + index.max().item()
                largest = max(behind_all - 1, block_largest)
                placed.append((block, index, offset))
                end = block.slot + block.length
                shifts.append(shift)
                spans.append(end - slot)
                shift, slot = block_largest + 1 - (first + block.length), end
            shifts.append(shift)
            spans.append(length - slot)
            next_index[sample, number] = max(totals[sample] + shift, largest + 1)
        if any(shifts):
            shift = torch.tensor(shifts, dtype=torch.float64).repeat_interleave(torch.tensor(spans))
            text = ordinals + shift.view(batch, length)
        else:
            text = ordinals
        rows.copy_(text)
        for block, index, offset in placed:
            rows[:, block.sample, block.slot : block.slot + block.length] = index + offset
    if real is not None:
        position_ids.masked_fill_(~real, 0)
    return position_ids, next_index


def per_token_distance(text_positions: torch.Tensor, image_positions: torch.Tensor) -> torch.Tensor:
    """Per-Token Distance (paper eq. 1): how unevenly far a text token is from the tokens of an image.

    The mean over text tokens of the mean absolute deviation of the Euclidean distances to all image tokens.

    Args:
        text_positions: `(3, text_tokens)` (or any number of rows).
        image_positions: `(3, image_tokens)`, as many rows.

    Returns:
        float32 scalar, on the device of the input; 0 means that every text token is equally far from all of them.
    """
    distances = torch.cdist(
        text_positions.double().T, image_positions.double().T, compute_mode="donot_use_mm_for_euclid_dist"
    )
    return (distances - distances.mean(-1, keepdim=True)).abs().mean().float()
