"""What could be changed about the ring: which layouts keep the Per-Token Distance at or near 0 with a lower spread.

A Per-Token Distance of 0 for every text token means that all image tokens are equally far from every point of the
text axis, which holds on a circle around the axis and nowhere else. What is left to choose there is the radius, the
angles, and where the circle's centre lies on the axis. The last changes nothing for the text behind an image, which
starts a fixed distance behind the circle. The layouts here are for measuring, not options of the model.
"""

import math
from dataclasses import dataclass

import torch

from circle_rope_imp import CircleGeometry, MRopeGeometry


@dataclass(frozen=True)
class ArcGeometry(CircleGeometry):
    """The ring with all its angles squeezed into an arc, in the same order; its Per-Token Distance is 0 as well.

    Attributes:
        width: of the arc, in degrees.
        at: `"extreme"` where t is largest, so that t varies in second order only, or `"zero"` where t is 0.
    """

    width: float = 60
    at: str = "extreme"

    def frame(self, grid_h: int, grid_w: int) -> torch.Tensor:
        """Index of one frame of `grid_h` x `grid_w` merged cells: float64 `(3, grid_h * grid_w)`."""
        t, h, w = super().frame(grid_h, grid_w)
        angles = torch.atan2(t, (h - w) / math.sqrt(3)) % (2 * math.pi)
        squeezed = math.radians(self.width) * (angles / (2 * math.pi) - 1 / 2)
        squeezed = squeezed + (math.pi / 2 if self.at == "extreme" else 0)
        reach = (t**2 + ((h - w) / math.sqrt(3)) ** 2).sqrt()
        phases = torch.tensor([[-1 / 2], [1 / 6], [5 / 6]], dtype=torch.float64) * math.pi
        return reach * (squeezed + phases).cos()


@dataclass(frozen=True)
class TiltedGeometry(CircleGeometry):
    """The ring with its t component multiplied by `t_scale`: 1 is the ring, 0 has no t at all, as M-RoPE.

    Only 1 has a Per-Token Distance of 0.
    """

    t_scale: float = 0

    def frame(self, grid_h: int, grid_w: int) -> torch.Tensor:
        """Index of one frame of `grid_h` x `grid_w` merged cells: float64 `(3, grid_h * grid_w)`."""
        return super().frame(grid_h, grid_w) * torch.tensor([[self.t_scale], [1], [1]], dtype=torch.float64)


CANDIDATES = {
    "M-RoPE": MRopeGeometry(),
    **{f"ring, R {radius}": CircleGeometry(radius=radius) for radius in (0.5, 1, 2, 5, 10, "auto")},
    **{
        f"arc of {width} degrees at t {at}, R {radius}": ArcGeometry(radius=radius, width=width, at=at)
        for at, radius, width in (
            *(("extreme", 10, width) for width in (30, 60, 120)),
            ("extreme", 20, 30),
            ("extreme", 40, 15),
            *(("zero", 10, width) for width in (30, 60, 120)),
        )
    },
    **{f"ring, R 10, t times {scale}": TiltedGeometry(radius=10, t_scale=scale) for scale in (0.5, 0.25, 0.1, 0)},
    "ring, R 1, t times 0": TiltedGeometry(radius=1, t_scale=0),
    **{f"ring, R 10, dff {rate}": CircleGeometry(radius=10, dff_rate=rate) for rate in (0.1, 0.5, 0.9)},
}
