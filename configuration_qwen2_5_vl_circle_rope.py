"""Configuration of Qwen2.5-VL with Circle-RoPE: the `circle_rope` block of config.json and the AGE schedule."""

import copy
import difflib
import math
import re
import warnings

from transformers.utils.versions import require_version

require_version("transformers>=4.57.0", "Circle-RoPE needs it: pip install -U transformers")

from transformers import Qwen2_5_VLConfig, modeling_rope_utils  # noqa: E402

try:
    from .circle_rope_imp import CircleGeometry, MRopeGeometry
except ImportError:  # the repo's root is not a package when it is imported from itself
    if __package__:
        raise
    from circle_rope_imp import CircleGeometry, MRopeGeometry

AUTO_MAP = {
    "AutoConfig": "configuration_qwen2_5_vl_circle_rope.Qwen2_5_VLConfig_CircleRoPE_V2",
    "AutoModel": "modeling_qwen2_5_vl_circle_rope.Qwen2_5_VLModel_CircleRoPE_V2",
    "AutoModelForCausalLM": "modeling_qwen2_5_vl_circle_rope.Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2",
    "AutoModelForImageTextToText": "modeling_qwen2_5_vl_circle_rope.Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2",
    "AutoModelForVision2Seq": "modeling_qwen2_5_vl_circle_rope.Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2",
}
# transformers 5 keeps rope_theta and mrope_section in one dict, `rope_parameters`; before, rope_theta stood by itself
# beside `rope_scaling`. It reads both forms, older releases only theirs.
HAS_ROPE_PARAMETERS = hasattr(modeling_rope_utils, "RopeParameters")

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


def _split_rope_parameters(config_dict: dict) -> dict:
    """A text config as transformers 5 saves it, in the form that older releases read."""
    parameters = config_dict.get("rope_parameters")
    if HAS_ROPE_PARAMETERS or not isinstance(parameters, dict):
        return config_dict
    rest = {key: value for key, value in config_dict.items() if key != "rope_parameters"}
    scaling = {key: value for key, value in parameters.items() if key != "rope_theta"}
    if "rope_theta" in parameters:
        rest["rope_theta"] = parameters["rope_theta"]
    return {**rest, "rope_scaling": scaling or None}


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
        kwargs["auto_map"] = dict(AUTO_MAP)
        if isinstance(kwargs.get("text_config"), dict):
            kwargs["text_config"] = _split_rope_parameters(kwargs["text_config"])
        super().__init__(**_split_rope_parameters(kwargs))
        self.circle_rope = circle_rope

    def __setattr__(self, key, value):
        if key == "circle_rope":
            value = validate_circle_rope(value)
            self._check_against_text_config(value)
            self._apply_to_text_config(value)
        super().__setattr__(key, value)

    def _check_against_text_config(self, block):
        text_config = self.text_config
        age_schedule(block.get("AGE_mode"), text_config.num_hidden_layers)
        head_dim = getattr(text_config, "head_dim", None) or text_config.hidden_size // text_config.num_attention_heads
        section = block.get("mrope_section")
        if section is not None and sum(section) != head_dim // 2:
            raise ValueError(
                f'circle_rope["mrope_section"] is {list(section)}, whose sum is {sum(section)}, but must be a list of '
                f"3 positive integers whose sum is head_dim / 2 = {head_dim // 2}."
            )

    def _apply_to_text_config(self, block):
        text_config = self.text_config
        # Where rope_theta and mrope_section are kept, by the release.
        theta_in = text_config.rope_parameters if HAS_ROPE_PARAMETERS else text_config.__dict__
        base, rope_theta = block.get("base"), theta_in["rope_theta"]
        if base is not None:
            if base != rope_theta:
                warnings.warn(
                    f'circle_rope["base"] is {base}, but the checkpoint was trained with rope_theta {rope_theta}: its '
                    f"weights need fine-tuning under the new base (leave the key out to keep {rope_theta}).",
                    stacklevel=3,
                )
            theta_in["rope_theta"] = float(base)
        if block.get("mrope_section") is not None:
            if not HAS_ROPE_PARAMETERS and text_config.rope_scaling is None:
                text_config.rope_scaling = {"rope_type": "default"}
            section_in = text_config.rope_parameters if HAS_ROPE_PARAMETERS else text_config.rope_scaling
            section_in["mrope_section"] = list(block["mrope_section"])

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
