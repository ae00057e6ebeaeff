"""Sorting along an axis, which is needed whole; all other dimensions may be split.

Sorts are stable in both directions: elements that are equal keep their order. nan counts as greater than all numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import operands
from flowcore.dtypes import bool_, float32, float64, int32, int64
from flowcore.errors import DTypeError, ShapeError
from flowcore.op import Array, Op, Sample, Type, function, operator
from flowcore.ops.axes import axis_of, letters
from flowcore.ops.call import apply
from flowcore.ops.gather import take_along_axis
from flowcore.ops.indexing import getitem
from flowcore.placement.signature import Equation
from flowcore.tensor import Tensor, TensorLike

__all__ = ["argsort", "sort", "top_k"]


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
        is_stable = x.dtype.kind == "f"
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
        order = np.argsort(self.turned(x), axis=self.axis, kind="stable")
        return self.turned(x.shape[self.axis] - 1 - order) if self.descending else order

    def vjp(self, dy: Tensor, x: Tensor) -> Any:
        return None


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
    if not 0 <= k <= tensor.shape[along]:
        raise ShapeError(f"top_k of {k} along an axis of {tensor.shape[along]}: give 0..{tensor.shape[along]}")
    order = argsort(tensor, axis=along, descending=largest)
    best = getitem(order, (slice(None),) * along + (slice(k),))
    return take_along_axis(tensor, best, axis=along), best
