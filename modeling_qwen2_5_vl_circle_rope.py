"""Qwen2.5-VL with Circle-RoPE or AGE: image positions on a ring perpendicular to the text axis, layer by layer.

Only positions differ from upstream: the classes below compute them (`get_rope_index`), carry them in one tensor, and
give every decoder layer the cos/sin of its own geometry. Weights, modules and forwards are upstream's.
"""

import copy
import functools
import glob
import inspect
import json
import os
import re
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from pkgutil import resolve_name

import torch
import transformers
from torch import nn
from transformers import Cache, GenerationMixin, Qwen2ForCausalLM
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as upstream

try:
    from .circle_rope_imp import Continuation, VisionBlock, continue_sequences, find_blocks, turns
    from .configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2, plain_rope
    from .modelcard_qwen2_5_vl_circle_rope import complete_card
except ImportError:  # the repo's root is not a package when it is imported from itself
    if __package__:
        raise
    from circle_rope_imp import Continuation, VisionBlock, continue_sequences, find_blocks, turns
    from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2, plain_rope
    from modelcard_qwen2_5_vl_circle_rope import complete_card


# ---- What we rely on ------------------------------------------------------------------------------------------------

LAST_KNOWN_RELEASE = "5.24.0"

# Whatever we touch of upstream's that is not public API, by its path in transformers, and the arguments we count on.
_QWEN = "models.qwen2_5_vl.modeling_qwen2_5_vl"
_TOKENS = ("input_ids", "attention_mask", "position_ids", "inputs_embeds")
_VISION = ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")
RELIED_ON = (
    (f"{_QWEN}.Qwen2_5_VLRotaryEmbedding.forward", ("x", "position_ids")),
    (f"{_QWEN}.Qwen2_5_VLDecoderLayer.forward", ("position_embeddings",)),
    (f"{_QWEN}.Qwen2_5_VLTextModel.forward", _TOKENS),
    (f"{_QWEN}.Qwen2_5_VLModel.forward", (*_TOKENS, *_VISION)),
    (f"{_QWEN}.Qwen2_5_VisionTransformerPretrainedModel", ()),
    ("PreTrainedModel._from_config", ()),
    ("PreTrainedModel._supports_flex_attn", ()),
    ("PreTrainedModel._auto_class", ()),
    ("PreTrainedModel._upload_modified_files", ("working_dir", "repo_id")),
    ("Qwen2ForCausalLM._tp_plan", ()),
    ("Qwen2_5_VLTextConfig._attn_implementation", ()),
)

# How a release makes the positions of a generation: newer ones up front, older ones step by step.
POSITIONS_UP_FRONT = (
    "GenerationMixin._prepare_position_ids_for_generation",
    ("inputs_tensor", "model_kwargs"),
)
POSITIONS_BY_STEP = ("GenerationMixin.prepare_inputs_for_generation", ("cache_position",))

# How a release finds the older names that it saves tensors under: newer ones in a register, older ones by attribute.
NAMES_IN_REGISTER = ("conversion_mapping.register_checkpoint_conversion_mapping", ("mapping", "overwrite"))
NAMES_BY_ATTRIBUTE = ("PreTrainedModel._checkpoint_conversion_mapping", ())

# Newer releases hand each chunk of a chunked prefill its part of the pictures; older ones drop or misplace them, and
# get one whole prefill.
CHUNKS_WITH_PICTURES = ("generation.utils._slice_mm_encoder_output", ())


def _is_there(path, arguments):
    try:
        thing = resolve_name(f"transformers.{path}")
    except (AttributeError, ImportError):
        return False
    return not arguments or set(arguments) <= set(inspect.signature(thing).parameters)


def _check_upstream():
    """Refuse a release on which something that we rely on is gone or has another shape.

    Raises:
        ImportError: one is.
    """
    either = ((POSITIONS_UP_FRONT, POSITIONS_BY_STEP), (NAMES_IN_REGISTER, NAMES_BY_ATTRIBUTE))
    for ways in (*((needed,) for needed in RELIED_ON), *either):
        if not any(_is_there(*way) for way in ways):
            path, arguments = ways[0]
            takes = f" that takes {', '.join(arguments)}" if arguments else ""
            raise ImportError(
                f"transformers {transformers.__version__} has no {path}{takes}, which Circle-RoPE relies on: install "
                f"transformers {LAST_KNOWN_RELEASE}, the last release known to be right."
            )


_check_upstream()

# Looked up once: the first is asked at every step of generate.
KEEPS_POSITIONS_UP_FRONT = _is_there(*POSITIONS_UP_FRONT)
HAS_REGISTER_OF_NAMES = _is_there(*NAMES_IN_REGISTER)


def _names_of_arguments(function):
    return tuple(inspect.signature(function).parameters)[1:]


def _by_name(names, args, kwargs):
    """All arguments of a call by their names, so that an override names only those that it uses."""
    return {**dict(zip(names, args)), **kwargs} if args else kwargs


# ---- Names of tensors -----------------------------------------------------------------------------------------------


# Official checkpoints, V1 and whatever transformers 5 saves name their tensors by an older layout of the modules.
OLD_LAYOUT = {r"^visual": "model.visual", r"^model(?!\.(language_model|visual))": "model.language_model"}


# The same for the model without its head, whose own names have no `model.` in front. Releases with a register take it
# off by themselves; older ones do not, and save under the last pattern itself, read backwards: so it has no backslash.
HEADLESS_LAYOUT = {r"^model(?!\.(language_model|visual))": "language_model"}
if not HAS_REGISTER_OF_NAMES:
    HEADLESS_LAYOUT |= {r"^model.language_model": "language_model", r"^model.visual": "visual"}


ADAPTER_CONFIG = "adapter_config.json"


# A task's own head may be missing from a checkpoint, or left over from it.
BODY = re.compile(r"(^|\.)(language_model|visual|embed_tokens|layers|blocks)\.")


def new_name(name: str) -> str:
    """The name a tensor has in our classes, given its name in a checkpoint of either layout."""
    for pattern, replacement in OLD_LAYOUT.items():
        name = re.sub(pattern, replacement, name)
    return name


def _rename_old_layout(model, state_dict, prefix, *args):
    """Hook of `load_state_dict`: tensors that are named by the older layout of the modules get their new names."""
    for name in [name for name in state_dict if name.startswith(prefix)]:
        renamed = prefix + new_name(name[len(prefix) :])
        if renamed != name:
            state_dict[renamed] = state_dict.pop(name)


