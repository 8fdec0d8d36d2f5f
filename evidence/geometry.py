"""What positions do to attention: the per-token distance and the logit spread of a picture under each layout.

Let every image token have the same key. The attention logit of image token m, at the index p_m, is then
q . R(p_text - p_m) . k / sqrt(head_dim), R being the rotary embedding with its sections, and differs between image
tokens by position alone. The *logit spread* is the root of its mean variance over image tokens, for q and k whose
components are independent unit normals. It does not depend on the text token (turning a normal q does not change its
distribution) and is known exactly: a frequency pair w adds (1 - |mean over m of exp(i w p_m)|^2) / (head_dim / 2).
"""

from dataclasses import dataclass

import torch

from circle_rope_imp import (
    CircleGeometry,
    MRopeGeometry,
    VisionBlock,
    axis_of_pairs,
    interleaved_section,
    per_token_distance,
    sequence_index,
)

from .markdown import table

SIDES = (2, 3, 4, 6, 8, 12, 16, 24, 36, 48, 64)


@dataclass(frozen=True)
class FlattenedGeometry:
    """Image tokens count up like text, row by row (the paper's hard embedding), on all three components."""

    image_stride: float = 0

    time_axis = (1.0, 1.0, 1.0)

    def frame(self, grid_h: int, grid_w: int) -> torch.Tensor:
        """Index of one frame of `grid_h` x `grid_w` merged cells: float64 `(3, grid_h * grid_w)`."""
        return torch.arange(grid_h * grid_w, dtype=torch.float64).repeat(3, 1)


@dataclass(frozen=True)
class SharedGeometry(FlattenedGeometry):
    """All image tokens have one index (the paper's unordered embedding)."""

    def frame(self, grid_h: int, grid_w: int) -> torch.Tensor:
        """Index of one frame of `grid_h` x `grid_w` merged cells: float64 `(3, grid_h * grid_w)`."""
        return torch.zeros(3, grid_h * grid_w, dtype=torch.float64)


@dataclass(frozen=True)
class SpacedGeometry(MRopeGeometry):
    """M-RoPE's grid with its neighbours three times as far apart."""

    def frame(self, grid_h: int, grid_w: int) -> torch.Tensor:
        """Index of one frame of `grid_h` x `grid_w` merged cells: float64 `(3, grid_h * grid_w)`."""
        return 3 * super().frame(grid_h, grid_w)


LAYOUTS = {
    "grid": MRopeGeometry(),
    "ring": CircleGeometry(radius=10, alpha=0.5),
    "shared": SharedGeometry(),
    "flattened": FlattenedGeometry(),
}


@dataclass(frozen=True)
class Rope:
    """A rotary embedding: width of a head, base of the frequencies, and the contiguous sections of t, h and w.

    Interleaved, t, h and w take the frequencies in turns, with Qwen3-VL's share instead of these sections.
    """

    head_dim: int = 128
    theta: float = 1e6
    mrope_section: tuple[int, int, int] = (16, 24, 24)
    interleaved: bool = False

    def phases(self, positions: torch.Tensor) -> torch.Tensor:
        """The angles of the frequency pairs, highest first, at positions `(3, tokens)`: float64 `(tokens, pairs)`."""
        pairs = self.head_dim // 2
        sections = interleaved_section(pairs) if self.interleaved else self.mrope_section
        frequencies = self.theta ** -(torch.arange(pairs, dtype=torch.float64) / pairs)
        return positions.double()[axis_of_pairs(sections, self.interleaved)].T * frequencies


def place(geometry, grid_h: int, grid_w: int, before: int = 1, behind: int = 64) -> tuple[torch.Tensor, ...]:
    """Float32 positions of text, an image and text: `(3, before)`, `(3, grid_h * grid_w)` and `(3, behind)`."""
    lengths = before, grid_h * grid_w, behind
    block = VisionBlock(sample=0, slot=before, grid_t=1, grid_h=grid_h, grid_w=grid_w)
    return sequence_index([block], None, (1, sum(lengths)), [geometry])[0][:, 0].split(lengths, dim=1)


def logit_spread(image: torch.Tensor, rope: Rope) -> float:
    """The logit spread over image tokens at the positions `(3, tokens)`, of which there are at least two.

    Its square is also half the mean squared difference of the logits of two image tokens: what lowers the spread makes
    image tokens harder to tell apart by their positions, in the same measure.

    Raises:
        ValueError: fewer than two tokens, whose spread means nothing.
    """
    if image.shape[1] < 2:
        raise ValueError(f"{image.shape[1]} image tokens have no logit spread: give at least two.")
    turned = torch.polar(torch.ones(()).double(), rope.phases(image - image[:, :1]))
    return (1 - turned.mean(0).abs() ** 2).clamp(min=0).mean().sqrt().item()


def page(ropes: dict[str, Rope]) -> str:
    """Per-token distance, and the spread under each rope, on square grids: a Markdown page."""
    grids = [f"{side}x{side}" for side in SIDES]

    def of(number):
        rows = {name: [number(*place(layout, side, side)[1:]) for side in SIDES] for name, layout in LAYOUTS.items()}
        return table(["layout", *grids], [[name, *map(_number, row)] for name, row in rows.items()])

    parts = ["# What each layout does to attention", "", __doc__.partition("\n\n")[2].strip(), ""]
    parts += ["## Per-token distance, index units", "", of(lambda image, text: per_token_distance(text, image).item())]
    for title, rope in ropes.items():
        parts += ["", f"## Logit spread: {title}", "", of(lambda image, text, rope=rope: logit_spread(image, rope))]
    return "\n".join(parts) + "\n"


def _number(value):
    return "0" if value < 5e-6 else f"{value:.0f}" if value >= 100 else f"{value:.3f}" if value < 1 else f"{value:.2f}"
