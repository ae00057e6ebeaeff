"""Sums and products of all elements up to each, and the linear recurrence that their gradients are.

The axis is needed whole. The product y[i] = Π_{j ≤ i} x[j] has the gradient dx[i] = Π_{j < i} x[j] · h[i] with
h[i] = dy[i] + x[i+1] h[i+1]: no division, so zeros do no harm, in derivatives of any order, because the gradient of
a linear recurrence is made of linear recurrences in the other direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import operands
from flowcore.dtypes import DType, complex128, float64, int64
from flowcore.errors import DTypeError, ShapeError
from flowcore.op import Array, Op, Sample, Type, function, operator
from flowcore.ops.arithmetic import subtract
from flowcore.ops.axes import axis_of, letters
from flowcore.ops.call import apply
from flowcore.ops.cast import aligned, astype
from flowcore.ops.comparison import not_equal
from flowcore.ops.complex import conj
from flowcore.ops.join import concatenate, pad
from flowcore.ops.reduce import accumulator, sum_dtype
from flowcore.ops.shape import reshape
from flowcore.ops.slices import Slice
from flowcore.placement.layout import Shape
from flowcore.placement.signature import Algebra, Equation
from flowcore.tensor import Tensor, TensorLike

__all__ = ["cumprod", "cumsum", "cumulative_prod", "cumulative_sum", "diff", "linear_recurrence"]

CASES: tuple[tuple[Shape, int, bool], ...] = (((5, 7), 0, False), ((3, 5, 4), 1, True), ((5, 7), 1, True))


@dataclass(frozen=True)
class Along(Op):
    """Something computed element by element along `axis`, from its end where `reverse`."""

    axis: int
    reverse: bool = False

    def infer(self, *types: Any, **_: Any) -> tuple[Type, ...]:
        first = types[0]
        axis_of(self.axis, first.ndim, self.name)
        if first.dtype.kind == "b" or any(type != first for type in types):
            shown = " and ".join(map(str, types))
            raise DTypeError(f"{self.name} of {shown}: takes numbers of one dtype and shape; cast and broadcast")
        return (first,)

    def equation(self, *types: Any, **_: Any) -> Equation:
        term = letters(types[0].ndim)
        term = term.replace(term[self.axis], term[self.axis].upper())
        return Equation((term,) * len(types), (term,))

    def turned(self, x: Array) -> Array:
        """`x` with what comes first along the axis in front."""
        return np.flip(x, self.axis) if self.reverse else x

    def flops(self, *types: Type) -> int:
        return types[0].size * len(types)

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return replace(self, axis=self.axis + 1) if all(flags) else None

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        floats = tuple(Sample(cls(axis, reverse), (Type(shape, float64),)) for shape, axis, reverse in CASES)
        others = tuple(Sample(cls(1), (Type((5, 7), dtype),)) for dtype in (int64, complex128))
        return (*floats, *others)


@operator
class CumulativeSum(Along):
    """y[i] = Σ_{j ≤ i} x[j]."""

    name: ClassVar[str] = "cumulative_sum"
    algebra: ClassVar[Algebra] = Algebra(linear=(frozenset({0}),))

    def kernel(self, x: Array, **_: Any) -> Any:
        found = np.cumsum(self.turned(x), axis=self.axis, dtype=_wide(x.dtype))
        return self.turned(found).astype(x.dtype, copy=False)

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Any:
        return apply(CumulativeSum(self.axis, not self.reverse), dy)


@operator
class CumulativeProd(Along):
    """y[i] = Π_{j ≤ i} x[j]."""

    name: ClassVar[str] = "cumulative_prod"

    def kernel(self, x: Array, **_: Any) -> Any:
        found = np.cumprod(self.turned(x), axis=self.axis, dtype=_wide(x.dtype))
        return self.turned(found).astype(x.dtype, copy=False)

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Any:
        before = shifted(apply(self, x), self.axis, not self.reverse, 1)
        after = shifted(x, self.axis, self.reverse, 0)
        return conj(before) * apply(Recurrence(self.axis, not self.reverse), conj(after), dy)


@operator
class Recurrence(Along):
    """y[i] = a[i] y[i-1] + b[i], where y[-1] = 0."""

    name: ClassVar[str] = "recurrence"
    algebra: ClassVar[Algebra] = Algebra(linear=(frozenset({1}),))

    def kernel(self, a: Array, b: Array, **_: Any) -> Any:
        y = np.array(b)
        factors, terms = (np.moveaxis(self.turned(array), self.axis, 0) for array in (a, y))
        for place in range(1, len(terms)):
            terms[place] += factors[place] * terms[place - 1]
        return y

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor, **_: Any) -> Any:
        after = shifted(a, self.axis, self.reverse, 0)
        db = apply(Recurrence(self.axis, not self.reverse), conj(after), dy)
        return db * conj(shifted(apply(self, a, b), self.axis, not self.reverse, 0)), db

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return tuple(replace(sample, types=sample.types * 2) for sample in super().samples())


def _wide(dtype: DType) -> DType:
    """The dtype in which to add up elements of `dtype`, whose results keep it."""
    return dtype if dtype.kind in "iu" else accumulator(dtype)


def shifted(x: Tensor, axis: int, forward: bool, fill: float) -> Tensor:
    """y[i] = x[i-1] along `axis` (not forward: x[i+1]), and `fill` at the end that is left open."""
    if x.shape[axis] == 0:
        return x
    widths = [(0, 0)] * x.ndim
    widths[axis] = (1, 0) if forward else (0, 1)
    return pad(_without(x, axis, first=not forward), widths, fill)


def _without(x: Tensor, axis: int, first: bool) -> Tensor:
    """`x` without its first or its last element along `axis`, if it has any."""
    length = x.shape[axis]
    starts = tuple(int(place == axis and first and length > 0) for place in range(x.ndim))
    lengths = (*x.shape[:axis], max(length - 1, 0), *x.shape[axis + 1 :])
    return apply(Slice(starts, lengths, (1,) * x.ndim), x)


def _cumulated(kind: type[Along], x: TensorLike, axis: int | None, dtype: Any, include_initial: bool) -> Tensor:
    (tensor,) = operands(x)
    if axis is None and tensor.ndim != 1:
        raise ShapeError(f"{kind.name} of shape {tensor.shape} without an axis: name the axis, or reshape to one")
    along = 0 if axis is None else axis_of(axis, tensor.ndim, kind.name)
    found = apply(kind(along), astype(tensor, sum_dtype(tensor.dtype) if dtype is None else dtype))
    if not include_initial:
        return found
    first = 0 if kind is CumulativeSum else 1
    return pad(found, [(int(place == along), 0) for place in range(tensor.ndim)], first)


@function
def cumulative_sum(
    x: TensorLike, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Tensor:
    """y[i] = Σ_{j ≤ i} x[j] along `axis`; include_initial: a 0 stands in front. Integers are summed in 64 bits."""
    return _cumulated(CumulativeSum, x, axis, dtype, include_initial)


@function
def cumulative_prod(
    x: TensorLike, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Tensor:
    """y[i] = Π_{j ≤ i} x[j] along `axis`; include_initial: a 1 stands in front. Integers are multiplied in 64 bits."""
    return _cumulated(CumulativeProd, x, axis, dtype, include_initial)


@function
def cumsum(x: TensorLike, /, axis: int | None = None, dtype: Any = None) -> Tensor:
    """`cumulative_sum`, as numpy's: without an axis of x flattened."""
    (tensor,) = operands(x)
    return cumulative_sum(tensor if axis is not None else reshape(tensor, (tensor.size,)), axis=axis, dtype=dtype)


