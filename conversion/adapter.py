"""A PEFT adapter on its own: its files, its base's reference, and its card."""

import contextlib
import json
from pathlib import Path
from string import Template

from .base import ADAPTER, ADAPTER_CONFIG, COMPANIONS, INDEX, SINGLE, ConversionError, fetch, read_header, read_json
from .card import HUB_ID, read_card
from .convert import has_block
from .core import card
from .folder import Plan

TEMPLATE = Path(__file__).with_name("adapter.md")


def is_adapter(directory: Path) -> bool:
    """Whether a directory holds an adapter and no whole model."""
    has_model = (directory / "config.json").is_file() and any((directory / name).exists() for name in (SINGLE, INDEX))
    return (directory / ADAPTER_CONFIG).is_file() and not has_model


def plan_adapter(directory: Path, base_model: str | None) -> Plan:
    """What the published adapter consists of. Where its base is a path of this computer, `base_model` takes its place.

    Raises:
        ConversionError: no safetensors weights, or a base that has no name on the Hub.
    """
    config = read_json(directory / ADAPTER_CONFIG)
    if not (directory / ADAPTER).is_file():
        raise ConversionError(
            f"{directory} has no {ADAPTER}: save the adapter with save_pretrained(..., safe_serialization=True)."
        )
    tensors = read_header(directory, ADAPTER)
    if not tensors:
        raise ConversionError(f"{directory / ADAPTER} is empty: save the adapter again.")
    said = config.get("base_model_name_or_path")
    plan = Plan(directory, config, tensors, {ADAPTER: directory / ADAPTER}, is_own=True)
    plan.files |= {name: directory / name for name in COMPANIONS if (directory / name).is_file()}
    plan.files[ADAPTER_CONFIG] = directory / ADAPTER_CONFIG
    if base_model is None:
        if not isinstance(said, str) or Path(said).exists() or not HUB_ID.fullmatch(said):
            raise ConversionError(
                f"{directory / ADAPTER_CONFIG} names {said!r} as its base, which is no repository of the Hub: publish "
                "the base, then give its id with --base-model."
            )
    elif base_model != said:
        plan.config = {**config, "base_model_name_or_path": base_model}
        plan.files[ADAPTER_CONFIG] = (json.dumps(plan.config, indent=2, ensure_ascii=False) + "\n").encode()
    with contextlib.suppress(ConversionError):
        plan.local_base = fetch(str(said), offline=True)
    is_converted = plan.local_base is not None and has_block(read_json(plan.local_base / "config.json"))
    if base_model is None and not is_converted and any(key.startswith("circle_rope") for key in config):
        raise ConversionError(
            f"{directory} was trained under a circle_rope block that its base {said!r} does not have: publish the "
            "converted base and give its id with --base-model, or merge the adapter and publish the model."
        )
    return plan


def make_adapter_card(plan: Plan, repo: str, licence: dict[str, str]) -> str:
    """The whole text of an adapter's card; the text of a card that it has is kept."""
    base = plan.config["base_model_name_or_path"]
    own = read_card(plan.base)
    text = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title="## Use with Circle-RoPE" if own.text.strip() else f"# {repo.split('/')[-1]}",
        origin=f"[{base}](https://huggingface.co/{base})",
        base=base,
        repo=repo,
        licence=card.licence_sentence(licence, base),
    )
    data = {
        "pipeline_tag": "image-text-to-text",
        **own.data.to_dict(),
        "library_name": "peft",
        **licence,
        "base_model": base,
        "base_model_relation": "adapter",
    }
    return card.assemble_card(
        own, text, data, ["circle-rope", "lora" if plan.config.get("peft_type") == "LORA" else "peft"]
    )


def verify_adapter(plan: Plan, directory: Path) -> None:
    """Read a written adapter back: the same tensors.

    Raises:
        ConversionError: it is not what was meant to be written.
    """
    if read_header(directory, ADAPTER) != plan.tensors:
        raise ConversionError(f"{directory} does not hold the tensors of {plan.base}: check the disk and try again.")
