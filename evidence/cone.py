"""The README's picture: one picture between two texts under M-RoPE and under Circle-RoPE, and along the text axis."""

import matplotlib.pyplot as plt
import torch

from circle_rope_imp import CircleGeometry, MRopeGeometry, per_token_distance

from .geometry import place

TEXT, SIDE, RADIUS = 4, 8, 10
PANELS = {"M-RoPE": MRopeGeometry(), "Circle-RoPE": CircleGeometry(radius=RADIUS, alpha=0.5)}
# Rows: two directions across the text axis (1, 1, 1), at right angles to it and to each other.
ACROSS = torch.tensor([[-1.0, 1.0, 0.0], [-1.0, -1.0, 2.0]])
ACROSS /= ACROSS.norm(dim=1, keepdim=True)


def draw() -> plt.Figure:
    """The figure; it needs no results."""
    figure = plt.figure(figsize=(12.5, 4.4))
    for number, (name, geometry) in enumerate(PANELS.items(), start=1):
        text, image = placed(geometry)
        distance = abs(per_token_distance(text, image).item())
        axes = figure.add_subplot(1, 3, number, projection="3d", proj_type="ortho")
        draw_cone(axes, text, image)
        axes.set_title(f"{name}: per-token distance {distance:.2f}", fontsize=10)
    figure.legend(*axes.get_legend_handles_labels(), loc="lower center", ncols=3, frameon=False)
    axes = figure.add_subplot(1, 3, 3)
    draw_along(axes)
    axes.set_title("The ring, seen along the text axis", fontsize=10)
    figure.subplots_adjust(left=0.01, right=0.95, bottom=0.12, top=0.9, wspace=0.12)
    return figure


def placed(geometry) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of text and image tokens, `(3, tokens)`."""
    before, image, behind = place(geometry, SIDE, SIDE, TEXT, TEXT)
    return torch.cat([before, behind], dim=1), image


def ring(centre: torch.Tensor) -> torch.Tensor:
    """The whole circle that image tokens lie on, `(3, points)`."""
    angle = torch.linspace(0, 2 * torch.pi, 181)
    return centre[:, None] + RADIUS * (ACROSS.T @ torch.stack([angle.cos(), angle.sin()]))


def draw_cone(axes, text, image):
    """Text, picture, and the lines from the first text token to the picture: equally long under Circle-RoPE alone."""
    for point in image.T:
        axes.plot(*zip(text[:, 0].tolist(), point.tolist()), color="0.85", linewidth=0.5)
    across = ACROSS @ image
    if (across.norm(dim=0) - RADIUS).abs().max() < 1e-3:
        axes.plot(*ring(image.mean() * torch.ones(3)), color="tab:orange", linewidth=1, alpha=0.6)
    axes.plot(*text, color="tab:blue", marker="o", markersize=3.5, label="text tokens")
    axes.scatter(*image, c=range(image.shape[1]), cmap="plasma", s=16, depthshade=False, label="image tokens")
    axes.set(xlabel="t", ylabel="h", zlabel="w")
    middle, reach = image.mean().item(), 11
    bounds = middle - reach, middle + reach
    axes.set(xlim=bounds, ylim=bounds, zlim=bounds)
    axes.set_box_aspect((1, 1, 1))
    axes.locator_params(nbins=4)
    axes.view_init(elev=8, azim=-75)


def draw_along(axes):
    """The picture's tokens in the plane of the ring, the text axis being a point in its middle."""
    text, image = (ACROSS @ positions for positions in placed(PANELS["Circle-RoPE"]))
    axes.plot(*(ACROSS @ ring(torch.zeros(3))), color="tab:orange", linewidth=1, alpha=0.6)
    axes.plot(*text, color="tab:blue", marker="o", linestyle="", markersize=5)
    drawn = axes.scatter(*image, c=range(image.shape[1]), cmap="plasma", s=22)
    axes.set_aspect("equal")
    axes.set(xticks=[], yticks=[])
    axes.set_frame_on(False)
    axes.figure.colorbar(drawn, ax=axes, shrink=0.6, label="image token, row by row")
