"""Logit spread: how far the position alone moves a text token's attention logit over the tokens of one image.

Take a text token at the index p_text and image tokens at the indices p_1 ... p_M, each with its components (t, h, w).
Let every image token have the same key k. The attention logit of image token m is then

    logit_m = q . R(p_text - p_m) . k / sqrt(head_dim)

where R is the model's rotary embedding with its sections, and differs between image tokens by position only. The
logit spread is its standard deviation over the M image tokens (divided by M, not M - 1), averaged over text tokens
and over draws of q and k. Random q and k have independent unit normal components. With q and k of another size, say
a times and b times as large, every logit and so the spread is a * b times as large: compare spreads of the same q and
k with each other, or a spread with the standard deviation that the content of the keys makes by itself.

For random q and k the mean of the squared standard deviation is known exactly (`expected_variance`), and does not
depend on the text token: turning a normal q does not change its distribution. A frequency pair f, at which image
token m has the phase w_f p_m, adds (1 - |mean over m of exp(i w_f p_m)|^2) / (head_dim / 2).

Rotations are upstream's own functions, so these logits are the model's own.
"""

import torch
from transformers import Qwen2_5_VLTextConfig
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as upstream

from circle_rope_imp import axis_of_pairs, interleaved_section
from configuration_qwen2_5_vl_circle_rope import plain_rope
from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLRotaryEmbedding_CircleRoPE_V2

from .grids import check_tokens

SECTIONS = ("t", "h", "w")


