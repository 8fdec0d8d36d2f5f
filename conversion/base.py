"""Read a Qwen2.5-VL checkpoint without loading it: its config, its shards, and the tensors in their headers."""

import json
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError, safe_open

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

# Everything of a checkpoint that is carried over beside its weights and config.json.
COMPANIONS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "chat_template.json",
    "chat_template.jinja",
    "generation_config.json",
    "LICENSE",
    "NOTICE",
)


class ConversionError(ValueError):
    """Something about the input or the output that the user can put right; its text is one sentence."""


@dataclass(frozen=True)
class Tensor:
    """What a safetensors header says of one tensor, and which file it is in."""

    file: str
    shape: tuple[int, ...]
    dtype: str


def fetch(base: str, revision: str | None = None) -> Path:
    """The directory of a checkpoint: `base` itself where it is one, else a snapshot of the hub id `base`.

    Raises:
        ConversionError: there is neither, or the hub does not hand it out.
    """
    path = Path(base)
    if path.is_dir():
        if revision is not None:
            raise ConversionError(f"--revision {revision} was given, but {base} is a local directory: leave it out.")
        return path
    if path.exists():
        raise ConversionError(f"{base} is a file, but must be a checkpoint directory or a hub id.")
    try:
        return Path(
            snapshot_download(
                base, revision=revision, allow_patterns=["*.safetensors", INDEX, "config.json", *COMPANIONS]
            )
        )
    except HFValidationError:
        raise ConversionError(
            f"{base} is neither a directory here nor a hub id: give a path that exists or an id such as "
            "Qwen/Qwen2.5-VL-3B-Instruct."
        ) from None
    except GatedRepoError:
        raise ConversionError(
            f"{base} is gated: accept its conditions on its hub page and log in with `hf auth login`."
        ) from None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        at = f" at revision {revision}" if revision else ""
        raise ConversionError(
            f"there is no directory {base} here and no such repository{at} on the hub (or it is private and you are "
            "not logged in): check the name."
        ) from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConversionError(
            f"there is no directory {base} here, and the hub could not be asked for that id ({reason}): check the "
            "path or the connection."
        ) from None


def read_json(path: Path) -> dict:
    """The JSON object in a file of the checkpoint.

    Raises:
        ConversionError: no such file, or no JSON object in it.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConversionError(f"{path.parent} has no {path.name}: give a complete checkpoint directory.") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConversionError(f"{path} is not valid JSON ({error}): fetch it again.") from None
    if not isinstance(value, dict):
        raise ConversionError(f"{path} holds no JSON object: fetch it again.")
    return value


def read_tensors(directory: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint, by the name it has there, from the headers alone.

    Raises:
        ConversionError: no safetensors weights, a shard that is missing, outside the directory or truncated, or an
            index that does not say what the shards hold.
    """
    if not (directory / INDEX).exists():
        if not (directory / SINGLE).exists():
            raise ConversionError(
                f"{directory} has neither {SINGLE} nor {INDEX}: only safetensors checkpoints can be converted."
            )
        return _read_header(directory, SINGLE)
    weight_map = read_json(directory / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ConversionError(f"{directory / INDEX} has no weight_map: fetch it again.")
    tensors = {}
    for shard in sorted({str(file) for file in weight_map.values()}):
        if Path(shard).name != shard or "\\" in shard:
            raise ConversionError(f"{INDEX} points to {shard!r}, which is outside of {directory}: fetch it again.")
        if not (directory / shard).is_file():
            raise ConversionError(f"{directory} lacks the shard {shard} that its index names: fetch it again.")
        tensors |= _read_header(directory, shard)
    for name, shard in weight_map.items():
        if name not in tensors or tensors[name].file != shard:
            raise ConversionError(f"{INDEX} says that {shard} holds {name}, but it does not: fetch both again.")
    return tensors


def _read_header(directory, file):
    try:
        with safe_open(directory / file, framework="pt") as shard:
            slices = {name: shard.get_slice(name) for name in shard.keys()}  # noqa: SIM118 (not a dict)
            return {name: Tensor(file, tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise ConversionError(f"{directory / file} is truncated or damaged ({error}): fetch it again.") from None