class ReadsEveryLayout:
    """Mixed into a model class: `from_pretrained` reads every layout of names, and refuses a load that misses one.

    Releases look their own renamings up by the class, its attributes or its `model_type`, and most of them not for
    custom code; `key_mapping` is the public way, and the same everywhere.
    """

    layout = OLD_LAYOUT

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, output_loading_info: bool = False, **kwargs):
        """Upstream's `from_pretrained`.

        An adapter's folder with the config that it was trained with loads its base under that config, whatever block
        the base's own has.

        Raises:
            ValueError: tensors of the checkpoint have no place in the model, or tensors of the model no value, for
                their names. A load that is partial on purpose (from a `state_dict`) goes through.
        """
        name, kwargs = _base_of_adapter(cls, pretrained_model_name_or_path, kwargs)
        kwargs["key_mapping"] = {**cls.layout, **(kwargs.get("key_mapping") or {})}
        is_partial = kwargs.get("state_dict") is not None
        model, info = super().from_pretrained(name, *args, output_loading_info=True, **kwargs)  # type: ignore[misc]
        if not is_partial:
            _refuse_misnamed(model, info)
        return (model, info) if output_loading_info else model


def _base_of_adapter(cls, name, kwargs):
    """What to load where an adapter's folder was named: its base, with the config in that folder."""
    adapter_kwargs = kwargs.get("adapter_kwargs") or {}
    folder = adapter_kwargs.get("_adapter_model_path") or name  # auto classes may have gone to the base already
    if not isinstance(folder, (str, os.PathLike)):
        return name, kwargs
    weights = glob.glob("model*.safetensors", root_dir=folder)
    if weights or not all(os.path.isfile(os.path.join(folder, file)) for file in (ADAPTER_CONFIG, "config.json")):
        return name, kwargs
    with open(os.path.join(folder, ADAPTER_CONFIG), encoding="utf-8") as file:
        adapter = json.load(file)
    if kwargs.get("config") is None or name != folder:
        kwargs["config"] = cls.config_class.from_pretrained(folder)
    kwargs["adapter_kwargs"] = {**adapter_kwargs, "_adapter_model_path": folder}
    kwargs["revision"] = kwargs.get("revision") or adapter.get("revision")
    return adapter["base_model_name_or_path"], kwargs


def _refuse_misnamed(model, info):
    mismatched = {entry[0] if isinstance(entry, (list, tuple)) else entry for entry in info["mismatched_keys"]}
    lost = sorted(name for name in info["unexpected_keys"] if BODY.search(name))
    empty = sorted(name for name in set(info["missing_keys"]) - mismatched if BODY.search(name))
    # A file that holds next to nothing is meant to.
    is_bare = len(info["unexpected_keys"]) <= 1 and len(empty) == sum(map(bool, map(BODY.search, model.state_dict())))
    if lost or (empty and not is_bare):
        raise ValueError(
            f"{model.name_or_path or 'the checkpoint'} does not fit {type(model).__name__} by its tensors' names: "
            f"{len(lost)} of its tensors have no place{f' ({lost[0]} is one)' if lost else ''}, and it lacks "
            f"{len(empty)} tensors of the model's{f' ({empty[0]} is one)' if empty else ''}; give a complete "
            "Qwen2.5-VL checkpoint, or its renamings as key_mapping."
        )


# ---- Making positions -----------------------------------------------------------------------------------------------


VISION_ARGUMENTS = ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")


def to_host(*tensors):
    """A tuple of the given tensors on the CPU, with one device synchronisation at most; anything else as it is."""
    away = [tensor for tensor in tensors if torch.is_tensor(tensor) and tensor.device.type != "cpu"]
    if not away:
        return tensors
    # float64 holds every token id and grid exactly.
    flat = torch.cat([tensor.flatten().double() for tensor in away]).cpu()
    parts = iter(flat.split([tensor.numel() for tensor in away]))
    return tuple(
        _like(tensor, next(parts)) if any(tensor is moved for moved in away) else tensor for tensor in tensors
    )


def _like(tensor, values):
    return values.view(tensor.shape).to(tensor.dtype)


def mask_of_tokens(attention_mask: torch.Tensor | None, length: int | None = None) -> torch.Tensor | None:
    """The mask of the last `length` tokens, or of all, `(batch, length)`, 0 where padded; None where none is given.

    A mask of pairs of tokens (4-D, or flex attention's own) says nothing of padding, and counts as none. Behind a
    cache a mask may cover the new tokens alone, or the cached ones in front of them as well.
    """
    if not torch.is_tensor(attention_mask) or attention_mask.ndim != 2:
        return None
    return attention_mask if length is None else attention_mask[:, -length:]


def _real_tokens(mask):
    """Which tokens of a mask are no padding, bool `(batch, length)` on the CPU, or None where all are."""
    if mask is None:
        return None
    real = to_host(mask)[0].bool()
    return None if real.numpy().all() else real


def _seconds_of(videos, second_per_grid_ts):
    """Seconds between two frames, one number for each video."""
    if second_per_grid_ts is None:
        return [1.0] * len(videos)
    try:
        seconds = torch.as_tensor(second_per_grid_ts)
    except (TypeError, ValueError, RuntimeError):
        seconds = torch.empty(0, 0)
    if seconds.ndim == 0:
        return [seconds.item()] * len(videos)
    if seconds.ndim > 1 or len(seconds) != len(videos):
        given = f"the shape {tuple(seconds.shape)}" if seconds.numel() else f"the value {second_per_grid_ts!r}"
        raise ValueError(
            f"second_per_grid_ts has {given}, but video_grid_thw has {len(videos)} rows: give one number of seconds "
            "for every video, or one for all."
        )
    return seconds.tolist()


def vision_of(arguments):
    """`image_grid_thw`, `video_grid_thw` and `second_per_grid_ts` among the arguments of a call."""
    return tuple(arguments.get(key) for key in VISION_ARGUMENTS)


def has_grids(vision):
    """Whether there is an image or a video in what `vision_of` gives."""
    return vision[0] is not None or vision[1] is not None


