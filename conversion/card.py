"""The model card of a checkpoint that is published: metadata taken over from the base, text about its block."""

import re
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard

from .base import CARD, ConversionError
from .core import card
from .folder import Plan

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
UNTUNED = """\
## Before you rely on it

The weights are those of the base, converted but **not fine-tuned**: they were trained with other positions than they
see here, so answers are worse until the model has been fine-tuned. The paper reports that cost: behind the baseline
at 3k steps, ahead of it at 8.5k."""

# Licences of Qwen2.5-VL that the Hub knows by no identifier of its own.
NAMED_LICENCES = ("qwen-research", "qwen")


def read_card(directory: Path) -> ModelCard:
    """The card in a directory, or an empty one.

    Raises:
        ConversionError: its metadata cannot be read.
    """
    path = directory / CARD
    try:
        return ModelCard(path.read_text(encoding="utf-8") if path.is_file() else card.NO_CARD)
    except (ValueError, yaml.YAMLError) as error:
        raise ConversionError(f"{path} has metadata that cannot be read ({' '.join(str(error).split())}).") from None


def find_base(base: str, directory: Path, given: str | None) -> str | None:
    """The hub id of what a checkpoint was made from: as given, or as the base itself or its files say."""
    if given is not None:
        return given
    cached = re.search(r"models--([\w.-]+?)--([\w.-]+?)/snapshots/", directory.resolve().as_posix() + "/")
    if not Path(base).is_dir():
        return base
    if cached:
        return "/".join(cached.groups())
    said = read_card(directory).data.get("base_model")
    said = said[0] if isinstance(said, list) and said else said
    return said if isinstance(said, str) and HUB_ID.fullmatch(said) else None


def find_licence(directory: Path, given: str | None) -> dict[str, str]:
    """The licence as a card's metadata has it: as given, or as the base's card or LICENSE file says."""
    if given is not None:
        return {"license": "other", "license_name": given} if given in NAMED_LICENCES else {"license": given}
    said = read_card(directory).data.to_dict()
    licence = {key: said[key] for key in ("license", "license_name", "license_link") if said.get(key)}
    if licence:
        return {"license": "other", **licence}
    for path in filter(Path.is_file, sorted(directory.glob("LICENSE*"))):
        is_apache = re.search(r"Apache License\s+Version 2\.0", path.read_text(encoding="utf-8", errors="replace"))
        return {"license": "apache-2.0"} if is_apache else {"license": "other", "license_link": path.name}
    return {"license": "unknown"}


def make_card(
    plan: Plan,
    repo: str,
    base_model: str | None,
    licence: dict[str, str],
    schedule: tuple[str, ...],
    code_repo: str | None = None,
) -> str:
    """The whole text of the card of a plan's checkpoint: see `make_card` of the card's own module.

    Where the base is Circle-RoPE already, its card is its owner's. `code_repo` is the id of the repository that the
    code is in, or None for its own.
    """
    own, words = read_card(plan.base), dict[str, Any]()
    data = {"language": own.data.get("language"), "base_model": base_model, **licence}
    if not plan.is_own:
        own = ModelCard(card.NO_CARD)
    if not plan.is_own or UNTUNED in own.text:
        origin = card.origin(base_model)
        words = {"intro": f"{origin[0].upper()}{origin[1:]} with Circle-RoPE positions.", "tuning": UNTUNED}
    if code_repo is not None:
        words["code"] = f"[{code_repo}](https://huggingface.co/{code_repo}), which other checkpoints share"
    if plan.code is not None:
        words["commit"] = plan.code.name
    quantization = plan.config.get("quantization_config")
    return card.make_card(own, plan.config["circle_rope"], schedule, repo, data, quantization, **words)
