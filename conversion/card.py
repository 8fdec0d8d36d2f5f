"""The model card of a checkpoint that is published: metadata taken over from the base, text about its block."""

import json
import re
from pathlib import Path
from string import Template

import yaml
from huggingface_hub import ModelCard, ModelCardData

from .base import CARD, ConversionError
from .folder import Plan

TEMPLATE = Path(__file__).with_name("card.md")
BEGIN, END = "<!-- circle-rope card -->", "<!-- end of circle-rope card -->"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# Licences of Qwen2.5-VL that the Hub knows by no identifier of its own.
NAMED_LICENCES = ("qwen-research", "qwen")

MEANING = {
    "radius": "`radius`: of the ring; `auto-k` is k times the picture's largest coordinate.",
    "circle_r": "`circle_r`: radius of the ring; `auto-k` is k times the picture's largest coordinate.",
    "alpha": "`alpha`: the share of the spatial angle in a token's place on the ring; the rest is its index.",
    "method": "`method`: `circle` for the ring, `no_circle` for the flat grid in the ring's plane.",
    "move_to_origin": "`move_to_origin`: whether the grid is centred before its angles are taken.",
    "move_to_positive": "`move_to_positive`: shift of the ring along the text axis.",
    "dff_rate": "`dff_rate`: the share of the flat grid that is blended into the ring.",
    "AGE_mode": "`AGE_mode`: which layers see the ring and which M-RoPE.",
    "image_stride": "`image_stride`: extra distance between one picture and the next.",
    "base": "`base`: overrides the text model's `rope_theta`.",
    "mrope_section": "`mrope_section`: overrides the text model's.",
}

UNTUNED = """\
## Before you rely on it

The weights are those of the base, converted but **not fine-tuned**: they were trained with other positions than they
see here, so answers are worse until the model has been fine-tuned. The paper reports that cost: behind the baseline
at 3k steps, ahead of it at 8.5k."""
TUNED = """\
## Fine-tuning

Weights that are converted and not fine-tuned need fine-tuning, for they were trained with other positions than they
see. The paper reports that cost: behind the baseline at 3k steps, ahead of it at 8.5k."""


def read_card(directory: Path) -> ModelCard:
    """The card in a directory, or an empty one.

    Raises:
        ConversionError: its metadata cannot be read.
    """
    path = directory / CARD
    try:
        return ModelCard(path.read_text(encoding="utf-8") if path.is_file() else "---\n{}\n---\n")
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
    """The whole text of the card of a converted or fine-tuned checkpoint.

    Where the base is Circle-RoPE already, its card is its owner's: the text is kept, what its metadata says stays,
    and only the part between our two marks is written anew.

    Args:
        plan: the checkpoint.
        repo: the id that the examples load.
        base_model: hub id, or None where it is not known.
        licence: as `find_licence` gives it.
        schedule: the geometry of every layer.
        code_repo: id of the repository that its code is in, or None for its own.
    """
    block = plan.config["circle_rope"]
    is_tuned = plan.is_own
    own = read_card(plan.base) if is_tuned else ModelCard("---\n{}\n---\n")
    data = own.data.to_dict()
    origin = f"[{base_model}](https://huggingface.co/{base_model})" if base_model else "a Qwen2.5-VL checkpoint"
    text = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title="## Circle-RoPE" if own.text.strip() and BEGIN not in own.text else f"# {repo.split('/')[-1]}",
        intro=f"Made from {origin}." if is_tuned else f"{origin[0].upper()}{origin[1:]} with Circle-RoPE positions.",
        block=json.dumps(block, indent=2, ensure_ascii=False),
        meaning="\n".join(f"- {MEANING[key]}" for key in block),
        schedule=_words(schedule),
        repo=repo,
        code=f"[{code_repo}](https://huggingface.co/{code_repo}), which other checkpoints share"
        if code_repo
        else "this repo",
        commit=plan.code.name if plan.code else "COMMIT",
        tuning=TUNED if is_tuned else UNTUNED,
        licence=licence_sentence(licence, base_model),
    )
    data = {
        "pipeline_tag": "image-text-to-text",
        "language": read_card(plan.base).data.get("language"),
        "base_model_relation": "finetune",
        **data,
        "library_name": "transformers",
        **licence,
        "base_model": base_model,
    }
    return assemble(own, text, data, ["circle-rope", *(["age"] if len(set(schedule)) > 1 else []), "qwen2_5_vl"])


def assemble(own: ModelCard, text: str, data: dict, tags: list[str]) -> str:
    """A card of the given metadata whose text is that of `own`, with our part put in or replaced."""
    known = data.pop("tags", None) or []
    known = [tag for tag in ([known] if isinstance(known, str) else known) if not tag.startswith("base_model:")]
    tags = [*known, *tags, "multimodal", "custom_code"]
    if not data.get("base_model"):
        data.pop("base_model_relation")
    card_data = ModelCardData(**data, tags=list(dict.fromkeys(tags)))
    part = f"{BEGIN}\n{text.strip()}\n{END}"
    kept = own.text.strip()
    if BEGIN in kept and END in kept:
        before, rest = kept.split(BEGIN, 1)
        kept = before + part + rest.split(END, 1)[1]
    else:
        kept = f"{kept}\n\n{part}" if kept else part
    return f"---\n{card_data.to_yaml().strip()}\n---\n\n{kept}\n"


def _words(schedule):
    runs = []
    for layer, name in enumerate(schedule):
        if runs and runs[-1][0] == name:
            runs[-1][2] = layer
        else:
            runs.append([name, layer, layer])
    if len(runs) == 1:
        return f"all {len(schedule)} {schedule[0]}"
    if len(runs) == len(schedule):
        return f"{len(schedule)}, alternating, layer 0 {schedule[0]}"
    return ", ".join(f"{name} {first}" if first == last else f"{name} {first} to {last}" for name, first, last in runs)


def licence_sentence(licence: dict[str, str], base_model: str | None) -> str:
    """What a card says of the licence in words."""
    name = licence.get("license_name") or licence["license"]
    if licence["license"] == "unknown":
        return "The licence of the base is not known; ask its owner before you use the weights."
    link = licence.get("license_link")
    name = f"[{name}]({link})" if link else name
    return f"The weights are under the licence of {base_model or 'the base'}: {name}. The code is Apache-2.0."
