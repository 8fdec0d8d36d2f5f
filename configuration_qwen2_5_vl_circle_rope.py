"""Configuration of Qwen2.5-VL with Circle-RoPE: the `circle_rope` block, the AGE schedule, the mark of its rope."""

import contextlib
import copy
import difflib
import inspect
import json
import re
import warnings
from typing import TYPE_CHECKING

import torch
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
    # Never run. Transformers tells checkpoints apart by the files that their configuration names, and copies those.
    from .modelcard_qwen2_5_vl_circle_rope import complete_card  # noqa: F401
    from .modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2  # noqa: F401

AUTO_MAP = {
    "AutoConfig": "configuration_qwen2_5_vl_circle_rope.Qwen2_5_VLConfig_CircleRoPE_V2",
    "AutoModel": "modeling_qwen2_5_vl_circle_rope.Qwen2_5_VLModel_CircleRoPE_V2",
    **dict.fromkeys(
        ("AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForMultimodalLM", "AutoModelForVision2Seq"),
        "modeling_qwen2_5_vl_circle_rope.Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2",
    ),
}

# The rope type that our text configs name: no other code knows it, and what it says about it tells what to do. Stock's
# class with a stock config of the caller's own (`from_pretrained(ours, config=...)`) never reads it, and sees M-RoPE.
MARK = "circle_rope, which needs AutoModelForImageTextToText and trust_remote_code=True"

STRATEGIES = ("strategy_1", "strategy_2", "strategy_3", "strategy_4")
GEOMETRIES = ("circle", "mrope")
V1_MODEL_TYPE = "qwen2_5_vl_circle_rope"
V1_ARCHITECTURE = "Qwen2_5_VLForConditionalGeneration_CircleRoPE"


# ---- What a key allows ----------------------------------------------------------------------------------------------


def _is_number(value, least=-3.4e38, most=3.4e38):  # finite in float32, too, which positions are
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


def _is_whole(value):
    return isinstance(value, int) and _is_number(value, 1)


def _is_radius(value):
    if not isinstance(value, str):
        return _is_number(value, 0)
    return bool(re.fullmatch(r"auto(-(\d+(\.\d*)?|\.\d+))?", value)) and _is_number(float(value[5:] or 1))


def _is(*kinds):
    return lambda value: isinstance(value, kinds)


# A test for every key of the block, and the words for it.
_BLOCK = {
    **dict.fromkeys(("radius", "circle_r"), (_is_radius, 'a number >= 0, "auto" or "auto-k" with a number k')),
    "alpha": (lambda value: _is_number(value, 0, 1), "a number from 0 to 1"),
    "method": (lambda value: value in ("circle", "no_circle"), '"circle" or "no_circle"'),
    "move_to_origin": (_is(bool), "true or false"),
    "move_to_positive": (lambda value: value in (False, "auto") or _is_number(value), 'false, "auto" or a number'),
    "dff_rate": (lambda value: value is False or _is_number(value, 0, 1), "false or a number from 0 to 1"),
    "AGE_mode": (
        lambda value: value is None or isinstance(value, (list, tuple)) or value in STRATEGIES,
        f'null, {", ".join(STRATEGIES)}, or a list with "circle" or "mrope" for every layer',
    ),
    "image_stride": (lambda value: _is_number(value, 0), "a number >= 0"),
    "base": (lambda value: _is_number(value) and value > 1, "a number > 1"),
    "mrope_section": (
        lambda value: isinstance(value, (list, tuple)) and len(value) == 3 and all(map(_is_whole, value)),
        "a list of 3 positive integers whose sum is head_dim / 2",
    ),
    "mrope_interleaved": (_is(bool), "true or false"),
}

