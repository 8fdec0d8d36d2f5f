"""Rows into examples, for TRL: one for every answer, with what comes before it and the pictures up to there."""

import re
from pathlib import Path

from .rows import MEDIA, check_row, count_placeholders, media_of, read_rows

PLACEHOLDER = re.compile(f"({'|'.join(MEDIA.values())})")
PART_OF_TAG = {tag: {"type": key.removesuffix("s"), "text": None} for key, tag in MEDIA.items()}


def load_examples(name: str, config: str | None, split: str, processes: int | None = None):
    """Examples of a folder with `SPLIT.jsonl`, or of a dataset that `datasets.load_dataset` can load.

    Args:
        name: folder or hub id.
        config: which configuration of a hub id.
        split: file name of the folder without `.jsonl`, or split of the dataset.
        processes: how many work at a time; None means one.

    Returns:
        A `datasets.Dataset` with the columns prompt, completion, images, videos (neither decoded) and row, the number
        of the row from 1.

    Raises:
        ValueError: no such dataset or split, or a row that cannot be learned from.
    """
    from datasets import Dataset, Features, Image, List, Value

    message = {"role": Value("string"), "content": List({"type": Value("string"), "text": Value("string")})}
    files = List({"bytes": Value("binary"), "path": Value("string")})
    media = {"images": List(Image(decode=False)), "videos": files}
    if (Path(name) / f"{split}.jsonl").is_file():
        if config is not None:
            raise ValueError(f"--dataset_config {config} was given, but {name} is a folder of rows: leave it out.")
        rows = [
            {"messages": [{**message, "content": parts(message["content"])} for message in row["messages"]]}
            | {key: [as_file(item) for item in row[key]] for key in MEDIA}
            for row in read_rows(Path(name) / f"{split}.jsonl")
        ]
        keys = {"messages": List(message), **media}
        rows = Dataset.from_list([{key: row[key] for key in keys} for row in rows], features=Features(keys))
    else:
        rows = load_rows(name, config, split)
        for number, row in enumerate(rows, 1):
            check_row(row, f"{name}, row {number},")
    examples = rows.map(
        split_rows,
        batched=True,
        with_indices=True,
        num_proc=processes,
        fn_kwargs={"name": name},
        remove_columns=rows.column_names,
        features=Features({"prompt": List(message), "completion": List(message), **media, "row": Value("int64")}),
    )
    if not len(examples):
        raise ValueError(f"{name} has no answers: at least one message must be of the assistant.")
    return examples


def load_rows(name: str, config: str | None, split: str):
    """A dataset of the Hub, or a folder of parquet files, with its pictures and videos as they are stored.

    Raises:
        ValueError: there is none, or it has another format.
    """
    from datasets import Image, List, Video, load_dataset
    from datasets.exceptions import DatasetsError

    if Path(name).is_dir() and not any(Path(name).rglob("*.parquet")):
        raise ValueError(f"{name} has neither {split}.jsonl nor parquet files: see training/README.md for the format.")
    try:
        rows = load_dataset(name, config, split=split)
    except (OSError, ValueError, DatasetsError) as error:
        raise ValueError(f"split {split} of --dataset_name {name} could not be loaded: {error}") from None
    if "messages" not in rows.column_names or not MEDIA.keys() & set(rows.column_names):
        raise ValueError(f"{name} has the columns {rows.column_names}, but needs messages, and images or videos.")
    for key, feature in (("images", Image(decode=False)), ("videos", Video(decode=False))):
        if key in rows.column_names and "list" in str(rows.features[key]).lower():
            rows = rows.cast_column(key, List(feature))
    return rows


def split_rows(rows: dict, indices: list[int], name: str) -> dict:
    """`split_turns` of a batch of rows, column by column."""
    examples = []
    for place, index in enumerate(indices):
        row = {key: column[place] for key, column in rows.items()}
        examples += [{**example, "row": index + 1} for example in split_turns(row, f"{name}, row {index + 1},")]
    keys = ("prompt", "completion", *MEDIA, "row")
    return {key: [example[key] for example in examples] for key in keys}


def split_turns(row: dict, name: str) -> list[dict]:
    """One example for every answer: what comes before it as the prompt, and the pictures and videos up to there.

    Raises:
        ValueError: an answer with a placeholder in it, or a video in pictures; `name` is what to call the row.
    """
    messages, media = row["messages"], {key: [as_file(item) for item in media_of(row, key)] for key in MEDIA}
    for video in media_of(row, "videos"):
        if isinstance(video, list):
            raise ValueError(f"{name} gives a video as a list of pictures: give the video's file.")
    in_front = []  # as ms-swift has it: where no placeholder says otherwise, videos come first, then pictures
    for key in reversed(MEDIA):
        if media[key] and not sum(count_placeholders(message["content"], key) for message in messages):
            in_front += [PART_OF_TAG[MEDIA[key]]] * len(media[key])
    examples, before = [], []
    for message in messages:
        content = parts(message["content"])
        if message["role"] == "user":
            content, in_front = in_front + content, []
        message = {"role": message["role"], "content": content}
        if message["role"] == "assistant":
            if any(part["type"] != "text" for part in content):
                raise ValueError(f"{name} has a placeholder in an answer: only text can be learned.")
            seen = [part["type"] for earlier in before for part in earlier["content"]]
            files = {key: media[key][: seen.count(key.removesuffix("s"))] for key in MEDIA}
            examples.append({"prompt": list(before), "completion": [message], **files})
        before.append(message)
    return examples


def parts(content) -> list[dict]:
    """A message's content as the processor's template takes it."""
    if not isinstance(content, str):
        kinds = [part["type"].removesuffix("_url") for part in content or ()]
        return [
            {"type": kind, "text": part.get("text") if kind == "text" else None}
            for kind, part in zip(kinds, content or ())
        ]
    return [PART_OF_TAG.get(piece) or {"type": "text", "text": piece} for piece in PLACEHOLDER.split(content) if piece]


def as_file(item) -> dict:
    """A picture or video as `datasets` stores it: its path, its bytes, or both."""
    return {"bytes": None, "path": item} if isinstance(item, str) else item
