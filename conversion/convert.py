"""Turn a Qwen2.5-VL checkpoint into a Circle-RoPE one: same weights, a new config.json, and the code beside it."""

import json
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import torch

from .base import COMPANIONS, INDEX, SINGLE, ConversionError, Tensor, read_json, read_tensors
from .folder import Plan, refuse_filled, write

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from configuration_qwen2_5_vl_circle_rope import (  # noqa: E402
    AUTO_MAP,
    V1_MODEL_TYPE,
    Qwen2_5_VLConfig_CircleRoPE_V2,
    mark,
    validate_circle_rope,
)
from modeling_qwen2_5_vl_circle_rope import (  # noqa: E402
    Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2,
    new_name,
)

MODULES = (
    "circle_rope_imp.py",
    "configuration_qwen2_5_vl_circle_rope.py",
    "modeling_qwen2_5_vl_circle_rope.py",
)
DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"}
MODEL_TYPES = ("qwen2_5_vl", V1_MODEL_TYPE, Qwen2_5_VLConfig_CircleRoPE_V2.model_type)


def default_block() -> dict:
    """The block that a checkpoint without one gets: that of this repo's own config.json, the paper's best setting."""
    return read_json(ROOT / "config.json")["circle_rope"]


def has_block(config: dict) -> bool:
    """Whether a config.json is that of a Circle-RoPE checkpoint, of any version."""
    return config.get("model_type") in MODEL_TYPES[1:] or config.get("circle_rope") is not None


def make_config(base: Path, block: dict) -> dict:
    """The converted config.json of the checkpoint in `base`; `block` goes over a block it has already.

    Raises:
        ConversionError: not a Qwen2.5-VL checkpoint, or a block that does not fit it.
    """
    config = read_json(base / "config.json")
    if config.get("model_type") not in MODEL_TYPES:
        raise ConversionError(
            f"{base} is a {config.get('model_type')!r} model, but only Qwen2.5-VL checkpoints (qwen2_5_vl) can be "
            "converted."
        )
    if config.get("quantization_config"):
        raise ConversionError(f"{base} is quantised: give the checkpoint that it was made from.")
    try:
        block = validate_circle_rope(block)
        given = json.loads(json.dumps(config))  # upstream changes what it is given
        known = Qwen2_5_VLConfig_CircleRoPE_V2.from_dict(given).circle_rope if has_block(config) else default_block()
        if "radius" in block or "circle_r" in block:
            known = {key: value for key, value in known.items() if key not in ("radius", "circle_r")}
        config["circle_rope"] = {**known, **block}
        config["model_type"] = Qwen2_5_VLConfig_CircleRoPE_V2.model_type
        config["architectures"] = [Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2.__name__]
        config["auto_map"] = dict(AUTO_MAP)
        _apply_rope(config)
        config = mark(config)
        Qwen2_5_VLConfig_CircleRoPE_V2.from_dict(json.loads(json.dumps(config)))
    except ConversionError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise ConversionError(" ".join(str(error).split())) from None
    return config


def _apply_rope(config):
    """Write the block's `base` and `mrope_section` where the text model's own config has them."""
    text = config.get("text_config") or config
    block = config["circle_rope"]
    scaling = next((text[key] for key in ("rope_parameters", "rope_scaling") if isinstance(text.get(key), dict)), None)
    if block.get("base") is not None:
        text.get("rope_parameters", text)["rope_theta"] = float(block["base"])
    if block.get("mrope_section") is not None and scaling is not None:
        scaling["mrope_section"] = list(block["mrope_section"])


def check_tensors(tensors: dict[str, Tensor], config: dict, directory: Path) -> None:
    """Compare a checkpoint's tensors with those of the architecture, built on the meta device.

    Raises:
        ConversionError: a tensor is missing, unexpected, or of another shape; or the dtypes are not the one floating
            dtype that config.json names.
    """
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(
            Qwen2_5_VLConfig_CircleRoPE_V2.from_dict(json.loads(json.dumps(config)))
        )
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {new_name(name): tensor.shape for name, tensor in tensors.items()}
    optional = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    for names, words in (
        (wanted.keys() - found.keys() - optional, "lacks"),
        (found.keys() - wanted.keys(), "has, beside those of Qwen2.5-VL,"),
    ):
        if names:
            raise ConversionError(
                f"{directory} {words} {len(names)} tensors, {min(names)} among them: give a complete checkpoint whose "
                "config.json belongs to it."
            )
    for name, shape in found.items():
        if shape != wanted[name]:
            raise ConversionError(
                f"{directory} has {name} with the shape {list(shape)}, but its config.json makes it "
                f"{list(wanted[name])}: give a checkpoint whose config.json belongs to it."
            )
    _check_dtypes(tensors, config, directory)


