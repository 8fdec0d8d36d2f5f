"""Turn a Qwen2.5-VL checkpoint into a Circle-RoPE one: same weights, a new config.json, and the code beside it."""

import copy
import json
import re
from collections import Counter
from functools import partial
from pathlib import Path

import torch
import transformers
from safetensors import safe_open

from .base import COMPANIONS, INDEX, SINGLE, ConversionError, Tensor, in_one_sentence, read_json, read_tensors, reason
from .core import (
    AUTO_MAP,
    MARK,
    MODULES,
    ROOT,
    ROPE_KEYS,
    V1_MODEL_TYPE,
    Qwen2_5_VLConfig_CircleRoPE_V2,
    Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2,
    check_config,
    mark,
    new_name,
    read_rope,
    single_name,
    validate_circle_rope,
)
from .folder import Plan, refuse_filled, write
from .miniature import check_runs
from .quantised import is_quantised, refuse_stock, split

DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"}
MODEL_TYPES = ("qwen2_5_vl", V1_MODEL_TYPE, Qwen2_5_VLConfig_CircleRoPE_V2.model_type)
ROWS = 4096  # of the vocabulary that are compared at once


def default_block() -> dict:
    """The block that a checkpoint without one gets: that of this repo's own config.json, the paper's best setting."""
    return read_json(ROOT / "config.json")["circle_rope"]


def has_block(config: dict) -> bool:
    """Whether a config.json is that of a Circle-RoPE checkpoint, of any version."""
    return config.get("model_type") in MODEL_TYPES[1:] or config.get("circle_rope") is not None


def is_saved_by_stock(config: dict) -> bool:
    """Whether it is stock's class that saved it, which keeps a block, or our whole config, without applying it."""
    text_config = config.get("text_config")
    # transformers 4.57 writes the class into the text config.
    architectures = config.get("architectures") or isinstance(text_config, dict) and text_config.get("architectures")
    is_named = bool(architectures) or config.get("model_type") == MODEL_TYPES[0]
    return has_block(config) and is_named and not re.search("CircleRoPE|_AGE_", str(architectures))


def load_config(config: dict, place: str) -> Qwen2_5_VLConfig_CircleRoPE_V2:
    """The configuration that a config.json makes; the dict is left as it is.

    Raises:
        ConversionError: it makes none, for whatever reason; `place` is the file to name.
    """
    with in_one_sentence(f"{place} cannot be read by transformers {transformers.__version__}"):
        return Qwen2_5_VLConfig_CircleRoPE_V2.from_dict(copy.deepcopy(config))  # upstream changes what it is given


def make_config(base: Path, block: dict, num_tensors: int | None = None) -> dict:
    """The converted config.json of the checkpoint in `base`; `block` goes over a block it has already.

    `num_tensors`, how many the checkpoint has, keeps a model with more layers than that from being built.

    Raises:
        ConversionError: not a Qwen2.5-VL checkpoint, a config that cannot be read, or a block that does not fit it.
    """
    config, place = read_json(base / "config.json"), str(base / "config.json")
    if config.get("model_type") not in MODEL_TYPES:
        raise ConversionError(
            f"{base} is a {config.get('model_type')!r} model, but only Qwen2.5-VL checkpoints (qwen2_5_vl) can be "
            "converted."
        )
    try:
        check_config(config)
    except ValueError as error:
        raise ConversionError(f"in {place}, {error}") from None
    if is_quantised(config) and (is_saved_by_stock(config) or not has_block(config)):
        refuse_stock(base)
    if config.get("transformers_weights"):
        raise ConversionError(
            f"{place} names {config['transformers_weights']!r} as its weights: call that file {SINGLE} and take the "
            "key transformers_weights out."
        )
    for part in (config, config.get("text_config"), config.get("vision_config")):
        for key in ("num_hidden_layers", "depth"):
            layers = part.get(key) if isinstance(part, dict) else None
            if num_tensors and isinstance(layers, int) and layers > num_tensors:
                raise ConversionError(
                    f"{place} says {key} {layers}, but {base} has {num_tensors} tensors: give a checkpoint whose "
                    "config.json belongs to it."
                )
    try:
        block = validate_circle_rope(block)
    except ValueError as error:
        raise ConversionError(str(error)) from None
    if is_saved_by_stock(config):
        if not block:
            raise ConversionError(
                f"{base} was saved by stock's class, which keeps a circle_rope block but computes M-RoPE in every "
                "layer: save it from a model loaded with trust_remote_code=True, or convert it anew by giving its "
                "block in --circle-rope."
            )
        config.pop("circle_rope", None)
        config["model_type"] = MODEL_TYPES[0]
    with in_one_sentence(f"{place} has rope settings that cannot be read"):
        _tidy(config, place)
    loaded = load_config(config, place)
    known = loaded.circle_rope if has_block(config) else default_block()
    if "radius" in block or "circle_r" in block:
        known = {key: value for key, value in known.items() if key not in ("radius", "circle_r")}
    config["circle_rope"] = {**known, **block}
    config["model_type"] = Qwen2_5_VLConfig_CircleRoPE_V2.model_type
    config["architectures"] = [Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2.__name__]
    config["auto_map"] = dict(AUTO_MAP)
    try:
        _apply_rope(config)
        config = mark(config)
        Qwen2_5_VLConfig_CircleRoPE_V2.from_dict(copy.deepcopy(config))
    except Exception as error:  # the base alone was read, so it is the block
        raise ConversionError(reason(error)) from None
    return config


