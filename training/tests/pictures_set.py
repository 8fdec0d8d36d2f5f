"""A small generated image-text dataset: pictures of shapes, one or two a row, of different sizes, and rows without.

python -m training.tests.pictures_set FOLDER
"""

import sys

if __spec__ is None:
    print("error: from the repo's root, this is python -m training.tests.pictures_set", file=sys.stderr)
    sys.exit(2)

import json
import random
from pathlib import Path

from shapes.pictures import draw, make_scene

SIZES = (112, 140, 84)


def write_set(folder: Path, rows: int = 12, seed: int = 0) -> Path:
    """Write `train.jsonl` and its pictures to the folder; in answers with words that the checkpoint does not use."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(rows):
        images, question = [], "Name the shapes."
        scenes = [make_scene(rng, held_out=False) for _ in range((1, 2, 1, 0)[number % 4])]
        for part, scene in enumerate(scenes):
            images.append(f"{number}-{part}.png")
            draw(scene, rng, SIZES[(number + part) % 3]).save(folder / images[-1])
        answer = "; ".join(thing.shape.upper() for scene in scenes for thing in scene) or "NOTHING"
        messages = [
            {"role": "user", "content": "<image>" * len(images) + question},
            {"role": "assistant", "content": answer},
        ]
        if number % 3 == 2:
            messages += [{"role": "user", "content": "Again."}, {"role": "assistant", "content": answer}]
        lines.append(
            json.dumps({"messages": messages, "images": [str((folder / image).resolve()) for image in images]})
        )
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_video(path: Path, frames: int, frames_per_second: int):
    """A white bar that moves to the right."""
    import av
    import numpy as np

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=frames_per_second)
        stream.width = stream.height = SIZES[0]
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            frame = np.zeros((SIZES[0], SIZES[0], 3), np.uint8)
            frame[:, 4 * number : 4 * number + 8] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


if __name__ == "__main__":
    write_set(Path(sys.argv[1]), rows=200)
