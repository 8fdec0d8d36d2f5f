"""Qwen2.5-VL with Circle-RoPE or AGE: image positions on a ring perpendicular to the text axis, layer by layer.

Only positions differ from upstream: the classes below compute them (`get_rope_index`), carry them in one tensor, and
give every decoder layer the cos/sin of its own geometry. Weights, modules and forwards are upstream's.
"""

import re
import warnings
from functools import partial

import torch
from torch import nn
from transformers import GenerationMixin
from transformers.generation import utils as generation_utils
from transformers.models.qwen2.modeling_qwen2 import Qwen2ForCausalLM
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as upstream

try:
    from .circle_rope_imp import VisionBlock, find_blocks, sequence_index
    from .configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2
except ImportError:  # the repo's root is not a package when it is imported from itself
    if __package__:
        raise
    from circle_rope_imp import VisionBlock, find_blocks, sequence_index
    from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2

try:
    from transformers.conversion_mapping import (
        get_checkpoint_conversion_mapping,
        register_checkpoint_conversion_mapping,
    )
except ImportError:  # transformers 4 renames by the class attribute that our classes inherit
    get_checkpoint_conversion_mapping = None

# Official checkpoints, V1 and whatever transformers 5 saves name their tensors by an older layout of the modules.
OLD_LAYOUT = {r"^visual": "model.visual", r"^model(?!\.(language_model|visual))": "model.language_model"}

# The same for the model without its head, whose own names have no `model.` in front. Transformers 5 takes that off by
# itself, 4 does not.
HEADLESS_LAYOUT = {r"^model(?!\.(language_model|visual))": "language_model"}
if get_checkpoint_conversion_mapping is None:
    HEADLESS_LAYOUT |= {r"^model.language_model": "language_model", r"^model.visual": "visual"}

# Newer releases make the positions of a whole generation up front; older ones ask for them at every step.
GENERATE_KEEPS_POSITIONS = hasattr(GenerationMixin, "_prepare_position_ids_for_generation")

# Newer releases hand each chunk of a chunked prefill its part of the pictures; older ones drop or misplace them.
CHUNKED_PREFILL_SPLITS_PICTURES = hasattr(generation_utils, "_slice_mm_encoder_output")


def _to_host(*tensors):
    """The given tensors on the CPU, with one device synchronisation at most; anything else as it is."""
    away = [tensor for tensor in tensors if torch.is_tensor(tensor) and tensor.device.type != "cpu"]
    if not away:
        return tensors
    # float64 holds every token id and grid exactly.
    flat = torch.cat([tensor.flatten().double() for tensor in away]).cpu()
    parts = iter(flat.split([tensor.numel() for tensor in away]))
    return [_like(tensor, next(parts)) if any(tensor is moved for moved in away) else tensor for tensor in tensors]


def _like(tensor, values):
    return values.view(tensor.shape).to(tensor.dtype)


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
        text_row, position_ids = position_ids[0].long(), position_ids[1:]
    if position_ids.ndim == 3 and position_ids.shape[0] == 3:
        position_ids = position_ids.repeat(num_geometries, 1, 1)
    if position_ids.ndim != 3 or position_ids.shape[0] != rows:
        raise ValueError(
            f"position_ids has the shape {tuple(position_ids.shape)}, but must be (batch, seq), (3, batch, seq) or "
            f"({rows}, batch, seq), with or without a text row in front: make it with get_rope_index."
        )
    return text_row, position_ids.float()


class Qwen2_5_VLRotaryEmbedding_CircleRoPE_V2(upstream.Qwen2_5_VLRotaryEmbedding):
    """Upstream's cos/sin, which may leave out integer positions.

    Upstream's text model calls it once more with the integer row that its masks use; no layer reads that result, so
    within the text model there is none.
    """

    skips_integers = False

    def forward(self, x, position_ids):
        if self.skips_integers and not position_ids.is_floating_point():
            return None
        return super().forward(x, position_ids)


def _take_own_geometry(geometry_of_layer, number, layer, args, kwargs):
    """Forward pre-hook of a decoder layer: of all geometries' cos/sin, hand on those of the layer's own."""
    embeddings = kwargs.pop("geometry_embeddings", None)
    if embeddings is not None:
        kwargs["position_embeddings"] = embeddings[geometry_of_layer[number]]
    return args, kwargs


