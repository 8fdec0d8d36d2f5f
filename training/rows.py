"""Rows of a training set, `{"messages": [{"role", "content"}], "images": [...], "videos": [...]}`, as in ms-swift."""

import json
from pathlib import Path

# The key of a row, and what stands in its messages where one goes.
MEDIA = {"images": "<image>", "videos": "<video>"}
PART_TYPES = {"images": ("image", "image_url"), "videos": ("video", "video_url")}


def check_row(row: dict, name: str, folder: Path | None = None) -> None:
    """Refuse a row whose pictures or videos are missing, or are not as many as their placeholders.

    Args:
        row: its `images` and `videos` are paths (relative ones to `folder`), dicts with `path` or `bytes`, or what has
            been read already; a video may be a list of pictures. A row without any placeholder of a kind is fine: its
            pictures then come first.
        name: what to call the row in the message.

    Raises:
        ValueError: with one sentence.
    """
    messages = row.get("messages")
    if not isinstance(messages, list) or not all(
        isinstance(message, dict) and {"role", "content"} <= message.keys() for message in messages
    ):
        raise ValueError(f'{name} has no messages: give a list of {{"role": ..., "content": ...}}.')
    for message in messages:
        if not isinstance(message["content"], (str, list, type(None))):
            raise ValueError(f"{name} has the content {message['content']!r}: give text, or a list of parts.")
    for key, tag in MEDIA.items():
        media = media_of(row, key)
        for item in media:
            for file in item if isinstance(item, list) else [item]:
                _check_file(file, key.removesuffix("s"), name, folder)
        placeholders = sum(count_placeholders(message["content"], key) for message in messages)
        if placeholders not in (0, len(media)) or (placeholders and not media):
            raise ValueError(
                f"{name} has {len(media)} {key}, but {placeholders} {tag} placeholders in its messages: give one for "
                f"every {key.removesuffix('s')}."
            )


def _check_file(item, kind, name, folder):
    path = item.get("path") if isinstance(item, dict) and not item.get("bytes") else item
    if path is None or path == "":
        article = "an" if kind == "image" else "a"
        raise ValueError(f"{name} has an empty {kind}: give the path of {article} {kind} file, or leave the row out.")
    if isinstance(path, str) and not is_remote(path) and not (Path(folder or ".") / path).is_file():
        raise ValueError(f"{name} names the {kind} {path}, but there is no such file: put it there.")


def media_of(row: dict, key: str) -> list:
    """The row's `images` or `videos` as a list."""
    media = row.get(key)
    return media if isinstance(media, list) else [] if media is None else [media]


def is_remote(path: str) -> bool:
    return path.startswith(("http://", "https://", "data:"))


def count_placeholders(content, key: str) -> int:
    """Of `images` or `videos` in a message's content: text with `<image>` or `<video>` in it, or a list of parts."""
    if isinstance(content, str):
        return content.count(MEDIA[key])
    return sum(isinstance(part, dict) and part.get("type") in PART_TYPES[key] for part in content or ())


def read_rows(path: Path) -> list[dict]:
    """The checked rows of a JSON-lines file; relative paths of pictures and videos are made absolute.

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
        for key in MEDIA:
            row[key] = [_absolute(item, path.parent.resolve()) for item in media_of(row, key)]
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} has no rows: write one JSON object on every line.")
    return rows


def _absolute(item, folder):
    if isinstance(item, list):
        return [_absolute(file, folder) for file in item]
    return str(folder / item) if isinstance(item, str) and not is_remote(item) else item
