"""Rows of a training set: `{"messages": [{"role", "content"}, ...], "images": [path, ...]}`, ms-swift's own format."""

import json
from pathlib import Path

IMAGE_TAG = "<image>"


def check_row(row: dict, name: str, folder: Path | None = None) -> None:
    """Refuse a row whose pictures are missing, or are not as many as its placeholders.

    Args:
        row: its `images` are paths (relative ones to `folder`), dicts with `path` or `bytes`, or pictures. A row
            without any `<image>` is fine: its pictures then come first.
        name: what to call the row in the message.

    Raises:
        ValueError: with one sentence.
    """
    messages, images = row.get("messages"), row.get("images") or []
    if not isinstance(messages, list) or not all(
        isinstance(message, dict) and {"role", "content"} <= message.keys() for message in messages
    ):
        raise ValueError(f'{name} has no messages: give a list of {{"role": ..., "content": ...}}.')
    if not isinstance(images, list):
        images = [images]
    for image in images:
        path = image.get("path") if isinstance(image, dict) and not image.get("bytes") else image
        if path is None or path == "":
            raise ValueError(f"{name} has an empty image: give the path of a file, or leave the row out.")
        if isinstance(path, str) and not is_remote(path) and not (Path(folder or ".") / path).is_file():
            raise ValueError(f"{name} names the image {path}, but there is no such file: put it there.")
    placeholders = sum(count_placeholders(message["content"]) for message in messages)
    if placeholders not in (0, len(images)) or (placeholders and not images):
        raise ValueError(
            f"{name} has {len(images)} images, but {placeholders} {IMAGE_TAG} placeholders in its messages: give one "
            "for every image."
        )


def is_remote(path: str) -> bool:
    return path.startswith(("http://", "https://", "data:"))


def count_placeholders(content) -> int:
    """Of a message's content, as text with `<image>` in it or as a list of parts."""
    if isinstance(content, str):
        return content.count(IMAGE_TAG)
    return sum(part.get("type") in ("image", "image_url") for part in content or ())


def read_rows(path: Path) -> list[dict]:
    """The checked rows of a JSON-lines file; relative image paths are made absolute.

    Raises:
        ValueError: not JSON, or a row that `check_row` refuses.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        name = f"{path}, row {number},"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{name} is not valid JSON ({error}): write one object on every line.") from None
        if not isinstance(row, dict):
            raise ValueError(f"{name} is no JSON object: write one on every line.")
        check_row(row, name, path.parent)
        images = row.get("images") or []
        images = images if isinstance(images, list) else [images]
        row["images"] = [str(path.parent.resolve() / image) if isinstance(image, str) else image for image in images]
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} has no rows: write one JSON object on every line.")
    return rows
