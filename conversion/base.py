"""Read a Qwen2.5-VL checkpoint without loading it: its config, its shards, and the tensors in their headers."""

import contextlib
import errno
import json
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import get_token, snapshot_download
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
CARD = "README.md"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER = "adapter_model.safetensors"

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
    "LICENSE.md",
    "LICENSE.txt",
    "NOTICE",
)


# What a connection that fails raises beside OSError, by the HTTP library that the installed huggingface_hub uses.
TRANSPORT_ERRORS: tuple[type[Exception], ...] = (OSError,)
for _library in ("httpx2", "httpx"):
    if _library in sys.modules:
        TRANSPORT_ERRORS += (sys.modules[_library].HTTPError,)


class ConversionError(ValueError):
    """Something about the input or the output that the user can put right; its text is one sentence."""


def reason(error: Exception) -> str:
    """What an error of a library says, in one line; of a ValueError the words alone."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"


@contextlib.contextmanager
def in_one_sentence(trouble: str):
    """Turn whatever a library raises within into a ConversionError that begins with `trouble`."""
    try:
        yield
    except ConversionError:
        raise
    except Exception as error:  # upstream checks some values and trips over others
        raise ConversionError(f"{trouble} ({reason(error)}): correct it.") from None


@dataclass(frozen=True)
class Tensor:
    """What a safetensors header says of one tensor, and which file it is in."""

    file: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        bits = re.search(r"\d+|$", self.dtype)[0] or 8  # BOOL names no number
        return math.prod(self.shape) * int(bits) // 8


def fetch(
    base: str, revision: str | None = None, offline: bool = False, patterns: tuple[str, ...] = ("*.safetensors", INDEX)
) -> Path:
    """The directory of a checkpoint: `base` itself where it is one, else a snapshot of the hub id `base`.

    Args:
        base: directory, or hub id.
        revision: of the hub id.
        offline: take the hub id from the cache, and ask nobody.
        patterns: names of the files that are fetched beside the small ones: the weights.

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
                base,
                revision=revision,
                token=get_token(),  # given, so that HF_HUB_DISABLE_IMPLICIT_TOKEN does not keep it back
                allow_patterns=[*patterns, "config.json", ADAPTER_CONFIG, CARD, *COMPANIONS],
                local_files_only=offline,
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
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, *TRANSPORT_ERRORS) as error:
        if offline:
            raise ConversionError(
                f"{base} is neither a directory here nor complete in the cache, and a dry run asks nobody: give a "
                "local checkpoint or fetch it first."
            ) from None
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ConversionError(
                f"{base} could not be fetched ({error.strerror}): make room in the cache, or set HF_HOME to a larger "
                "disk; what has arrived is kept."
            ) from None
        if getattr(getattr(error, "response", None), "status_code", None) == 401:
            raise ConversionError(
                f"{base} could not be fetched because the Hub does not accept the token: log in again with "
                "`hf auth login` or correct HF_TOKEN."
            ) from None
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
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise ConversionError(f"{path.parent} has no {path.name}: give a complete checkpoint directory.") from None
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"{path} is not valid JSON ({error}): fetch it again.") from None
    if not isinstance(value, dict):
        raise ConversionError(f"{path} holds no JSON object: fetch it again.")
    return value


def _refuse_constant(name):
    """Python's json would read NaN and Infinity, which no other reader of the file does."""
    raise ValueError(f"it has the value {name}")


def read_tensors(directory: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint, by the name it has there, from the headers alone.

    What a shard holds counts, whether the index names it or not: some releases of transformers load by the index,
    others whatever is in the shards.

    Raises:
        ConversionError: no safetensors weights, or one file and shards of which releases would load only one; a shard
            that is missing, outside the directory or truncated; a tensor in two shards, or not where the index says.
    """
    if not (directory / INDEX).exists():
        if not (directory / SINGLE).exists():
            raise ConversionError(
                f"{directory} has neither {SINGLE} nor {INDEX}: only safetensors checkpoints can be converted."
            )
        return read_header(directory, SINGLE)
    weight_map = read_json(directory / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ConversionError(f"{directory / INDEX} has no weight_map: fetch it again.")
    shards = sorted({str(file) for file in weight_map.values()})
    if (directory / SINGLE).exists() and shards != [SINGLE]:
        raise ConversionError(
            f"{directory} has {SINGLE}, which transformers would load, and {INDEX} with other files: delete the one "
            "that is not meant."
        )
    tensors = {}
    for shard in shards:
        if Path(shard).name != shard or "\\" in shard:
            raise ConversionError(f"{INDEX} points to {shard!r}, which is outside of {directory}: fetch it again.")
        if not (directory / shard).is_file():
            raise ConversionError(f"{directory} lacks the shard {shard} that its index names: fetch it again.")
        header = read_header(directory, shard)
        for name in tensors.keys() & header.keys():
            raise ConversionError(
                f"{directory} has {name} in {tensors[name].file} and in {shard}: save the checkpoint again."
            )
        tensors |= header
    for name, shard in weight_map.items():
        if name not in tensors or tensors[name].file != shard:
            raise ConversionError(f"{INDEX} says that {shard} holds {name}, but it does not: fetch both again.")
    return tensors


def read_header(directory: Path, file: str) -> dict[str, Tensor]:
    """Every tensor of one safetensors file.

    Raises:
        ConversionError: it is no whole safetensors file.
    """
    try:
        with safe_open(directory / file, framework="pt") as shard:
            slices = {name: shard.get_slice(name) for name in shard.keys()}  # noqa: SIM118 (not a dict)
            return {name: Tensor(file, tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise ConversionError(f"{directory / file} is truncated or damaged ({error}): fetch it again.") from None
