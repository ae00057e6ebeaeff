"""Who gives and who gets a value where the law leaves a choice.

The term of a partial target, the reducer of partial terms, and the replica that a rank takes a part from.
"""

from __future__ import annotations

import numpy as np

from flowcore.comm.slices import Grid, Integers, Parts, cut_dimension, cut_range, lengths, spread

Cells = tuple[Integers, Integers, Integers]


def valued_parts(source: Grid, target: Grid, found: Cells) -> Parts:
    """Cells of a source that is not partial: each goes to the target term whose ranks lack it least."""
    group, into, size = found
    none = np.full(len(size), -1, np.int64)
    if target.ranks.shape[1] == 1:
        return Parts(source, target, group, into, size, np.zeros(len(size), np.int64), none)
    lacking = source.group_of[target.ranks[into]] != group[:, None, None]
    cost = lacking.sum(2)
    best = cost.min(1, initial=lacking.shape[2])
    ways = np.where(best == 0, 1, (cost == best[:, None]).sum(1))
    parts, index = _cut(source, target, found, _pieces(ways, into))
    share = spread(parts.into, parts.size, ways[index])
    return _with(parts, chosen=_nth(cost == best[:, None], index, share))


def reduced_parts(source: Grid, target: Grid, found: Cells) -> Parts:
    """Cells of a partial source, cut among the ranks that reduce them with the least movement.

    Best are ranks that hold a term and need the value. Else, where each value is needed by one rank, that rank (one
    step instead of two); else the ranks that hold terms, which then share the sending.
    """
    group, into, size = found
    needers = target.ranks.reshape(len(target.ranks), -1)[into]
    held = source.group_of[needers] == group[:, None]
    count = held.sum(1)
    terms, replicas = target.ranks.shape[1:]
    holders = source.ranks.reshape(len(source.ranks), -1)
    at_target = replicas == 1
    key, width = (into, terms) if at_target else (group, holders.shape[1])
    pieces = np.where(count > 0, count, _pieces(np.full(len(size), width), np.where(count > 0, -1, key)))
    parts, index = _cut(source, target, found, pieces)
    first = np.cumsum(np.r_[0, np.bincount(index, minlength=len(size))])[:-1]
    nearest = _nth(held, index, np.arange(len(index)) - first[index])
    best = np.where(count[index] > 0, nearest, 0)
    reducer, chosen = needers[index, best], best // replicas
    lone = np.flatnonzero(count[index] == 0)
    if len(lone):
        share = spread((parts.into if at_target else parts.group)[lone], parts.size[lone], width)
        chosen[lone] = share % terms
        reducer[lone] = needers[index[lone], share] if at_target else holders[parts.group[lone], share]
    return _with(parts, chosen=chosen, reducer=reducer)


def share_holders(holders: Integers, key: Integers, load: Integers, takers: Integers, hosts: Integers) -> Integers:
    """For each item the rank of `holders[key]` that gives it to its taker; the loads of one row's ranks are balanced.

    With `hosts` (by rank; empty: all ranks share one), a taker is served by its own host where that holds the item.
    """
    replicas = holders.shape[1]
    if not len(hosts) or (hosts == hosts[0]).all():
        return holders[key, spread(key, load, replicas)]
    home, lives = hosts[takers], hosts[holders]
    order = np.lexsort((holders, lives))
    columns = np.take_along_axis(holders, order, 1)
    same = lives[key] == home[:, None]
    count, first = same.sum(1), (lives[key] < home[:, None]).sum(1)
    is_near = count > 0
    share = spread(np.where(is_near, key * (int(hosts.max()) + 1) + home, -1 - key), load, np.maximum(count, 1))
    far = spread(key, np.where(is_near, 0, load), replicas)
    return np.asarray(columns[key, np.where(is_near, first + share, far)])


def _pieces(ways: Integers, key: Integers) -> Integers:
    """Into how many pieces each cell is cut so that the cells of one key can be shared in `ways` ways."""
    if not len(key):
        return ways
    return -(-ways // np.bincount(key + 1)[key + 1])


def _nth(mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], row: Integers, n: Integers) -> Integers:
    """The column of the n-th True of `mask[row]`, elementwise; any column where there are fewer."""
    rows, columns = mask.nonzero()
    if not len(columns):
        return np.zeros(len(row), np.int64)
    first = np.searchsorted(rows, np.arange(len(mask)))
    return np.asarray(columns[np.minimum(first[row] + n, len(columns) - 1)])


def _cut(source: Grid, target: Grid, found: Cells, pieces: Integers) -> tuple[Parts, Integers]:
    """The cells cut into at most `pieces` boxes each, and the cell of every part."""
    group, into, size = found
    everything = np.arange(len(size))
    low, length = lengths(source, target, group, into)
    none = np.full(len(size), -1, np.int64)
    if not len(low) or (pieces <= 1).all():
        return Parts(source, target, group, into, size, none + 1, none), everything
    dimension = cut_dimension(length, pieces)
    span = length[dimension, everything]
    pieces = np.minimum(pieces, span)
    index = np.repeat(everything, pieces)
    number = np.arange(len(index)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    start, stop = cut_range(span[index], pieces[index], number)
    origin = low[dimension, everything][index]
    size = (size // span)[index] * (stop - start)
    none = np.full(len(index), -1, np.int64)
    cut = (dimension[index], origin + start, origin + stop)
    return Parts(source, target, group[index], into[index], size, none + 1, none, cut), index


def _with(parts: Parts, chosen: Integers, reducer: Integers | None = None) -> Parts:
    return Parts(
        parts.source, parts.target, parts.group, parts.into, parts.size, chosen,
        parts.reducer if reducer is None else reducer, parts.cut,
    )  # fmt: skip
