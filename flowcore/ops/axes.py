"""Axes as users write them (one or several, counted from either end, or all) → sorted tuples counted from 0."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index
from typing import Any

from flowcore.errors import DTypeError, IndexingError, ShapeError
from flowcore.op import MAX_DIMENSIONS


def whole_number(value: Any, what: str) -> int:
    """`value`, an integer; DTypeError where it is none."""
    try:
        return index(value)
    except TypeError:
        raise DTypeError(f"{what} {value!r}: give an integer") from None


def whole_numbers(value: Any, what: str) -> tuple[int, ...]:
    """`value`, one integer or several, as a tuple; DTypeError where one is none."""
    return tuple(whole_number(item, what) for item in (value if isinstance(value, Iterable) else (value,)))


def lengths_of(shape: Any) -> tuple[int, ...]:
    """`shape`, one length or several, as a tuple of integers."""
    return whole_numbers(shape, "a length of")


def axis_of(axis: int, ndim: int, name: str) -> int:
    """`axis` counted from 0; IndexingError where a tensor of `ndim` dimensions does not have it."""
    place = whole_number(axis, f"{name} along axis")
    if not -ndim <= place < ndim:
        raise IndexingError(
            f"{name} along axis {place}: the tensor has {ndim} dimensions; give one of {-ndim}..{ndim - 1}"
        )
    return place % ndim


def axes_of(axis: int | Sequence[int] | None, ndim: int, name: str) -> tuple[int, ...]:
    """The axes named by `axis`, in order and each once; None: all."""
    if axis is None:
        return tuple(range(ndim))
    found = [axis_of(item, ndim, name) for item in (axis if isinstance(axis, Iterable) else (axis,))]
    if len(set(found)) != len(found):
        raise ShapeError(f"{name} along axes {axis}: an axis stands twice; name each once")
    return tuple(sorted(found))


def letters(ndim: int) -> str:
    """One lower-case letter per dimension."""
    if ndim > MAX_DIMENSIONS:
        raise ShapeError(f"a tensor of {ndim} dimensions: there can be {MAX_DIMENSIONS}; reshape it")
    return "abcdefghijklmnopqrstuvwxyz"[:ndim]