class Qwen2_5_VLTextModel_CircleRoPE_V2(upstream.Qwen2_5_VLTextModel):
    """Upstream's text model, with one geometry per layer; cos/sin are computed once per geometry and forward."""

    _supports_flex_attn = True

    def __init__(self, config, schedule: tuple[str, ...], geometries: tuple[str, ...]):
        super().__init__(config)
        self.geometry_of_layer = []  # the hooks read it, so that a schedule reaches layers that something has wrapped
        self.set_schedule(schedule, geometries)
        for number, layer in enumerate(self.layers):
            # A hook, not a subclass: whatever wraps or shards the layers by their class still finds them.
            own = partial(_take_own_geometry, self.geometry_of_layer, number)
            layer.register_forward_pre_hook(own, with_kwargs=True)

    def set_schedule(self, schedule: tuple[str, ...], geometries: tuple[str, ...]) -> None:
        """Give every layer its geometry: names from `geometries`, which are in the order of the position rows."""
        self.num_geometries = len(geometries)
        self.geometry_of_layer[:] = [geometries.index(name) for name in schedule]
        device = self.rotary_emb.inv_freq.device
        self.rotary_emb = Qwen2_5_VLRotaryEmbedding_CircleRoPE_V2(config=self.config).to(device)
        self.rotary_emb.skips_integers = True

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        inputs_embeds=None,
        **kwargs,
    ):
        text_row, positions = split_position_rows(position_ids, self.num_geometries)
        if inputs_embeds is None and input_ids is not None:
            input_ids, inputs_embeds = None, self.embed_tokens(input_ids)
        if inputs_embeds is not None:
            if positions is None:
                past_length = 0 if past_key_values is None else past_key_values.get_seq_length()
                slots = torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device) + past_length
                _, positions = split_position_rows(slots.expand(inputs_embeds.shape[:2]), self.num_geometries)
            kwargs["geometry_embeddings"] = tuple(self.rotary_emb(inputs_embeds, rows) for rows in positions.split(3))
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            # Masks and packing are made from the text row alone, never from fractional positions.
            position_ids=None if text_row is None else text_row.expand(4, -1, -1),
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )


