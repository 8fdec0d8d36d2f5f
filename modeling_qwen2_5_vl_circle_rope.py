"""Qwen2.5-VL with Circle-RoPE or AGE: image positions on a ring perpendicular to the text axis, layer by layer.

Only positions differ from upstream: the classes below compute them (`get_rope_index`), carry them in one tensor, and
give every decoder layer the cos/sin of its own geometry. Weights, modules and forwards are upstream's.
"""

import functools
import inspect
import json
import re
import warnings
from pathlib import Path
from pkgutil import resolve_name

import torch
import transformers
from torch import Tensor, nn
from transformers import Cache, GenerationMixin, Qwen2ForCausalLM
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as upstream

try:
    from .circle_rope_imp import Ends, Part, Record, VisionBlock, find_blocks, sequence_index, turns
    from .configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2, plain_rope, read_rope
    from .modelcard_qwen2_5_vl_circle_rope import complete_card
except ImportError:  # the repo's root is not a package when it is imported from itself
    if __package__:
        raise
    from circle_rope_imp import Ends, Part, Record, VisionBlock, find_blocks, sequence_index, turns
    from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2, plain_rope, read_rope
    from modelcard_qwen2_5_vl_circle_rope import complete_card


# ---- What we rely on ------------------------------------------------------------------------------------------------

LAST_KNOWN_RELEASE = "5.24.0"

# What a model is called with for its images and videos.
PIXELS, GRIDS = ("pixel_values", "pixel_values_videos"), ("image_grid_thw", "video_grid_thw")
VISION = (*GRIDS, "second_per_grid_ts")
PICTURES = (*PIXELS, *VISION)

# Whatever we touch of upstream's that is not public API, by its path in transformers, and the arguments we count on.
_QWEN = "models.qwen2_5_vl.modeling_qwen2_5_vl"
_TOKENS = ("input_ids", "attention_mask", "position_ids", "inputs_embeds")
RELIED_ON = (
    (f"{_QWEN}.Qwen2_5_VLRotaryEmbedding.forward", ("x", "position_ids")),
    (f"{_QWEN}.Qwen2_5_VLDecoderLayer.forward", ("position_embeddings",)),
    (f"{_QWEN}.Qwen2_5_VLTextModel.forward", _TOKENS),
    (f"{_QWEN}.Qwen2_5_VLModel.forward", (*_TOKENS, *VISION)),
    ("GenerationMixin._get_candidate_generator", ("model_kwargs",)),
    ("PreTrainedModel._upload_modified_files", ("working_dir", "repo_id")),
    *((f"PreTrainedModel.{name}", ()) for name in ("_from_config", "_supports_flex_attn", "_auto_class")),
    (f"{_QWEN}.Qwen2_5_VisionTransformerPretrainedModel", ()),
    ("Qwen2ForCausalLM._tp_plan", ()),
    ("Qwen2_5_VLTextConfig._attn_implementation", ()),
)
# A key of a dict that the auto classes hand to `from_pretrained`.
RELIED_ON_KEY = "_adapter_model_path"

# How a release makes the positions of a generation: newer ones up front, older ones step by step.
POSITIONS_UP_FRONT = ("GenerationMixin._prepare_position_ids_for_generation", ("inputs_tensor", "model_kwargs"))
POSITIONS_BY_STEP = ("GenerationMixin.prepare_inputs_for_generation", ("cache_position",))
# Newer releases begin a text at its slot, behind the pads in front of it, older ones at 0.
TEXT_BEHIND_PADS = (f"{_QWEN}.Qwen2_5_VLModel.compute_3d_position_ids", ())
# How a release finds the older names that it saves tensors under: newer ones in a model, older ones in its class.
NAMES_BY_RENAMINGS = ("conversion_mapping.WeightRenaming", ())
NAMES_BY_ATTRIBUTE = ("PreTrainedModel._checkpoint_conversion_mapping", ())
# The newest releases hand each chunk of a chunked prefill its part of the pictures, the oldest split text alone; those
# between lose their way, in stock models too, and get one whole prefill.
CHUNKS_WITH_PICTURES = ("generation.utils._slice_mm_encoder_output", ())
CHUNKS_OF_TEXT = ("GenerationMixin._prefill_chunking", ())


def _is_there(path, arguments):
    try:
        thing = resolve_name(f"transformers.{path}")
    except (AttributeError, ImportError):
        return False
    return not arguments or set(arguments) <= set(inspect.signature(thing).parameters)


def _check_upstream():
    """Refuse a release, by an ImportError, on which something that we rely on is gone or has another shape."""
    ropes = tuple(("Qwen2_5_VLTextConfig", (name,)) for name in ("rope_parameters", "rope_scaling"))
    either = ((POSITIONS_UP_FRONT, POSITIONS_BY_STEP), (NAMES_BY_RENAMINGS, NAMES_BY_ATTRIBUTE), ropes)
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
SAVES_BY_RENAMINGS = _is_there(*NAMES_BY_RENAMINGS)
TEXT_BEGINS_AT_ITS_SLOT = _is_there(*TEXT_BEHIND_PADS)


def _by_name(function):
    """Makes an override of `function` that gets all arguments by name, so that it names only those that it uses."""
    signature = inspect.signature(function)
    names = tuple(signature.parameters)[1:]

    def decorate(override):
        @functools.wraps(function)
        def call(self, *args, **kwargs):
            return override(self, **dict(zip(names, args)), **kwargs)

        call.__signature__ = signature  # generate asks for it at every step
        return call

    return decorate


# ---- Names of tensors -----------------------------------------------------------------------------------------------

# Official checkpoints, V1 and whatever transformers 5 saves name their tensors by an older layout of the modules.
OLD_TEXT = r"^model(?!\.(language_model|visual))"
OLD_LAYOUT = {r"^visual": "model.visual", OLD_TEXT: "model.language_model"}
# The same for the model without its head, whose own names have no `model.` in front. Newer releases take it off by
# themselves; older ones do not, and save under the last pattern itself, read backwards: so it has no backslash.
HEADLESS_LAYOUT = {OLD_TEXT: "language_model"}
if not SAVES_BY_RENAMINGS:
    HEADLESS_LAYOUT |= {r"^model.language_model": "language_model", r"^model.visual": "visual"}