class Rope:
    """The rotary embedding of a Qwen2.5-VL text config.

    Attributes:
        head_dim: width of a query or key; one frequency pair is two of its components.
        theta: base of the frequencies.
        mrope_section: frequency pairs of the t, h and w components.
        axis_of_pairs: 0, 1 or 2 for t, h and w for every frequency pair, highest first, int64 `(head_dim / 2,)`.
    """

    def __init__(self, config: Qwen2_5_VLTextConfig, interleaved: tuple[int, int, int] | None = None):
        """The embedding of a text config; `interleaved` are the sections where t, h and w take turns."""
        # Releases differ in where they keep theta and the sections.
        parameters = getattr(config, "rope_parameters", None) or config.rope_scaling
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.theta = float(parameters.get("rope_theta") or config.rope_theta)
        self.mrope_section = list(parameters["mrope_section"])
        with plain_rope(config):
            self._embedding = Qwen2_5_VLRotaryEmbedding_CircleRoPE_V2(config)
        self._embedding.interleaved_section = interleaved
        self.axis_of_pairs = axis_of_pairs(interleaved or self.mrope_section, interleaved is not None)

    @classmethod
    def of(
        cls,
        head_dim: int = 128,
        theta: float = 1e6,
        mrope_section: tuple[int, int, int] = (16, 24, 24),
        sections: str = "contiguous",
    ):
        """The embedding with these values, those of every Qwen2.5-VL unless given.

        Args:
            sections: `"contiguous"`, highest frequencies to t and lowest to w, or `"interleaved"`, as in Qwen3-VL.
        """
        scaling = {"type": "mrope", "rope_type": "default", "mrope_section": list(mrope_section)}
        interleaved = interleaved_section(head_dim // 2) if sections == "interleaved" else None
        heads = {"hidden_size": head_dim, "num_attention_heads": 1, "num_key_value_heads": 1}
        return cls(Qwen2_5_VLTextConfig(**heads, rope_theta=theta, rope_scaling=scaling), interleaved)

    def rotate(self, vectors: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Turn queries or keys `(..., tokens, head_dim)` to their positions `(3, tokens)`; float32, the same shape."""
        flat = vectors.float().reshape(1, -1, *vectors.shape[-2:])
        cos, sin = self._embedding(flat, positions[:, None].float())
        # Older releases put the sections together in this function, newer ones in the embedding.
        if hasattr(upstream, "apply_multimodal_rotary_pos_emb"):
            turned, _ = upstream.apply_multimodal_rotary_pos_emb(flat, flat, cos, sin, self.mrope_section)
        else:
            turned, _ = upstream.apply_rotary_pos_emb(flat, flat, cos, sin)
        return turned.view(vectors.shape)

    def phases(self, positions: torch.Tensor) -> torch.Tensor:
        """Cosines and then sines of every frequency pair: float64 `(tokens, head_dim)` for positions `(3, tokens)`."""
        half = torch.arange(self.head_dim) < self.head_dim // 2
        # A pair (1, 0) turned by an angle is (cos, sin).
        return self.rotate(half.float().expand(positions.shape[1], -1), positions).double()

    def pairs(self, section: str | None = None) -> torch.Tensor:
        """Which frequency pairs belong to the section t, h or w (all if not given): bool `(head_dim / 2,)`."""
        axes = self.axis_of_pairs
        return axes >= 0 if section is None else axes == SECTIONS.index(section)


def logits(q: torch.Tensor, k: torch.Tensor, text: torch.Tensor, image: torch.Tensor, rope: Rope) -> torch.Tensor:
    """Attention logits before the softmax: `(..., text, image)`.

    Args:
        q: queries before rotation, `(..., text, head_dim)`.
        k: keys before rotation, `(..., image, head_dim)`.
        text, image: positions, `(3, text)` and `(3, image)`.
        rope: the rotary embedding.
    """
    return rope.rotate(q, text) @ rope.rotate(k, image).transpose(-1, -2) / rope.head_dim**0.5


def logit_spreads(
    q: torch.Tensor, k: torch.Tensor, text: torch.Tensor, image: torch.Tensor, rope: Rope, section: str | None = None
) -> torch.Tensor:
    """Standard deviation over the image tokens of the logit of identical keys, `(..., text)`.

    The same as `logits(q, k.expand(..., image, -1), ...).std(-1, correction=0)`, at a cost that does not depend on the
    size of the image: the logit is linear in the cosines and sines of the image positions.

    Args:
        q: queries before rotation, `(..., text, head_dim)`, or `(..., 1, head_dim)` for the same q everywhere.
        k: the key that every image token has, `(..., 1, head_dim)`.
        text, image: positions, `(3, text)` and `(3, image)`.
        rope: the rotary embedding.
        section: count the frequency pairs of the section t, h or w alone.
    """
    shape = torch.broadcast_shapes(q.shape, (text.shape[1], 1))
    q1, q2 = rope.rotate(q.expand(shape), text).chunk(2, dim=-1)
    k1, k2 = k.float().chunk(2, dim=-1)
    pairs = rope.pairs(section)
    weights = torch.cat([(q1 * k1 + q2 * k2)[..., pairs], (q2 * k1 - q1 * k2)[..., pairs]], dim=-1)
    covariance = _covariance(rope.phases(image)[:, pairs.repeat(2)]).float()
    variances = ((weights @ covariance) * weights).sum(-1) / rope.head_dim
    return variances.clamp(min=0).sqrt()


def _covariance(phases):
    # From the first token, so that equal positions have no variance at all.
    moved = phases - phases[:1]
    moved = moved - moved.mean(0)
    return moved.T @ moved / len(moved)


def logit_spread(
    text: torch.Tensor, image: torch.Tensor, rope: Rope, draws: int = 1024, seed: int = 0, section: str | None = None
) -> float:
    """The logit spread of random q and k: the mean of `logit_spreads` over text tokens and draws.

    The same seed draws the same q and k for all positions.

    Args:
        text, image: positions, `(3, text)` and `(3, image)`; at least two image tokens.
        rope: the rotary embedding.
        draws: pairs of a query and a key.
        seed: of the draws.
        section: count the frequency pairs of the section t, h or w alone.

    Raises:
        ValueError: fewer than two image tokens.
    """
    check_tokens(image.shape[1])
    generator = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, draws, 1, rope.head_dim, generator=generator)
    # A part at a time stays in the processor's cache.
    parts = [logit_spreads(*part, text, image, rope, section) for part in zip(q.split(128), k.split(128))]
    return torch.cat(parts).double().mean().item()


def expected_variance(image: torch.Tensor, rope: Rope) -> torch.Tensor:
    """The exact mean of the squared spread of random q and k, pair by pair: float64 `(head_dim / 2,)`.

    Its sum is the mean variance of the logit over the image tokens, at any text position. It is also half the mean
    squared difference of the logits of two image tokens, so a layout that lowers the spread makes image tokens harder
    to tell apart by their positions, in the same measure.
    """
    check_tokens(image.shape[1])
    cosines, sines = _covariance(rope.phases(image)).diagonal().chunk(2)
    return (cosines + sines) / (rope.head_dim // 2)


def logit_differences(image: torch.Tensor, rope: Rope) -> torch.Tensor:
    """Root mean square difference of the logits of two image tokens with the same key, for random q and k.

    Float64 `(image, image)`, exact, at any text position: sqrt(2 * mean over pairs f of (1 - cos(w_f (p_m - p_n)))).
    """
    phases = rope.phases(image)
    return torch.cdist(phases, phases) / (rope.head_dim // 2) ** 0.5
