"""What a visitor may send: caps, and the checks of pictures, videos, questions and numbers before any work starts."""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageOps

MAX_FILES = 4  # pictures and videos of one conversation
MAX_FILE_BYTES = 20 * 2**20
MAX_PIXELS = 50_000_000  # of a picture as sent: what phones make; checked before anything is decoded
MAX_RATIO = 50  # of the longer side to the shorter
MAX_SIDE = 1024  # a larger picture is scaled down to this
MAX_QUESTION = 2_000  # characters
MAX_TURNS = 12  # questions of one conversation
MAX_NEW_TOKENS = 512
MAX_PROMPT_TOKENS = 6_000
MAX_TEMPERATURE = 2.0
MAX_RADIUS = 100.0
MAX_VIDEO_SECONDS = 60.0
MAX_VIDEO_PIXELS = 1920 * 1088
MAX_VIDEO_SIDE = 448
MAX_FRAMES = 16
MAX_QUEUE = int(os.environ.get("MAX_QUEUE", 64))  # requests that wait; the next one is told that the queue is full

STILL_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")
# What a browser may hand over without a type, to be taken or to be refused by name.
SUFFIXES = (*VIDEO_SUFFIXES, *Image.registered_extensions(), ".heic", ".heif")

# Nothing is decoded before its size is checked, so PIL's own guard would only add a warning.
Image.MAX_IMAGE_PIXELS = None


class BadInput(ValueError):
    """A visitor's mistake: the key of a sentence in texts.py, and what fills its gaps."""

    def __init__(self, key: str, **values):
        super().__init__(key)
        self.key, self.values = key, values


@dataclass
class Media:
    """A picture, or a video's frames at `fps` frames a second."""

    kind: str  # "image" or "video"
    frames: list[Image.Image] = field(repr=False)
    fps: float = 0.0


def open_media(paths: list[str] | None) -> list[Media]:
    """Read the visitor's pictures and videos.

    Raises:
        BadInput: too many of them, or one that cannot be taken.
    """
    paths = paths or []
    if len(paths) > MAX_FILES:
        raise BadInput("too_many_files", given=len(paths), allowed=MAX_FILES)
    return [open_one(path) for path in paths]


def open_one(path: str) -> Media:
    """Read one picture or video; raises BadInput as `open_media` does."""
    file = Path(path)
    name = file.name if len(file.name) <= 40 else f"{file.stem[:30]}...{file.suffix[:8]}"
    try:
        size = file.stat().st_size
    except OSError:
        raise BadInput("file_gone", name=name) from None
    if size == 0:
        raise BadInput("file_empty", name=name)
    if size > MAX_FILE_BYTES:
        raise BadInput("file_too_large", name=name, given=math.ceil(size / 2**20), allowed=MAX_FILE_BYTES // 2**20)
    if file.suffix.lower() in VIDEO_SUFFIXES:
        return _open_video(file, name)
    return Media("image", [_open_picture(file, name)])


def _open_picture(file, name):
    try:
        picture = Image.open(file, formats=STILL_FORMATS)
    except Exception:  # PIL's plugins raise many kinds on broken files
        raise BadInput("not_a_picture", name=name) from None
    with picture:
        width, height = picture.size
        _check_size(name, width, height, MAX_PIXELS)
        try:
            # A phone's MPO holds a second view of the same still.
            if picture.format != "MPO" and getattr(picture, "is_animated", False):
                raise BadInput("animated", name=name)
            picture.draft(None, (MAX_SIDE, MAX_SIDE))  # a JPEG is decoded near the size that is needed
            picture.load()
            return _still(picture)
        except BadInput:
            raise
        except Exception:
            raise BadInput("damaged", name=name) from None


def _still(picture):
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) // 256).astype(np.uint8))
    if picture.mode not in ("L", "LA", "RGB", "RGBA"):
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    picture = ImageOps.exif_transpose(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _check_size(name, width, height, most):
    if width * height > most:
        raise BadInput("too_many_pixels", name=name, width=width, height=height, allowed=most // 1_000_000)
    if max(width, height) > MAX_RATIO * max(1, min(width, height)):
        raise BadInput("too_narrow", name=name, width=width, height=height, allowed=MAX_RATIO)


def _open_video(file, name):
    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            _check_size(name, stream.width, stream.height, MAX_VIDEO_PIXELS)
            seconds = _seconds(container, stream)
            if seconds is not None and seconds > MAX_VIDEO_SECONDS:
                raise BadInput("video_too_long", name=name, given=math.ceil(seconds), allowed=int(MAX_VIDEO_SECONDS))
            frames, fps = _sample(container, stream, seconds or MAX_VIDEO_SECONDS)
    except BadInput:
        raise
    except Exception:  # no video stream, a broken file, an unknown codec
        raise BadInput("not_a_video", name=name) from None
    if not frames:
        raise BadInput("not_a_video", name=name)
    return Media("video", frames, fps)


def _seconds(container, stream):
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base


def _sample(container, stream, seconds):
    """At most MAX_FRAMES frames, evenly spaced and no more than two a second, and how many of them make a second."""
    count = max(2, min(MAX_FRAMES, round(2 * seconds)))
    fps = count / max(seconds, 0.1)
    frames = []
    for frame in container.decode(stream):
        _check_size("video", frame.width, frame.height, MAX_VIDEO_PIXELS)
        time = frame.time or 0.0
        if time > MAX_VIDEO_SECONDS or len(frames) == count:
            break
        if time >= len(frames) / fps:
            picture = frame.to_image()
            picture.thumbnail((MAX_VIDEO_SIDE, MAX_VIDEO_SIDE))
            frames.append(picture)
    return frames, fps


def check_question(question: str | None, special_tokens: list[str]) -> str:
    """The question without blanks around it; raises BadInput when it is empty, too long or holds control tokens."""
    question = (question or "").strip()
    if not question:
        raise BadInput("no_question")
    if len(question) > MAX_QUESTION:
        raise BadInput("question_too_long", given=f"{len(question):,}", allowed=f"{MAX_QUESTION:,}")
    for token in special_tokens:
        if token in question:
            raise BadInput("control_token", token=token)
    try:
        question.encode()
    except UnicodeEncodeError:
        raise BadInput("not_text") from None
    return question


def check_number(name: str, value, low: float, high: float, whole: bool = False) -> float | int:
    """The number, if it lies between `low` and `high`; raises BadInput otherwise."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not low <= number <= high or (whole and number != int(number)):
        kind = "bad_whole_number" if whole else "bad_number"
        raise BadInput(kind, name=name, given=str(value)[:40], low=low, high=high)
    return int(number) if whole else number
