"""Draw the pictures and the video of `examples/`: scenes that the tiny checkpoint has never seen in training.

python space/make_examples.py
"""

import random
import sys
from pathlib import Path

import av

from samples import FOLDER

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from shapes.pictures import Thing, draw, draw_video, is_held_out, make_motion

SIZE = 448
# What the pictures show, place by place in reading order; the questions of `samples.py` fit them.
SCENES = {
    "shapes_1.png": ("yellow triangle", "red circle", "purple square", "black cross"),
    "shapes_2.png": ("blue circle", "yellow triangle", "green square", "purple cross"),
    "shapes_3.png": ("green triangle", "purple circle", None, "black cross"),
    "shapes_4.png": ("yellow triangle", "purple circle", None, "blue cross"),
    "shapes_5.png": ("yellow square", "purple circle", "red cross", None),
}


def make_pictures(rng):
    for name, places in SCENES.items():
        scene = tuple(Thing(*reversed(what.split()), cell) for cell, what in enumerate(places) if what)
        assert is_held_out(scene), name
        draw(scene, rng, SIZE).save(FOLDER / name, optimize=True)


def make_video(rng, path, fps=8, moving=13, still=3):
    """A blue square that moves among others and then stands, and its first picture beside it."""
    before = ()
    while not before or before[0].name != "blue square":
        before, after, way = make_motion(rng, held_out=True, fewest=3)
    pictures = draw_video(before, after, rng, moving, SIZE // 2)
    pictures += pictures[-1:] * still
    pictures[0].save(path.with_suffix(".png"), optimize=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width = stream.height = SIZE // 2
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    print(path.name, way)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    make_pictures(random.Random(2))
    make_video(random.Random(7), FOLDER / "moving.mp4")
