"""A checkpoint directory before it exists: every file's name and where its content comes from; then its writing."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
from huggingface_hub.utils import tqdm
from packaging.version import Version

from .base import CARD, ConversionError, Tensor
from .core import single_name

# Whether saving replaces a file; until 0.8 it wrote into the file, and so through a hard link into the base as well.
SAVING_REPLACES = Version(safetensors.__version__) >= Version("0.8.0.dev0")
FICLONE = 0x40049409  # Linux's request for a file that shares the blocks of another until one of them changes


@dataclass
class Plan:
    """What a directory will hold: `files` maps a name to the file it is taken from, or to its content.

    `is_own` says that the base is Circle-RoPE already, so that its card is its owner's; `local_base` is the directory
    of the model that an adapter was trained on, where it is here; `code` is where its code is, if elsewhere. `renames`
    says that the tensors have other names than in the base: see `single_name`.
    """

    base: Path
    config: dict
    tensors: dict[str, Tensor]
    files: dict[str, Path | bytes]
    notes: list[str] = field(default_factory=list)
    is_own: bool = False
    local_base: Path | None = None
    code: Path | None = None
    renames: bool = False

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of every file."""
        return {
            name: len(source) if isinstance(source, bytes) else source.stat().st_size
            for name, source in sorted(self.files.items())
        }


def refuse_filled(output: Path) -> None:
    """Raise ConversionError where `output` is a file or has something in it."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConversionError(f"{output} exists and is not an empty directory: give another --output-dir or empty it.")


def is_written(plan: Plan, output: Path) -> bool:
    """Whether `output` holds what the plan says already, save the card, which its owner may have edited."""
    return output.is_dir() and all(
        _is_file(output / name) and (name == CARD or _is_same(source, output / name))
        for name, source in plan.files.items()
    )


def _is_file(path):
    return path.is_file() and not path.is_symlink()


def _is_same(source, path):
    if isinstance(source, bytes):
        return path.read_bytes() == source
    if path.suffix != ".safetensors":
        return path.read_bytes() == source.read_bytes()
    then, now = source.stat(), path.stat()
    same_state = (then.st_size, then.st_mtime_ns) == (now.st_size, now.st_mtime_ns)
    return os.path.samefile(source, path) or same_state


def write(plan: Plan, output: Path, verify: Callable[[Path], None]) -> None:
    """Write the plan to the directory `output`, which appears only when it is complete and `verify` has passed it.

    Raises:
        ConversionError: `output` is not empty or cannot be written; nothing is left of it then.
    """
    refuse_filled(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    except OSError as error:
        raise ConversionError(f"{output} cannot be made ({error.strerror}): give another --output-dir.") from None
    try:
        for name, source in tqdm(plan.files.items(), unit="file", desc="writing"):
            if isinstance(source, bytes):
                (partial / name).write_bytes(source)
            elif plan.renames and source.suffix == ".safetensors":
                copy_renamed(source, partial / name)
            else:
                place(source, partial / name)
        verify(partial)
        partial.chmod(0o777 & ~_umask())
        if output.exists():
            output.rmdir()
        partial.rename(output)
    except OSError as error:
        raise ConversionError(f"{output} could not be written ({error.strerror}): nothing is left of it.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def place(source: Path, target: Path) -> None:
    """Make `target` a file with the content of `source`, at no cost in space where the file system allows it.

    Weights become a copy-on-write clone, else a hard link to the file behind `source`, else a copy. A hard link is
    one file with two names: what deletes or replaces one of them, as saving with safetensors does from 0.8 on, leaves
    the other alone, but what writes into the file itself, as saving with older ones does, changes both. So there are
    links only where the installed safetensors replaces. Small files, which people do edit, are always copies.
    """
    source = source.resolve()
    if source.suffix == ".safetensors" or target.suffix == ".safetensors":
        if _clone(source, target):
            return
        if SAVING_REPLACES:
            try:
                os.link(source, target)
                return
            except OSError:  # another file system, or one without links
                pass
    shutil.copyfile(source, target)
    _keep_time(source, target)


def copy_renamed(source: Path, target: Path) -> None:
    """A copy of a safetensors file under `single_name`s, which are shorter: the values stay in their places."""
    shutil.copyfile(source, target)
    with open(target, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = {single_name(name): entry for name, entry in json.loads(file.read(length)).items()}
        file.seek(8)
        file.write(json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(length))
    _keep_time(source, target)


def _clone(source, target):
    try:
        import fcntl

        with open(source, "rb") as old, open(target, "wb") as new:
            fcntl.ioctl(new, FICLONE, old.fileno())
    except (ImportError, OSError):
        target.unlink(missing_ok=True)
        return False
    _keep_time(source, target)
    return True


def _keep_time(source, target):
    status = source.stat()
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
