"""The README's picture: the same picture between two texts under M-RoPE and under Circle-RoPE."""

import matplotlib.pyplot as plt
import torch

from layouts import CircleGeometry, MRopeGeometry, VisionBlock, per_token_distance, sequence_index

TEXT, HEIGHT, WIDTH = 4, 5, 5
PANELS = {"M-RoPE": MRopeGeometry(), "Circle-RoPE": CircleGeometry(radius=5, alpha=0.5)}


def draw() -> plt.Figure:
    """The figure; it needs no results."""
    length = 2 * TEXT + HEIGHT * WIDTH
    is_image = torch.zeros(length, dtype=torch.bool)
    is_image[TEXT : TEXT + HEIGHT * WIDTH] = True
    blocks = [VisionBlock(sample=0, slot=TEXT, grid_t=1, grid_h=HEIGHT, grid_w=WIDTH)]
    figure = plt.figure(figsize=(10, 4.6))
    for number, (name, geometry) in enumerate(PANELS.items(), start=1):
        positions = sequence_index(blocks, None, (1, length), [geometry])[0][:, 0]
        text, image = positions[:, ~is_image], positions[:, is_image]
        distance = abs(per_token_distance(text, image).item())
        axes = figure.add_subplot(1, 2, number, projection="3d", proj_type="ortho")
        # The cone from the first text token to the picture: equally long lines under Circle-RoPE alone.
        for point in image.T:
            axes.plot(*zip(text[:, 0].tolist(), point.tolist()), color="0.8", linewidth=0.6)
        axes.plot(*text, color="tab:blue", marker="o", markersize=4, label="text tokens")
        axes.scatter(*image, c=range(image.shape[1]), cmap="autumn", s=22, depthshade=False, label="image tokens")
        axes.set(xlabel="t", ylabel="h", zlabel="w")
        axes.set_title(f"{name}: per-token distance {distance:.2f}")
        axes.set_box_aspect((1, 1, 1))
        bounds = positions.min().item(), positions.max().item()
        axes.set(xlim=bounds, ylim=bounds, zlim=bounds)
        axes.locator_params(nbins=4)
        axes.view_init(elev=13, azim=-71)
    figure.legend(*axes.get_legend_handles_labels(), loc="lower center", ncols=2, frameon=False)
    figure.tight_layout()
    return figure
