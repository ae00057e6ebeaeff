"""Where spans of bytes with a life each lie in one block of memory, so that what lives at once lies apart.

Finding the smallest block is NP-hard (dynamic storage allocation); no packing needs less than what lives at once.
Packing here is greedy: spans are taken in some order, each into a gap between those that lie there while it lives.
Every order below is tried with the lowest gap and with the tightest one, until a packing needs no more than the bound;
the best is kept. Sekiyama et al., arXiv:1804.10001, found such orders to be within a few percent of the optimum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Span:
    """`size` bytes that live from instruction `first` to instruction `last`, both included."""

    first: int
    last: int
    size: int


ORDERS: tuple[Callable[[Span], tuple[int, ...]], ...] = (
    lambda span: (-span.size, span.first),
    lambda span: (-span.size * (span.last - span.first + 1), span.first),
    lambda span: (span.first, -span.size),
    lambda span: (span.first - span.last, -span.size),
)
"""Sort keys: the largest first, the largest area, the earliest, the longest life."""


def packed(spans: Sequence[Span]) -> tuple[list[int], int]:
    """A place for each span, and the bytes of all: the best of several packings, the first among equals."""
    least = most_alive(spans)
    best: tuple[list[int], int] | None = None
    for key in ORDERS:
        order = sorted(range(len(spans)), key=lambda index: (*key(spans[index]), index))
        for is_tight in (False, True):
            found = _in_order(spans, order, is_tight)
            if best is None or found[1] < best[1]:
                best = found
            if best[1] <= least:
                return best
    assert best is not None
    return best


def most_alive(spans: Sequence[Span]) -> int:
    """The most bytes that live at once: no packing needs less."""
    change: dict[int, int] = {}
    for span in spans:
        change[span.first] = change.get(span.first, 0) + span.size
        change[span.last + 1] = change.get(span.last + 1, 0) - span.size
    return max(np.cumsum([change[time] for time in sorted(change)]).tolist(), default=0)


def _in_order(spans: Sequence[Span], order: Sequence[int], is_tight: bool) -> tuple[list[int], int]:
    """The packing that takes spans in `order`, each to the lowest gap where it fits, or to the tightest."""
    # rows: first, last, beginning and end of what is placed, by beginning
    placed = np.zeros((4, 0), np.int64)
    places = [0] * len(spans)
    for index in order:
        span = spans[index]
        if not span.size:
            continue
        beside = placed[:, (placed[0] <= span.last) & (placed[1] >= span.first)]
        at = places[index] = _gap(beside[2], beside[3], span.size, is_tight)
        row = [[span.first], [span.last], [at], [at + span.size]]
        placed = np.insert(placed, [int(np.searchsorted(placed[2], at))], row, axis=1)
    return places, int(placed[3].max(initial=0))


def _gap(begins: Any, ends: Any, size: int, is_tight: bool) -> int:
    """Where `size` bytes fit between ranges that are sorted by where they begin; behind all where nowhere else."""
    tops = np.maximum.accumulate(np.concatenate(([0], ends)))
    rooms = begins - tops[:-1]
    fits = np.flatnonzero(rooms >= size)
    if not len(fits):
        return int(tops[-1])
    return int(tops[fits[np.argmin(rooms[fits])] if is_tight else fits[0]])