class MakesPositions:
    """Mixed into the model: positions of whole sequences, and of tokens that come behind others.

    Attributes:
        geometries: those in use, circle first, in the order of the position rows.
        rope_deltas: float32 `(batch, geometries)` of the last prefill, or None after text alone, for readers; a cache
            goes on by itself. The next text token behind a sequence of n slots (pads counted) has the index
            n + rope_deltas, for each geometry.
    """

    config: Qwen2_5_VLConfig_CircleRoPE_V2
    geometries: list
    rope_deltas: torch.Tensor | None
    get_input_embeddings: Callable

    def get_rope_index(
        self,
        input_ids: torch.LongTensor,
        image_grid_thw: torch.LongTensor | None = None,
        video_grid_thw: torch.LongTensor | None = None,
        second_per_grid_ts: torch.Tensor | float | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Position indices of whole sequences, for every geometry in use (circle first).

        Modality is read from `input_ids`; anything else (such as `mm_token_type_ids`) is accepted and not needed.

        Args:
            input_ids: int64 `(batch, seq)`.
            image_grid_thw: int64 `(images, 3)`, grids before the spatial merge, in the order of the batch.
            video_grid_thw: int64 `(videos, 3)`, likewise.
            second_per_grid_ts: float `(videos,)`, seconds between two frames, or one number for all; 1 if not given.
            attention_mask: `(batch, seq)`, 0 where padded.

        Returns:
            position_ids: float32 `(3 * geometries, batch, seq)`, 0 where padded.
            rope_deltas: float32 `(batch, geometries)`, index of a text token that comes next, minus seq.

        Raises:
            ValueError: the placeholder tokens do not fit the grids, or second_per_grid_ts does not fit the videos.
        """
        vision = (image_grid_thw, video_grid_thw, second_per_grid_ts)
        if not has_grids(vision):
            input_ids = torch.zeros_like(input_ids)  # as upstream: without any picture, placeholders are text
        position_ids, continuation = self.position_index(input_ids, vision, attention_mask)
        return position_ids, continuation.deltas(input_ids.device)

    def position_index(self, input_ids, vision, attention_mask=None, past_length=0, continuation=None):
        """Positions of tokens behind `past_length` slots, and where their samples go on behind them.

        The arguments are those of `next_position_ids`; here the tokens are laid out whatever they are.
        """
        device, (batch, length) = input_ids.device, input_ids.shape
        input_ids, mask, *vision = to_host(input_ids, mask_of_tokens(attention_mask, length), *vision)
        real = _real_tokens(mask)
        if continuation is None:
            continuation = Continuation.of_text(batch, len(self.geometries), past_length)
        continuation = continuation.until(past_length)
        position_ids, marks = continue_sequences(
            self.vision_blocks(input_ids, *vision, real),
            real,
            (batch, length),
            self.geometries,
            continuation.last(),
        )
        return position_ids.to(device, non_blocking=True), continuation.extend(marks)

    def merged_grids(self, grid_thw: torch.LongTensor | None) -> list[tuple[int, int, int]]:
        """Grids `(blocks, 3)` on the CPU as (t, h, w) each in language-model tokens."""
        if grid_thw is None:
            return []
        merge = self.config.vision_config.spatial_merge_size
        return [(t, h // merge, w // merge) for t, h, w in grid_thw.tolist()]

    def vision_blocks(
        self,
        input_ids: torch.LongTensor,
        image_grid_thw: torch.LongTensor | None = None,
        video_grid_thw: torch.LongTensor | None = None,
        second_per_grid_ts: torch.Tensor | float | None = None,
        real: torch.Tensor | None = None,
    ) -> list[VisionBlock]:
        """Where the images and videos of a batch stand: `get_rope_index`'s arguments on the CPU, with a bool mask."""
        images, videos = self.merged_grids(image_grid_thw), self.merged_grids(video_grid_thw)
        frequency = self.config.vision_config.tokens_per_second if videos else None
        intervals = [frequency * second for second in _seconds_of(videos, second_per_grid_ts)]
        return [
            *find_blocks(input_ids, real, self.config.image_token_id, images, [0.0] * len(images), "image"),
            *find_blocks(input_ids, real, self.config.video_token_id, videos, intervals, "video"),
        ]

    def placeholder_ids(self, inputs_embeds: torch.Tensor) -> torch.LongTensor:
        """Token ids `(batch, seq)` as far as positions need them, read back from embeddings `(batch, seq, hidden)`."""
        input_ids = torch.zeros(inputs_embeds.shape[:2], dtype=torch.long, device=inputs_embeds.device)
        for token_id in (self.config.image_token_id, self.config.video_token_id):
            token = self.get_input_embeddings()(torch.tensor(token_id, device=inputs_embeds.device))
            input_ids.masked_fill_((inputs_embeds == token).all(-1), token_id)
        return input_ids

    def has_placeholders(self, input_ids: torch.LongTensor) -> bool:
        """Whether any image or video placeholder is among these tokens."""
        return bool(((input_ids == self.config.image_token_id) | (input_ids == self.config.video_token_id)).any())

    def next_position_ids(
        self,
        input_ids: torch.LongTensor,
        vision=(None, None, None),
        attention_mask=None,
        past_length: int = 0,
        continuation: Continuation | None = None,
    ) -> tuple[torch.Tensor | None, Continuation | None]:
        """Positions of the tokens that come behind `past_length` cached slots.

        Args:
            input_ids: the new tokens alone, `(batch, seq)`.
            vision: `image_grid_thw`, `video_grid_thw` and `second_per_grid_ts` of the new images and videos alone.
            attention_mask: `(batch, past_length + seq)` or `(batch, seq)`, 0 where padded.
            past_length: slots in the cache, pads counted.
            continuation: where the cached samples go on; None for text.

        Returns:
            float32 `(3 * geometries, batch, seq)`, or None at the start of a text, where every index is its slot; and
            where the samples go on behind the new tokens, None likewise.
        """
        length = input_ids.shape[1]
        if has_grids(vision) and (past_length == 0 or self.has_placeholders(input_ids)):
            position_ids, continuation = self.position_index(
                input_ids, vision, attention_mask, past_length, continuation
            )
            self.rope_deltas = continuation.deltas(input_ids.device)
            return position_ids, continuation
        real = _real_tokens(mask_of_tokens(attention_mask, length)) if length > 1 else None
        if real is not None:
            if past_length == 0:
                # As upstream: in newer releases text begins at its slot, behind the pads in front of it, in older ones
                # at 0. Other pads count nothing.
                first = real.int().argmax(1).double()
                if not hasattr(upstream.Qwen2_5_VLModel, "compute_3d_position_ids"):
                    first.zero_()
                continuation = Continuation.from_index(first.tolist(), len(self.geometries))
            ids = torch.zeros_like(input_ids, dtype=torch.long)
            return self.position_index(ids, (None, None, None), attention_mask, past_length, continuation)
        if continuation is None and past_length == 0:
            return None, None
        if continuation is None:
            continuation = Continuation.of_text(len(input_ids), len(self.geometries), past_length)
        elif continuation.end > past_length:
            continuation = continuation.until(past_length)
        return continuation.text_position_ids(past_length, length, input_ids.device), continuation


# ---- Carrying positions to the layers -------------------------------------------------------------------------------


def split_position_rows(
    position_ids: torch.Tensor | None, num_geometries: int
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Split a position tensor into its text row and the rows of the geometries.

    Args:
        position_ids: `(3 * num_geometries, batch, seq)`, or one row more with the integer text row in front; 3 rows,
            4 with the text row, or `(batch, seq)` mean the same positions for every geometry; or None.
        num_geometries: how many geometries the model uses.

    Returns:
        The text row, int64 `(batch, seq)` or None, and the positions, float32 `(3 * num_geometries, batch, seq)` or
        None.

    Raises:
        ValueError: positions in half precision, or another number of rows.
    """
    if position_ids is None:
        return None, None
    if position_ids.dtype in (torch.float16, torch.bfloat16):
        raise ValueError(
            f"position_ids came as {position_ids.dtype}, which cannot hold them (integers above "
            f"{256 if position_ids.dtype is torch.bfloat16 else 2048} are rounded), but float32 or integers are "
            "needed: switch off the casting of inputs (cast_forward_inputs=False in FSDP's MixedPrecision, "
            "fp16.auto_cast=false in DeepSpeed)."
        )
    rows = 3 * num_geometries
    if position_ids.ndim == 2:
        position_ids = position_ids.expand(3, -1, -1)
    text_row = None
    if position_ids.ndim == 3 and position_ids.shape[0] in (4, rows + 1):
        text_row, position_ids = position_ids[0].long(), position_ids[1:]  # (batch, seq) and (3 or rows, batch, seq)
    if position_ids.ndim == 3 and position_ids.shape[0] == 3:
        position_ids = position_ids.repeat(num_geometries, 1, 1)
    if position_ids.ndim != 3 or position_ids.shape[0] != rows:
        raise ValueError(
            f"position_ids has the shape {tuple(position_ids.shape)}, but must be (batch, seq), (3, batch, seq) or "
            f"({rows}, batch, seq), with or without a text row in front: make it with get_rope_index."
        )
    return text_row, position_ids.float()


class Qwen2_5_VLRotaryEmbedding_CircleRoPE_V2(upstream.Qwen2_5_VLRotaryEmbedding):
    """Upstream's cos/sin, which may leave out integer positions, and whose sections may take turns.

    Upstream's text model calls it once more with the integer row that its masks use; no layer reads that result, so
    within the text model there is none.

    Attributes:
        interleaved_section: frequency pairs of t, h and w that they take in turns; None for upstream's sections.
    """

    skips_integers = False
    interleaved_section: tuple[int, ...] | None = None

    def forward(self, x, position_ids):
        if self.skips_integers and not position_ids.is_floating_point():
            return None
        if self.interleaved_section is None:
            return super().forward(x, position_ids)
        # Upstream's sections mean nothing where all three rows are the same: each row becomes a batch of such.
        rows = position_ids.reshape(1, -1, position_ids.shape[-1]).expand(3, -1, -1)
        return tuple(self._take_turns(values.chunk(3, dim=-3)) for values in super().forward(x, rows))

    def _take_turns(self, by_axis):
        """Cos or sin `(..., batch, seq, head_dim)` of t, h and w, each for all components, become one."""
        taken = by_axis[0].clone()
        for axis, pairs in turns(self.interleaved_section):
            for half, values in zip(taken.chunk(2, dim=-1), by_axis[axis].chunk(2, dim=-1)):
                half[..., pairs] = values[..., pairs]
        return taken


class Qwen2_5_VLDecoderLayer(upstream.Qwen2_5_VLDecoderLayer):
    """Upstream's decoder layer, by the same name for whatever wraps or shards it, with the cos/sin of its geometry."""

    def forward(self, *args, geometry_embeddings=None, **kwargs):
        if geometry_embeddings is not None:
            kwargs["position_embeddings"] = geometry_embeddings[self.geometry_of_layer[self.number]]
        return super().forward(*args, **kwargs)


TEXT_ARGUMENTS = _names_of_arguments(upstream.Qwen2_5_VLTextModel.forward)


class Qwen2_5_VLTextModel_CircleRoPE_V2(upstream.Qwen2_5_VLTextModel):
    """Upstream's text model, with one geometry per layer; cos/sin are computed once per geometry and forward."""

    _supports_flex_attn = True

    def __init__(self, config, schedule: tuple[str, ...], geometries: tuple[str, ...], interleaved_section=None):
        with plain_rope(config):
            super().__init__(config)
        self.geometry_of_layer = []  # one list for all layers, so that a schedule reaches those that something wraps
        for number, layer in enumerate(self.layers):
            # Upstream's __init__ names the class of its layers; ours has the same modules and only another forward.
            layer.__class__ = Qwen2_5_VLDecoderLayer
            layer.number, layer.geometry_of_layer = number, self.geometry_of_layer
        self.set_schedule(schedule, geometries, interleaved_section)

    def set_schedule(self, schedule: tuple[str, ...], geometries: tuple[str, ...], interleaved_section=None) -> None:
        """Give every layer its geometry: names from `geometries`, which are in the order of the position rows.

        `interleaved_section` is that of the rotary embedding.
        """
        self.num_geometries = len(geometries)
        self.geometry_of_layer[:] = [geometries.index(name) for name in schedule]
        device = self.rotary_emb.inv_freq.device  # type: ignore[has-type]
        with plain_rope(self.config):
            self.rotary_emb = Qwen2_5_VLRotaryEmbedding_CircleRoPE_V2(config=self.config).to(device)
        self.rotary_emb.skips_integers = True
        self.rotary_emb.interleaved_section = interleaved_section

    @functools.wraps(upstream.Qwen2_5_VLTextModel.forward)
    def forward(self, *args, **kwargs):
        kwargs = _by_name(TEXT_ARGUMENTS, args, kwargs)
        text_row, positions = split_position_rows(kwargs.get("position_ids"), self.num_geometries)
        input_ids, inputs_embeds = kwargs.get("input_ids"), kwargs.get("inputs_embeds")
        if inputs_embeds is None and input_ids is not None:
            inputs_embeds = self.embed_tokens(input_ids)
            kwargs |= {"input_ids": None, "inputs_embeds": inputs_embeds}
        if inputs_embeds is not None:
            if positions is None:
                cache = find_cache(kwargs)
                past_length = 0 if cache is None else cache.get_seq_length()
                slots = torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device) + past_length
                _, positions = split_position_rows(slots.expand(inputs_embeds.shape[:2]), self.num_geometries)
            # (3 * geometries, batch, seq) becomes cos and sin, (3, batch, seq, head_dim) each, for every geometry.
            kwargs["geometry_embeddings"] = tuple(self.rotary_emb(inputs_embeds, rows) for rows in positions.split(3))
        # Masks and packing are made from the text row alone, never from fractional positions. Upstream takes it as the
        # first of four rows.
        kwargs["position_ids"] = None if text_row is None else text_row.expand(4, -1, -1)
        return super().forward(**kwargs)


# ---- Going on behind a cache ----------------------------------------------------------------------------------------


def find_cache(arguments) -> Cache | None:
    """The cache among the arguments or outputs of a call, by its type: its name differs from release to release."""
    values = arguments.values() if hasattr(arguments, "values") else arguments
    return next((value for value in values if isinstance(value, Cache)), None)


def slot_of(cache, kwargs):
    """First free slot of a cache, pads counted: a number, or a tensor where only the device knows it."""
    if cache is None:
        return 0
    cache_position = kwargs.get("cache_position")
    # Older releases pass it, and cannot tell the length of a static cache without it.
    known = cache_position is not None and len(cache_position) > 0
    slot = cache_position[0] if known else cache.get_seq_length()
    return slot.clone() if torch.is_tensor(slot) else slot


def batch_of(cache):
    """How many samples a cache of somebody else's holds, or None where it does not say."""
    keys = getattr(cache.layers[0], "keys", None) if getattr(cache, "layers", None) else None
    return keys.shape[0] if torch.is_tensor(keys) else None


class ContinuedCache:
    """Mixed into the class of a cache that we have filled: it knows where its sequences go on, whatever becomes of it.

    Attributes:
        continuation: of its samples, in their order.
    """

    continuation: Continuation

    def reorder_cache(self, beam_idx):
        """Upstream's, with the continuation following."""
        super().reorder_cache(beam_idx)
        self.continuation = self.continuation.select(beam_idx.tolist())

    def batch_select_indices(self, indices):
        """Upstream's, with the continuation following."""
        super().batch_select_indices(indices)
        chosen = torch.arange(len(self.continuation.samples), device=indices.device)[indices]
        self.continuation = self.continuation.select(chosen.tolist())

    def batch_repeat_interleave(self, repeats):
        """Upstream's, with the continuation following."""
        super().batch_repeat_interleave(repeats)
        batch = len(self.continuation.samples)
        self.continuation = self.continuation.select([sample for sample in range(batch) for _ in range(repeats)])

    def __reduce__(self):
        return _make_continued, (type(self).__mro__[2],), self.__dict__


@functools.cache
def _continued(cls):
    return type(cls.__name__, (ContinuedCache, cls), {"__module__": cls.__module__, "__doc__": cls.__doc__})


def _make_continued(cls):
    return _continued(cls).__new__(_continued(cls))


def keep_continuation(cache, continuation):
    """Let a cache know where it goes on."""
    if not isinstance(cache, ContinuedCache):
        # The caller holds this very object and hands it in again, and `reorder_cache` and `crop` are called on it.
        cache.__class__ = _continued(type(cache))
    cache.continuation = continuation
    if hasattr(cache, "has_unknown_positions"):
        del cache.has_unknown_positions


# The positions that `generate` has made for its next step, and where it goes on behind them. It is a variable of the
# running call, for several threads may generate at once.
_ANNOUNCED: ContextVar[tuple[torch.Tensor, Continuation] | None] = ContextVar("_ANNOUNCED", default=None)


def announce(position_ids, cache, continuation):
    """Positions of a step of `generate` on their way to `forward`, which may be compiled, or make the cache itself."""
    if cache is not None:
        keep_continuation(cache, continuation)
    _ANNOUNCED.set((position_ids, continuation))
    return position_ids


# ---- The model without its head -------------------------------------------------------------------------------------


# Where the last model of this file came from. Where a release has one module for all directories of one name, another
# directory's file is run in that module, over what is here.
_earlier_origin, _origin = globals().get("_origin"), None


def _warn_of_other_code(origin):
    """Warn where models that are loaded already have got other functions under them by this file's coming."""
    global _origin
    _origin = origin
    if _earlier_origin and _earlier_origin != origin:
        warnings.warn(
            f"{_earlier_origin} and {origin} have different modeling files, which this transformers release loads as "
            "one module: a model of the first now runs and saves code of the second. Give their directories different "
            "names, or load them in two processes.",
            stacklevel=2,
        )


_WARNED = []  # whether the warning below has been given


def _are_stock_positions(position_ids):
    """Whether ready-made positions have the form that stock's trainers pass: integers, one set of rows for all."""
    return position_ids.ndim == 3 and position_ids.shape[0] in (3, 4) and not position_ids.is_floating_point()


MODEL_ARGUMENTS = _names_of_arguments(upstream.Qwen2_5_VLModel.forward)


class Qwen2_5_VLModel_CircleRoPE_V2(ReadsEveryLayout, MakesPositions, upstream.Qwen2_5_VLModel):
    """Qwen2.5-VL without its head, under Circle-RoPE.

    A config whose schedule has M-RoPE layers makes a `Qwen2_5_VLModel_AGE_V2`.
    """

    config: Qwen2_5_VLConfig_CircleRoPE_V2
    config_class = Qwen2_5_VLConfig_CircleRoPE_V2
    layout = HEADLESS_LAYOUT
    _auto_class = "AutoModel"
    _supports_flex_attn = True
    _checkpoint_conversion_mapping = HEADLESS_LAYOUT

    def __new__(cls, config=None, *args, **kwargs):
        # auto_map names one class for AutoModel; which of the two it is depends on the block.
        if cls is Qwen2_5_VLModel_CircleRoPE_V2 and config is not None:
            cls = _class_of(config)
        return super().__new__(cls)

    def __init__(self, config):
        if str(config.text_config._attn_implementation).startswith("vllm"):
            raise ValueError(
                "vLLM's Transformers backend has no place for Circle-RoPE's positions: pip install ./serving from the "
                "repository of Circle-RoPE, which gives vLLM a model that serves them exactly."
            )
        # A block changed in place since it was assigned is validated here.
        config.circle_rope = config.circle_rope
        _warn_of_other_code(config.name_or_path)
        super(upstream.Qwen2_5_VLModel, self).__init__(config)
        self.visual = upstream.Qwen2_5_VisionTransformerPretrainedModel._from_config(config.vision_config)
        self.language_model = Qwen2_5_VLTextModel_CircleRoPE_V2._from_config(
            config.text_config,
            schedule=config.schedule,
            geometries=config.geometries,
            interleaved_section=config.interleaved_section,
        )
        self._reset_geometries()
        self.post_init()

    def _reset_geometries(self):
        self.geometries = [self.config.make_geometry(name) for name in self.config.geometries]
        self.rope_deltas = None

    @property
    def schedule(self) -> tuple[str, ...]:
        """The geometry, `"circle"` or `"mrope"`, of every layer of the text model as it runs."""
        return tuple(self.config.geometries[number] for number in self.language_model.geometry_of_layer)

    def set_circle_rope(self, block: dict | None) -> None:
        """Put the model under another `circle_rope` block; its weights stay as they are.

        The config, the schedule of the layers and the class follow. What was computed under the old block, such as a
        cache or a position tensor, does not go with the new one. `base` and `mrope_section` stay as they are where the
        block has none.

        Args:
            block: the whole new block, with the keys of `config.circle_rope`; None or `{}` for the defaults.

        Raises:
            ValueError: a block that is not allowed or does not fit the model; nothing has changed then.
        """
        self.config.circle_rope = block
        config = self.config
        self.language_model.set_schedule(config.schedule, config.geometries, config.interleaved_section)
        self._reset_geometries()
        if type(self) in (Qwen2_5_VLModel_CircleRoPE_V2, Qwen2_5_VLModel_AGE_V2):
            # The class says whether some layers see M-RoPE, as if the model had been built under the block.
            self.__class__ = _class_of(self.config)

    def continuation_of(self, cache: Cache | None, batch: int, past_length: int) -> Continuation | None:
        """Where the samples of a cache go on: as it knows itself, or None where it holds text alone or nothing.

        Raises:
            ValueError: the cache holds another number of samples than `batch`.
        """
        if past_length == 0:
            return None
        if getattr(cache, "has_unknown_positions", False):
            raise ValueError(
                "the cache was filled by a compiled call that was given position_ids, which it cannot look at: "
                "pass position_ids for the tokens behind them as well."
            )
        continuation = cache.continuation if isinstance(cache, ContinuedCache) else None
        held = len(continuation.samples) if continuation is not None else batch_of(cache)
        if held not in (None, batch):
            raise ValueError(
                f"the cache holds {held} samples, but the tokens are {batch}: give one row of tokens for each sample "
                "of the cache, or repeat the cache with its batch_repeat_interleave."
            )
        return continuation

    @torch.compiler.disable  # it reads token ids and grids as Python numbers
    def _make_positions(self, kwargs, cache):
        """`next_position_ids` of the arguments of a forward."""
        for pixels, grid_thw in (("pixel_values", "image_grid_thw"), ("pixel_values_videos", "video_grid_thw")):
            if kwargs.get(grid_thw) is None and kwargs.get(pixels) is not None:
                raise ValueError(f"{pixels} was given without {grid_thw}: pass both, as the processor returns them.")
        past_length = int(slot_of(cache, kwargs))
        vision = vision_of(kwargs)
        tokens = kwargs.get("input_ids")
        if tokens is None:
            embeds = kwargs["inputs_embeds"]
            tokens = self.placeholder_ids(embeds) if has_grids(vision) else embeds[..., 0]
        if past_length == 0:
            self.rope_deltas = None
        continuation = self.continuation_of(cache, tokens.shape[0], past_length)
        return self.next_position_ids(tokens, vision, kwargs.get("attention_mask"), past_length, continuation)

    @property
    def _warns_of_grids(self):
        return not torch.compiler.is_compiling() and not _WARNED and "circle" in self.config.geometries

    def _warn_of_grid(self, input_ids, position_ids):
        """Warn, once, of ready-made positions that put pictures on M-RoPE's grid where layers should see a ring."""
        if input_ids is None or input_ids.shape != position_ids.shape[1:]:
            return
        ids, rows = to_host(input_ids, position_ids[-3:])
        pictures = (ids == self.config.image_token_id) | (ids == self.config.video_token_id)
        if bool((rows[:, pictures] != rows[0, pictures]).any()):
            _WARNED.append(True)
            warnings.warn(
                "position_ids are integers that put a picture's tokens on a grid, as M-RoPE does, but the circle_rope "
                "block has circle layers, and every layer sees M-RoPE now: leave position_ids out, or make them with "
                "get_rope_index (training/other_trainers.md names the line to drop).",
                stacklevel=3,
            )

    @torch.compiler.disable
    def _remember(self, cache, continuation, given, slot, attention_mask, batch):
        """Let a cache know where it goes on: as `continuation` says, or behind positions that were given."""
        if given is not None:
            continuation = cache.continuation if isinstance(cache, ContinuedCache) else None
            if continuation is None:
                continuation = Continuation.of_text(batch, len(self.geometries))
            length = given.shape[-1]
            real = mask_of_tokens(attention_mask, length) if length > 1 else None
            continuation.give(slot, given, real, all(geometry.ends_at_its_largest for geometry in self.geometries))
        if continuation is not None:
            keep_continuation(cache, continuation)
        elif isinstance(cache, ContinuedCache):  # it was emptied, and holds text now
            keep_continuation(cache, Continuation.of_text(batch, len(self.geometries)))

    @functools.wraps(upstream.Qwen2_5_VLModel.forward)
    def forward(self, *args, **kwargs):
        """Upstream's forward; `position_ids` may have the rows that `split_position_rows` lists."""
        kwargs = _by_name(MODEL_ARGUMENTS, args, kwargs)
        cache, position_ids = find_cache(kwargs), kwargs.get("position_ids")
        if position_ids is not None and torch.compiler.is_compiling():
            # One graph takes positions and cannot look at them: a cache is left as it is, but for a word.
            split_position_rows(position_ids, len(self.geometries))
            outputs = super().forward(**kwargs)
            cache = find_cache(outputs) if cache is None else cache
            if position_ids.shape[-1] > 1 and cache is not None and not isinstance(cache, ContinuedCache):
                cache.has_unknown_positions = True
            return outputs
        continuation = given = slot = None
        if position_ids is None:
            kwargs["position_ids"], continuation = self._make_positions(kwargs, cache)
        elif (announced := _ANNOUNCED.get()) is not None and announced[0] is position_ids:
            continuation = announced[1]
        else:
            _, given = split_position_rows(position_ids, len(self.geometries))
            slot = slot_of(cache, kwargs)
            if self._warns_of_grids and _are_stock_positions(position_ids):
                self._warn_of_grid(kwargs.get("input_ids"), position_ids)
        outputs = super().forward(**kwargs)
        cache = find_cache(outputs) if cache is None else cache
        if cache is not None:
            self._remember(cache, continuation, given, slot, kwargs.get("attention_mask"), outputs[0].shape[0])
        return outputs


class Qwen2_5_VLModel_AGE_V2(Qwen2_5_VLModel_CircleRoPE_V2):
    """Qwen2.5-VL without its head, under AGE: a schedule in which some layers, or all, see M-RoPE."""


def _class_of(config):
    return Qwen2_5_VLModel_AGE_V2 if "mrope" in config.geometries else Qwen2_5_VLModel_CircleRoPE_V2


# ---- Generate -------------------------------------------------------------------------------------------------------


class _Prompt:
    """What one call of `generate` knows of its prompt: positions of its last slots, and where it goes on behind them.

    `first` is the slot of the first position, behind what a cache held already.
    """

    def __init__(self, first, positions, continuation):
        self.first, self.positions, self.continuation = first, positions, continuation

    def expand(self, batch):
        """For a batch with several continuations of each sample."""
        times = batch // self.positions.shape[1]
        if times > 1:
            samples = [sample for sample in range(self.positions.shape[1]) for _ in range(times)]
            # (3 * geometries, batch / times, seq) becomes (3 * geometries, batch, seq).
            self.positions, self.continuation = self.positions[:, samples], self.continuation.select(samples)
        return self

    def position_ids(self, slot, length, continuation):
        """Positions of `length` slots from `slot` on, float32 `(3 * geometries, batch, length)`."""
        prompt = self.positions[..., slot - self.first :][..., :length] if slot < self.end else None
        if prompt is not None and prompt.shape[-1] == length:
            return prompt
        begin = max(slot, self.end)
        text = continuation.text_position_ids(begin, slot + length - begin, self.positions.device)
        return text if prompt is None else torch.cat([prompt, text], -1)

    @property
    def end(self):
        return self.first + self.positions.shape[-1]


# A variable of the running call, not of the model: several threads may generate at once, and a call may hold another
# (an assistant's).
_PROMPT: ContextVar[_Prompt | None] = ContextVar("_PROMPT", default=None)


GENERATE_ARGUMENTS = _names_of_arguments(GenerationMixin.generate)


PICTURES = ("pixel_values", "pixel_values_videos", *VISION_ARGUMENTS)


PREPARE_ARGUMENTS = _names_of_arguments(upstream.Qwen2_5_VLForConditionalGeneration.prepare_inputs_for_generation)


class Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(
    ReadsEveryLayout, upstream.Qwen2_5_VLForConditionalGeneration, GenerationMixin
):
    """Qwen2.5-VL under Circle-RoPE or AGE, as the config's `circle_rope` block says."""

    config: Qwen2_5_VLConfig_CircleRoPE_V2
    config_class = Qwen2_5_VLConfig_CircleRoPE_V2
    _auto_class = "AutoModelForImageTextToText"
    _supports_flex_attn = True
    # The head is Qwen2's. Releases that shard the embeddings without planning for a head tied to them cannot run it.
    _tp_plan = Qwen2ForCausalLM._tp_plan

    def __init__(self, config):
        super(upstream.Qwen2_5_VLForConditionalGeneration, self).__init__(config)
        self.model = Qwen2_5_VLModel_CircleRoPE_V2(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        # Trainer resumes by load_state_dict from what save_pretrained wrote in the older layout.
        self.register_load_state_dict_pre_hook(_rename_old_layout)
        self.post_init()

    def set_circle_rope(self, block: dict | None) -> None:
        """Put the model under another `circle_rope` block: see `Qwen2_5_VLModel_CircleRoPE_V2.set_circle_rope`."""
        self.model.set_circle_rope(block)

    def _upload_modified_files(self, working_dir, repo_id, *args, **kwargs):
        """Upstream's last step of `push_to_hub`, by which a card is there: with what ours says of a checkpoint."""
        complete_card(Path(working_dir) / "README.md", repo_id, self.config)
        return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)

    @functools.wraps(GenerationMixin.generate)
    def generate(self, *args, **kwargs):
        kwargs = _whole_prefill(_by_name(GENERATE_ARGUMENTS, args, kwargs), self.generation_config)
        prompt, announced = _PROMPT.set(None), _ANNOUNCED.set(None)
        try:
            return super().generate(**kwargs)
        finally:
            _PROMPT.reset(prompt)
            _ANNOUNCED.reset(announced)

    def generate_batch(self, inputs, *args, **kwargs):
        """Upstream's continuous batching, which is for text.

        Raises:
            ValueError: a prompt with pictures, which upstream would drop.
        """
        if any(self.model.has_placeholders(torch.as_tensor(tokens)) for tokens in inputs):
            raise ValueError(
                "generate_batch was given a prompt with pictures, which it drops (in stock models, too): use generate."
            )
        return super().generate_batch(inputs, *args, **kwargs)

    def _prompt_of(self, tokens, length, past_length, cache, model_kwargs):
        """The last `length` tokens of a sequence as a `_Prompt`, and its pictures that are not in the cache yet.

        `tokens` are ids or embeddings, of the whole sequence or of the new part alone; `model_kwargs` hold the images
        and videos of the whole sequence or of its new part.
        """
        input_ids = tokens if tokens.ndim == 2 else self.model.placeholder_ids(tokens)
        attention_mask = model_kwargs.get("attention_mask")
        continuation = self.model.continuation_of(cache, input_ids.shape[0], past_length)
        uncached = self._uncached_pictures(input_ids, length, past_length, model_kwargs)
        cached = input_ids[:, :-length]
        if continuation is None and self.model.has_placeholders(cached) and has_grids(vision_of(model_kwargs)):
            # Somebody else filled the cache, with pictures that came along once more.
            positions, continuation = self.model.position_index(input_ids, vision_of(model_kwargs), attention_mask)
        else:
            new = input_ids[:, -length:]
            positions, continuation = self.model.position_index(
                new, vision_of(uncached), attention_mask, past_length, continuation
            )
        self.model.rope_deltas = continuation.deltas(input_ids.device)
        return _Prompt(past_length, positions[..., -length:], continuation), uncached

    def _uncached_pictures(self, input_ids, length, past_length, model_kwargs):
        """Of the images and videos that came with a sequence, those whose tokens are not in the cache yet."""
        given = {key: model_kwargs.get(key) for key in PICTURES}
        if past_length == 0:
            return given
        if not self.model.has_placeholders(input_ids[:, -length:]):
            return dict.fromkeys(PICTURES)
        if not self._are_of_whole(input_ids, past_length + length, given):
            return given
        for pixels_key, grid_key, token_id, kind in (
            ("pixel_values", "image_grid_thw", self.config.image_token_id, "image"),
            ("pixel_values_videos", "video_grid_thw", self.config.video_token_id, "video"),
        ):
            if given[grid_key] is None:
                continue
            host_ids, host_grid = to_host(input_ids, given[grid_key])
            merged = self.model.merged_grids(host_grid)
            blocks = find_blocks(host_ids, None, token_id, merged, [0.0] * len(merged), kind)
            kept = [number for number, block in enumerate(blocks) if block.slot >= past_length]
            if given[pixels_key] is not None:
                pictures = given[pixels_key].split(host_grid.prod(-1).tolist())
                given[pixels_key] = torch.cat([pictures[number] for number in kept]) if kept else None
            given[grid_key] = given[grid_key][kept] if kept else None
            if kind == "video" and torch.is_tensor(given["second_per_grid_ts"]) and given["second_per_grid_ts"].ndim:
                given["second_per_grid_ts"] = given["second_per_grid_ts"][kept] if kept else None
        return given

    def _are_of_whole(self, input_ids, total, given):
        """Whether a sequence that goes on behind a cache came whole, with all its images and videos.

        Callers hand in either the whole conversation's pictures or those of the new turn, and nothing says which: they
        are the whole's if they fill all placeholders of the sequence.
        """
        if input_ids.shape[1] != total or not has_grids(vision_of(given)):
            return False
        input_ids, image_grid_thw, video_grid_thw = to_host(
            input_ids, given["image_grid_thw"], given["video_grid_thw"]
        )
        merged_cells = self.config.vision_config.spatial_merge_size**2
        return all(
            (0 if grid_thw is None else int(grid_thw.prod(-1).sum()) // merged_cells)
            == int((input_ids == token).sum())
            for grid_thw, token in (
                (image_grid_thw, self.config.image_token_id),
                (video_grid_thw, self.config.video_token_id),
            )
        )

    def _prepare_position_ids_for_generation(self, inputs_tensor, model_kwargs):
        """Positions of the whole generation so far in the layout of stock, `(4, batch, seq)`.

        What the layers see is in `_PROMPT`; this is for upstream, which cuts and lengthens it step by step, and for an
        assistant model, which may be of another class.
        """
        text_row = GenerationMixin._prepare_position_ids_for_generation(self, inputs_tensor, model_kwargs)
        tokens = inputs_tensor
        if (input_ids := model_kwargs.get("input_ids")) is not None and input_ids.shape[1] > 0:
            tokens = input_ids
        cache = find_cache(model_kwargs)
        past_length = int(slot_of(cache, model_kwargs))
        length = text_row.shape[-1] - past_length
        prompt, uncached = self._prompt_of(tokens, length, past_length, cache, model_kwargs)
        _PROMPT.set(prompt)
        if past_length > 0 and tokens.ndim == 2:
            for key, value in uncached.items():
                model_kwargs.pop(key, None) if value is None else model_kwargs.update({key: value})
        # Cached slots are never read again. The last geometry is M-RoPE's where there is one, as an assistant expects.
        positions = nn.functional.pad(prompt.positions[-3:], (past_length, 0))  # (3, batch, past_length + seq)
        return torch.cat([text_row.to(positions).expand(1, positions.shape[1], -1), positions])

    @functools.wraps(upstream.Qwen2_5_VLForConditionalGeneration.prepare_inputs_for_generation)
    def prepare_inputs_for_generation(self, *args, **kwargs):
        kwargs = _by_name(PREPARE_ARGUMENTS, args, kwargs)
        cache = find_cache(kwargs)
        if KEEPS_POSITIONS_UP_FRONT:
            return self._with_positions_up_front(cache, kwargs)
        return self._with_positions_of_step(cache, kwargs)

    def _with_positions_up_front(self, cache, kwargs):
        """Upstream's inputs of a step, with the positions that `_PROMPT` knows or goes on to."""
        given, prompt = kwargs.get("position_ids"), _PROMPT.get()
        model_inputs = super().prepare_inputs_for_generation(**kwargs)
        if prompt is None or given is None:  # positions of the caller's, or a loop that is not ours
            return model_inputs
        text_row = model_inputs["position_ids"][:1]  # of the four of stock's layout: (1, batch, seq)
        batch, length = text_row.shape[1:]
        slot = given.shape[-1] - length
        if slot == 0:  # all that was given: a prefill, or a chunk of one
            slot = int(slot_of(cache, kwargs))
        prompt = prompt.expand(batch)
        continuation = prompt.continuation
        if isinstance(cache, ContinuedCache) and slot >= prompt.end:
            continuation = cache.continuation
        positions = prompt.position_ids(slot, length, continuation)
        position_ids = torch.cat([text_row.to(positions), positions])
        model_inputs["position_ids"] = announce(position_ids, cache, continuation)
        return model_inputs

    def _with_positions_of_step(self, cache, kwargs):
        """Upstream's inputs of a step, with the positions of its tokens, on releases that make them step by step."""
        past_length = int(slot_of(cache, kwargs))
        tokens = kwargs["input_ids"]
        known = self.model.continuation_of(cache, tokens.shape[0], past_length)
        # Any 2-D row keeps upstream from making positions of its own, and becomes the text row.
        kwargs["position_ids"] = _text_row(tokens, kwargs.get("attention_mask"))
        model_inputs = super().prepare_inputs_for_generation(**kwargs)
        new = model_inputs.get("inputs_embeds")
        new = new if new is not None else model_inputs["input_ids"]
        if new.ndim == 3:
            tokens = kwargs["inputs_embeds"]
        length = new.shape[1]
        if past_length > 0 and length == 1 and (known is None or known.end <= past_length):
            if known is None:
                known = Continuation.of_text(new.shape[0], len(self.model.geometries), past_length)
            positions = known.text_position_ids(past_length, 1, new.device)
        else:
            prompt, uncached = self._prompt_of(tokens, length, past_length, cache, kwargs)
            positions, known = prompt.positions, prompt.continuation
            if past_length > 0 and new.ndim == 2:
                model_inputs.update(uncached)
        text_row = model_inputs["position_ids"][None]  # (batch, seq) becomes (1, batch, seq)
        model_inputs["position_ids"] = announce(torch.cat([text_row.to(positions), positions]), cache, known)
        return model_inputs


def _whole_prefill(kwargs, default):
    """The arguments of `generate`, without a chunked prefill that the release cannot do with pictures."""
    config = kwargs.get("generation_config") or default
    chunk_size = kwargs.get("prefill_chunk_size", getattr(config, "prefill_chunk_size", None))
    has_pictures = any(kwargs.get(key) is not None for key in ("pixel_values", "pixel_values_videos"))
    if chunk_size is None or not has_pictures or _is_there(*CHUNKS_WITH_PICTURES):
        return kwargs
    warnings.warn(
        "prefill_chunk_size is ignored: this transformers release cannot split a prompt with pictures.", stacklevel=3
    )
    config = copy.deepcopy(config)
    config.prefill_chunk_size = None
    kwargs = {key: value for key, value in kwargs.items() if key != "prefill_chunk_size"}
    return {**kwargs, "generation_config": config}


def _text_row(input_ids, attention_mask):
    """Index of every slot among the tokens of its sample, int64 `(batch, seq)`, 0 where padded."""
    mask = mask_of_tokens(attention_mask)
    if mask is None:
        return torch.arange(input_ids.shape[1], device=input_ids.device).expand(input_ids.shape[0], -1)
    return (mask.long().cumsum(-1) - 1).masked_fill(mask == 0, 0)


# ---- Saving under older names ---------------------------------------------------------------------------------------


def _register_older_names():
    """Save under the older names, as stock does, on releases that look them up in a register.

    Some look in it by the class, some by `model_type`.
    """
    from transformers import conversion_mapping

    register = conversion_mapping.register_checkpoint_conversion_mapping
    by_class = "class_name" in next(iter(inspect.signature(register).parameters))
    cls = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2
    names = [conversion_mapping.WeightRenaming(*pair) for pair in OLD_LAYOUT.items()]
    register(cls.__name__ if by_class else cls.config_class.model_type, names, overwrite=True)


if HAS_REGISTER_OF_NAMES:
    _register_older_names()
