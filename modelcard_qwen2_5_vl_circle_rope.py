"""The model card of a Circle-RoPE checkpoint: metadata, its block and schedule, how to load it, licence and citation.

It goes where the code goes, and is imported where a card is written.
"""

import json
from itertools import groupby
from pathlib import Path
from string import Template

from huggingface_hub import ModelCard, ModelCardData

BEGIN, END = "<!-- circle-rope card -->", "<!-- end of circle-rope card -->"
BLANK = "Model Card for Model ID"  # the heading of the form that huggingface_hub fills in where there is no card
NO_CARD = "---\n{}\n---\n"
# Ways of quantisation that are called as their package is.
QUANTISERS = ("bitsandbytes", "torchao", "compressed-tensors", "hqq")

MEANING = {
    "radius": "of the ring; `auto-k` is k times the picture's largest coordinate",
    "circle_r": "another name of `radius`",
    "alpha": "the share of the spatial angle in a token's place on the ring; the rest is its index",
    "method": "`circle` for the ring, `no_circle` for the flat grid in the ring's plane",
    "move_to_origin": "whether the grid is centred before its angles are taken",
    "move_to_positive": "shift of the ring along the text axis",
    "dff_rate": "the share of the flat grid that is blended into the ring",
    "AGE_mode": "which layers see the ring and which M-RoPE",
    "image_stride": "extra distance between one picture and the next",
    "base": "overrides the text model's `rope_theta`",
    "mrope_section": "overrides the text model's",
    "mrope_interleaved": "whether t, h and w take the frequencies in turns, as in Qwen3-VL; Qwen2.5-VL's do not",
}

TUNED = """\
## Fine-tuning

Converted weights need fine-tuning, for they were trained with other positions than they see. The paper reports that
cost: behind the baseline at 3k steps, ahead of it at 8.5k."""

