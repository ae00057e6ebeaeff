"""Rows of numpy arrays by index: checked, picked, and reduced by target."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowcore.errors import IndexingError
from flowcore.op import Array


def positions(indices: Array, total: int, name: str) -> Array:
    """`indices` with negative ones counted from the end of `total` rows; IndexingError where one is out of range."""
    if indices.size == 0:
        return indices
    low, high = indices.min(), indices.max()
    if low < -total or high >= total:
        wrong = high if high >= total else low
        raise IndexingError(
            f"{name} of index {wrong}: the axis has {total} rows; give indices in {-total}..{total - 1}"
        )
    return np.where(indices < 0, indices + total, indices) if low < 0 else indices


def pick(table: Array, places: Array, axis: int, batch: int) -> Array:
    """y[b, p, i, q] = table[b, p, places[b, i], q], `batch` dimensions b in front; all places are in range."""
    if batch == 0:
        return np.take(table, places, axis=axis)
    front = np.moveaxis(table, axis, batch)
    grid = np.ogrid[tuple(slice(length) for length in table.shape[:batch])]
    spread = [line.reshape(line.shape + (1,) * (places.ndim - batch)) for line in grid]
    picked = front[(*spread, places)]
    # (batch, indices, before, after) -> (batch, before, indices, after)
    return np.moveaxis(picked, range(places.ndim, places.ndim + axis - batch), range(batch, axis))


def grouped(ufunc: np.ufunc, target: Array, values: Array, length: int, identity: Any) -> Array:
    """(length, columns): row n is `ufunc` over the rows of `values` whose target is n, in their order."""
    found = np.full((length, values.shape[1]), identity, values.dtype)
    if target.size and values.shape[1]:
        order = np.argsort(target, kind="stable")
        sorted_target = target[order]
        first = np.flatnonzero(np.concatenate(([True], sorted_target[1:] != sorted_target[:-1])))
        reduced = ufunc.reduceat(values[order], first, axis=0, dtype=values.dtype)
        # 0.0 + -0.0 is 0.0, as where other ranks have the identity
        found[sorted_target[first]] = ufunc(found[sorted_target[first]], reduced)
    return found