# Under ZeRO-3, 5.23 and 5.24 save a stock model's text part under one `model.` too many: read, never written.
DOUBLED = r"^model\.model\."

# A task's own head may be missing from a checkpoint, or left over from it.
BODY = re.compile(r"(^|\.)(language_model|visual|embed_tokens|layers|blocks)\.")


def new_name(name: str) -> str:
    """The name a tensor has in our classes, given its name in a checkpoint of either layout."""
    for pattern, replacement in {DOUBLED: "model.language_model.", **OLD_LAYOUT}.items():
        name = re.sub(pattern, replacement, name)
    return name


def _rename_old_layout(model, state_dict, prefix, *args):
    """Hook of `load_state_dict`: tensors that are named by the older layout of the modules get their new names."""
    for name in [name for name in state_dict if name.startswith(prefix)]:
        state_dict[prefix + new_name(name[len(prefix) :])] = state_dict.pop(name)


class ReadsEveryLayout:
    """Mixed into a model class: `from_pretrained` reads every layout of names, and refuses a load that misses one.

    Most releases do not look their own renamings up for custom code; `key_mapping` is the public way everywhere.
    """

    layout = OLD_LAYOUT

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, output_loading_info: bool = False, **kwargs):
        """Upstream's; an adapter's folder loads its base under the config in that folder, whatever the base's own.

        A ValueError where tensors of the checkpoint have no place in the model, or tensors of the model no value, for
        their names. A load that is partial on purpose (from a `state_dict`) goes through.
        """
        name, kwargs = _base_of_adapter(cls, pretrained_model_name_or_path, kwargs)
        doubled = {DOUBLED: f"{cls.layout[OLD_TEXT]}."}
        kwargs["key_mapping"] = {**doubled, **cls.layout, **(kwargs.get("key_mapping") or {})}
        model, info = super().from_pretrained(name, *args, output_loading_info=True, **kwargs)  # type: ignore[misc]
        head = getattr(model.get_output_embeddings(), "weight", None)  # trainers put other modules there
        if head is not None and head.is_meta and not model.get_input_embeddings().weight.is_meta:
            model.tie_weights()  # a release leaves a tied head of custom code without values
        if kwargs.get("state_dict") is None:
            _refuse_misnamed(model, info)
        return (model, info) if output_loading_info else model

    def save_pretrained(self, *args, **kwargs):
        """Upstream's, under the older names as stock does, whichever the model was read under."""
        if SAVES_BY_RENAMINGS:  # all those that a load used, and under ZeRO-3 those that it did not use as well
            from transformers.conversion_mapping import WeightRenaming

            used = getattr(self, "_weight_conversions", None) or ()
            kept = [entry for entry in used if not isinstance(entry, WeightRenaming)]
            self._weight_conversions = kept + [WeightRenaming(*pair) for pair in self.layout.items()]
        return super().save_pretrained(*args, **kwargs)  # type: ignore[misc]


def _base_of_adapter(cls, name, kwargs):
    """What to load where an adapter's folder was named: its base, with the config in that folder."""
    adapter_kwargs = kwargs.get("adapter_kwargs") or {}
    folder = adapter_kwargs.get(RELIED_ON_KEY) or name  # auto classes may have gone to the base already
    files = {path.name: path for path in Path(folder).glob("*.*")} if folder else {}
    is_model = any(re.fullmatch(r"model.*\.safetensors", file) for file in files)
    if is_model or not {"adapter_config.json", "config.json"} <= files.keys():
        return name, kwargs
    adapter = json.loads(files["adapter_config.json"].read_text(encoding="utf-8"))
    if kwargs.get("config") is None or name != folder:
        kwargs["config"] = cls.config_class.from_pretrained(folder)
    kwargs["adapter_kwargs"] = {**adapter_kwargs, RELIED_ON_KEY: folder}
    kwargs["revision"] = kwargs.get("revision") or adapter.get("revision")
    return adapter["base_model_name_or_path"], kwargs


def _refuse_misnamed(model, info):
    mismatched = {entry[0] if isinstance(entry, (list, tuple)) else entry for entry in info["mismatched_keys"]}
    lost = sorted(name for name in info["unexpected_keys"] if BODY.search(name))
    empty = sorted(name for name in set(info["missing_keys"]) - mismatched if BODY.search(name))
    # A file that holds next to nothing is meant to.
    is_bare = len(info["unexpected_keys"]) <= 1 and len(empty) == sum(map(bool, map(BODY.search, model.state_dict())))
    if lost or (empty and not is_bare):
        advice = "give a complete Qwen2.5-VL checkpoint, or its renamings as key_mapping"
        if getattr(model.config, "quantization_config", None) and any("visual." in name for name in (*lost, *empty)):
            # llm-compressor writes the names of the checkpoint there, and loading looks for the model's.
            advice = "add 're:.*visual.*' to quantization_config.ignore in config.json if they are not quantised"
        lost_one, empty_one = (f" ({names[0]} is one)" if names else "" for names in (lost, empty))
        raise ValueError(
            f"{model.name_or_path or 'the checkpoint'} does not fit {type(model).__name__} by its tensors' names: "
            f"{len(lost)} of its tensors have no place{lost_one}, and it lacks {len(empty)} tensors of the model's"
            f"{empty_one}; {advice}."
        )


# ---- Arguments of a call --------------------------------------------------------------------------------------------


def find_cache(arguments) -> Cache | None:
    """The cache among the arguments or outputs of a call, by its type: its name differs from release to release."""
    values = arguments.values() if hasattr(arguments, "values") else arguments
    return next((value for value in values if isinstance(value, Cache)), None)


