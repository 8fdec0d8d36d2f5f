"""How fractional positions travel in vLLM's integer rows.

vLLM's runners keep a few rows of integers for the positions of a step, fill in what the model computed for a prompt,
and go on in decoding with the slot of a token plus one integer per request, the same in every row. There are three
rows for each geometry. In a prompt they hold the bits of float32 positions. Of these, bits 29 and 30 are never both
set, for that is a number of 2^65 or more: so integers with both are free for decoding. They name the slot, and the
place in a table that has how far the position is from the slot, for each geometry.
"""

import collections
import math
import weakref

import torch
from torch import nn

DECODED = 0b11 << 29
# Where the free integers of 32 bits begin (one of the runners has such rows), by the lowest bit of the place.
FREE_FROM = (DECODED, -(1 << 29))
MOST_PLACES = 1 << 16


def places_for(max_model_len: int) -> int:
    """Requests with different deltas that can be under way at once when slots are below `max_model_len`."""
    return min(len(FREE_FROM) << max(29 - _bits_of_slots(max_model_len), 0), MOST_PLACES)


def _bits_of_slots(max_model_len):
    return (max_model_len - 1).bit_length()


def encode(positions: torch.Tensor) -> torch.Tensor:
    """Rows of a prompt: float32 `(3 * geometries, length)` to int32 of the same shape."""
    return positions.view(torch.int32)


class Place:
    """A place of the table, taken for as long as this object lives."""

    def __init__(self, number: int):
        self.number = number


class DeltaTable(nn.Module):
    """The deltas of all requests under way, on the device, at an address that does not change.

    Compiled graphs read what is in it when they run. Requests with the same deltas share a place; a place is free
    again when the last of them is gone.
    """

    def __init__(self, geometries: int, max_model_len: int):
        super().__init__()
        self.geometries = geometries
        self.bits = _bits_of_slots(max_model_len)
        places = places_for(max_model_len)
        # The whole part and the rest: slot and whole part add up exactly, however long the context.
        values = torch.zeros(places, geometries, 2, dtype=torch.float32)
        self.register_buffer("values", values, persistent=False)
        self._free = collections.deque(range(places))
        self._taken = weakref.WeakValueDictionary()

    def take(self, deltas: tuple[float, ...]) -> Place:
        """The place of these deltas: position minus slot of every token behind the prompt, for each geometry.

        Raises:
            RuntimeError: every place is taken.
        """
        place = self._taken.get(deltas)
        if place is not None:
            return place
        if not self._free:
            raise RuntimeError(
                f"all {len(self.values)} places for the deltas of requests are taken: start vLLM with a smaller "
                "--max-model-len, which leaves room for more, or send fewer requests at once."
            )
        place = Place(self._free.popleft())
        for delta, value in zip(deltas, self.values[place.number]):
            whole = math.floor(delta)
            # Filled, not copied: a copy from the host would make a GPU wait.
            value[0].fill_(whole)
            value[1].fill_(delta - whole)
        self._taken[deltas] = place
        weakref.finalize(place, self._free.append, place.number).atexit = False
        return place

    def delta_of(self, place: Place) -> int:
        """What a runner adds to the slot of a decoded token."""
        return FREE_FROM[place.number & 1] + (place.number >> 1 << self.bits)

    def decode(self, rows: torch.Tensor) -> torch.Tensor:
        """Positions of a step: int64 `(3 * geometries, tokens)` to float32 `(geometries, 3, tokens)`."""
        first = rows[0]
        given = rows.to(torch.int32).view(torch.float32).unflatten(0, (self.geometries, 3))
        slot = (first & ((1 << self.bits) - 1)).to(torch.float32)
        # Padding of a graph can hold anything.
        place = ((first & ((1 << 29) - 1)) >> self.bits << 1 | (first < 0)).clamp(0, len(self.values) - 1)
        whole, rest = self.values[place].movedim(0, -1).unbind(1)
        counted = slot + whole + rest
        return torch.where(first & DECODED == DECODED, counted[:, None], given)