# The same for keys of upstream's, whose own code trips over another value or takes it for something else.
_UPSTREAM = {
    key: (is_allowed, words)
    for words, is_allowed, keys in (
        ("a positive integer", _is_whole, "hidden_size intermediate_size num_hidden_layers num_attention_heads"),
        ("a positive integer", _is_whole, "vocab_size max_position_embeddings depth num_heads out_hidden_size"),
        ("a positive integer", _is_whole, "spatial_merge_size window_size"),
        ("a positive integer or null", lambda value: _is_whole(value), "num_key_value_heads sliding_window"),
        ("a number > 0", lambda value: _is_number(value) and value > 0, "rope_theta factor tokens_per_second"),
        ("a number >= 0", lambda value: _is_number(value, 0), "rms_norm_eps initializer_range attention_dropout"),
        ("a token's number", _is(int), "image_token_id video_token_id vision_start_token_id vision_end_token_id"),
        ("true or false", _is(bool), "tie_word_embeddings use_cache use_sliding_window"),
        ("a name", _is(str), "hidden_act model_type rope_type type stands_for"),
        ("a list", _is(list, tuple), "architectures layer_types fullatt_block_indexes mrope_section"),
        ("an object (a dict)", _is(dict), "rope_scaling rope_parameters vision_config auto_map id2label"),
        ("an object (a dict)", _is(dict), "quantization_config"),
        ("an object (a dict) with keys", lambda value: isinstance(value, dict) and value, "text_config"),
        ("a dtype's name", lambda name: isinstance(getattr(torch, str(name), name), torch.dtype), "dtype torch_dtype"),
    )
    for key in keys.split()
}


def _refuse_others(values, allowed, place):
    for key, value in values.items():
        is_allowed, words = allowed.get(key, (None, None))
        if is_allowed and not is_allowed(value):
            raise ValueError(f"{place.format(key)} is {value!r}, but must be {words}.")


def validate_circle_rope(block: dict | None) -> dict:
    """A checked copy of a `circle_rope` block, `{}` for None; a ValueError for an unknown key or another value."""
    if block is None:
        return {}
    if not isinstance(block, dict):
        raise ValueError(
            f"circle_rope is {block!r}, but must be an object (a dict) with keys such as radius and alpha."
        )
    for key in block:
        if key not in _BLOCK:
            near = difflib.get_close_matches(str(key), _BLOCK, n=1, cutoff=0)[0]
            raise ValueError(
                f"circle_rope has the unknown key {key!r} (did you mean {near!r}?); allowed are {', '.join(_BLOCK)}."
            )
    _refuse_others(block, _BLOCK, "circle_rope[{!r}]")
    if "radius" in block and "circle_r" in block and block["radius"] != block["circle_r"]:
        raise ValueError(
            f"circle_rope has radius {block['radius']!r} and circle_r {block['circle_r']!r}, which mean the same: "
            "give one of them."
        )
    return copy.deepcopy(block)


def check_config(config_dict: dict, place: str = "{}") -> None:
    """Refuse, by a ValueError, values of another kind than upstream's keys have in a whole config.json of any release.

    `place` is how the error names a key; parts and ropes are included.
    """
    may_be_null = {key for key, (is_allowed, _) in _UPSTREAM.items() if is_allowed is not _is_whole}
    given = {key: value for key, value in config_dict.items() if value is not None or key not in may_be_null}
    _refuse_others(given, _UPSTREAM, place)
    for key in {"text_config", "vision_config", "rope_parameters", "rope_scaling"} & given.keys():
        check_config(given[key], place.format(key) + "[{!r}]")


def age_schedule(age_mode: str | list[str] | None, num_hidden_layers: int) -> tuple[str, ...]:
    """The geometry (`"circle"` or `"mrope"`) of every layer under AGE (alternating geometry encoding).

    `age_mode` is None or `strategy_1` (all circle), `strategy_2` (first half circle, rest mrope), `strategy_3` (first
    half mrope, rest circle), `strategy_4` (alternating from circle), or the schedule itself; the first half is
    `num_hidden_layers // 2` layers. A ValueError for a schedule of another length, or with another name in it.
    """
    half, rest = num_hidden_layers // 2, num_hidden_layers - num_hidden_layers // 2
    schedules = {
        "strategy_2": ("circle",) * half + ("mrope",) * rest,
        "strategy_3": ("mrope",) * half + ("circle",) * rest,
        "strategy_4": (GEOMETRIES * num_hidden_layers)[:num_hidden_layers],
    }
    if age_mode in (None, *STRATEGIES):
        return schedules.get(age_mode, ("circle",) * num_hidden_layers)
    for name in age_mode:
        if name not in GEOMETRIES:
            raise ValueError(f'circle_rope["AGE_mode"] has the entry {name!r}, but each must be "circle" or "mrope".')
    if len(age_mode) != num_hidden_layers:
        raise ValueError(
            f'circle_rope["AGE_mode"] is a list of {len(age_mode)} entries, but the text model has '
            f"{num_hidden_layers} layers: give one entry for every layer."
        )
    return tuple(age_mode)


