"""The model card of a Circle-RoPE checkpoint: its metadata, and text about its block.

It goes with the checkpoint's code, so that `push_to_hub` of a loaded model writes it as well.
"""

import json
from pathlib import Path
from string import Template

from huggingface_hub import ModelCard, ModelCardData

BEGIN, END = "<!-- circle-rope card -->", "<!-- end of circle-rope card -->"
BLANK = "Model Card for Model ID"  # the heading of the form that huggingface_hub fills in where there is no card
NO_CARD = "---\n{}\n---\n"

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

TEXT = Template("""\
$title

$intro

Circle-RoPE ([arXiv 2505.16416](https://arxiv.org/abs/2505.16416)) moves the positions of image tokens onto a ring
perpendicular to the text axis, so that every text token is equally far from every image token; AGE alternates it with
M-RoPE layer by layer. Only positions differ from Qwen2.5-VL: architecture and tensors are its own.

## The `circle_rope` block

```json
$block
```

$meaning

Layers: $schedule.

## Use

```bash
pip install "transformers>=4.57" torch torchvision pillow
```

```python
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("$repo", trust_remote_code=True, dtype="auto", device_map="auto")
processor = AutoProcessor.from_pretrained("$repo", trust_remote_code=True)

messages = [
    {
        "role": "user",
        "content": [{"type": "image", "image": "photo.jpg"}, {"type": "text", "text": "What is in this picture?"}],
    }
]
inputs = processor.apply_chat_template(
    messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
)
output = model.generate(**inputs.to(model.device), max_new_tokens=128)
print(processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0])
```

`device_map="auto"` needs `pip install accelerate`; leave it out to load on the CPU. On transformers 5 these are the
classes to use. On transformers 4.57 they work as well, and `AutoModelForVision2Seq`, the name that older code has,
loads the same model:

```python
from transformers import AutoModelForVision2Seq, AutoProcessor

model = AutoModelForVision2Seq.from_pretrained("$repo", trust_remote_code=True, dtype="auto", device_map="auto")
```

`trust_remote_code=True` runs the Python files of $code. Read them, then pin the commit that you read, so that a
later change is not run unseen:

```python
model = AutoModelForImageTextToText.from_pretrained(
    "$repo", trust_remote_code=True, revision="COMMIT", code_revision="$commit", dtype="auto"
)
```

$tuning

## Licence

$licence

## Citation

```bibtex
@article{circlerope2025,
  title   = {Circle-RoPE: Cone-like Decoupled Rotary Positional Embedding for Large Vision-Language Models},
  author  = {Wang, Chengcheng and Guo, Jianyuan and Li, Hongguang and Tian, Yuchuan and Nie, Ying and
             Xu, Chang and Han, Kai},
  journal = {arXiv preprint arXiv:2505.16416},
  year    = {2025}
}
```
""")


def make_card(
    own: ModelCard,
    block: dict,
    schedule: tuple[str, ...],
    repo: str,
    base_model: str | None,
    licence: dict[str, str],
    is_tuned: bool = True,
    language: list[str] | str | None = None,
    code: str = "this repo",
    commit: str = "COMMIT",
) -> str:
    """The whole text of the card of a converted or fine-tuned checkpoint.

    Args:
        own: the owner's card. Its text is kept, what its metadata says stays, and only the part between our two marks
            is written anew.
        block: the `circle_rope` block.
        schedule: the geometry of every layer.
        repo: the id that the examples load.
        base_model: hub id, or None where it is not known.
        licence: `license` and, where there are, `license_name` and `license_link`, as metadata have them.
        is_tuned: whether training may have changed the base's weights.
        language: of the base.
        code, commit: the repository that the code is in, in words, and the commit to pin.
    """
    origin = f"[{base_model}](https://huggingface.co/{base_model})" if base_model else "a Qwen2.5-VL checkpoint"
    text = TEXT.substitute(
        title="## Circle-RoPE" if own.text.strip() and BEGIN not in own.text else f"# {repo.split('/')[-1]}",
        intro=f"Made from {origin}." if is_tuned else f"{origin[0].upper()}{origin[1:]} with Circle-RoPE positions.",
        block=json.dumps(block, indent=2, ensure_ascii=False),
        meaning="\n".join(f"- {MEANING[key]}" for key in block),
        schedule=_words(schedule),
        repo=repo,
        code=code,
        commit=commit,
        tuning=TUNED if is_tuned else UNTUNED,
        licence=licence_sentence(licence, base_model),
    )
    data = {
        "pipeline_tag": "image-text-to-text",
        "language": language,
        "base_model_relation": "finetune",
        **own.data.to_dict(),
        "library_name": "transformers",
        **licence,
        "base_model": base_model,
    }
    return assemble(own, text, data, ["circle-rope", *(["age"] if len(set(schedule)) > 1 else []), "qwen2_5_vl"])


def complete(path: Path, repo: str, config) -> None:
    """Put what there is to say of a model into the card at `path`, in place of a blank form or behind its own text.

    Args:
        path: of the card, which may not be there.
        repo: the id that the examples load.
        config: the model's configuration. Where it was loaded from a directory, that one's card says the rest.
    """
    own = ModelCard(path.read_text(encoding="utf-8") if path.is_file() else NO_CARD)
    source = Path(config.name_or_path, "README.md")
    before = ModelCard(source.read_text(encoding="utf-8") if config.name_or_path and source.is_file() else NO_CARD)
    if BLANK in own.text:
        own = ModelCard(f"---\n{own.data.to_yaml()}\n---\n")
    said = {**before.data.to_dict(), **own.data.to_dict()}
    base = said.get("base_model")
    base = base[0] if isinstance(base, list) and base else base
    if base is None and not source.parent.exists() and config.name_or_path.count("/") == 1:
        base = config.name_or_path
    licence = {key: said[key] for key in ("license", "license_name", "license_link") if said.get(key)}
    block, schedule = config.circle_rope, config.schedule
    text = make_card(
        own, block, schedule, repo, base, licence or {"license": "unknown"}, language=said.get("language")
    )
    path.write_text(text, encoding="utf-8")


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