def slot_of(cache, kwargs):
    """First free slot of a cache, pads counted."""
    if cache is None:
        return 0
    # Older releases pass it, and cannot tell the length of a static cache without it.
    cache_position = kwargs.get("cache_position") if cache.is_compileable else None
    return int(cache.get_seq_length() if cache_position is None else cache_position[0])


def mask_of_tokens(attention_mask: Tensor | None, length: int | None = None) -> Tensor | None:
    """The mask of the last `length` tokens, or of all, `(batch, length)`, 0 where padded; None where none is given.

    A mask of pairs of tokens (4-D, or flex attention's own) says nothing of padding, and counts as none. Behind a
    cache a mask may cover the new tokens alone, or the cached ones in front of them as well.
    """
    if not torch.is_tensor(attention_mask) or attention_mask.ndim != 2:
        return None
    return attention_mask if length in (None, attention_mask.shape[1]) else attention_mask[:, -length:]


def _seconds_of(videos, second_per_grid_ts):
    """Seconds between two frames, one number for each video."""
    try:
        seconds = torch.as_tensor(1.0 if second_per_grid_ts is None else second_per_grid_ts)
        if seconds.shape in ((), (len(videos),)):
            return seconds.expand(len(videos)).tolist()
        given = f"the shape {tuple(seconds.shape)}"
    except (TypeError, ValueError, RuntimeError):
        given = f"the value {second_per_grid_ts!r}"
    raise ValueError(
        f"second_per_grid_ts has {given}, but video_grid_thw has {len(videos)} rows: give one number of seconds for "
        "every video, or one for all."
    )


def has_grids(arguments):
    """Whether there is an image or a video among the arguments of a call."""
    return any(arguments.get(key) is not None for key in GRIDS)


# ---- Carrying positions to the layers -------------------------------------------------------------------------------


def split_position_rows(position_ids: Tensor, num_geometries: int) -> tuple[Tensor | None, Tensor]:
    """Split a position tensor into its text row, int64 `(batch, seq)` or None, and the geometries' rows, float32.

    `position_ids` is `(3 * num_geometries, batch, seq)`, or has the integer text row in front of that; 3 rows, 4 with
    the text row, or `(batch, seq)` mean the same positions for every geometry. A ValueError for any other shape, and
    for half precision.
    """
    if position_ids.dtype in (torch.float16, torch.bfloat16):
        raise ValueError(
            f"position_ids came as {position_ids.dtype}, which cannot hold them (integers above "
            f"{256 if position_ids.dtype is torch.bfloat16 else 2048} are rounded), but float32 or integers are "
            "needed: switch off the casting of inputs (cast_forward_inputs=False in FSDP's MixedPrecision, "
            "fp16.auto_cast=false in DeepSpeed)."
        )
    rows, text_row = 3 * num_geometries, None
    if position_ids.ndim == 2:
        position_ids = position_ids.expand(3, -1, -1)
    if position_ids.ndim == 3 and position_ids.shape[0] in (4, rows + 1):
        text_row, position_ids = position_ids[0].long(), position_ids[1:]  # (batch, seq) and (3 or rows, batch, seq)
    if position_ids.ndim == 3 and position_ids.shape[0] == 3 != rows:
        position_ids = position_ids.repeat(num_geometries, 1, 1)
    if position_ids.ndim != 3 or position_ids.shape[0] != rows:
        raise ValueError(
            f"position_ids has the shape {tuple(position_ids.shape)}, but must be (batch, seq), (3, batch, seq) or "
            f"({rows}, batch, seq), with or without a text row in front: make it with get_rope_index."
        )
    return text_row, position_ids.float()


class Qwen2_5_VLRotaryEmbedding_CircleRoPE_V2(upstream.Qwen2_5_VLRotaryEmbedding):
    """Upstream's cos/sin, or those of several geometries; t, h and w may take their frequency pairs in turns."""

    interleaved_section: tuple[int, ...] | None = None  # pairs of t, h and w in turns; None for upstream's sections
    skips_integers = False  # upstream's text model asks again, for the integer row of its masks: no layer reads it

    def forward(self, x, position_ids):
        if self.skips_integers and not position_ids.is_floating_point():
            return None
        if (geometries := len(position_ids) // 3) > 1:
            # (3 * geometries, batch, seq) becomes (3, geometries * batch, seq), and that one cos and one sin.
            rows = position_ids.unflatten(0, (-1, 3)).transpose(0, 1).flatten(1, 2)
            cos, sin = (values.chunk(geometries, -3) for values in self.forward(x, rows))
            return tuple(zip(cos, sin))
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
        given = kwargs.get("position_embeddings")
        if geometry_embeddings is None and given is not None and isinstance(given[0], tuple):
            geometry_embeddings = given  # upstream's own forward, run by a tracer, handed on those of all
        if geometry_embeddings is not None:
            kwargs["position_embeddings"] = geometry_embeddings[self.geometry_of_layer[self.number]]
        return super().forward(*args, **kwargs)


class Qwen2_5_VLTextModel_CircleRoPE_V2(upstream.Qwen2_5_VLTextModel):
    """Upstream's text model, with one geometry per layer; cos/sin are computed once per geometry and forward."""

    _supports_flex_attn = True

    def __init__(self, config, circle_config: Qwen2_5_VLConfig_CircleRoPE_V2):
        with plain_rope(config):
            super().__init__(config)
        self.geometry_of_layer = []  # one list for all layers, so that a schedule reaches those that something wraps
        for number, layer in enumerate(self.layers):
            # Upstream's __init__ names the class of its layers; ours has the same modules and only another forward.
            layer.__class__ = Qwen2_5_VLDecoderLayer
            layer.number, layer.geometry_of_layer = number, self.geometry_of_layer
        self.follow(circle_config)

    def follow(self, circle_config: Qwen2_5_VLConfig_CircleRoPE_V2) -> None:
        """Give every layer the geometry, and the rotary embedding the frequencies, that a configuration says."""
        self.num_geometries = len(circle_config.geometries)
        self.geometry_of_layer[:] = [circle_config.geometries.index(name) for name in circle_config.schedule]
        device = self.rotary_emb.inv_freq.device  # type: ignore[has-type]
        with plain_rope(self.config):
            self.rotary_emb = Qwen2_5_VLRotaryEmbedding_CircleRoPE_V2(config=self.config).to(device)
        self.rotary_emb.skips_integers = True
        self.rotary_emb.interleaved_section = circle_config.interleaved_section

    @_by_name(upstream.Qwen2_5_VLTextModel.forward)
    def forward(self, **kwargs):
        if kwargs.get("inputs_embeds") is None and kwargs.get("input_ids") is not None:
            kwargs["inputs_embeds"] = self.embed_tokens(kwargs.pop("input_ids"))
        if (inputs_embeds := kwargs.get("inputs_embeds")) is not None:
            position_ids, cache = kwargs.get("position_ids"), find_cache(kwargs)
            if position_ids is None:
                position_ids = torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device)[None]
                position_ids = position_ids + (0 if cache is None else cache.get_seq_length())
            text_row, positions = split_position_rows(position_ids, self.num_geometries)
            embeddings = self.rotary_emb(inputs_embeds, positions)
            kwargs["geometry_embeddings"] = embeddings if self.num_geometries > 1 else (embeddings,)
            # Masks and packing are made from the text row alone, never from fractional positions. Upstream takes it as
            # the first of four rows; three rows say that there is none, and nothing reads them.
            nothing = inputs_embeds.new_empty((3, 1, 0), dtype=torch.long) if text_row is None else None
            kwargs["position_ids"] = nothing if text_row is None else text_row.expand(4, -1, -1)
        return super().forward(**kwargs)


