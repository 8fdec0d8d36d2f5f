"""Which frequencies belong to t, h and w: in one piece each, as in Qwen2.5-VL, or in turns, as in Qwen3-VL."""

import torch

# Of 64 frequency pairs, Qwen3-VL gives 24 to t and 20 each to h and w.
INTERLEAVED_SHARE = 20 / 64


def section_sizes(sections: str, contiguous: tuple[int, int, int]) -> tuple[int, int, int]:
    """Frequency pairs of t, h and w: those of Qwen2.5-VL for "contiguous", Qwen3-VL's share for "interleaved"."""
    if sections == "contiguous":
        return contiguous
    pairs = sum(contiguous)
    each = round(INTERLEAVED_SHARE * pairs)
    return pairs - 2 * each, each, each


def interleaved_order(sizes: tuple[int, int, int]) -> torch.Tensor:
    """The frequencies' numbers, highest first, in the order of the sections: int64 `(sum of sizes,)`.

    As Qwen3-VL hands them out: t, h, w in turns while h and w last, and what is left to t.
    """
    row = torch.zeros(sum(sizes), dtype=torch.long)
    for number in (1, 2):
        row[number : 3 * sizes[number] : 3] = number
    return row.argsort(stable=True)


def interleave(embedding, sizes: tuple[int, int, int]) -> None:
    """Give the sections of a rotary embedding, which are as large as `section_sizes` says, their frequencies in turns.

    Sections stay where they are among the components of a head, and only their frequencies change: the same as
    Qwen3-VL's embedding but for the order of the components, which random weights do not know.
    """
    order = interleaved_order(sizes).to(embedding.inv_freq.device)
    embedding.inv_freq.copy_(embedding.inv_freq[order])