class Qwen2_5_VLModel_CircleRoPE_V2(upstream.Qwen2_5_VLModel):
    """Qwen2.5-VL without its head, under Circle-RoPE.

    A config whose schedule has M-RoPE layers makes a `Qwen2_5_VLModel_AGE_V2`.

    Attributes:
        rope_deltas: float32 `(batch, geometries)` of the last prefill, or None after text alone. The first free index
            behind a sequence of n slots (pads counted) is n + rope_deltas, for each geometry.
    """

    config: Qwen2_5_VLConfig_CircleRoPE_V2
    config_class = Qwen2_5_VLConfig_CircleRoPE_V2
    _auto_class = "AutoModel"
    _supports_flex_attn = True
    _checkpoint_conversion_mapping = HEADLESS_LAYOUT

    def __new__(cls, config=None, *args, **kwargs):
        if cls is Qwen2_5_VLModel_CircleRoPE_V2 and config is not None:
            cls = _class_of(config)
        return super().__new__(cls)

    def __init__(self, config):
        # A block changed in place since it was assigned is validated here.
        config.circle_rope = config.circle_rope
        super(upstream.Qwen2_5_VLModel, self).__init__(config)
        self.visual = upstream.Qwen2_5_VisionTransformerPretrainedModel._from_config(config.vision_config)
        self.language_model = Qwen2_5_VLTextModel_CircleRoPE_V2._from_config(
            config.text_config, schedule=config.schedule, geometries=config.geometries
        )
        self._reset_geometries()
        self.post_init()

    def _reset_geometries(self):
        self.geometries = [self.config.make_geometry(name) for name in self.config.geometries]
        self.rope_deltas = None
        self._vision_blocks = None  # vision blocks of every sample so far, for image_stride

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
        self.language_model.set_schedule(self.config.schedule, self.config.geometries)
        self._reset_geometries()
        if type(self) in (Qwen2_5_VLModel_CircleRoPE_V2, Qwen2_5_VLModel_AGE_V2):
            self.__class__ = _class_of(self.config)

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """Upstream's `from_pretrained`, which for the model without its head knows one layout of tensor names only."""
        kwargs.setdefault("key_mapping", HEADLESS_LAYOUT)
        return super().from_pretrained(*args, **kwargs)

    def get_rope_index(
        self,
        input_ids: torch.LongTensor,
        image_grid_thw: torch.LongTensor | None = None,
        video_grid_thw: torch.LongTensor | None = None,
        second_per_grid_ts: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Position indices of whole sequences, for every geometry in use (circle first).

        Modality is read from `input_ids`; anything else (such as `mm_token_type_ids`) is accepted and not needed.

        Args:
            input_ids: int64 `(batch, seq)`.
            image_grid_thw: int64 `(images, 3)`, grids before the spatial merge, in the order of the batch.
            video_grid_thw: int64 `(videos, 3)`, likewise.
            second_per_grid_ts: float `(videos,)`, seconds between two frames; 1 if not given.
            attention_mask: `(batch, seq)`, 0 where padded.

        Returns:
            position_ids: float32 `(3 * geometries, batch, seq)`, 0 where padded.
            rope_deltas: float32 `(batch, geometries)`, first free index minus seq.

        Raises:
            ValueError: the placeholder tokens do not fit the grids.
        """
        if image_grid_thw is None and video_grid_thw is None:
            input_ids = torch.zeros_like(input_ids)  # as upstream: without any picture, placeholders are text
        position_ids, rope_deltas, _ = self._index(
            input_ids, image_grid_thw, video_grid_thw, second_per_grid_ts, attention_mask
        )
        return position_ids, rope_deltas

    def _index(
        self,
        input_ids,
        image_grid_thw=None,
        video_grid_thw=None,
        second_per_grid_ts=None,
        attention_mask=None,
        past_length=0,
    ):
        """`get_rope_index` behind `past_length` cached slots, and how many vision blocks every sample has by then."""
        device = input_ids.device
        input_ids, attention_mask, image_grid_thw, video_grid_thw, seconds = _to_host(
            input_ids, attention_mask, image_grid_thw, video_grid_thw, second_per_grid_ts
        )
        real = None
        if attention_mask is not None and attention_mask.ndim == 2:
            if attention_mask.is_floating_point():
                attention_mask = attention_mask.bool()
            if not attention_mask.numpy().all():
                real = attention_mask[:, -input_ids.shape[1] :].bool()
        blocks = self.vision_blocks(input_ids, image_grid_thw, video_grid_thw, seconds, real)
        batch, length = input_ids.shape
        start = blocks_before = None
        if past_length > 0:
            start = (self._deltas(batch).double() + past_length).tolist()
            if self._vision_blocks is not None:
                beams = batch // len(self._vision_blocks)
                blocks_before = [count for count in self._vision_blocks for _ in range(beams)]
        position_ids, next_index = sequence_index(
            blocks, real, (batch, length), self.geometries, start=start, blocks_before=blocks_before
        )
        counts = blocks_before or [0] * batch
        for block in blocks:
            counts[block.sample] += 1
        slots = past_length + length
        rope_deltas = torch.tensor(
            [[index - slots for index in sample] for sample in next_index], dtype=torch.float32, device="cpu"
        )
        if device.type != "cpu":
            position_ids, rope_deltas = (rows.to(device, non_blocking=True) for rows in (position_ids, rope_deltas))
        return position_ids, rope_deltas, counts

    def _merged_grids(self, grid_thw):
        if grid_thw is None:
            return []
        merge = self.config.vision_config.spatial_merge_size
        return [(t, h // merge, w // merge) for t, h, w in grid_thw.tolist()]

    def vision_blocks(
        self,
        input_ids: torch.LongTensor,
        image_grid_thw: torch.LongTensor | None = None,
        video_grid_thw: torch.LongTensor | None = None,
        second_per_grid_ts: torch.Tensor | None = None,
        real: torch.Tensor | None = None,
    ) -> list[VisionBlock]:
        """Where the images and videos of a batch stand: `get_rope_index`'s arguments on the CPU, with a bool mask."""
        images, videos = self._merged_grids(image_grid_thw), self._merged_grids(video_grid_thw)
        seconds = [1.0] * len(videos) if second_per_grid_ts is None else torch.as_tensor(second_per_grid_ts).tolist()
        if len(seconds) != len(videos):
            raise ValueError(
                f"second_per_grid_ts has {len(seconds)} entries, but video_grid_thw has {len(videos)} rows: give one "
                "for every video."
            )
        frequency = self.config.vision_config.tokens_per_second if videos else None
        intervals = [frequency * second for second in seconds]
        return [
            *find_blocks(input_ids, real, self.config.image_token_id, images, [0.0] * len(images), "image"),
            *find_blocks(input_ids, real, self.config.video_token_id, videos, intervals, "video"),
        ]

    def _deltas(self, batch):
        """`rope_deltas` for a batch that may hold several continuations of each prefilled sample."""
        if self.rope_deltas is None:
            return torch.zeros(batch, len(self.geometries))
        return self.rope_deltas.repeat_interleave(batch // self.rope_deltas.shape[0], dim=0)

    def _placeholder_ids(self, inputs_embeds):
        """Token ids as far as positions need them, read back from embeddings."""
        input_ids = torch.zeros(inputs_embeds.shape[:2], dtype=torch.long, device=inputs_embeds.device)
        for token_id in (self.config.image_token_id, self.config.video_token_id):
            token = self.get_input_embeddings()(torch.tensor(token_id, device=inputs_embeds.device))
            input_ids.masked_fill_((inputs_embeds == token).all(-1), token_id)
        return input_ids

    def has_placeholders(self, input_ids: torch.LongTensor) -> bool:
        """Whether any image or video placeholder is among these tokens."""
        return bool(((input_ids == self.config.image_token_id) | (input_ids == self.config.video_token_id)).any())

    @torch.compiler.disable  # it reads token ids and grids as Python numbers
    def next_position_ids(
        self,
        input_ids,
        inputs_embeds=None,
        attention_mask=None,
        past_length=0,
        image_grid_thw=None,
        video_grid_thw=None,
        second_per_grid_ts=None,
    ) -> torch.Tensor:
        """Positions of the tokens that come behind `past_length` cached slots; `rope_deltas` is brought up to date.

        Args:
            input_ids, inputs_embeds: the new tokens alone, as ids `(batch, seq)` or embedded.
            attention_mask: `(batch, past_length + seq)` or `(batch, seq)`, 0 where padded.
            past_length: slots in the cache, pads counted.
            image_grid_thw, video_grid_thw, second_per_grid_ts: of the new images and videos alone.

        Returns:
            float32 `(3 * geometries, batch, seq)`, or None for a prefill without grids: as upstream, that is all text.
        """
        has_grids = image_grid_thw is not None or video_grid_thw is not None
        if input_ids is None and has_grids:
            input_ids = self._placeholder_ids(inputs_embeds)
        if has_grids and (past_length == 0 or self.has_placeholders(input_ids)):
            position_ids, self.rope_deltas, self._vision_blocks = self._index(
                input_ids, image_grid_thw, video_grid_thw, second_per_grid_ts, attention_mask, past_length
            )
            return position_ids
        if past_length == 0:
            self.rope_deltas = self._vision_blocks = None
            if input_ids is not None:
                return None
        new = input_ids if input_ids is not None else inputs_embeds
        batch, length = new.shape[:2]
        slots = torch.arange(length, device=new.device) + past_length
        positions = self._deltas(batch).to(new.device).T[:, :, None] + slots
        return positions.repeat_interleave(3, dim=0)

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        inputs_embeds=None,
        use_cache=None,
        image_grid_thw=None,
        video_grid_thw=None,
        second_per_grid_ts=None,
        **kwargs,
    ):
        """Upstream's forward; `position_ids` may have the rows that `split_position_rows` lists."""
        if position_ids is not None:
            split_position_rows(position_ids, len(self.geometries))
        else:
            for pixels, grid_thw in (("pixel_values", image_grid_thw), ("pixel_values_videos", video_grid_thw)):
                if grid_thw is None and kwargs.get(pixels) is not None:
                    name = "video_grid_thw" if pixels.endswith("videos") else "image_grid_thw"
                    raise ValueError(f"{pixels} was given without {name}: pass both, as the processor returns them.")
            past_length = 0 if past_key_values is None else past_key_values.get_seq_length()
            position_ids = self.next_position_ids(
                input_ids,
                inputs_embeds,
                attention_mask,
                past_length,
                image_grid_thw,
                video_grid_thw,
                second_per_grid_ts,
            )
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            image_grid_thw=image_grid_thw,
            video_grid_thw=video_grid_thw,
            second_per_grid_ts=second_per_grid_ts,
            **kwargs,
        )


