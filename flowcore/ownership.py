"""Whether an array may be written over: nobody but one tensor holds it, or a view of it.

A block is never written to while anybody can see it: what `detach`, `to_local`, `state_dict` or numpy share are
references to the array or to its memory, and CPython counts them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from flowcore.op import Array


def references(arrays: Sequence[Array | None], place: int) -> int:
    """References to `arrays[place]`, that of the list and of this call included."""
    return sys.getrefcount(arrays[place])


class _Holder:
    """Holds an array as a tensor does."""

    __slots__ = ("block",)

    def __init__(self, block: Any) -> None:
        self.block = block


def _once() -> int:
    holder = _Holder(np.empty(1))
    return references([holder.block], 0)


ONCE = _once()
"""What `references` gives where one tensor holds the array."""


OWN = 0x505
"""The flags of numpy's of an array with memory of its own, contiguous, aligned and writeable."""


def held_by_others(arrays: Sequence[Array | None], places: Sequence[int]) -> list[int]:
    """Those of `places` whose array has not memory of its own that only one tensor and the list refer to."""
    count = sys.getrefcount
    return [place for place in places if count(arrays[place]) != ONCE or not _owns(arrays[place])]


def is_held_once(arrays: Sequence[Array | None], place: int) -> bool:
    """Whether `arrays[place]` has memory of its own, and only one tensor and the list refer to it."""
    return not held_by_others(arrays, (place,))


def _owns(array: Array | None) -> bool:
    return array is not None and array.base is None and array.flags.num & OWN == OWN