@function
def cumprod(x: TensorLike, /, axis: int | None = None, dtype: Any = None) -> Tensor:
    """`cumulative_prod`, as numpy's: without an axis of x flattened."""
    (tensor,) = operands(x)
    return cumulative_prod(tensor if axis is not None else reshape(tensor, (tensor.size,)), axis=axis, dtype=dtype)


@function
def linear_recurrence(a: TensorLike, b: TensorLike, /, *, axis: int = -1, reverse: bool = False) -> Tensor:
    """y[i] = a[i] y[i-1] + b[i] along `axis`, from y[-1] = 0 on (reverse: y[i] = a[i] y[i+1] + b[i], from the end)."""
    factors, terms = aligned(a, b)
    return apply(Recurrence(axis_of(axis, terms.ndim, "linear_recurrence"), reverse), factors, terms)


@function
def diff(
    x: TensorLike,
    /,
    *,
    axis: int = -1,
    n: int = 1,
    prepend: TensorLike | None = None,
    append: TensorLike | None = None,
) -> Tensor:
    """The differences of neighbours along `axis`, taken `n` times, of x with what stands before and behind it."""
    (tensor,) = operands(x)
    along = axis_of(axis, tensor.ndim, "diff")
    if n < 0:
        raise ShapeError(f"diff taken {n} times: give 0 or more")
    parts = [part for part in (prepend, tensor, append) if part is not None]
    found = concatenate(parts, axis=along) if len(parts) > 1 else tensor
    for _ in range(min(n, found.shape[along] + 1)):  # nothing is left of nothing
        behind, before = _without(found, along, first=True), _without(found, along, first=False)
        found = not_equal(behind, before) if found.dtype.kind == "b" else subtract(behind, before)
    return found
