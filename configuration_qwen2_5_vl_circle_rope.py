"""Configuration of Qwen2.5-VL with Circle-RoPE: the `circle_rope` block, the AGE schedule, and the mark of its rope.

At its end stands the model card that says all that of a checkpoint: it is here because it goes where the code goes.
"""

import contextlib
import copy
import difflib
import inspect
import json
import math
import re
import warnings
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from huggingface_hub import ModelCard, ModelCardData
from transformers.utils.versions import require_version

require_version("transformers>=4.57.0", "Circle-RoPE needs it: pip install -U transformers")

from transformers import Qwen2_5_VLConfig, Qwen2_5_VLTextConfig  # noqa: E402

try:
    from .circle_rope_imp import CircleGeometry, MRopeGeometry, axis_of_pairs, interleaved_section
except ImportError:  # the repo's root is not a package when it is imported from itself
    if __package__:
        raise
    from circle_rope_imp import CircleGeometry, MRopeGeometry, axis_of_pairs, interleaved_section

if TYPE_CHECKING:
    import torch

    # Never run. Transformers tells checkpoints apart by the files that their configuration names, and copies those.
    from .modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2  # noqa: F401

AUTO_MAP = {
    "AutoConfig": "configuration_qwen2_5_vl_circle_rope.Qwen2_5_VLConfig_CircleRoPE_V2",
    "AutoModel": "modeling_qwen2_5_vl_circle_rope.Qwen2_5_VLModel_CircleRoPE_V2",
    "AutoModelForCausalLM": "modeling_qwen2_5_vl_circle_rope.Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2",
    "AutoModelForImageTextToText": "modeling_qwen2_5_vl_circle_rope.Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2",
    "AutoModelForVision2Seq": "modeling_qwen2_5_vl_circle_rope.Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2",
}

# The rope type that our text configs name: no other code knows it, and what it says about it tells what to do.
MARK = "circle_rope, which needs AutoModelForImageTextToText and trust_remote_code=True"

STRATEGIES = ("strategy_1", "strategy_2", "strategy_3", "strategy_4")
GEOMETRIES = ("circle", "mrope")

V1_MODEL_TYPE = "qwen2_5_vl_circle_rope"
V1_ARCHITECTURE = "Qwen2_5_VLForConditionalGeneration_CircleRoPE"


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_auto_radius(value):
    return isinstance(value, str) and re.fullmatch(r"auto(-(\d+(\.\d*)?|\.\d+))?", value) is not None