def _tidy(config, place):
    """Leave in `config` one place for what releases of transformers look for in two.

    Raises:
        ConversionError: the two places differ.
    """
    outer, text = _rope(config, place), config.get("text_config")
    if not isinstance(text, dict):
        return
    inner = {"rope_type": "default", **_rope(text, place)}
    if any(inner.get(key) != value for key, value in outer.items()):
        raise ConversionError(
            f"{place} has the rope settings {outer} beside the text_config's {inner}, which are the ones that count: "
            "make them the same, or take the first out."
        )
    for key in ROPE_KEYS:
        config.pop(key, None)
    # Releases of 4 read the inner one, 5 either.
    config["tie_word_embeddings"] = text["tie_word_embeddings"] = bool(
        config.get("tie_word_embeddings") or text.get("tie_word_embeddings")
    )


def _rope(part, place):
    """The rope settings of a config.json or its text_config, whichever of their forms they have."""
    rope = {}
    for form in (part.get("rope_scaling"), part.get("rope_parameters"), {"rope_theta": part.get("rope_theta")}):
        for key, value in (form or {}).items():
            if key in ("type", "rope_type", "stands_for"):
                key, value = "rope_type", {"mrope": "default", MARK: None}.get(str(value), value)
            if value is not None and rope.setdefault(key, value) != value:
                raise ConversionError(
                    f"{place} gives {key} as {rope[key]!r} and as {value!r}, and releases of transformers differ in "
                    "which they take: take one out."
                )
    return rope


def _apply_rope(config):
    """Write the block's `base` and `mrope_section` where the text model's own config has them."""
    block, text = config["circle_rope"], config.get("text_config") or config
    rope = read_rope(text)
    if block.get("base") is not None:
        rope["rope_theta"] = float(block["base"])
    if block.get("mrope_section") is not None:
        rope["mrope_section"] = list(block["mrope_section"])
    for key in ROPE_KEYS:
        text.pop(key, None)
    text["rope_parameters"] = rope


def check_tensors(tensors: dict[str, Tensor], config: dict, directory: Path) -> None:
    """Compare a checkpoint's tensors with those of the architecture, built on the meta device.

    Of a matrix that is quantised no more than that something of it is there: see `quantised.split`.

    Raises:
        ConversionError: a tensor is missing, unexpected, or of another shape; or the dtypes are not the one floating
            dtype that config.json names.
    """
    place = str(directory / "config.json")
    with in_one_sentence(f"{place} describes a model that cannot be built"), torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(load_config(config, place))
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found, quantised = {new_name(name): tensor for name, tensor in tensors.items()}, set()
    if is_quantised(config):
        found, quantised = split(found, wanted, set(DTYPES.values()))
    optional = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    for names, words in (
        (wanted.keys() - found.keys() - optional - quantised, "lacks"),
        (found.keys() - wanted.keys(), "has, beside those of Qwen2.5-VL,"),
    ):
        if names:
            raise ConversionError(
                f"{directory} {words} {len(names)} tensors, {min(names)} among them: give a complete checkpoint whose "
                "config.json belongs to it."
            )
    for name, tensor in found.items():
        if tensor.shape != wanted[name]:
            raise ConversionError(
                f"{directory} has {name} with the shape {list(tensor.shape)}, but its config.json makes it "
                f"{list(wanted[name])}: give a checkpoint whose config.json belongs to it."
            )
    # A quantised matrix's bias has the dtype of its kernel.
    kernels = {name.removesuffix(".weight") for name in quantised}
    _check_dtypes(found, {name for name in found if name.rpartition(".")[0] in kernels}, config, directory)


