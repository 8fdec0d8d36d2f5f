"""Draw the pictures and the video of `examples/`: scenes that the tiny checkpoint has never seen in training.

python space/make_examples.py
"""

import random
import sys
from pathlib import Path

import av

from samples import EXAMPLES, FOLDER

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from shapes.pictures import draw, draw_video, make_motion, make_questions, make_scene

SIZE = 448


def make_pictures(rng):
    """One scene for every still picture, which its example's question fits; two of an example answer differently."""
    for example in EXAMPLES:
        question, taken = example.question.replace(" in the first picture", ""), {None}
        for name in example.names:
            if not name.endswith(".png"):
                continue
            answer = None
            while answer in taken:
                scene = make_scene(rng, held_out=True, fewest=3)
                answer = dict(make_questions(scene, rng)).get(question)
            taken.add(answer)
            draw(scene, rng, SIZE).save(FOLDER / name, optimize=True)
            print(name, answer)


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
    make_pictures(random.Random(7))
    make_video(random.Random(7), FOLDER / "moving.mp4")