CARD = Template("""\
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
pip install "transformers>=4.57" torch torchvision pillow$quantiser
```

```python
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("$repo", trust_remote_code=True, dtype="auto", device_map="auto")
processor = AutoProcessor.from_pretrained("$repo", trust_remote_code=True)

content = [{"type": "image", "image": "photo.jpg"}, {"type": "text", "text": "What is in this picture?"}]
chat = [{"role": "user", "content": content}]
options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
inputs = processor.apply_chat_template(chat, **options)
output = model.generate(**inputs.to(model.device), max_new_tokens=128)
print(processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0])
```

`device_map="auto"` needs `pip install accelerate`; leave it out to load on the CPU. On transformers 4.57
`AutoModelForVision2Seq`, the name that older code has, loads the same model.

`trust_remote_code=True` runs the Python files of $code. Read them, then pin the commit that you read with
`revision="COMMIT", code_revision="$commit"`, so that a later change is not run unseen.

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


def make_card(own: ModelCard, block, schedule, repo, data: dict, quantization=None, is_adapter=False, **words) -> str:
    """The whole text of the card of a converted or fine-tuned checkpoint.

    The text and metadata of the owner's `own` card stay: only the part between our two marks is written anew. The
    examples load `repo`. `data` fills up the owner's metadata; `base_model` (or None), `license` and its companions
    count over it. The package of a `quantization` is needed for loading. `words` are `intro`, `code`, `commit` and
    `tuning` of the template, where they are not the usual ones.
    """
    base, method = data["base_model"], (quantization or {}).get("quant_method")
    usual = {"intro": f"Made from {origin(base)}.", "code": "this repo", "commit": "COMMIT", "tuning": TUNED}
    text = CARD.substitute(
        usual | words,
        title="## Circle-RoPE" if own.text.strip() and BEGIN not in own.text else f"# {repo.split('/')[-1]}",
        block=json.dumps(block, indent=2, ensure_ascii=False),
        meaning="\n".join(f"- `{key}`: {MEANING[key]}." for key in block),
        schedule=schedule_in_words(schedule),
        repo=repo,
        quantiser=f" {method}" if method in QUANTISERS else "",
        licence=licence_sentence(data, base),
    )
    counts = {key: value for key, value in data.items() if key == "base_model" or key.startswith("license")}
    counts["library_name"] = "peft" if is_adapter else "transformers"
    usual = {"pipeline_tag": "image-text-to-text", "base_model_relation": "adapter" if is_adapter else "finetune"}
    tags = ["circle-rope", *(["age"] if len(set(schedule)) > 1 else []), "qwen2_5_vl"]
    return assemble_card(own, text, {**usual, **data, **own.data.to_dict(), **counts}, tags)


def complete_card(path: Path, repo: str, config) -> None:
    """Put what there is to say of a model into the card at `path`, in place of a blank form or behind its own text.

    `repo` is the id that the examples load. If the model was loaded from a directory, that one's card says the rest.
    """
    source = Path(config.name_or_path or path.parent, "README.md")
    own, before = (
        ModelCard(card.read_text(encoding="utf-8") if card.is_file() else NO_CARD) for card in (path, source)
    )
    if BLANK in own.text:
        own.text = ""
    said = {**before.data.to_dict(), **own.data.to_dict()}
    base = said.get("base_model")
    base = base[0] if isinstance(base, list) and base else base
    if base is None and not source.parent.exists() and config.name_or_path.count("/") == 1:
        base = config.name_or_path
    licence = {key: said[key] for key in ("license", "license_name", "license_link") if said.get(key)}
    data = {"language": said.get("language"), "base_model": base, **(licence or {"license": "unknown"})}
    how = config.to_dict().get("quantization_config"), path.with_name("adapter_config.json").is_file()
    path.write_text(make_card(own, config.circle_rope, config.schedule, repo, data, *how), encoding="utf-8")


def assemble_card(own: ModelCard, text: str, data: dict, tags: list[str]) -> str:
    """A card of the given metadata whose text is that of `own`, with our part put in or replaced."""
    known = data.pop("tags", None) or []
    known = [tag for tag in ([known] if isinstance(known, str) else known) if not tag.startswith("base_model:")]
    if not data.get("base_model"):
        data.pop("base_model_relation")
    card_data = ModelCardData(**data, tags=list(dict.fromkeys([*known, *tags, "multimodal", "custom_code"])))
    part, kept = f"{BEGIN}\n{text.strip()}\n{END}", own.text.strip()
    before, _, rest = kept.partition(BEGIN)
    _, end, behind = rest.partition(END)
    kept = before + part + behind if end else f"{kept}\n\n{part}".strip()
    return f"---\n{card_data.to_yaml().strip()}\n---\n\n{kept}\n"


def origin(base_model: str | None) -> str:
    """The base of a checkpoint in words, with a link where it is known."""
    return f"[{base_model}](https://huggingface.co/{base_model})" if base_model else "a Qwen2.5-VL checkpoint"


def licence_sentence(licence: dict[str, str], base_model: str | None) -> str:
    """What a card says of the licence in words."""
    if licence["license"] == "unknown":
        return "The licence of the base is not known; ask its owner before you use the weights."
    name, link = licence.get("license_name") or licence["license"], licence.get("license_link")
    name = f"[{name}]({link})" if link else name
    return f"The weights are under the licence of {base_model or 'the base'}: {name}. The code is Apache-2.0."


def schedule_in_words(schedule):
    runs = [(name, [layer for layer, _ in run]) for name, run in groupby(enumerate(schedule), lambda pair: pair[1])]
    if len(runs) == 1:
        return f"all {len(schedule)} {schedule[0]}"
    if len(runs) == len(schedule):
        return f"{len(schedule)}, alternating, layer 0 {schedule[0]}"
    return ", ".join(f"{name} {run[0]}" + f" to {run[-1]}" * (len(run) > 1) for name, run in runs)
