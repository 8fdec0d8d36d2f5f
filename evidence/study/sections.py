"""Which frequencies belong to t, h and w: in one piece each, as in Qwen2.5-VL, or in turns, as in Qwen3-VL."""

import torch

from circle_rope_imp import axis_of_pairs, interleaved_section


def section_sizes(sections: str, contiguous: tuple[int, int, int]) -> tuple[int, int, int]:
    """Frequency pairs of t, h and w: those of Qwen2.5-VL for "contiguous", Qwen3-VL's share for "interleaved"."""
    return contiguous if sections == "contiguous" else interleaved_section(sum(contiguous))


def interleaved_order(sizes: tuple[int, int, int]) -> torch.Tensor:
    """The frequencies' numbers, highest first, in the order of the sections: int64 `(sum of sizes,)`.

    As Qwen3-VL hands them out: t, h, w in turns while h and w last, and what is left to t.
    """
    return axis_of_pairs(sizes, interleaved=True).argsort(stable=True)


def interleave(embedding, sizes: tuple[int, int, int]) -> None:
    """Give the sections of a rotary embedding, which are as large as `section_sizes` says, their frequencies in turns.

    Sections stay where they are among the components of a head, and only their frequencies change: the same as
    Qwen3-VL's embedding but for the order of the components, which random weights do not know.
    """
    order = interleaved_order(sizes).to(embedding.inv_freq.device)
    embedding.inv_freq.copy_(embedding.inv_freq[order])
