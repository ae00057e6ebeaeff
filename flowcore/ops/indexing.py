"""Basic indexing, and functions made of slices and comparisons."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowcore.dispatch import operands
from flowcore.dtypes import float32
from flowcore.errors import DTypeError, ShapeError
from flowcore.op import function
from flowcore.ops.axes import axes_of
from flowcore.ops.call import apply
from flowcore.ops.cast import astype
from flowcore.ops.check import below
from flowcore.ops.comparison import equal
from flowcore.ops.create import arange
from flowcore.ops.gather import take
from flowcore.ops.shape import expand_dims, reshape
from flowcore.ops.slices import Slice
from flowcore.tensor import Tensor, TensorLike

__all__ = ["flip", "getitem", "one_hot"]

Span = tuple[int, int, int]


@function
def getitem(x: TensorLike, key: Any, /) -> Tensor:
    """x[key] for integers, slices, None, `...` and at most one integer tensor, which picks along its dimension."""
    (tensor,) = operands(x)
    items = _without_ellipsis(key if isinstance(key, tuple) else (key,), tensor)
    _check_together(items)
    spans: list[Span] = []
    shape: list[int] = []
    picked: tuple[int, Any] | None = None
    for item in items:
        if item is None:
            shape.append(1)
            continue
        length = tensor.shape[len(spans)]
        if isinstance(item, slice):
            spans.append(_span(item, length))
            shape.append(spans[-1][1])
        elif _is_integer(item):
            spans.append((_place(int(item), length, len(spans)), 1, 1))
        elif picked is None:
            picked = (len(shape), _indices(item))
            spans.append((0, length, 1))
            shape.append(length)
        else:
            raise ShapeError("an index with several tensors: use one per indexing step, or take_along_axis")
    result = reshape(_sliced(tensor, spans), shape)
    return result if picked is None else take(result, picked[1], axis=picked[0])


def _without_ellipsis(items: tuple[Any, ...], tensor: Tensor) -> list[Any]:
    """One item per dimension (and the Nones): `...`, or the end, stands for whole dimensions."""
    named = sum(item is not None and item is not Ellipsis for item in items)
    if named > tensor.ndim:
        raise ShapeError(f"{named} indices for shape {tensor.shape}: give at most {tensor.ndim}")
    places = [place for place, item in enumerate(items) if item is Ellipsis]
    if len(places) > 1:
        raise ShapeError("an index with several `...`: give at most one")
    place = places[0] if places else len(items)
    return [*items[:place], *[slice(None)] * (tensor.ndim - named), *items[place + 1 :]]


def _check_together(items: list[Any]) -> None:
    """ShapeError where integers stand apart from a tensor: numpy moves the picked dimension to the front then."""
    places = [place for place, item in enumerate(items) if item is not None and not isinstance(item, slice)]
    if not all(_is_integer(items[place]) for place in places) and places[-1] - places[0] >= len(places):
        raise ShapeError("an index with integers apart from a tensor: use the integers first, then the tensor")


def _is_integer(item: Any) -> bool:
    return isinstance(item, int | np.integer) and not isinstance(item, bool)


def _indices(item: Any) -> Any:
    indices = item if isinstance(item, Tensor) else np.asarray(item)
    if indices.dtype.kind not in "iu":
        raise DTypeError(f"an index of {indices.dtype}: its shape would depend on values; use where, or integers")
    return indices


def _span(item: slice, length: int) -> Span:
    """(start, length, step) of a slice of `length` elements."""
    picked = range(length)[item]
    return (picked.start, len(picked), picked.step) if len(picked) else (0, 0, 1)


def _place(index: int, length: int, axis: int) -> int:
    if not -length <= index < length:
        raise ShapeError(f"index {index} of dimension {axis}: it has {length} elements; give {-length}..{length - 1}")
    return index % length


def _sliced(tensor: Tensor, spans: list[Span]) -> Tensor:
    if all(span == (0, length, 1) for span, length in zip(spans, tensor.shape, strict=True)):
        return tensor
    starts, lengths, steps = zip(*spans, strict=True)
    return apply(Slice(starts, lengths, steps), tensor)


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