def _block_of_v1(config_dict):
    """The block of a config.json as V1 wrote it, with V1's own defaults made explicit; None for any other config."""
    block = config_dict.get("circle_rope")
    if config_dict.get("model_type") != V1_MODEL_TYPE and (
        block is None or V1_ARCHITECTURE not in (config_dict.get("architectures") or ())
    ):
        return None
    block = validate_circle_rope(block)
    known = {"radius" if key == "circle_r" else key for key in block}
    if missing := [key for key in ("radius", "alpha") if key not in known]:
        raise ValueError(
            f"this Circle-RoPE V1 config has no {' and no '.join(missing)} in its circle_rope block, where V1 "
            "computed with -1 and so with meaningless positions: add the value that the checkpoint was meant to have."
        )
    return {"move_to_origin": False, **block}


# ---- The rope of a text config, and its mark ------------------------------------------------------------------------

# Where a text config has its rope, by the release: newer ones keep it all in one dict, `rope_parameters`; older ones
# keep rope_theta beside `rope_scaling`.
HAS_ROPE_PARAMETERS = hasattr(Qwen2_5_VLTextConfig(), "rope_parameters")
ROPE_KEYS = ("rope_parameters", "rope_scaling", "rope_theta")


def read_rope(config_dict: dict) -> dict:
    """The rope of a text config of any release, as one dict with `rope_type` and, where they are given, the rest.

    `{"type": "mrope"}` beside a rope type means that type with sections, and alone the default one. Of both forms side
    by side `rope_scaling` counts, as upstream, unless it is our mark.
    """
    parts, rope = [config_dict.get("rope_parameters") or {}, config_dict.get("rope_scaling") or {}], {}
    for part in sorted(filter(None, parts), key=lambda part: part.get("rope_type") != MARK):
        names = [part.get("stands_for"), part.get("rope_type"), part.get("type")]
        scaled = [name for name in names if name not in (None, MARK, "mrope", "default")]
        rope |= {key: value for key, value in part.items() if key not in ("rope_type", "type", "stands_for")}
        rope["rope_type"] = (scaled or ["default"])[0]
    if rope.get("rope_theta") is None and config_dict.get("rope_theta") is not None:
        rope["rope_theta"] = config_dict["rope_theta"]
    return rope


def _without_rope(config_dict):
    """A copy of a whole config of any release that has no rope, the text's part in it, and the rope."""
    config_dict = text = dict(config_dict)
    if config_dict.get("text_config"):
        text = config_dict["text_config"] = dict(config_dict["text_config"])
    rope = read_rope(text)
    if "rope_type" not in rope:  # some releases wrote it twice, some tools around the text's part alone
        rope = {**read_rope(config_dict), **rope}
    for part in (config_dict, text):
        for key in ROPE_KEYS:
            part.pop(key, None)
    return config_dict, text, rope


def _with_rope_of_release(config_dict):
    """A whole config as any release wrote it, with its rope in one place and in the running release's form."""
    config_dict, text, rope = _without_rope(config_dict)
    if HAS_ROPE_PARAMETERS and rope:
        text["rope_parameters"] = rope
    if not HAS_ROPE_PARAMETERS:
        if "rope_theta" in rope:
            text["rope_theta"] = rope.pop("rope_theta")
        text["rope_scaling"] = {"rope_type": "default", **rope}
    return config_dict


