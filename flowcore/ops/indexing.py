"""Indexing, assignment through an index, and functions made of slices and comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from flowcore.dispatch import operands, to_global
from flowcore.dtypes import float32, int64
from flowcore.errors import DTypeError, IndexingError
from flowcore.op import function
from flowcore.ops.axes import axes_of
from flowcore.ops.call import apply
from flowcore.ops.cast import astype
from flowcore.ops.check import below, wrapped
from flowcore.ops.comparison import equal, greater_equal
from flowcore.ops.create import arange
from flowcore.ops.dynamic import places_of
from flowcore.ops.extrema import maximum
from flowcore.ops.gather import take
from flowcore.ops.key import Key, Pick, read_key
from flowcore.ops.scatter import segment_max
from flowcore.ops.selection import where
from flowcore.ops.shape import broadcast_to, expand_dims, permute_dims, reshape
from flowcore.ops.slices import Overwrite, Slice
from flowcore.placement.layout import Shape
from flowcore.placement.sbp import B
from flowcore.tensor import Tensor, TensorLike

__all__ = ["flip", "getitem", "one_hot", "written"]


@function
def getitem(x: TensorLike, key: Any, /) -> Tensor:
    """x[key] by numpy's rules: integers, slices, None, `...`, integer arrays and boolean masks.

    A mask gives a shape that depends on its values: TraceError inside fc.compile.
    """
    (tensor,) = operands(x)
    read = read_key(key, tensor)
    cut = _cut(tensor, read)
    if not read.picks:
        return cut
    rows, index = _rows(cut, read)
    found = take(rows, index, axis=read.place)
    is_known = any(pick.is_mask for pick in read.picks) and found.trace is None
    return to_global(found, sbp=B) if is_known and found.layout.is_partial else found


def _cut(x: Tensor, key: Key) -> Tensor:
    """The part of `x` that the slices and integers of `key` leave, in the key's shape."""
    if not key.is_whole(x.shape):
        starts, lengths, steps = zip(*key.spans, strict=True)
        x = apply(Slice(starts, lengths, steps), x)
    return reshape(x, key.shape)


def _order(key: Key) -> tuple[int, ...]:
    """The dimensions of the key's shape with the picked ones brought together at their place."""
    rest = [axis for axis in range(len(key.shape)) if axis not in key.picked]
    return (*rest[: key.place], *key.picked, *rest[key.place :])


def _rows(x: Tensor, key: Key) -> tuple[Tensor, Tensor]:
    """`x`, of the key's shape, with the picked dimensions as one at their place, and the indices along that."""
    moved = permute_dims(x, _order(key))
    after = moved.shape[key.place + len(key.picked) :]
    length = prod(key.shape[axis] for axis in key.picked)
    rows = reshape(moved, (*moved.shape[: key.place], length, *after))
    if len(key.picks) == 1:
        return rows, _indices(key.picks[0])
    index, stride, places = None, length, [_indices(pick) for pick in key.picks]
    _check_together([place.shape for place in places])
    for pick, place in zip(key.picks, places, strict=True):
        span = prod(key.shape[pick.axis : pick.axis + pick.count])
        stride = stride // span if span else 0
        term = wrapped(place, span) * stride
        index = term if index is None else index + term
    assert index is not None
    return rows, index


def _check_together(shapes: Sequence[Shape]) -> None:
    """IndexingError where index arrays of these shapes do not broadcast against each other."""
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        shown = " and ".join(map(str, shapes))
        raise IndexingError(
            f"index arrays of shapes {shown}: they must broadcast against each other (a mask counts as one dimension "
            f"of as many as it picks); index one after the other, or reshape one"
        ) from None


def _indices(pick: Pick) -> Tensor:
    """The places that `pick` takes along its dimensions, as if they were one."""
    return places_of(pick.array) if pick.is_mask else pick.array


def written(x: TensorLike, key: Any, value: TensorLike, /) -> Tensor:
    """x with x[key] = value: `value` broadcasts to the shape of x[key]; of equal indices the last one counts.

    value: of a dtype that x's can hold. A mask inside fc.compile takes a scalar, or a value that does not depend on
    how many elements the mask picks.
    """
    tensor, new = operands(x, value)
    if not np.can_cast(new.dtype, tensor.dtype, "same_kind"):
        raise DTypeError(f"assignment of {new.dtype} to elements of {tensor.dtype}: cast the value with astype first")
    new, read = astype(new, tensor.dtype), read_key(key, tensor)
    part = _over_rows(_cut(tensor, read), read, new) if read.picks else _fit(new, read.shape)
    lengths = tuple(length for _, length, _ in read.spans)
    if read.is_whole(tensor.shape):
        return reshape(part, tensor.shape)
    starts, _, steps = zip(*read.spans, strict=True)
    return apply(Overwrite(starts, lengths, steps), tensor, reshape(part, lengths))


def _fit(value: Tensor, shape: Shape) -> Tensor:
    """`value` broadcast to `shape`; leading dimensions of length 1 beyond it are dropped."""
    extra = value.ndim - len(shape)
    if extra > 0 and value.shape[:extra] == (1,) * extra:
        value = reshape(value, value.shape[extra:])
    return broadcast_to(value, shape)


def _over_rows(x: Tensor, key: Key, value: Tensor) -> Tensor:
    """`x`, of the key's shape, with `value` where the picks point."""
    first, *others = key.picks
    after = len(key.shape) - first.axis - first.count
    if first.is_mask and not others and value.ndim <= after:
        mask = reshape(first.array, (1,) * first.axis + first.array.shape + (1,) * after)
        return where(mask, broadcast_to(value, x.shape), x)
    rows, index = _rows(x, key)
    before, behind = rows.shape[: key.place], rows.shape[key.place + 1 :]
    count, length = index.size, rows.shape[key.place]
    if count == 0:
        _fit(value, (*before, *index.shape, *behind))
        return x
    values = reshape(_fit(value, (*before, *index.shape, *behind)), (*before, count, *behind))
    numbers = arange(count, dtype=int64, placement=index.placement)
    last = segment_max(numbers, reshape(index, (count,)), length)
    hit = reshape(greater_equal(last, 0), (1,) * len(before) + (length,) + (1,) * len(behind))
    new = where(hit, take(values, maximum(last, 0), axis=key.place), rows)
    order = _order(key)
    back = tuple(order.index(axis) for axis in range(len(order)))
    return permute_dims(reshape(new, tuple(x.shape[axis] for axis in order)), back)


@function
def flip(x: TensorLike, /, *, axis: int | tuple[int, ...] | None = None) -> Tensor:
    """x with the order of elements along `axis` (None: all) reversed."""
    (tensor,) = operands(x)
    axes = axes_of(axis, tensor.ndim, "flip")
    turned = (slice(None, None, -1) if place in axes else slice(None) for place in range(tensor.ndim))
    return getitem(tensor, tuple(turned))


@function
def one_hot(indices: TensorLike, depth: int, /, *, dtype: Any = float32) -> Tensor:
    """1 at the place that each index names along a new last dimension of length `depth`, else 0.

    indices: integers in 0..depth-1; ShapeError names one that is not.
    """
    places = below(operands(indices)[0], depth, "one_hot index")
    return astype(equal(expand_dims(places, -1), arange(depth, dtype=places.dtype, placement=places.placement)), dtype)