def _check_dtypes(tensors, config, directory):
    counts = Counter(tensor.dtype for tensor in tensors.values())
    usual = counts.most_common(1)[0][0]
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES.values():
            raise ConversionError(
                f"{directory} has {name} as {tensor.dtype}, but it must be one of {', '.join(DTYPES.values())}: give "
                "an unquantised checkpoint."
            )
        if tensor.dtype != usual:
            raise ConversionError(
                f"{directory} has {name} as {tensor.dtype} and most other tensors as {usual}: save all of them in one "
                "dtype."
            )
    text_config = config.get("text_config") or {}
    said = next(
        (part[key] for part in (config, text_config) for key in ("dtype", "torch_dtype") if part.get(key)), None
    )
    if DTYPES.get(said, usual) != usual:
        raise ConversionError(
            f"{directory} holds {usual} tensors, but its config.json says {said}: correct one of them."
        )


def plan_conversion(base: Path, block: dict) -> Plan:
    """What the converted checkpoint of `base` consists of; nothing is written, and no tensor is read.

    Raises:
        ConversionError: anything about `base` or `block` that does not allow it.
    """
    config = make_config(base, block)
    tensors = read_tensors(base)
    check_tensors(tensors, config, base)
    plan = Plan(base, config, tensors, {}, is_own=has_block(read_json(base / "config.json")))
    weights = sorted({tensor.file for tensor in tensors.values()})
    carried = [name for name in COMPANIONS if (base / name).is_file()]
    plan.files |= {name: base / name for name in (*weights, *carried)}
    if (base / INDEX).is_file() and weights != [SINGLE]:
        plan.files[INDEX] = _corrected_index(plan)
    for name in MODULES:
        plan.files[name] = ROOT / name
        if (base / name).is_file() and (base / name).read_bytes() != (ROOT / name).read_bytes():
            plan.notes.append(f"{name} of {base} differs from this repo's, which is written")
    plan.files["config.json"] = (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()
    return plan


def _corrected_index(plan):
    """The base's index, or its content with the right total_size."""
    index = read_json(plan.base / INDEX)
    metadata = index.get("metadata") if isinstance(index.get("metadata"), dict) else {}
    total = sum(tensor.nbytes for tensor in plan.tensors.values())
    if metadata.get("total_size") == total:
        return plan.base / INDEX
    plan.notes.append(f"the index of {plan.base} says total_size {metadata.get('total_size')}: {total} is written")
    index["metadata"] = {**metadata, "total_size": total}
    return (json.dumps(index, indent=2) + "\n").encode()


def convert(base: Path, output: Path, block: dict) -> None:
    """Write the converted checkpoint of `base` to the directory `output`, which must not exist or be empty.

    Memory does not grow with the checkpoint: no tensor is read. The directory appears only when it is complete and
    has been verified. Weights share the base's space where the file system allows it (see `folder.place`).

    Raises:
        ConversionError: anything about `base`, `block` or `output` that does not allow it; nothing is written then.
    """
    refuse_filled(output)
    plan = plan_conversion(base, block)
    write(plan, output, partial(verify, plan))


def verify(plan: Plan, directory: Path) -> None:
    """Read a written checkpoint back: the same tensors as its base, and a config that loads to the same block.

    Raises:
        ConversionError: it is not what was meant to be written.
    """
    if read_tensors(directory) != plan.tensors:
        raise ConversionError(f"{directory} does not hold the tensors of its base: check the disk and try again.")
    check_tensors(plan.tensors, read_json(directory / "config.json"), directory)
    loaded = Qwen2_5_VLConfig_CircleRoPE_V2.from_pretrained(directory)
    if loaded.circle_rope != plan.config["circle_rope"]:
        raise ConversionError(f"{directory} does not load to the circle_rope block that was written.")
