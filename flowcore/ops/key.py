"""What stands between the brackets of x[…], read against the shape of x.

A key is a slice along every dimension, then a shape (dimensions indexed by an integer are gone, each None is a new
one), then arrays that pick elements: an integer array along one dimension, a boolean one along as many as it has. The
arrays broadcast against each other; the dimensions of their common shape stand where the first picked dimension stood,
or in front where something else stands between the arrays and integers of the key. These are numpy's rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np

from flowcore.dispatch import asarray
from flowcore.dtypes import bool_, int64
from flowcore.errors import DTypeError, IndexingError
from flowcore.placement.layout import Shape
from flowcore.tensor import Tensor

Span = tuple[int, int, int]
"""(start, length, step) along one dimension."""


@dataclass(frozen=True, eq=False)
class Pick:
    """`array` picks along the `count` dimensions from `axis` on: a mask along as many as it has, indices along one."""

    axis: int
    count: int
    array: Tensor

    @property
    def is_mask(self) -> bool:
        """Whether the array says of every element if it is picked."""
        return self.array.dtype == bool_


@dataclass(frozen=True, eq=False)
class Key:
    """A key read against a shape: `spans` per dimension of it, the `shape` then, and the `picks` in that shape."""

    spans: tuple[Span, ...]
    shape: Shape
    picks: tuple[Pick, ...]
    is_apart: bool
    """Whether the picked dimensions go to the front."""

    @property
    def place(self) -> int:
        """The dimension of the result at which those of the arrays' common shape begin."""
        return 0 if self.is_apart else self.picks[0].axis

    @property
    def picked(self) -> tuple[int, ...]:
        """The dimensions of `shape` along which arrays pick."""
        return tuple(axis for pick in self.picks for axis in range(pick.axis, pick.axis + pick.count))

    def is_whole(self, x: Shape) -> bool:
        """Whether the spans are all of a tensor of shape `x`."""
        return all(span == (0, length, 1) for span, length in zip(self.spans, x, strict=True))


def read_key(key: Any, x: Tensor) -> Key:
    """`key` against the shape of `x`; IndexingError where it does not fit, DTypeError where it is no index."""
    given = [_item(item, x) for item in (key if isinstance(key, tuple) else (key,))]
    items = _complete(given, x.shape)
    spans: list[Span] = []
    shape: list[int] = []
    picks: list[Pick] = []
    for item in items:
        length = x.shape[len(spans)] if len(spans) < x.ndim else 0
        match item:
            case None:
                shape.append(1)
            case int():
                spans.append((_place(item, length, len(spans)), 1, 1))
            case slice():
                spans.append(_span(item, length))
                shape.append(spans[-1][1])
            case Tensor():
                pick = Pick(len(shape), item.ndim if item.dtype == bool_ else 1, item)
                lengths = x.shape[len(spans) : len(spans) + pick.count]
                if pick.is_mask and item.shape != lengths:
                    pick = Pick(pick.axis, pick.count, _none_of(item, lengths))
                spans.extend((0, length, 1) for length in lengths)
                shape.extend(lengths)
                picks.append(pick)
    return Key(tuple(spans), tuple(shape), tuple(picks), bool(picks) and _is_apart(given))


def _none_of(mask: Tensor, lengths: Shape) -> Tensor:
    """A mask that picks nothing, which is what one of other lengths picks where these are 0."""
    fits = [mine in (0, whole) for mine, whole in zip(mask.shape, lengths, strict=False)]
    if len(mask.shape) != len(lengths) or not all(fits):
        raise IndexingError(f"a mask of shape {mask.shape} for lengths {lengths}: they must be equal, or 0")
    return asarray(np.zeros(lengths, np.bool_), placement=mask.placement)


def _item(item: Any, x: Tensor) -> Any:
    """One item of a key as None, `...`, a slice, an int or a tensor of integers or booleans."""
    if item is None or item is Ellipsis or isinstance(item, slice):
        return item
    if isinstance(item, bool | np.bool_):
        return asarray(np.bool_(item), placement=x.placement, sbp="B")
    if not isinstance(item, Tensor):
        array = np.asarray(item)
        if array.ndim == 0 and array.dtype.kind in "iu":
            return int(array)
        if array.size == 0 and not isinstance(item, np.ndarray):
            array = array.astype(int64)
        if array.dtype.kind not in "biu":
            raise DTypeError(f"an index of {array.dtype}: use integers, slices, None, `...` or boolean masks")
        return asarray(array, placement=x.placement, sbp="B")
    if item.dtype.kind not in "biu":
        raise DTypeError(f"an index of {item.dtype}: it must be of integers or booleans; cast with astype")
    return item


def _complete(items: list[Any], shape: Shape) -> list[Any]:
    """The items with `...`, or the end, replaced by whole slices, so that every dimension has its own."""
    named = sum(_consumed(item) for item in items)
    if named > len(shape):
        raise IndexingError(f"{named} indices for shape {shape}: give at most {len(shape)}")
    places = [place for place, item in enumerate(items) if item is Ellipsis]
    if len(places) > 1:
        raise IndexingError("an index with several `...`: give at most one")
    place = places[0] if places else len(items)
    return [*items[:place], *[slice(None)] * (len(shape) - named), *items[place + 1 :]]


def _consumed(item: Any) -> int:
    """How many dimensions of the tensor an item stands for."""
    if isinstance(item, Tensor):
        return item.ndim if item.dtype == bool_ else 1
    return 0 if item is None or item is Ellipsis else 1


def _is_apart(items: list[Any]) -> bool:
    """Whether a slice, a None or `...` stands between integers and arrays, of which one is an array."""
    places = [place for place, item in enumerate(items) if isinstance(item, int | Tensor)]
    return places[-1] - places[0] >= len(places)


def _span(item: slice, length: int) -> Span:
    """(start, length, step) of a slice of `length` elements."""
    picked = range(length)[slice(*_bounds(item))]
    return (picked.start, len(picked), picked.step) if len(picked) else (0, 0, 1)


def _bounds(item: slice) -> Iterator[int | None]:
    for bound in (item.start, item.stop, item.step):
        try:
            yield None if bound is None else index(bound)
        except TypeError:
            raise DTypeError(f"a slice bound of type {type(bound).__name__}: use integers or None") from None
    if item.step is not None and index(item.step) == 0:
        raise IndexingError("a slice with step 0: give a step that moves")


def _place(item: int, length: int, axis: int) -> int:
    if not -length <= item < length:
        raise IndexingError(f"index {item} of dimension {axis}: it has {length} elements; give {-length}..{length - 1}")
    return item % length
