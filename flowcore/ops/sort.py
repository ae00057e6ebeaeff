"""Sorting along an axis, which is needed whole; all other dimensions may be split.

Sorts are stable in both directions: elements that are equal keep their order. nan counts as greater than all numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import operands
from flowcore.dtypes import bool_, float32, float64, int32, int64, is_real
from flowcore.errors import DTypeError, ShapeError
from flowcore.op import Array, Op, Sample, Type, function, operator
from flowcore.ops.axes import axis_of, letters
from flowcore.ops.call import apply
from flowcore.ops.gather import take_along_axis
from flowcore.placement.signature import Equation
from flowcore.tensor import Tensor, TensorLike

__all__ = ["argsort", "sort", "top_k"]

FEW = 8
"""Elements are picked by partition, rather than by sorting all, where they are fewer than one in so many."""


@dataclass(frozen=True)
class Ordering(Op):
    """Something about the order of the elements along `axis`."""

    axis: int
    descending: bool = False

    def infer(self, x: Type) -> tuple[Type, ...]:
        axis_of(self.axis, x.ndim, self.name)
        if x.dtype.kind == "c":
            raise DTypeError(f"{self.name} of {x.dtype}: complex numbers have no order; take abs or real first")
        return (x,)

    def equation(self, x: Type) -> Equation:
        term = letters(x.ndim)
        term = term.replace(term[self.axis], term[self.axis].upper())
        return Equation((term,), (term,))

    def turned(self, x: Array) -> Array:
        """`x`, reversed along the axis where the order is descending."""
        return np.flip(x, self.axis) if self.descending else x

    def flops(self, *types: Type) -> int:
        return types[0].size * max(types[0].shape[self.axis].bit_length(), 1)

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return replace(self, axis=self.axis + 1)

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        cases = (
            ((5, 7), 0, False, float64, "normal"), ((3, 5, 4), 1, True, float32, "special"),
            ((5, 7), 1, True, int64, "index:3"), ((5, 7), 1, False, int32, "normal"), ((5, 7), 1, True, bool_, "bool"),
            ((3, 5, 4), 2, True, float64, "normal"),
        )  # fmt: skip
        return tuple(
            Sample(cls(axis=axis, descending=descending), (Type(shape, dtype),), (draw,))
            for shape, axis, descending, dtype, draw in cases
        )


@operator
class Sort(Ordering):
    """y[a, ·] = the elements x[a, ·] in order."""

    name: ClassVar[str] = "sort"

    def kernel(self, x: Array) -> Any:
        # integers that are equal cannot be told apart; zeros of floats can, by their sign
        is_stable = is_real(x.dtype)
        return self.turned(np.sort(self.turned(x), axis=self.axis, kind="stable" if is_stable else None))

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        order = apply(ArgSort(self.axis, self.descending), x)
        return take_along_axis(dy, apply(ArgSort(self.axis), order), axis=self.axis)


@operator
class ArgSort(Ordering):
    """y[a, ·] = the indices along the axis that put x[a, ·] in order."""

    name: ClassVar[str] = "argsort"

    def infer(self, x: Type) -> tuple[Type, ...]:
        (same,) = super().infer(x)
        return (Type(same.shape, int64),)

    def kernel(self, x: Array) -> Any:
        return np.moveaxis(_order(np.moveaxis(x, self.axis, -1), self.descending), -1, self.axis)

    def vjp(self, dy: Tensor, x: Tensor) -> Any:
        return None


@operator
class ArgTop(Ordering):
    """y[a, ·] = the first k of the indices that put x[a, ·] in order."""

    k: int = 0

    name: ClassVar[str] = "argtop"

    def infer(self, x: Type) -> tuple[Type, ...]:
        super().infer(x)
        length = x.shape[self.axis]
        if not 0 <= self.k <= length:
            raise ShapeError(f"top_k of {self.k} along an axis of {length}: give 0..{length}")
        return (Type((*x.shape[: self.axis], self.k, *x.shape[self.axis + 1 :]), int64),)

    def equation(self, x: Type) -> Equation:
        term = letters(x.ndim)
        return Equation((term.replace(term[self.axis], "Z"),), (term.replace(term[self.axis], "Y"),))

    def kernel(self, x: Array) -> Any:
        rows = np.moveaxis(x, self.axis, -1)
        length = rows.shape[-1]
        if 0 < self.k * FEW < length and x.size and not (is_real(x.dtype) and np.isnan(x).any()):
            found = self._picked(rows)
            values = np.take_along_axis(rows, found, -1)
            found = np.take_along_axis(found, _order(values, self.descending), -1)
        else:
            found = _order(rows, self.descending)[..., : self.k]
        return np.moveaxis(found, -1, self.axis)

    def _picked(self, rows: Array) -> Array:
        """The indices, in order, of the k elements of each row that come first; found without sorting all."""
        place = rows.shape[-1] - self.k if self.descending else self.k - 1
        last = np.partition(rows, place, axis=-1)[..., place : place + 1]
        before, equal = (rows > last if self.descending else rows < last), rows == last
        room = self.k - before.sum(axis=-1, keepdims=True)
        picked = before | (equal & (np.cumsum(equal, axis=-1) <= room))
        return np.nonzero(picked)[-1].reshape(*rows.shape[:-1], self.k)

    def vjp(self, dy: Tensor, x: Tensor) -> Any:
        return None

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        cases = (((5, 7), 1, True, 2, float64, "normal"), ((25, 3), 0, False, 3, int64, "index:4"))
        return tuple(
            Sample(cls(axis, descending, k), (Type(shape, dtype),), (draw,))
            for shape, axis, descending, k, dtype, draw in cases
        )


def _order(x: Array, descending: bool) -> Array:
    """The indices that put the rows of `x` in order, those of equal elements in their order."""
    if not descending:
        return np.argsort(x, axis=-1, kind="stable")
    return np.flip(x.shape[-1] - 1 - np.argsort(np.flip(x, -1), axis=-1, kind="stable"), -1)


@function
def sort(x: TensorLike, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The elements in order along `axis`; nan is greater than all numbers. Always stable."""
    (tensor,) = operands(x)
    return apply(Sort(axis_of(axis, tensor.ndim, "sort"), bool(descending)), tensor)


@function
def argsort(x: TensorLike, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The indices (int64) that put x in order along `axis`, those of equal elements in their order."""
    (tensor,) = operands(x)
    return apply(ArgSort(axis_of(axis, tensor.ndim, "argsort"), bool(descending)), tensor)


@function
def top_k(x: TensorLike, k: int, /, *, axis: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """(the k greatest elements along `axis`, greatest first; their indices), of equal ones the first; or the least."""
    (tensor,) = operands(x)
    along = axis_of(axis, tensor.ndim, "top_k")
    best = apply(ArgTop(along, bool(largest), k), tensor)
    return take_along_axis(tensor, best, axis=along), best
