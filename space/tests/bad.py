"""Files that cannot be taken, each with the words that must be in the sentence about it."""

import struct
import zlib
from pathlib import Path

from PIL import Image


def make_bad_files(folder: Path) -> dict[Path, str]:
    """Write them and return what is said about each."""
    files = {}

    def add(name, words):
        files[folder / name] = words
        return folder / name

    add("empty.png", "is empty").write_bytes(b"")
    add("text.png", "cannot be read as a picture").write_text("no picture at all")
    add("text.mp4", "cannot be read as a video").write_text("no video at all")
    good = Path(__file__).resolve().parent.parent / "examples" / "shapes_1.png"
    add("truncated.png", "is damaged or cut short").write_bytes(good.read_bytes()[:4000])
    photo = Image.effect_noise((200, 200), 80).convert("RGB")
    photo.save(folder / "whole.jpg")
    add("truncated.jpg", "is damaged or cut short").write_bytes((folder / "whole.jpg").read_bytes()[:5000])
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    for name in ("animated.gif", "animated.png", "animated.webp", "animated.avif"):
        frames[0].save(add(name, "is an animated picture"), save_all=True, append_images=frames[1:])
    bomb(add("bomb.png", "20000 x 20000 pixels"), 20_000)
    Image.new("RGB", (4000, 10)).save(add("narrow.png", "4000 x 10 pixels"))
    return files


def bomb(path: Path, side: int) -> None:
    """A small PNG file of `side` x `side` black pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