class Qwen2_5_VLModel_AGE_V2(Qwen2_5_VLModel_CircleRoPE_V2):
    """Qwen2.5-VL without its head, under AGE: a schedule in which some layers, or all, see M-RoPE."""


def _class_of(config):
    return Qwen2_5_VLModel_AGE_V2 if "mrope" in config.geometries else Qwen2_5_VLModel_CircleRoPE_V2


class Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(upstream.Qwen2_5_VLForConditionalGeneration):
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

    def _position_ids_for_generation(self, tokens, length, past_length, model_kwargs):
        """Positions of the last `length` tokens, float32 `(3 * geometries, batch, length)`, for a step of `generate`.

        `tokens` are ids or embeddings, of the whole sequence or of the new part alone. The grids may be those of the
        whole sequence (then nothing of an earlier call is needed) or of its new part.
        """
        input_ids = tokens if tokens.ndim == 2 else self.model._placeholder_ids(tokens)
        attention_mask = model_kwargs.get("attention_mask")
        vision = [model_kwargs.get(key) for key in ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")]
        if past_length > 0 and not self._has_grids_of_whole(input_ids, past_length, length, *vision[:2]):
            return self.model.next_position_ids(
                input_ids[:, -length:], None, attention_mask, past_length, *(vision if length > 1 else ())
            )
        position_ids, self.model.rope_deltas, self.model._vision_blocks = self.model._index(
            input_ids, *vision, attention_mask
        )
        return position_ids[..., -length:]

    def _has_grids_of_whole(self, input_ids, past_length, length, image_grid_thw, video_grid_thw):
        """Whether a sequence that goes on behind a cache came whole, with the grids of all its images and videos."""
        if length == 1 or input_ids.shape[1] != past_length + length:
            return False
        if image_grid_thw is None and video_grid_thw is None:
            return False
        input_ids, image_grid_thw, video_grid_thw = _to_host(input_ids, image_grid_thw, video_grid_thw)
        merged_cells = self.config.vision_config.spatial_merge_size**2
        return all(
            (0 if grid_thw is None else int(grid_thw.prod(-1).sum()) // merged_cells)
            == int((input_ids == token).sum())
            for grid_thw, token in (
                (image_grid_thw, self.config.image_token_id),
                (video_grid_thw, self.config.video_token_id),
            )
        )

    def _prepare_generation_config(self, *args, **kwargs):
        generation_config, model_kwargs = super()._prepare_generation_config(*args, **kwargs)
        has_pictures = any(model_kwargs.get(key) is not None for key in ("pixel_values", "pixel_values_videos"))
        if generation_config.prefill_chunk_size is not None and has_pictures and not CHUNKED_PREFILL_SPLITS_PICTURES:
            warnings.warn(
                "prefill_chunk_size is ignored: this transformers release cannot split a prompt with pictures.",
                stacklevel=2,
            )
            generation_config.prefill_chunk_size = None
        return generation_config, model_kwargs

    def _prepare_position_ids_for_generation(self, inputs_tensor, model_kwargs):
        """Text row and geometry rows of the whole generation so far, `(1 + 3 * geometries, batch, seq)`."""
        text_row = GenerationMixin._prepare_position_ids_for_generation(self, inputs_tensor, model_kwargs)
        tokens = inputs_tensor
        if (input_ids := model_kwargs.get("input_ids")) is not None and input_ids.shape[1] > 0:
            tokens = input_ids
        cache = model_kwargs.get("past_key_values")
        past_length = 0 if cache is None else int(cache.get_seq_length())
        positions = self._position_ids_for_generation(
            tokens, text_row.shape[-1] - past_length, past_length, model_kwargs
        )
        model_kwargs["rope_deltas"] = self.model._deltas(tokens.shape[0]).to(positions.device)
        if past_length > 0 and tokens.ndim == 2:
            uncached = self._uncached_vision_inputs(tokens, positions.shape[-1], past_length, model_kwargs)
            for key, value in uncached.items():
                model_kwargs.pop(key, None) if value is None else model_kwargs.update({key: value})
        # Cached slots are never read again.
        positions = nn.functional.pad(positions, (past_length, 0))
        text_row = text_row.to(positions).expand(1, positions.shape[1], -1)
        return torch.cat([text_row, positions])

    def _update_model_kwargs_for_generation(self, outputs, model_kwargs, *args, **kwargs):
        known = model_kwargs["position_ids"].shape[-1] if model_kwargs.get("rope_deltas") is not None else None
        model_kwargs = super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)
        if known is not None:
            # Upstream counts on from the last token, which is not the largest index where that is an image's.
            position_ids = model_kwargs["position_ids"]
            slots = torch.arange(known, position_ids.shape[-1], device=position_ids.device)
            new = model_kwargs["rope_deltas"].T[:, :, None] + slots
            position_ids[1:, :, known:] = new.repeat_interleave(3, dim=0)
        return model_kwargs

    def prepare_inputs_for_generation(self, input_ids, past_key_values=None, inputs_embeds=None, **kwargs):
        kwargs.pop("rope_deltas", None)
        given = dict(kwargs)
        past_length = 0 if past_key_values is None else int(past_key_values.get_seq_length())
        if not GENERATE_KEEPS_POSITIONS:
            # Any 2-D row keeps upstream from making positions of its own, and becomes the text row.
            kwargs["position_ids"] = _text_row(input_ids, kwargs.get("attention_mask"))
        model_inputs = super().prepare_inputs_for_generation(
            input_ids, past_key_values=past_key_values, inputs_embeds=inputs_embeds, **kwargs
        )
        new = model_inputs.get("inputs_embeds")
        new = new if new is not None else model_inputs["input_ids"]
        if not GENERATE_KEEPS_POSITIONS:
            whole = input_ids if new.ndim == 2 else inputs_embeds
            text_row = model_inputs["position_ids"]
            positions = self._position_ids_for_generation(whole, new.shape[1], past_length, given)
            model_inputs["position_ids"] = torch.cat([text_row.to(positions)[None], positions])
            if past_length > 0 and new.ndim == 2 and new.shape[1] > 1:
                model_inputs.update(self._uncached_vision_inputs(input_ids, new.shape[1], past_length, given))
        return model_inputs

    def _uncached_vision_inputs(self, input_ids, length, past_length, model_kwargs):
        """Pictures and grids of the images and videos whose tokens are not in the cache yet."""
        uncached = {}
        if not self.model.has_placeholders(input_ids[:, -length:]):
            return dict.fromkeys(("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw"))
        grids = [model_kwargs.get(key) for key in ("image_grid_thw", "video_grid_thw")]
        is_whole = self._has_grids_of_whole(input_ids, past_length, length, *grids)
        for pixels_key, grid_key, token_id, kind in (
            ("pixel_values", "image_grid_thw", self.config.image_token_id, "image"),
            ("pixel_values_videos", "video_grid_thw", self.config.video_token_id, "video"),
        ):
            pixels, grid_thw = model_kwargs.get(pixels_key), model_kwargs.get(grid_key)
            if pixels is None or grid_thw is None:
                continue
            if is_whole:
                host_ids, host_grid = _to_host(input_ids, grid_thw)
                merged = self.model._merged_grids(host_grid)
                blocks = find_blocks(host_ids, None, token_id, merged, [0.0] * len(merged), kind)
                kept = [number for number, block in enumerate(blocks) if block.slot >= past_length]
                pictures = pixels.split(host_grid.prod(-1).tolist())
                pixels = torch.cat([pictures[number] for number in kept]) if kept else None
                grid_thw = grid_thw[kept] if kept else None
            uncached[pixels_key], uncached[grid_key] = pixels, grid_thw
        return uncached


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


def _text_row(input_ids, attention_mask):
    """Index of every slot among the tokens of its sample, int64 `(batch, seq)`, 0 where padded."""
    if attention_mask is None or attention_mask.ndim != 2:
        return torch.arange(input_ids.shape[1], device=input_ids.device).expand(input_ids.shape[0], -1)
    return (attention_mask.long().cumsum(-1) - 1).masked_fill(attention_mask == 0, 0)


def _register_key_renaming():
    """Releases that look the renaming of old tensor names up by class do not apply it to custom code by themselves."""
    mapping = get_checkpoint_conversion_mapping(upstream.Qwen2_5_VLForConditionalGeneration.__name__)
    if mapping is not None:
        name = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2.__name__
        register_checkpoint_conversion_mapping(name, mapping, overwrite=True)


if get_checkpoint_conversion_mapping is not None:
    _register_key_renaming()
