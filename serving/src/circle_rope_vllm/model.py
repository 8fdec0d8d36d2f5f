"""vLLM's Qwen2.5-VL under Circle-RoPE or AGE: each layer takes the cos/sin of its own geometry."""

from unittest import mock

import torch
from torch import nn
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRotaryEmbedding
from vllm.compilation.decorators import support_torch_compile
from vllm.model_executor.layers.rotary_embedding.common import ApplyRotaryEmb
from vllm.model_executor.models import qwen2, qwen2_5_vl
from vllm.model_executor.models.utils import PPMissingLayer
from vllm.v1.worker.gpu.model_states.default import DefaultModelState

from .circle_rope_imp import VisionBlock, sequence_index
from .rows import DeltaTable, encode


class GeometryEmbeddings(nn.Module):
    """cos/sin of every geometry, computed once per step from the runner's rows."""

    def __init__(self, config, max_model_len: int, dtype: torch.dtype):
        super().__init__()
        self.deltas = DeltaTable(len(config.geometries), max_model_len)
        self.dtype = dtype
        rotary = Qwen2_5_VLRotaryEmbedding(config.text_config)
        self.scaling = rotary.attention_scaling
        self.register_buffer("inv_freq", rotary.inv_freq, persistent=False)
        self.register_buffer("row_of_frequency", config.axis_of_pairs.to(rotary.inv_freq.device), persistent=False)

    def forward(self, rows: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """int64 rows `(3 * geometries, tokens)` to (cos, sin), `(tokens, head_dim / 2)` each, per geometry."""
        positions = self.deltas.decode(rows)[:, self.row_of_frequency]
        angles = positions.transpose(1, 2) * self.inv_freq
        cos, sin = ((part * self.scaling).to(self.dtype) for part in (angles.cos(), angles.sin()))
        return list(zip(cos.unbind(), sin.unbind()))


class OwnGeometry(nn.Module):
    """Rotary embedding of one layer: of all geometries' cos/sin, it applies those of the layer's own."""

    def __init__(self, number: int, head_dim: int):
        super().__init__()
        self.number, self.head_dim = number, head_dim
        self.rotate = ApplyRotaryEmb()

    def forward(self, embeddings, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cos, sin = embeddings[self.number]
        heads = (states.unflatten(-1, (-1, self.head_dim)) for states in (query, key))
        return tuple(self.rotate(states, cos, sin).flatten(-2) for states in heads)


@support_torch_compile(
    dynamic_arg_dims={"input_ids": 0, "positions": -1, "intermediate_tensors": 0, "inputs_embeds": 0}
)
class Qwen2Model_CircleRoPE(qwen2.Qwen2Model):
    """vLLM's text model, which hands cos/sin to its layers where its base hands positions."""

    def __init__(self, *, vllm_config, prefix: str = ""):
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        model_config = vllm_config.model_config
        config = model_config.hf_config
        self.geometry_embeddings = GeometryEmbeddings(config, model_config.max_model_len, model_config.dtype)
        for layer, name in zip(self.layers, config.schedule):
            if not isinstance(layer, PPMissingLayer):
                attention = layer.self_attn
                attention.rotary_emb = OwnGeometry(config.geometries.index(name), attention.head_dim)

    def forward(self, input_ids, positions, intermediate_tensors=None, inputs_embeds=None):
        return super().forward(input_ids, self.geometry_embeddings(positions), intermediate_tensors, inputs_embeds)


class CircleRoPEState(DefaultModelState):
    """State of Model Runner V2, which copies a request's rows: the request's place in the table is kept here."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.places = {}

    def add_request(self, req_index, new_req_data) -> None:
        super().add_request(req_index, new_req_data)
        self.places[new_req_data.req_id] = self.model.latest_place

    def remove_request(self, req_id: str) -> None:
        super().remove_request(req_id)
        self.places.pop(req_id, None)


class Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(qwen2_5_vl.Qwen2_5_VLForConditionalGeneration):
    """vLLM's Qwen2.5-VL with the positions of Circle-RoPE or AGE, exact from the prompt to the last token."""

    def __init__(self, *, vllm_config, prefix: str = ""):
        # The base makes its text model by this name.
        with mock.patch.object(qwen2, "Qwen2Model", Qwen2Model_CircleRoPE):
            super().__init__(vllm_config=vllm_config, prefix=prefix)
        config = self.config
        self.geometries = [config.make_geometry(name) for name in config.geometries]
        self.latest_place = None

    @staticmethod
    def get_model_state_cls():
        return CircleRoPEState

    def get_mrope_input_positions(self, input_tokens: list[int], mm_features: list) -> tuple[torch.Tensor, int]:
        """Rows of a prompt, int32 `(3 * geometries, length)`, and what the runner adds to the slots behind it."""
        blocks = [VisionBlock(0, *block) for block in self.iter_mm_grid_thw(mm_features)]
        positions, ends = sequence_index(blocks, None, (1, len(input_tokens)), self.geometries)
        rows = encode(positions[:, 0])
        table = self.language_model.model.geometry_embeddings.deltas
        place = table.take(tuple((ends.text[:, 0] - len(input_tokens)).tolist()))
        # The runner keeps the rows for as long as the request is under way, and the place with them.
        rows.place = self.latest_place = place
        return rows, table.delta_of(place)
