"""Quantiles over axes: places between neighbours in the sorted order."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from flowcore.dispatch import operands
from flowcore.errors import DTypeError, ShapeError
from flowcore.op import function
from flowcore.ops.axes import axes_of
from flowcore.ops.cast import floating
from flowcore.ops.comparison import isnan
from flowcore.ops.gather import take
from flowcore.ops.reduce import Axis
from flowcore.ops.selection import where
from flowcore.ops.shape import permute_dims, reshape
from flowcore.ops.sort import sort
from flowcore.tensor import Tensor, TensorLike

__all__ = ["median", "quantile"]


@function
def quantile(x: TensorLike, q: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The q-quantiles over `axis` (None: all), between neighbours in proportion; nan where one element is nan.

    q: numbers (not a tensor) from 0 to 1; their dimensions come first in the result. Integers are taken as float32.
    """
    (tensor,) = floating(*operands(x))
    axes = axes_of(axis, tensor.ndim, "quantile")
    kept = tuple(place for place in range(tensor.ndim) if place not in axes)
    count = prod(tensor.shape[place] for place in axes)
    try:
        wanted = np.asarray(q, np.float64)
    except (TypeError, ValueError):
        raise DTypeError(f"quantile {q!r}: give numbers from 0 to 1") from None
    if count == 0 or not np.all((wanted >= 0) & (wanted <= 1)):
        raise ShapeError(f"quantile {q} of {count} elements: give numbers from 0 to 1, of at least one element")
    lengths = tuple(tensor.shape[place] for place in kept)
    row = sort(reshape(permute_dims(tensor, (*kept, *axes)), (*lengths, count)))
    place = wanted.reshape(-1) * (count - 1)
    below = np.floor(place).astype(np.int64)
    weight = (place - below).astype(tensor.dtype)
    low, high = take(row, below, axis=-1), take(row, np.minimum(below + 1, count - 1), axis=-1)
    between = where(weight == 0, low, low * (1 - weight) + high * weight)  # 0 · inf is nan
    found = where(isnan(take(row, np.array([count - 1]), axis=-1)), np.nan, between)
    ones = tuple(1 if place in axes else length for place, length in enumerate(tensor.shape))
    front = permute_dims(found, (len(kept), *range(len(kept))))
    return reshape(front, (*wanted.shape, *(ones if keepdims else lengths)))


@function
def median(x: TensorLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The middle element over `axis` (None: all), or the mean of the two; nan where one element is nan."""
    return quantile(x, 0.5, axis=axis, keepdims=keepdims)