def _check_dtypes(tensors, of_kernels, config, directory):
    counts = Counter(tensor.dtype for name, tensor in tensors.items() if name not in of_kernels)
    usual = counts.most_common(1)[0][0]
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES.values():
            raise ConversionError(
                f"{directory} has {name} as {tensor.dtype}, but it must be one of {', '.join(DTYPES.values())}: give "
                "an unquantised checkpoint."
            )
        if tensor.dtype != usual and name not in of_kernels:
            raise ConversionError(
                f"{directory} has {name} as {tensor.dtype} and most other tensors as {usual}: save all of them in one "
                "dtype."
            )
    parts = (config, config.get("text_config") or {}, config.get("vision_config") or {})
    for said in (part.get(key) for part in parts for key in ("dtype", "torch_dtype")):
        if said is not None and (not isinstance(said, str) or DTYPES.get(said) != usual):
            raise ConversionError(
                f"{directory} holds {usual} tensors, but its config.json says {said} and not one of "
                f"{', '.join(DTYPES)} that fits: correct one of them."
            )


def plan_conversion(base: Path, block: dict, code_repo: str | None = None) -> Plan:
    """What the converted checkpoint of `base` consists of; nothing is written, and no tensor is read but a tied head.

    Its code is beside it, or in the repository `code_repo` of the Hub.

    Raises:
        ConversionError: anything about `base` or `block` that does not allow it.
    """
    tensors = read_tensors(base)
    config = make_config(base, block, len(tensors))
    check_tensors(tensors, config, base)
    check_tie(tensors, config, base)
    place = str(base / "config.json")
    check_runs(load_config(config, place), place)
    before = read_json(base / "config.json")
    named = {single_name(name): tensor for name, tensor in tensors.items()}
    is_own = has_block(before) and not is_saved_by_stock(before)
    plan = Plan(base, config, named, {}, is_own=is_own, renames=named.keys() != tensors.keys())
    weights = sorted({tensor.file for tensor in tensors.values()})
    carried = [name for name in COMPANIONS if (base / name).is_file()]
    plan.files |= {name: base / name for name in (*weights, *carried)}
    if (base / INDEX).is_file() and weights != [SINGLE]:
        plan.files[INDEX] = _corrected_index(plan)
    if code_repo is not None:
        config["auto_map"] = {key: f"{code_repo}--{reference}" for key, reference in AUTO_MAP.items()}
    elif "--" in str(before.get("auto_map")):
        plan.notes.append(
            f"auto_map of {base} names another repository: its code is written here, without --code-repo"
        )
    for name in MODULES if code_repo is None else ():
        plan.files[name] = ROOT / name
        if (base / name).is_file() and (base / name).read_bytes() != (ROOT / name).read_bytes():
            plan.notes.append(f"{name} of {base} differs from this repo's, which is written")
    plan.files["config.json"] = (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()
    return plan


def check_tie(tensors: dict[str, Tensor], config: dict, directory: Path) -> None:
    """Where the head is tied to the embeddings and is in the weights all the same, it holds their values.

    It is read in slices, so that memory does not grow with the vocabulary.

    Raises:
        ConversionError: it holds others: releases of transformers differ in which they use.
    """
    named = {new_name(name): name for name in tensors}
    names = [named.get("lm_head.weight"), named.get("model.language_model.embed_tokens.weight")]
    if not config.get("tie_word_embeddings") or None in names:
        return
    head, embedding = (_rows(directory / tensors[name].file, name) for name in names)
    if any(not torch.equal(*pair) for pair in zip(head, embedding)):
        raise ConversionError(
            f"{directory} has tie_word_embeddings in its config.json, but a {names[0]} with other values than "
            f"{names[1]}: set it to false to keep both, or save the model without the first."
        )


def _rows(path, name):
    """The bytes of a matrix, some rows at a time."""
    with safe_open(path, framework="pt") as shard:
        matrix = shard.get_slice(name)
        for row in range(0, matrix.get_shape()[0], ROWS):
            yield matrix[row : row + ROWS].view(torch.uint8)


def _corrected_index(plan):
    """The base's index, or its content with what the shards hold."""
    index = read_json(plan.base / INDEX)
    metadata = index.get("metadata") if isinstance(index.get("metadata"), dict) else {}
    total = sum(tensor.nbytes for tensor in plan.tensors.values())
    weight_map = {name: tensor.file for name, tensor in plan.tensors.items()}
    if metadata.get("total_size") == total and index["weight_map"] == weight_map:
        return plan.base / INDEX
    if metadata.get("total_size") != total:
        plan.notes.append(f"the index of {plan.base} says total_size {metadata.get('total_size')}: {total} is written")
    if missing := sorted(weight_map.keys() - set(map(single_name, index["weight_map"]))):
        plan.notes.append(
            f"the index of {plan.base} lacks {len(missing)} tensors of its shards, {missing[0]} among them, which are "
            "written into it"
        )
    index |= {"metadata": {**metadata, "total_size": total}, "weight_map": weight_map}
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
