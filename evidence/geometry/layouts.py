"""The layouts that are measured: the model's own geometries, and those that the paper argues against.

Every layout goes through the model's `sequence_index`. Two are not geometries of the model and are defined here.
"""

from dataclasses import dataclass

import torch

from circle_rope_imp import CircleGeometry, MRopeGeometry, VisionBlock, sequence_index


@dataclass(frozen=True)
class FlattenedGeometry:
    """Image tokens count up like text, row by row (the paper's hard embedding), on all three components."""

    image_stride: float = 0

    time_axis = (1.0, 1.0, 1.0)
    ends_at_its_largest = True

    def frame(self, grid_h: int, grid_w: int) -> torch.Tensor:
        """Index of one frame of `grid_h` x `grid_w` merged cells: float64 `(3, grid_h * grid_w)`."""
        return torch.arange(grid_h * grid_w, dtype=torch.float64).repeat(3, 1)


@dataclass(frozen=True)
class SharedGeometry:
    """All image tokens have one index (the paper's unordered embedding)."""

    image_stride: float = 0

    time_axis = (1.0, 1.0, 1.0)
    ends_at_its_largest = True

    def frame(self, grid_h: int, grid_w: int) -> torch.Tensor:
        """Index of one frame of `grid_h` x `grid_w` merged cells: float64 `(3, grid_h * grid_w)`."""
        return torch.zeros(3, grid_h * grid_w, dtype=torch.float64)


# What stands in every comparison.
MAIN = {
    "flattened": FlattenedGeometry(),
    "shared index": SharedGeometry(),
    "M-RoPE": MRopeGeometry(),
    "circle R 1": CircleGeometry(radius=1),
    "circle R 5": CircleGeometry(radius=5),
    "circle R 10": CircleGeometry(radius=10),
    "circle R auto": CircleGeometry(radius="auto"),
    "circle R 10, dff 0.1": CircleGeometry(radius=10, dff_rate=0.1),
}


def place(geometry, grid_h: int, grid_w: int, text_tokens: int = 64, behind: int = 0):
    """Positions of an image and of the text behind it, one text token in front.

    Args:
        geometry: what lays the image out.
        grid_h, grid_w: the merged grid.
        text_tokens: how many text tokens are looked from.
        behind: how many text tokens stand between the image and those.

    Returns:
        text and image: float32 `(3, text_tokens)` and `(3, grid_h * grid_w)`.
    """
    first = 1 + grid_h * grid_w
    length = first + behind + text_tokens
    block = VisionBlock(sample=0, slot=1, grid_t=1, grid_h=grid_h, grid_w=grid_w)
    positions = sequence_index([block], None, (1, length), [geometry])[0][:, 0]
    return positions[:, first + behind :], positions[:, 1:first]