# What each key of the block allows: a test, and the words for it.
_ALLOWED = {
    "radius": (
        lambda value: (_is_number(value) and value >= 0) or _is_auto_radius(value),
        'a number >= 0, "auto" or "auto-k" with a number k',
    ),
    "alpha": (lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1"),
    "method": (lambda value: value in ("circle", "no_circle"), '"circle" or "no_circle"'),
    "move_to_origin": (lambda value: isinstance(value, bool), "true or false"),
    "move_to_positive": (
        lambda value: value is False or value == "auto" or _is_number(value),
        'false, "auto" or a number',
    ),
    "dff_rate": (
        lambda value: value is False or (_is_number(value) and 0 <= value <= 1),
        "false or a number from 0 to 1",
    ),
    "AGE_mode": (
        lambda value: value is None or value in STRATEGIES or isinstance(value, (list, tuple)),
        f'null, {", ".join(STRATEGIES)}, or a list with "circle" or "mrope" for every layer',
    ),
    "image_stride": (lambda value: _is_number(value) and value >= 0, "a number >= 0"),
    "base": (lambda value: _is_number(value) and value > 1, "a number > 1"),
    "mrope_section": (
        lambda value: (
            isinstance(value, (list, tuple))
            and len(value) == 3
            and all(isinstance(part, int) and not isinstance(part, bool) and part > 0 for part in value)
        ),
        "a list of 3 positive integers whose sum is head_dim / 2",
    ),
    "mrope_interleaved": (lambda value: isinstance(value, bool), "true or false"),
}
_ALLOWED["circle_r"] = _ALLOWED["radius"]


def validate_circle_rope(block: dict | None) -> dict:
    """Check a `circle_rope` block by itself and return a copy of it (`{}` for None).

    Raises:
        ValueError: an unknown key, or a value that its key does not allow.
    """
    if block is None:
        return {}
    if not isinstance(block, dict):
        raise ValueError(
            f"circle_rope is {block!r}, but must be an object (a dict) with keys such as radius and alpha."
        )
    for key, value in block.items():
        if key not in _ALLOWED:
            near = difflib.get_close_matches(str(key), _ALLOWED, n=1, cutoff=0)[0]
            raise ValueError(
                f"circle_rope has the unknown key {key!r} (did you mean {near!r}?); allowed are {', '.join(_ALLOWED)}."
            )
        is_allowed, words = _ALLOWED[key]
        if not is_allowed(value):
            raise ValueError(f"circle_rope[{key!r}] is {value!r}, but must be {words}.")
    if "radius" in block and "circle_r" in block and block["radius"] != block["circle_r"]:
        raise ValueError(
            f"circle_rope has radius {block['radius']!r} and circle_r {block['circle_r']!r}, which mean the same: "
            "give one of them."
        )
    return copy.deepcopy(block)


def age_schedule(age_mode: str | list[str] | None, num_hidden_layers: int) -> tuple[str, ...]:
    """The geometry (`"circle"` or `"mrope"`) of every layer under AGE (alternating geometry encoding).

    Args:
        age_mode: None or `strategy_1` (all circle), `strategy_2` (first half circle, rest mrope), `strategy_3` (first
            half mrope, rest circle), `strategy_4` (alternating from circle), or the schedule itself. The first half
            is `num_hidden_layers // 2` layers.
        num_hidden_layers: layers of the text model.

    Raises:
        ValueError: a schedule of another length, or with another name in it.
    """
    if isinstance(age_mode, (list, tuple)):
        for name in age_mode:
            if name not in GEOMETRIES:
                raise ValueError(
                    f'circle_rope["AGE_mode"] has the entry {name!r}, but each must be "circle" or "mrope".'
                )
        if len(age_mode) != num_hidden_layers:
            raise ValueError(
                f'circle_rope["AGE_mode"] is a list of {len(age_mode)} entries, but the text model has '
                f"{num_hidden_layers} layers: give one entry for every layer."
            )
        return tuple(age_mode)
    half, rest = num_hidden_layers // 2, num_hidden_layers - num_hidden_layers // 2
    if age_mode == "strategy_2":
        return ("circle",) * half + ("mrope",) * rest
    if age_mode == "strategy_3":
        return ("mrope",) * half + ("circle",) * rest
    if age_mode == "strategy_4":
        return tuple(GEOMETRIES[layer % 2] for layer in range(num_hidden_layers))
    return ("circle",) * num_hidden_layers


def _block_of_v1(config_dict: dict) -> dict | None:
    """The block of a config.json as V1 wrote it, with V1's own defaults made explicit; None for any other config."""
    is_v1 = config_dict.get("model_type") == V1_MODEL_TYPE or (
        config_dict.get("circle_rope") is not None and V1_ARCHITECTURE in (config_dict.get("architectures") or ())
    )
    if not is_v1:
        return None
    block = validate_circle_rope(config_dict.get("circle_rope"))
    missing = [
        key for key, given in (("radius", {"radius", "circle_r"}), ("alpha", {"alpha"})) if not given & block.keys()
    ]
    if missing:
        raise ValueError(
            f"this Circle-RoPE V1 config has no {' and no '.join(missing)} in its circle_rope block, where V1 "
            "computed with -1 and so with meaningless positions: add the value that the checkpoint was meant to have."
        )
    return {"move_to_origin": False, **block}


# Where a text config has its rope, by the release: newer ones keep it all in one dict, `rope_parameters`; older ones
# keep rope_theta beside `rope_scaling`.
HAS_ROPE_PARAMETERS = hasattr(Qwen2_5_VLTextConfig(), "rope_parameters")
ROPE_KEYS = ("rope_parameters", "rope_scaling", "rope_theta")

if not HAS_ROPE_PARAMETERS and not hasattr(Qwen2_5_VLTextConfig(), "rope_scaling"):
    raise ImportError(
        "the installed transformers has neither rope_parameters nor rope_scaling in Qwen2_5_VLTextConfig, which "
        "Circle-RoPE relies on: install transformers 5.24.0, the last release known to be right."
    )


def read_rope(config_dict: dict) -> dict:
    """The rope of a text config of any release, as one dict with `rope_type` and, where they are given, the rest.

    `{"type": "mrope"}` beside a rope type means that type with sections, and alone the default one. Of both forms side
    by side `rope_scaling` counts, as upstream, unless it is our mark.
    """
    parts = [config_dict.get(key) for key in ("rope_parameters", "rope_scaling")]
    parts = [part for part in parts if isinstance(part, dict)]
    rope = {}
    for part in sorted(parts, key=lambda part: part.get("rope_type") != MARK):
        names = [part.get("stands_for"), part.get("rope_type"), part.get("type")]
        names = [name for name in names if name not in (None, MARK, "mrope")]
        scaled = [name for name in names if name != "default"]
        rope |= {key: value for key, value in part.items() if key not in ("rope_type", "type", "stands_for")}
        rope["rope_type"] = (scaled or ["default"])[0]
    if rope.get("rope_theta") is None and config_dict.get("rope_theta") is not None:
        rope["rope_theta"] = config_dict["rope_theta"]
    return rope


def _rope_of_whole(text, outer):
    """The rope of a text config, or of the whole around it: some releases wrote it twice, some tools there alone."""
    rope = read_rope(text)
    return rope if "rope_type" in rope else {**read_rope(outer), **rope}


def _rope_of_release(rope):
    """The same as the keys of a text config that the running release reads."""
    if HAS_ROPE_PARAMETERS or not rope:
        return {"rope_parameters": rope} if rope else {}
    scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
    keys = {"rope_scaling": {**scaling, "type": scaling["rope_type"]}} if "rope_type" in scaling else {}
    return {**keys, "rope_theta": rope["rope_theta"]} if "rope_theta" in rope else keys


def _with_rope_of_release(config_dict):
    """A whole config as any release wrote it, with its rope in one place and in the running release's form."""
    outer = {key: config_dict.get(key) for key in ROPE_KEYS}
    rest = {key: value for key, value in config_dict.items() if key not in ROPE_KEYS}
    text = config_dict.get("text_config")
    if text is None:
        return {**rest, **_rope_of_release(read_rope(outer))}
    if isinstance(text, dict):
        rope = _rope_of_whole(text, outer)
        text = {key: value for key, value in text.items() if key not in ROPE_KEYS}
        rest["text_config"] = {**text, **_rope_of_release(rope)}
    return rest


def _head_dim(text_config):
    return getattr(text_config, "head_dim", None) or text_config.hidden_size // text_config.num_attention_heads


def _rope_in(text_config):
    """The dict of a text config that names its rope type and sections."""
    if HAS_ROPE_PARAMETERS:
        return text_config.rope_parameters
    if text_config.rope_scaling is None:
        text_config.rope_scaling = {"rope_type": "default"}
    return text_config.rope_scaling


def _set_mark(text_config):
    rope = _rope_in(text_config)
    if rope.get("rope_type") != MARK:
        rope["stands_for"] = read_rope({"rope_parameters": rope})["rope_type"]
        rope["rope_type"] = MARK
        rope.pop("type", None)


@contextlib.contextmanager
def plain_rope(text_config: Qwen2_5_VLTextConfig):
    """While it lasts, a text config names the rope type that its mark stands for, as upstream's code reads it."""
    rope = _rope_in(text_config)
    is_marked = rope.get("rope_type") == MARK
    if is_marked:
        rope["rope_type"] = rope.pop("stands_for")
    try:
        yield
    finally:
        if is_marked:
            _set_mark(text_config)


def mark(config_dict: dict) -> dict:
    """A whole config.json of a Circle-RoPE checkpoint with the mark, readable by ours on every release.

    Readers that do not know Circle-RoPE stop at a rope type that they have never heard of, whichever of the two places
    they look in.
    """
    config_dict = copy.deepcopy(config_dict)
    text = config_dict["text_config"] if isinstance(config_dict.get("text_config"), dict) else config_dict
    rope = _rope_of_whole(text, config_dict)
    for key in ROPE_KEYS:
        config_dict.pop(key, None)
        text.pop(key, None)
    rope = {**rope, "rope_type": MARK, "stands_for": rope.get("rope_type", "default")}
    if "rope_theta" in rope:
        text["rope_theta"] = rope["rope_theta"]
    text["rope_parameters"], text["rope_scaling"] = rope, dict(rope)
    # Some releases name the whole's type here, and stock would take the vision config for the whole then.
    vision = config_dict.get("vision_config")
    if isinstance(vision, dict) and vision.get("model_type") == Qwen2_5_VLConfig.model_type:
        vision["model_type"] = "qwen2_5_vl_vision"
    return config_dict


def _level_of_caller():
    """The `stacklevel` of a warning that points at the user's line, through our two files and transformers' own."""
    ours = (__name__, __name__.replace("configuration_", "modeling_"))
    frame, level = inspect.currentframe().f_back, 1
    while frame.f_back:
        module = frame.f_globals.get("__name__", "")
        if module not in ours and module.split(".")[0] not in ("transformers", "huggingface_hub"):
            break
        frame, level = frame.f_back, level + 1
    return level


def _auto_map(given):
    """Our own `auto_map`, or a given one that names another repository's code.

    Saving names the saved directory for the classes that it saves: they go back to that repository.
    """
    references = given.values() if isinstance(given, dict) else ()
    repos = [reference.split("--")[0] for reference in map(str, references) if "--" in reference]
    if not repos:
        return dict(AUTO_MAP)
    return {key: name if "--" in str(name) else f"{repos[0]}--{name}" for key, name in given.items()}


class Qwen2_5_VLConfig_CircleRoPE_V2(Qwen2_5_VLConfig):
    """Configuration of Qwen2.5-VL with Circle-RoPE or AGE.

    Everything is Qwen2.5-VL's but for one block, `circle_rope`, whose keys and defaults the README lists. The block
    may be given when the config is made or assigned later; it is validated either way, and `base` and `mrope_section`
    are applied to the text config. Configs of Circle-RoPE V1 are understood: keys that they do not have keep V1's
    defaults.

    Raises:
        ValueError: a block with an unknown key or a value that its key does not allow.
    """

    model_type = "qwen2_5_vl_circle_rope_v2"
    _auto_class = "AutoConfig"

    def __init__(self, circle_rope: dict | None = None, **kwargs):
        block_of_v1 = _block_of_v1({"circle_rope": circle_rope, **kwargs})
        if kwargs.get("model_type") == V1_MODEL_TYPE or block_of_v1 is not None:
            circle_rope = block_of_v1
            kwargs["architectures"] = ["Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2"]
        kwargs.pop("model_type", None)
        kwargs["auto_map"] = _auto_map(kwargs.get("auto_map"))
        super().__init__(**_with_rope_of_release(kwargs))
        self.circle_rope = circle_rope

    def __setattr__(self, key, value):
        # However the block comes, it is checked before it counts.
        if key == "circle_rope":
            value = validate_circle_rope(value)
            self._check_against_text_config(value)
            self._apply_to_text_config(value)
            _set_mark(self.text_config)
        super().__setattr__(key, value)

    def save_pretrained(self, *args, **kwargs):
        """Upstream's `save_pretrained`; what it writes carries the mark."""
        with plain_rope(self.text_config):  # upstream validates what it saves
            return super().save_pretrained(*args, **kwargs)

    def to_json_string(self, *args, **kwargs) -> str:
        """Upstream's `to_json_string`, with the mark."""
        config_dict = mark(json.loads(super().to_json_string(*args, **kwargs)))
        config_dict["auto_map"] = _auto_map(config_dict.get("auto_map"))
        return json.dumps(config_dict, indent=2, sort_keys=True) + "\n"

    def _check_against_text_config(self, block):
        text_config = self.text_config
        age_schedule(block.get("AGE_mode"), text_config.num_hidden_layers)
        head_dim = _head_dim(text_config)
        section = block.get("mrope_section")
        if section is not None and sum(section) != head_dim // 2:
            raise ValueError(
                f'circle_rope["mrope_section"] is {list(section)}, whose sum is {sum(section)}, but must be a list of '
                f"3 positive integers whose sum is head_dim / 2 = {head_dim // 2}."
            )
        if block.get("mrope_interleaved") and section is not None and max(section[1:]) > sum(section) // 3:
            raise ValueError(
                f'circle_rope["mrope_section"] is {list(section)}, which cannot be interleaved: with '
                f"mrope_interleaved, give h and w a third of the sum at most ({sum(section) // 3}), or leave "
                "mrope_section out for Qwen3-VL's share."
            )

    def _apply_to_text_config(self, block):
        text_config = self.text_config
        theta_in = text_config.rope_parameters if HAS_ROPE_PARAMETERS else text_config.__dict__
        base, rope_theta = block.get("base"), theta_in["rope_theta"]
        if base is not None:
            if base != rope_theta:
                warnings.warn(
                    f'circle_rope["base"] is {base}, but the checkpoint was trained with rope_theta {rope_theta}: its '
                    f"weights need fine-tuning under the new base (leave the key out to keep {rope_theta}).",
                    stacklevel=_level_of_caller(),
                )
            theta_in["rope_theta"] = float(base)
        if block.get("mrope_section") is not None:
            _rope_in(text_config)["mrope_section"] = list(block["mrope_section"])

    @property
    def interleaved_section(self) -> tuple[int, ...] | None:
        """Frequency pairs of t, h and w where they take them in turns (`mrope_interleaved`), else None."""
        if not self.circle_rope.get("mrope_interleaved"):
            return None
        return tuple(self.circle_rope.get("mrope_section") or interleaved_section(_head_dim(self.text_config) // 2))

    @property
    def axis_of_pairs(self) -> "torch.Tensor":
        """Which of t, h and w (0, 1, 2) turns each frequency pair, highest first: int64 `(head_dim / 2,)`."""
        section = self.interleaved_section
        # vLLM's runner has more than three sections there.
        return axis_of_pairs(section or _rope_in(self.text_config)["mrope_section"][:3], section is not None)

    @property
    def schedule(self) -> tuple[str, ...]:
        """The geometry, `"circle"` or `"mrope"`, of every layer of the text model."""
        return age_schedule(self.circle_rope.get("AGE_mode"), self.text_config.num_hidden_layers)

    @property
    def geometries(self) -> tuple[str, ...]:
        """The geometries in use, circle first: what the rows of the position tensor mean."""
        return tuple(name for name in GEOMETRIES if name in self.schedule)

    def make_geometry(self, name: str) -> CircleGeometry | MRopeGeometry:
        """The geometry of the given name, with this block's values and the defaults for the rest."""
        if name == "mrope":
            return MRopeGeometry()
        fields = {key: self.circle_rope[key] for key in CircleGeometry.__dataclass_fields__ if key in self.circle_rope}
        if "circle_r" in self.circle_rope:
            fields["radius"] = self.circle_rope["circle_r"]
        return CircleGeometry(**fields)


# ---- The model card -------------------------------------------------------------------------------------------------

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
    "mrope_interleaved": "`mrope_interleaved`: whether t, h and w take the rotary frequencies in turns, as in "
    "Qwen3-VL; pretrained Qwen2.5-VL weights know contiguous sections.",
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

# Ways of quantisation that are called as their package is.
QUANTISERS = ("bitsandbytes", "torchao", "compressed-tensors", "hqq")

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
    quantization: dict | None = None,
    is_adapter: bool = False,
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
        quantization: the `quantization_config`, where the weights are quantised; its package is needed for loading.
        is_adapter: whether what is published is an adapter of the base.
    """
    method = (quantization or {}).get("quant_method")
    origin = f"[{base_model}](https://huggingface.co/{base_model})" if base_model else "a Qwen2.5-VL checkpoint"
    text = CARD.substitute(
        title="## Circle-RoPE" if own.text.strip() and BEGIN not in own.text else f"# {repo.split('/')[-1]}",
        intro=f"Made from {origin}." if is_tuned else f"{origin[0].upper()}{origin[1:]} with Circle-RoPE positions.",
        block=json.dumps(block, indent=2, ensure_ascii=False),
        meaning="\n".join(f"- {MEANING[key]}" for key in block),
        schedule=_schedule_in_words(schedule),
        repo=repo,
        code=code,
        commit=commit,
        quantiser=f" {method}" if method in QUANTISERS else "",
        tuning=TUNED if is_tuned else UNTUNED,
        licence=licence_sentence(licence, base_model),
    )
    data = {
        "pipeline_tag": "image-text-to-text",
        "language": language,
        "base_model_relation": "adapter" if is_adapter else "finetune",
        **own.data.to_dict(),
        "library_name": "peft" if is_adapter else "transformers",
        **licence,
        "base_model": base_model,
    }
    return assemble_card(own, text, data, ["circle-rope", *(["age"] if len(set(schedule)) > 1 else []), "qwen2_5_vl"])


def complete_card(path: Path, repo: str, config) -> None:
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
    text = make_card(
        own,
        config.circle_rope,
        config.schedule,
        repo,
        base,
        licence or {"license": "unknown"},
        language=said.get("language"),
        quantization=config.to_dict().get("quantization_config"),
        is_adapter=path.with_name("adapter_config.json").is_file(),
    )
    path.write_text(text, encoding="utf-8")


def assemble_card(own: ModelCard, text: str, data: dict, tags: list[str]) -> str:
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


def _schedule_in_words(schedule):
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
