"""Which piece of a tensor which rank holds, and which needs: two layouts cut into cells, as arrays.

A layout groups its ranks. The coordinates on its split axes (and on the partial axes that *stay* partial, see
`boxing`) name a *group*: one box of the tensor. Within a group, the coordinates on the other partial axes name a
*term*, and those on the broadcast axes a *replica* of it. So a layout is an array `ranks[group, term, replica]` with
one box per group, and the box of a source group meets the box of a target group in at most one *cell*: everything in
a cell is held by the same ranks and needed by the same ranks. There is no other case, whatever the placements.
The boxes of a target with windows may overlap: what lies in two of them lies in two cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from flowcore.placement.layout import Box, Layout, Shape
from flowcore.placement.sbp import Broadcast, Partial, Split, Window

Integers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Grid:
    """A layout of a tensor as groups of ranks; `group_of` and `term_of` are indexed by rank, -1 where absent."""

    ranks: Integers  # [group, term, replica]
    low: Integers  # [dimension, group]
    high: Integers  # [dimension, group]
    stay: Integers  # [group]: row-major coordinate on the staying axes
    stays: int
    group_of: Integers
    term_of: Integers
    replica_of: Integers

    @classmethod
    @lru_cache(maxsize=64)
    def of(cls, shape: Shape, layout: Layout, staying: frozenset[int], world: int) -> Grid:
        """The groups of `layout`; the mesh axes `staying` are partial but keep their coordinate."""
        mesh, sbp = layout.placement.shape, layout.sbp
        kept = [axis for axis, part in enumerate(sbp) if isinstance(part, Split | Window) or axis in staying]
        terms = [axis for axis, part in enumerate(sbp) if isinstance(part, Partial) and axis not in staying]
        replicas = [axis for axis, part in enumerate(sbp) if isinstance(part, Broadcast)]
        sizes = [prod(mesh[axis] for axis in axes) for axes in (kept, terms, replicas)]
        grid = np.array(layout.placement.ranks, np.int64).reshape(mesh)
        grid = np.ascontiguousarray(grid.transpose(kept + terms + replicas).reshape(sizes))
        low = np.zeros((len(shape), sizes[0]), np.int64)
        high = low + np.array(shape, np.int64)[:, None]
        stay, stays, inner = np.zeros(sizes[0], np.int64), 1, sizes[0]
        for axis in kept:
            inner //= mesh[axis]
            index = np.arange(sizes[0]) // inner % mesh[axis]
            part = sbp[axis]
            if isinstance(part, Split):
                d = part.axis
                start, stop = cut_range(high[d] - low[d], mesh[axis], index)
                low[d], high[d] = low[d] + start, low[d] + stop
            elif isinstance(part, Window):
                d = part.axis
                start, stop = _window_range(part, high[d] - low[d], mesh[axis], index)
                low[d], high[d] = low[d] + start, low[d] + stop
            else:
                stay, stays = stay * mesh[axis] + index, stays * mesh[axis]
        where = np.full((3, world), -1, np.int64)
        where[:, grid.reshape(-1)] = np.indices(sizes).reshape(3, -1)
        return cls(grid, low, high, stay, stays, where[0], where[1], where[2])


@dataclass(frozen=True, slots=True)
class Parts:
    """Pieces of cells: part i lies in source group `group[i]` and target group `into[i]`, `size[i]` elements.

    `chosen[i]`: the target term that gets the value (the other terms hold an identity). `reducer[i]`: the rank that
    reduces the source terms, -1 where the source has one term. `cut`: (dimension, low, high) per part, where cells
    were cut.
    """

    source: Grid
    target: Grid
    group: Integers
    into: Integers
    size: Integers
    chosen: Integers
    reducer: Integers
    cut: tuple[Integers, Integers, Integers] | None = None

    def bounds(self, index: Any) -> tuple[Integers, Integers]:
        """(low, high) of the parts `index`, each [dimension, part]."""
        group, into = self.group[index], self.into[index]
        low = np.maximum(self.source.low[:, group], self.target.low[:, into])
        high = np.minimum(self.source.high[:, group], self.target.high[:, into])
        if self.cut is not None and len(low):
            dimension, start, stop = (value[index] for value in self.cut)
            at = np.arange(len(dimension))
            low[dimension, at], high[dimension, at] = start, stop
        return low, high


def _window_range(window: Window, length: Integers, parts: int, index: Integers) -> tuple[Integers, Integers]:
    """`window_range` of placement.layout for many lengths and parts at once."""
    first, last = cut_range(np.full_like(length, window.rows), parts, index)
    start = np.clip(-(-(first * window.step + window.low) // window.per), 0, length)
    stop = np.minimum(((last - 1) * window.step + window.high) // window.per + 1, length)
    return start, np.where(first < last, np.maximum(start, stop), start)


def cells(source: Grid, target: Grid) -> tuple[Integers, Integers, Integers]:
    """(source group, target group, elements) of every pair of groups that share elements, by source group."""
    size = (
        (source.stay[:, None] == target.stay).astype(np.int64)
        if source.stays > 1
        else np.ones((source.low.shape[1], target.low.shape[1]), np.int64)
    )
    for d in range(len(source.low)):
        common = np.minimum(source.high[d][:, None], target.high[d])
        common -= np.maximum(source.low[d][:, None], target.low[d])
        size *= np.maximum(common, 0, out=common)
    if size.all():
        groups, targets = size.shape
        return np.repeat(np.arange(groups), targets), np.tile(np.arange(targets), groups), size.reshape(-1)
    group, into = size.nonzero()
    return group, into, size[group, into]


def lengths(source: Grid, target: Grid, group: Integers, into: Integers) -> tuple[Integers, Integers]:
    """(low, length) of cells, each [dimension, cell]."""
    low = np.maximum(source.low[:, group], target.low[:, into])
    return low, np.minimum(source.high[:, group], target.high[:, into]) - low


def spread(key: Integers, size: Integers, ways: Integers | int) -> Integers:
    """An index below `ways` for each item so that, within each key, the indices carry equal size to within one item.

    The items of a key are laid end to end; item i goes to the share in which it starts.
    """
    if isinstance(ways, int) and ways == 1:
        return np.zeros(len(key), np.int64)
    order = np.argsort(key, kind="stable")
    ordered, sizes = key[order], size[order]
    start = np.cumsum(sizes) - sizes
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(key) else np.zeros(0, np.int64)
    count = np.diff(np.r_[first, len(key)])
    base = np.repeat(start[first], count)
    total = np.repeat(np.add.reduceat(sizes, first), count) if len(key) else sizes
    result = np.empty(len(key), np.int64)
    result[order] = start - base
    result *= ways
    total_of = np.empty_like(result)
    total_of[order] = np.maximum(total, 1)
    return np.asarray(np.minimum(result // total_of, np.maximum(np.asarray(ways) - 1, 0)))


def cut_range(length: Integers, pieces: Integers | int, index: Integers | int) -> tuple[Integers, Integers]:
    """(start, stop) of piece `index` of `pieces` balanced pieces of `length`, elementwise."""
    base, extra = np.divmod(length, pieces)
    start = index * base + np.minimum(index, extra)
    return start, start + base + (index < extra)


def cut_dimension(length: Integers, pieces: Integers | int) -> Integers:
    """The dimension along which boxes of `length` [dimension, box] are cut into `pieces`.

    The first that is 8 times as long as the pieces are many (it balances well, and is most contiguous), else the
    longest.
    """
    long = length >= 8 * np.asarray(pieces)
    return np.asarray(np.where(long.any(0), long.argmax(0), length.argmax(0)))


def as_boxes(low: Integers, high: Integers) -> list[Box]:
    """Bounds [dimension, box] as boxes."""
    if not len(low):
        return [()] * low.shape[1]
    return [tuple(zip(a, b, strict=True)) for a, b in zip(low.T.tolist(), high.T.tolist(), strict=True)]
