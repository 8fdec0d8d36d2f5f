"""Which files of a directory may be published, and why the others may not."""

import re
from pathlib import Path

from .base import ADAPTER, CARD, INDEX, ConversionError
from .folder import Plan

FILE_LIMIT = 50 * 1000**3  # bytes; the Hub takes no larger file
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy", ".npz", ".joblib"}
STATE = re.compile(r"(optimizer|scheduler|scaler|rng_state|trainer_state|training_args|global_step|zero_)")
TOKEN = re.compile(rb"\bhf_[A-Za-z0-9]{30,}")
TEXT = {".json", ".jinja", ".md", ".py", ".txt", ""}


def stays_inside(path: Path, directory: Path) -> bool:
    """Whether `path` is no link, or one that stays in `directory` or, in the Hub's cache, among that cache's blobs."""
    directory = directory.resolve()
    allowed = [directory]
    repo = directory.parent.parent
    if directory.parent.name == "snapshots" and repo.name.startswith("models--"):
        allowed += [repo / "blobs", repo.parent / "blobs"]  # newer clients share blobs among repos
    return not path.is_symlink() or any(path.resolve().is_relative_to(folder) for folder in allowed)


def reason_against(path: Path, directory: Path) -> str:
    """Why a file that is not among those to be published is left out, in a few words."""
    name = path.name
    if name.startswith("."):
        return "hidden"
    if not stays_inside(path, directory):
        return "a link that leaves the folder"
    if path.is_dir():
        return "a folder"
    if STATE.match(name):
        return "state of a training run"
    if path.suffix in PICKLES:
        return "a pickle, which can run code when it is loaded"
    if path.suffix == ".safetensors":
        return "weights that do not belong to the model" if name != ADAPTER else "an adapter beside a whole model"
    if name == INDEX:
        return "the weights are one file"
    if name == CARD:
        return "the base's own card"
    return "no file of a checkpoint"


def select(plan: Plan) -> dict[str, str]:
    """Take out of the plan what may not be published; the files of its base that are left out, each with its reason.

    Raises:
        ConversionError: the model needs a file that may not be published, or a file holds a token of the Hub.
    """
    reasons = {}
    for name, source in list(plan.files.items()):
        if isinstance(source, Path) and source.parent == plan.base and not stays_inside(source, plan.base):
            reasons[name] = "a link that leaves the folder"
        elif plan.sizes[name] > FILE_LIMIT:
            reasons[name] = f"larger than the {FILE_LIMIT / 1e9:.0f} GB that the Hub takes"
        else:
            _refuse_token(name, source)
            continue
        if name.endswith(".safetensors"):
            remedy = "replace it by the file" if "link" in reasons[name] else "save the model with max_shard_size"
            raise ConversionError(f"{plan.base / name} is {reasons[name]}: {remedy}.")
        del plan.files[name]
    for path in sorted(plan.base.iterdir()):
        if path.name not in plan.files and path.name not in reasons:
            reasons[path.name + "/" * path.is_dir()] = reason_against(path, plan.base)
    return reasons


def _refuse_token(name, source):
    if Path(name).suffix not in TEXT:
        return
    text = source if isinstance(source, bytes) else source.read_bytes()
    if TOKEN.search(text):
        raise ConversionError(f"{name} holds what looks like a token of the Hub (hf_...): take it out first.")
