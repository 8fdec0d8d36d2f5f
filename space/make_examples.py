"""Draw the pictures and the video of `examples/`: scenes that the tiny checkpoint has never seen in training.

python space/make_examples.py
"""

import random
import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

from examples import EXAMPLES, FOLDER

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from shapes.pictures import COLOURS, draw, make_questions, make_scene

SIZE = 448


def make_pictures(rng):
    """One scene for every still picture, which its example's question fits."""
    for example in EXAMPLES:
        for name in example.names:
            if name.endswith(".png"):
                scene = make_scene(rng, held_out=True, fewest=3)
                while example.question not in dict(make_questions(scene, rng)):
                    scene = make_scene(rng, held_out=True, fewest=3)
                draw(scene, rng, SIZE).save(FOLDER / name, optimize=True)
                print(name, dict(make_questions(scene, rng))[example.question])


def make_video(path, seconds=2, fps=8):
    """A blue square that crosses a light field, and its first picture beside it."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width = stream.height = 224
        stream.pix_fmt = "yuv420p"
        for number in range(seconds * fps):
            picture = Image.new("RGB", (224, 224), (240, 240, 236))
            x = 20 + 110 * number / (seconds * fps - 1)
            ImageDraw.Draw(picture).rectangle((x, 20, x + 74, 94), fill=COLOURS["blue"])
            if number == 0:
                picture.save(path.with_suffix(".png"), optimize=True)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")))
        container.mux(stream.encode())


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    make_pictures(random.Random(7))
    make_video(FOLDER / "moving.mp4")
