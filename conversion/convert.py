"""Turn a Qwen2.5-VL checkpoint into a Circle-RoPE one: same weights, a new config.json, and the code beside it."""

import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from huggingface_hub.utils import tqdm

from .base import COMPANIONS, INDEX, ConversionError, Tensor, read_json, read_tensors

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from configuration_qwen2_5_vl_circle_rope import (  # noqa: E402
    AUTO_MAP,
    V1_MODEL_TYPE,
    Qwen2_5_VLConfig_CircleRoPE_V2,
    validate_circle_rope,
)
from modeling_qwen2_5_vl_circle_rope import (  # noqa: E402
    OLD_LAYOUT,
    Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2,
)

MODULES = (
    "circle_rope_imp.py",
    "configuration_qwen2_5_vl_circle_rope.py",
    "modeling_qwen2_5_vl_circle_rope.py",
)
MODEL_TYPES = ("qwen2_5_vl", V1_MODEL_TYPE, Qwen2_5_VLConfig_CircleRoPE_V2.model_type)


def default_block() -> dict:
    """The block that a checkpoint without one gets: that of this repo's own config.json, the paper's best setting."""
    return read_json(ROOT / "config.json")["circle_rope"]


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
    try:
        block = validate_circle_rope(block)
        given = json.loads(json.dumps(config))  # upstream changes what it is given
        is_converted = config["model_type"] != "qwen2_5_vl" or config.get("circle_rope") is not None
        known = Qwen2_5_VLConfig_CircleRoPE_V2.from_dict(given).circle_rope if is_converted else default_block()
        if "radius" in block or "circle_r" in block:
            known = {key: value for key, value in known.items() if key not in ("radius", "circle_r")}
        config["circle_rope"] = {**known, **block}
        config["model_type"] = Qwen2_5_VLConfig_CircleRoPE_V2.model_type
        config["architectures"] = [Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2.__name__]
        config["auto_map"] = dict(AUTO_MAP)
        _apply_rope(config)
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
        ConversionError: a tensor is missing, unexpected, or of another shape.
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


def new_name(name: str) -> str:
    """The name a tensor has in our classes, given its name in a checkpoint of either layout."""
    for pattern, replacement in OLD_LAYOUT.items():
        name = re.sub(pattern, replacement, name)
    return name


def convert(base: Path, output: Path, block: dict) -> None:
    """Write the converted checkpoint of `base` to the directory `output`, which must not exist or be empty.

    Memory does not grow with the checkpoint: no tensor is read. The directory appears only when it is complete and
    has been verified.

    Raises:
        ConversionError: anything about `base`, `block` or `output` that does not allow it; nothing is written then.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConversionError(f"{output} exists and is not an empty directory: give another --output-dir or empty it.")
    config = make_config(base, block)
    tensors = read_tensors(base)
    check_tensors(tensors, config, base)
    weights = sorted({tensor.file for tensor in tensors.values()})
    carried = [name for name in (INDEX, *COMPANIONS) if (base / name).is_file()]
    if weights == ["model.safetensors"] and INDEX in carried:
        carried.remove(INDEX)

    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    except OSError as error:
        raise ConversionError(f"{output} cannot be made ({error.strerror}): give another --output-dir.") from None
    try:
        for name in tqdm(weights, unit="shard", desc="copying weights"):
            shutil.copyfile(base / name, partial / name)
        for name in carried:
            shutil.copyfile(base / name, partial / name)
        for name in MODULES:
            shutil.copyfile(ROOT / name, partial / name)
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        (partial / "config.json").write_text(text, encoding="utf-8")
        verify(partial, tensors, config)
        partial.chmod(0o777 & ~_umask())
        if output.exists():
            output.rmdir()
        partial.rename(output)
    except OSError as error:
        raise ConversionError(f"{output} could not be written ({error.strerror}): nothing is left of it.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def verify(directory: Path, tensors: dict[str, Tensor], config: dict) -> None:
    """Read a written checkpoint back: the same tensors as its base, and a config that loads to the same block.

    Raises:
        ConversionError: it is not what was meant to be written.
    """
    if read_tensors(directory) != tensors:
        raise ConversionError(f"{directory} does not hold the tensors of its base: check the disk and try again.")
    check_tensors(tensors, read_json(directory / "config.json"), directory)
    loaded = Qwen2_5_VLConfig_CircleRoPE_V2.from_pretrained(directory)
    if loaded.circle_rope != config["circle_rope"]:
        raise ConversionError(f"{directory} does not load to the circle_rope block that was written.")


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