# ---- Going on behind a cache ----------------------------------------------------------------------------------------


def batch_of(cache):
    """How many samples a cache of somebody else's holds, or None where it does not say."""
    keys = getattr(cache.layers[0], "keys", None) if getattr(cache, "layers", None) else None
    return keys.shape[0] if torch.is_tensor(keys) else None


class RecordedCache:
    """Mixed into the class of a cache that we have filled: what it remembers follows what is done to it."""

    record: Record  # of its samples, in their order

    def reorder_cache(self, beam_idx):
        super().reorder_cache(beam_idx)
        self.record.select(beam_idx)

    def batch_select_indices(self, indices):
        super().batch_select_indices(indices)
        self.record.select(indices.nonzero()[:, 0] if indices.dtype is torch.bool else indices)

    def batch_repeat_interleave(self, repeats):
        batch = batch_of(self)
        super().batch_repeat_interleave(repeats)
        self.record.select(torch.arange(batch).repeat_interleave(repeats))

    def crop(self, *args, **kwargs):
        super().crop(*args, **kwargs)
        self.record.cut(int(self.get_seq_length()))

    def reset(self):
        super().reset()
        self.record.cut(0)

    def __reduce__(self):
        return _new_recorded, (self.__class__.__bases__[1],), self.__dict__


@functools.cache
def _recorded_class(cls):
    return type(cls.__name__, (RecordedCache, cls), {"__module__": cls.__module__, "__doc__": cls.__doc__})


def _new_recorded(cls):
    return cls.__new__(_recorded_class(cls))


# ---- The model without its head -------------------------------------------------------------------------------------

# Where the last model of this file came from. Some releases have one module for all directories of one name, and run
# another directory's file in it, over what is here.
_earlier, _origin = globals().get("_origin"), None

# Engines whose Transformers backends put integer positions of one geometry under any model, by their attention's name.
ENGINES = ("vllm", "sglang", "tgi")


