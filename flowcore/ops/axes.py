"""Axes as users write them (one or several, counted from either end, or all) → sorted tuples counted from 0."""

from __future__ import annotations

from collections.abc import Sequence

from flowcore.errors import IndexingError, ShapeError
from flowcore.op import MAX_DIMENSIONS


def axis_of(axis: int, ndim: int, name: str) -> int:
    """`axis` counted from 0; IndexingError where a tensor of `ndim` dimensions does not have it."""
    if not -ndim <= axis < ndim:
        raise IndexingError(
            f"{name} along axis {axis}: the tensor has {ndim} dimensions; give one of {-ndim}..{ndim - 1}"
        )
    return axis % ndim


def axes_of(axis: int | Sequence[int] | None, ndim: int, name: str) -> tuple[int, ...]:
    """The axes named by `axis`, in order and each once; None: all."""
    if axis is None:
        return tuple(range(ndim))
    found = [axis_of(item, ndim, name) for item in ((axis,) if isinstance(axis, int) else axis)]
    if len(set(found)) != len(found):
        raise ShapeError(f"{name} along axes {axis}: an axis stands twice; name each once")
    return tuple(sorted(found))


def letters(ndim: int) -> str:
    """One lower-case letter per dimension."""
    if ndim > MAX_DIMENSIONS:
        raise ShapeError(f"a tensor of {ndim} dimensions: there can be {MAX_DIMENSIONS}; reshape it")
    return "abcdefghijklmnopqrstuvwxyz"[:ndim]