def _head_dim(text_config):
    return getattr(text_config, "head_dim", None) or text_config.hidden_size // text_config.num_attention_heads


def _rope_in(text_config):
    """The dict of a text config that names its rope type and sections."""
    return text_config.rope_parameters if HAS_ROPE_PARAMETERS else text_config.rope_scaling


def _set_mark(text_config):
    rope = _rope_in(text_config)
    if rope.get("rope_type") != MARK:
        rope |= {"stands_for": read_rope({"rope_parameters": rope})["rope_type"], "rope_type": MARK}
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
    config_dict, text, rope = _without_rope(config_dict)
    rope = {**rope, "rope_type": MARK, "stands_for": rope.get("rope_type", "default")}
    if "rope_theta" in rope:
        text["rope_theta"] = rope["rope_theta"]
    text["rope_parameters"], text["rope_scaling"] = rope, dict(rope)
    # Some releases name the whole's type here, and stock would take the vision config for the whole then.
    vision = config_dict.get("vision_config")
    if isinstance(vision, dict) and vision.get("model_type") == Qwen2_5_VLConfig.model_type:
        config_dict["vision_config"] = {**vision, "model_type": "qwen2_5_vl_vision"}
    return config_dict


# ---- The configuration ----------------------------------------------------------------------------------------------


def _level_of_caller():
    """The `stacklevel` of a warning that points at the user's line, through our files and transformers' own."""
    between = re.compile("transformers|huggingface_hub|(configuration|modeling)_qwen2_5_vl_circle_rope")
    modules = [info.frame.f_globals.get("__name__", "") for info in inspect.stack(0)[1:]]
    return next((level for level, name in enumerate(modules, 1) if not between.match(name)), 1)


def _auto_map(given):
    """Our own `auto_map`, or a given one of another repository's code, also where saving named the saved directory."""
    repos = [name.split("--")[0] for name in map(str, (given or {}).values()) if "--" in name]
    if not repos:
        return dict(AUTO_MAP)
    return {key: name if "--" in str(name) else f"{repos[0]}--{name}" for key, name in given.items()}


class Qwen2_5_VLConfig_CircleRoPE_V2(Qwen2_5_VLConfig):
    """Configuration of Qwen2.5-VL with Circle-RoPE or AGE.

    Everything is Qwen2.5-VL's but for one block, `circle_rope`, whose keys and defaults the README lists. It may be
    given when the config is made or assigned later; either way a ValueError says what is not allowed, and `base` and
    `mrope_section` are applied to the text config. Configs of Circle-RoPE V1 are understood, with V1's defaults.
    """

    model_type = "qwen2_5_vl_circle_rope_v2"
    _auto_class = "AutoConfig"

    def __init__(self, circle_rope: dict | None = None, **kwargs):
        kwargs = {key: value.to_dict() if hasattr(value, "to_dict") else value for key, value in kwargs.items()}
        check_config(kwargs)
        block_of_v1 = _block_of_v1({"circle_rope": circle_rope, **kwargs})
        if block_of_v1 is not None:
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
            self._fit_text_config(value)
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

    def _fit_text_config(self, block):
        """Refuse a block that does not fit the text config, and apply what it has for it."""
        text_config, section, base = self.text_config, block.get("mrope_section"), block.get("base")
        age_schedule(block.get("AGE_mode"), text_config.num_hidden_layers)
        head_dim = _head_dim(text_config)
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

        theta_in = text_config.rope_parameters if HAS_ROPE_PARAMETERS else text_config.__dict__
        rope_theta = theta_in["rope_theta"]
        if base not in (None, rope_theta):
            warnings.warn(
                f'circle_rope["base"] is {base}, but the checkpoint was trained with rope_theta {rope_theta}: its '
                f"weights need fine-tuning under the new base (leave the key out to keep {rope_theta}).",
                stacklevel=_level_of_caller(),
            )
            theta_in["rope_theta"] = float(base)
        if section is not None:
            _rope_in(text_config)["mrope_section"] = list(section)

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