class Qwen2_5_VLModel_CircleRoPE_V2(ReadsEveryLayout, upstream.Qwen2_5_VLModel):
    """Qwen2.5-VL without its head, under Circle-RoPE; a schedule with M-RoPE layers makes a `Qwen2_5_VLModel_AGE_V2`.

    Attributes:
        geometries: those in use, circle first, in the order of the position rows.
        rope_deltas: float32 `(batch, geometries)` of the last prefill, or None after text alone, for readers: a text
            token behind n slots (pads counted) has the index n + rope_deltas. A cache goes on by itself.
    """

    config_class = Qwen2_5_VLConfig_CircleRoPE_V2
    layout = HEADLESS_LAYOUT
    _auto_class = "AutoModel"
    _supports_flex_attn = True
    _checkpoint_conversion_mapping = HEADLESS_LAYOUT

    def __init__(self, config):
        attention = str(config.text_config._attn_implementation)
        if attention.startswith(ENGINES):
            raise ValueError(
                f"the Transformers backend of {attention} makes positions itself, and has no place for Circle-RoPE's: "
                "pip install ./serving from the repository of Circle-RoPE, which gives vLLM a model that serves them "
                "exactly."
            )
        # A block changed in place since it was assigned is validated here.
        config.circle_rope = config.circle_rope
        global _origin
        _origin = config.name_or_path
        if _earlier not in (None, "", _origin):
            warnings.warn(
                f"{_earlier} and {_origin} have different modules, of which this transformers release keeps one set: "
                "either may run, and save, the other's code. Rename a directory, or load them in two processes.",
                stacklevel=2,
            )
        super(upstream.Qwen2_5_VLModel, self).__init__(config)
        self.visual = upstream.Qwen2_5_VisionTransformerPretrainedModel._from_config(config.vision_config)
        self.language_model = Qwen2_5_VLTextModel_CircleRoPE_V2._from_config(config.text_config, circle_config=config)
        self._reset_geometries()
        self.post_init()

    def _reset_geometries(self):
        if type(self) in (Qwen2_5_VLModel_CircleRoPE_V2, Qwen2_5_VLModel_AGE_V2):
            # auto_map names one class for AutoModel; which of the two it is depends on the block.
            has_mrope = "mrope" in self.config.geometries
            self.__class__ = Qwen2_5_VLModel_AGE_V2 if has_mrope else Qwen2_5_VLModel_CircleRoPE_V2
        self.geometries = [self.config.make_geometry(name) for name in self.config.geometries]
        self.rope_deltas = None
        # What turns a key: the geometry of its layer, and the frequencies of t, h and w.
        of_layers = [self.geometries[number] for number in self.language_model.geometry_of_layer]
        rope = read_rope(self.config.text_config.to_dict())
        self.made_for = repr((of_layers, self.config.interleaved_section, rope))

    @property
    def schedule(self) -> tuple[str, ...]:
        """The geometry, `"circle"` or `"mrope"`, of every layer of the text model as it runs."""
        return tuple(self.config.geometries[number] for number in self.language_model.geometry_of_layer)

    def set_circle_rope(self, block: dict | None) -> None:
        """Put the model under another `circle_rope` block: config, schedule and class follow, weights stay.

        `block` is the whole new block, None or `{}` for the defaults; `base` and `mrope_section` stay where it has
        none. What was computed under the old block, such as a cache or a position tensor, does not go with the new
        one. A ValueError for a block that is not allowed or does not fit the model; nothing has changed then.
        """
        self.config.circle_rope = block
        self.language_model.follow(self.config)
        self._reset_geometries()

    def get_rope_index(
        self, input_ids, image_grid_thw=None, video_grid_thw=None, second_per_grid_ts=None, attention_mask=None, **rest
    ) -> tuple[Tensor, Tensor]:
        """Position indices of whole sequences, for every geometry in use (circle first).

        Modality is read from `input_ids`; anything else (such as `mm_token_type_ids`) is accepted and not needed.
        A ValueError if the placeholder tokens do not fit the grids, or second_per_grid_ts the videos.

        Args:
            input_ids: int64 `(batch, seq)`.
            image_grid_thw, video_grid_thw: int64 `(blocks, 3)`, grids before the spatial merge, in the batch's order.
            second_per_grid_ts: float `(videos,)`, seconds between two frames, or one number for all; 1 if not given.
            attention_mask: `(batch, seq)`, 0 where padded.

        Returns:
            position_ids: float32 `(3 * geometries, batch, seq)`, 0 where padded.
            rope_deltas: float32 `(batch, geometries)`, index of a text token that comes next, minus seq.
        """
        values = image_grid_thw, video_grid_thw, second_per_grid_ts, attention_mask
        arguments = dict(zip((*VISION, "attention_mask"), values))
        if not has_grids(arguments):
            input_ids = torch.zeros_like(input_ids)  # as upstream: without any picture, placeholders are text
        rows, ends, _ = self._lay_out(input_ids, arguments)
        return rows.to(input_ids.device), ends.deltas(input_ids.shape[1]).to(input_ids.device)

    def _lay_out(self, input_ids, arguments, before=None):
        """Rows, ends and vision blocks of tokens, all on the CPU: `sequence_index` of what their ids say."""
        mask = mask_of_tokens(arguments.get("attention_mask"), input_ids.shape[1])
        mask = None if mask is None else mask.cpu()
        real = None if mask is None or mask.numpy().all() else mask.bool()
        blocks = self.vision_blocks(input_ids.cpu(), *map(arguments.get, VISION), real)
        return *sequence_index(blocks, real, tuple(input_ids.shape), self.geometries, before), blocks

    def vision_blocks(
        self, input_ids, image_grid_thw=None, video_grid_thw=None, second_per_grid_ts=None, real=None
    ) -> list[VisionBlock]:
        """Where the images and videos of a batch stand: `get_rope_index`'s arguments on the CPU, with a bool mask."""
        vision, merge = self.config.vision_config, self.config.vision_config.spatial_merge_size
        images, videos = (
            [] if grid_thw is None else [(t, h // merge, w // merge) for t, h, w in grid_thw.tolist()]
            for grid_thw in (image_grid_thw, video_grid_thw)
        )
        intervals = [vision.tokens_per_second * second for second in _seconds_of(videos, second_per_grid_ts)]
        return [
            *find_blocks(input_ids, real, self.config.image_token_id, images, [0.0] * len(images), "image"),
            *find_blocks(input_ids, real, self.config.video_token_id, videos, intervals, "video"),
        ]

    def placeholder_ids(self, inputs_embeds: Tensor) -> Tensor:
        """Token ids `(batch, seq)` as far as positions need them, read back from embeddings `(batch, seq, hidden)`."""
        input_ids = torch.zeros(inputs_embeds.shape[:2], dtype=torch.long, device=inputs_embeds.device)
        for token_id in (self.config.image_token_id, self.config.video_token_id):
            token = self.get_input_embeddings()(torch.tensor(token_id, device=inputs_embeds.device))
            input_ids.masked_fill_((inputs_embeds == token).all(-1), token_id)
        return input_ids

    def is_placeholder(self, input_ids: Tensor) -> Tensor:
        """Which of these tokens stand for an image or a video: bool, of the same shape."""
        return (input_ids == self.config.image_token_id) | (input_ids == self.config.video_token_id)

    def next_positions(
        self, input_ids, arguments, slot=0, record=None, begins_at_slot=False
    ) -> tuple[Part, tuple[int, Tensor]]:
        """Tokens behind `slot` cached ones, and `text_from` then: all positions that the model makes come from here.

        `input_ids` are the new tokens alone, `(batch, seq)`; `arguments` are the call's, with the grids and seconds of
        the new images and videos alone and an `attention_mask` of `(batch, slot + seq)` or `(batch, seq)`, 0 where
        padded; `record` is what the cache remembers, None where others filled it, with text. With `begins_at_slot`
        the first text has the index of its slot, pads in front of it counted.
        """
        (batch, length), device, count = input_ids.shape, input_ids.device, len(self.geometries)
        mask = mask_of_tokens(arguments.get("attention_mask"), length)
        if slot == 0:
            self.rope_deltas = None
        if has_grids(arguments) and (slot == 0 or bool(self.is_placeholder(input_ids).any())):
            before = record.ends(slot) if record else Ends.of_text(slot, count, batch)
            rows, ends, blocks = self._lay_out(input_ids, arguments, before)
            is_picture, begins = torch.zeros(2, batch, length, dtype=torch.bool, device="cpu")
            for block in blocks:
                is_picture[block.sample, block.slot : block.slot + block.length] = True
                begins[block.sample, block.slot] = True
            self.rope_deltas = ends.deltas(slot + length).to(device)
            text_from = slot + length, ends.text_rows().to(device)
            return Part(slot, rows.to(device), mask, is_picture, begins), text_from
        # Text needs no look at its ids: on the device it counts up from where the cache ends.
        if record:
            first, text_from = record.text(slot, device), record.text_from
        else:
            first = torch.full((3 * count, batch, 1), slot, dtype=torch.float32, device=device)
            text_from = slot, first
        if mask is None:
            return Part(slot, first if length == 1 else first + torch.arange(length, device=device)), text_from
        real = mask != 0
        if begins_at_slot and slot == 0:
            first = first + real.int().argmax(1, keepdim=True)
        counted = real.cumsum(-1)  # (batch, seq)
        rows = (first + (counted - 1)).masked_fill(~real, 0)
        return Part(slot, rows, real), (slot + length, first + counted[:, -1:])

    def record_of(self, cache: Cache | None, batch: int) -> Record | None:
        """What a cache remembers, or None where it is empty or others filled it, with text.

        A ValueError if it holds another number of samples than `batch`, or other positions than this model's.
        """
        record = cache.record if isinstance(cache, RecordedCache) and cache.record.held else None
        if record and record.made_for != self.made_for:
            raise ValueError(
                "the cache was filled under other geometries than this model's (by another model, or before "
                "set_circle_rope), and its keys are turned by them: start with a new cache."
            )
        held = batch_of(cache)
        if held not in (None, batch):
            raise ValueError(
                f"the cache holds {held} samples, but the tokens are {batch}: give one row of tokens for each sample "
                "of the cache, or repeat the cache with its batch_repeat_interleave."
            )
        return record

    @torch.compiler.disable  # it reads token ids, grids and what the cache remembers as Python numbers
    def _make_positions(self, kwargs, cache):
        """`next_positions` of the arguments of a forward."""
        for pixels, grid_thw in zip(PIXELS, GRIDS):
            if kwargs.get(grid_thw) is None and kwargs.get(pixels) is not None:
                raise ValueError(f"{pixels} was given without {grid_thw}: pass both, as the processor returns them.")
        slot, tokens = slot_of(cache, kwargs), kwargs.get("input_ids")
        if tokens is None:
            embeds = kwargs["inputs_embeds"]
            tokens = self.placeholder_ids(embeds) if has_grids(kwargs) else embeds[..., 0]
        if slot and getattr(cache, "has_unknown_positions", False):
            raise ValueError(
                "the cache was filled by a compiled call that was given position_ids, which it cannot look at: "
                "pass position_ids for the tokens behind them as well."
            )
        record = self.record_of(cache, len(tokens)) if slot else None
        return self.next_positions(tokens, kwargs, slot, record, TEXT_BEGINS_AT_ITS_SLOT)

    @torch.compiler.disable
    def remember(self, cache: Cache, part: Part, text_from=None) -> None:
        """Let a cache know the positions of tokens that it holds now: the arguments of `Record.add`."""
        if not isinstance(cache, RecordedCache):
            # The caller holds this very object and hands it in again, and `reorder_cache` and `crop` are called on it.
            cache.__class__, cache.record = _recorded_class(type(cache)), Record(self.made_for)  # type: ignore
        if not cache.record.held:
            cache.record = Record(self.made_for)
        if part.slot == 0:
            cache.__dict__.pop("has_unknown_positions", None)
        cache.record.add(part, text_from)

    def _given(self, kwargs, cache):
        """Tokens of a forward whose positions were passed in."""
        text_row, rows = split_position_rows(kwargs["position_ids"], len(self.geometries))
        if text_row is not None and text_row.shape[-1] > 1 and (kwargs["position_ids"][0] != text_row).any():
            raise ValueError(
                "row 0 of position_ids, the text row, is fractional, but it tells packed samples apart and must be a "
                "token's integer place in its sample: put that in front of get_rope_index's rows, or leave the text "
                "row out."
            )
        slot, tokens, length = slot_of(cache, kwargs), kwargs.get("input_ids"), rows.shape[-1]
        if cache is not None:
            self.record_of(cache, len(kwargs["inputs_embeds"] if tokens is None else tokens))
        if length == 1 or (cache is None and kwargs.get("use_cache") is False):  # then nobody remembers them
            return Part(slot, rows.clone())
        if tokens is None:
            tokens = self.placeholder_ids(kwargs["inputs_embeds"])
        mask = mask_of_tokens(kwargs.get("attention_mask"), length)
        return Part(slot, rows.expand(-1, len(tokens), -1).clone(), mask, self.is_placeholder(tokens))

    def compute_3d_position_ids(self, *, past_key_values=None, **kwargs):
        """Positions for upstream's own forward, whose source a tracer (llm-compressor's) runs in place of ours."""
        return self._make_positions(kwargs, past_key_values)[0].rows

    @_by_name(upstream.Qwen2_5_VLModel.forward)
    def forward(self, **kwargs):
        """Upstream's forward; `position_ids` may have the rows that `split_position_rows` lists."""
        cache, part, text_from = find_cache(kwargs), None, None
        if kwargs.get("position_ids") is None:
            part, text_from = self._make_positions(kwargs, cache)
            kwargs["position_ids"] = part.rows
        elif not torch.compiler.is_compiling():
            part = self._given(kwargs, cache)
        outputs = super().forward(**kwargs)
        cache = find_cache(outputs) if cache is None else cache
        if cache is not None and part is not None:
            self.remember(cache, part, text_from)
        elif cache is not None and kwargs["position_ids"].shape[-1] > 1 and not isinstance(cache, RecordedCache):
            # One compiled graph takes positions and cannot look at them: a cache is left as it is, but for a word.
            cache.has_unknown_positions = True
        return outputs


class Qwen2_5_VLModel_AGE_V2(Qwen2_5_VLModel_CircleRoPE_V2):
    """Qwen2.5-VL without its head, under AGE: a schedule in which some layers, or all, see M-RoPE."""


# ---- Generate -------------------------------------------------------------------------------------------------------


class Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(
    ReadsEveryLayout, upstream.Qwen2_5_VLForConditionalGeneration, GenerationMixin
):
    """Qwen2.5-VL under Circle-RoPE or AGE, as the config's `circle_rope` block says."""

    # Auto classes of some releases derive a class of their own, which cannot be pickled, where no base is the mixin.
    config_class = Qwen2_5_VLConfig_CircleRoPE_V2
    _auto_class = "AutoModelForImageTextToText"
    _supports_flex_attn = True
    # The head is Qwen2's. Releases that shard the embeddings without planning for a head tied to them cannot run it.
    _tp_plan = Qwen2ForCausalLM._tp_plan

    def __init__(self, config):
        super(upstream.Qwen2_5_VLForConditionalGeneration, self).__init__(config)
        self.model = Qwen2_5_VLModel_CircleRoPE_V2(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        # FSDP2 makes a class of its own of this one, in a module of torch's, which saving would copy as our code.
        self.__module__ = type(self).__module__
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

    @_by_name(GenerationMixin.generate)
    def generate(self, **kwargs):
        """Upstream's, without a chunked prefill that the release cannot do."""
        config = kwargs.get("generation_config") or self.generation_config
        chunk_size = kwargs.get("prefill_chunk_size", getattr(config, "prefill_chunk_size", None))
        has_pictures = any(kwargs.get(key) is not None for key in PIXELS)
        can_split = _is_there(*CHUNKS_WITH_PICTURES) or (_is_there(*CHUNKS_OF_TEXT) and not has_pictures)
        if chunk_size is not None and not can_split:
            words = "prefill_chunk_size is ignored: this transformers release cannot split such a prompt."
            warnings.warn(words, stacklevel=3)
            kwargs["prefill_chunk_size"] = None
        return super().generate(**kwargs)

    def _refuse_pictures(self, *prompts):
        if any(self.model.is_placeholder(torch.as_tensor(tokens)).any() for tokens in prompts):
            raise ValueError(
                "continuous batching was given a prompt with pictures, which it drops (in stock models, too): use "
                "generate."
            )

    def generate_batch(self, inputs, *args, **kwargs):
        """Upstream's continuous batching of texts; a ValueError for a prompt with pictures, which it would drop."""
        self._refuse_pictures(*inputs)
        return super().generate_batch(inputs, *args, **kwargs)

    def init_continuous_batching(self, *args, **kwargs):
        """Upstream's manager of continuous batching; its `add_request` raises as `generate_batch` does."""
        manager = super().init_continuous_batching(*args, **kwargs)
        add_request = manager.add_request
        manager.add_request = lambda input_ids, *args, **kwargs: (
            self._refuse_pictures(input_ids) or add_request(input_ids, *args, **kwargs)
        )
        return manager

    def _positions_of_prompt(self, tokens, length, model_kwargs):
        """`next_positions` of the last `length` tokens of a sequence, and what its arguments become behind a cache.

        `tokens` are ids or embeddings and `model_kwargs` hold pictures, of the whole sequence or its new part alone.
        """
        model, cache = self.model, find_cache(model_kwargs)
        slot = slot_of(cache, model_kwargs)
        input_ids = tokens if tokens.ndim == 2 else model.placeholder_ids(tokens)
        record = model.record_of(cache, len(input_ids)) if slot else None
        uncached, new = self._uncached_pictures(input_ids, length, slot, model_kwargs), input_ids[:, -length:]
        if slot and record is None and has_grids(model_kwargs) and model.is_placeholder(input_ids[:, :-length]).any():
            # Somebody else filled the cache, with pictures that came along once more.
            model.remember(cache, model.next_positions(input_ids, model_kwargs)[0])
            record = cache.record
        arguments = {**model_kwargs, **uncached}
        if not has_grids(uncached) and model.is_placeholder(new).any():
            arguments[GRIDS[0]] = torch.empty(0, 3, dtype=torch.long)  # which they do not fit
        return *model.next_positions(new, arguments, slot, record), uncached if slot and tokens.ndim == 2 else {}

    def _uncached_pictures(self, input_ids, length, slot, model_kwargs):
        """Of the images and videos that came with a sequence, those whose tokens are not in the cache yet.

        Callers hand in the whole conversation's pictures or those of the new turn, and nothing says which: they are
        the whole's if they fill all placeholders of the whole sequence.
        """
        given = {key: model_kwargs.get(key) for key in PICTURES}
        if slot == 0:
            return given
        if not self.model.is_placeholder(input_ids[:, -length:]).any():
            return dict.fromkeys(PICTURES)
        if input_ids.shape[1] != slot + length:
            return given
        try:
            blocks = self.model.vision_blocks(input_ids.cpu(), *map(given.get, GRIDS))
        except ValueError:  # of the new turn alone
            return given
        is_new = torch.tensor([block.slot >= slot for block in blocks])
        for grid_thw, *keys in zip(map(given.get, GRIDS), GRIDS, PIXELS, (None, "second_per_grid_ts")):
            if grid_thw is None:
                continue
            kept, is_new = is_new[: len(grid_thw)], is_new[len(grid_thw) :]
            for key, flags in zip(keys, (kept, kept.repeat_interleave(grid_thw.cpu().prod(-1)), kept)):
                if (value := given.get(key)) is not None and torch.as_tensor(value).ndim:
                    given[key] = torch.as_tensor(value)[flags] if kept.any() else None
        return given

    def _prepare_position_ids_for_generation(self, inputs_tensor, model_kwargs):
        """All rows so far, text row first: generate cuts, expands and lengthens them, as text adds one to each row."""
        text_row = GenerationMixin._prepare_position_ids_for_generation(self, inputs_tensor, model_kwargs)
        ids, slot = model_kwargs.get("input_ids"), slot_of(find_cache(model_kwargs), model_kwargs)
        tokens = inputs_tensor if ids is None or ids.shape[1] == 0 else ids
        part, (_, text), uncached = self._positions_of_prompt(tokens, text_row.shape[-1] - slot, model_kwargs)
        for key, value in uncached.items():
            model_kwargs.pop(key, None) if value is None else model_kwargs.update({key: value})
        text_row = text_row.to(part.rows).expand(1, part.rows.shape[1], -1)
        # Cached slots are never read again, but by an assistant, which starts from the first.
        rows = torch.cat([text_row[..., :slot].expand(len(part.rows), -1, -1), part.rows], -1)
        if part.is_picture is None or not part.is_picture[:, -1].any():
            return torch.cat([text_row, rows])
        # Text behind a picture does not go on one above its last token: generate lengthens a second set of rows, which
        # lead to the text, and a row that is 0 or more from the first new slot on.
        is_new = torch.arange(-rows.shape[-1], 0, device=rows.device).expand(1, rows.shape[1], -1)
        return torch.cat([text_row, rows, is_new, torch.cat([rows[..., :-1], text - 1], -1)])

    def _inputs_up_front(self, **kwargs):
        """Upstream's inputs of a step; behind a cache that was handed in, assisted decoding gets new tokens alone."""
        cache, position_ids = find_cache(kwargs), kwargs.get("position_ids")
        slot = cache.get_seq_length() if cache is not None and not cache.is_compileable else 0
        if slot and position_ids is not None and "next_sequence_length" in kwargs:
            length = kwargs["input_ids"].shape[1]
            if kwargs["next_sequence_length"] is None and position_ids.shape[-1] == length:  # of the whole sequence
                kwargs["next_sequence_length"] = length = length - slot
            if kwargs.get("cache_position") is not None:  # some releases count the cached tokens twice
                length = kwargs["next_sequence_length"] or length
                kwargs["cache_position"] = torch.arange(slot, slot + length, device=position_ids.device)
        count = 3 * len(self.model.geometries)
        if position_ids is not None and position_ids.ndim == 3 and len(position_ids) == 2 + 2 * count:
            text_row, rows, is_new, behind = position_ids.split([1, count, 1, count])
            kwargs["position_ids"] = torch.cat([text_row, torch.where(is_new < 0, rows, behind)])
        return super().prepare_inputs_for_generation(**kwargs)

    def _inputs_by_step(self, **kwargs):
        """Upstream's inputs of a step, with the positions of its tokens."""
        cache, tokens, given = find_cache(kwargs), kwargs["input_ids"], kwargs.get("position_ids")
        slot = slot_of(cache, kwargs)
        if slot:
            self.model.record_of(cache, len(tokens))  # upstream's words for a cache that does not fit say less
        # Any 2-D row keeps upstream from making positions of its own, and becomes the text row.
        mask = mask_of_tokens(kwargs.get("attention_mask"))
        mask = torch.ones_like(tokens) if mask is None else mask
        kwargs["position_ids"] = (mask.long().cumsum(-1) - 1).masked_fill(mask == 0, 0)
        inputs = super().prepare_inputs_for_generation(**kwargs)
        new = inputs["input_ids"] if inputs.get("inputs_embeds") is None else inputs["inputs_embeds"]
        length = new.shape[1]
        if given is not None:
            if given.ndim == 3 and (times := len(new) // given.shape[1]) > 1:
                # These releases repeat whatever comes first for several continuations of a sample.
                given = given[::times].repeat_interleave(times, 1)
            more = torch.arange(1, tokens.shape[1] - given.shape[-1] + 1, device=given.device)  # one per step
            inputs["position_ids"] = torch.cat([given, given[..., -1:] + more], -1)[..., -length:]
        elif slot and length == 1 and not cache.is_compileable:
            # `forward` makes them. It cannot over a static cache, whose steps are compiled and have a 4-D mask.
            inputs |= {"position_ids": None, **dict.fromkeys(PICTURES)}
        else:
            tokens = tokens if new.ndim == 2 else kwargs["inputs_embeds"]
            part, _, uncached = self._positions_of_prompt(tokens, length, kwargs)
            inputs |= {"position_ids": torch.cat([inputs["position_ids"][None].to(part.rows), part.rows]), **uncached}
        return inputs

    @_by_name(upstream.Qwen2_5_VLForConditionalGeneration.prepare_inputs_for_generation)
    def prepare_inputs_for_generation(self, **kwargs):
        return (self._inputs_up_front if KEEPS_POSITIONS_UP_FRONT else self._inputs_by_step)(**kwargs)

    def _get_candidate_generator(self, *args, **kwargs):
        """Upstream's, for an assistant that may have other geometries, and starts without a cache."""
        model_kwargs = dict(kwargs["model_kwargs"])
        position_ids = model_kwargs.pop("position_ids", None)
        if KEEPS_POSITIONS_UP_FRONT and position_ids is not None:
            is_ours = position_ids.ndim == 3 and len(position_ids) > 4
            model_kwargs["position_ids"] = position_ids[[0, -3, -2, -1]] if is_ours else position_ids
            cache = find_cache(model_kwargs)
            if cache is not None and cache.get_seq_length() > 0:  # its pictures are those of the new turn alone
                for key in (*PICTURES, "mm_encoder_outputs"):  # newer releases encode them before they generate
                    model_kwargs.pop(key, None)
        return super()._get_candidate_generator(*args, **{**kwargs, "model_kwargs": model_kwargs})
