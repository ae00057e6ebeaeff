"""Reductions over axes: sum, max, min, and what is composed of them.

The primitives drop the reduced dimensions; `keepdims` is a reshape. A rank's block may be empty along a reduced
dimension: its partial result is then the identity of the reduction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import filled, operands
from flowcore.dtypes import (
    NARROW,
    DType,
    bool_,
    complex128,
    float32,
    float64,
    int32,
    int64,
    is_float,
    is_real,
    kind_of,
    uint64,
)
from flowcore.errors import DTypeError, ShapeError
from flowcore.op import Array, Op, Sample, Type, function, operator
from flowcore.ops.alias import fresh
from flowcore.ops.axes import axes_of, letters
from flowcore.ops.call import apply
from flowcore.ops.cast import astype
from flowcore.ops.elementwise import KINDS
from flowcore.ops.shape import broadcast_to, reshape
from flowcore.placement.layout import Layout, Shape
from flowcore.placement.signature import Algebra, Equation
from flowcore.tensor import Tensor, TensorLike

__all__ = ["all", "any", "count_nonzero", "max", "min", "sum"]

Axis = int | Sequence[int] | None
SAMPLES: tuple[tuple[Shape, tuple[int, ...]], ...] = (
    ((5, 7), (0,)), ((5, 7), (1,)), ((3, 5, 4), (0, 2)), ((3, 5, 4), (1,)), ((5, 2), (0, 1)),
)  # fmt: skip


@dataclass(frozen=True)
class Reduction(Op):
    """y[kept] = reduce over the letters of `axes` of x[…]; `axes` in order, each once."""

    axes: tuple[int, ...]

    kinds: ClassVar[str] = "biuf"
    makes_memory: ClassVar[bool] = True

    def check(self, x: Type) -> None:
        """DTypeError or ShapeError where `x` cannot be reduced so."""
        if kind_of(x.dtype) not in self.kinds:
            accepted = ", ".join(KINDS[kind] for kind in self.kinds)
            raise DTypeError(f"{self.name} of {x.dtype}: takes {accepted}; cast with astype")
        axes_of(self.axes, x.ndim, self.name)

    def kept(self, shape: Shape) -> Shape:
        """The lengths of the dimensions that remain."""
        return tuple(length for axis, length in enumerate(shape) if axis not in self.axes)

    def with_ones(self, shape: Shape) -> Shape:
        """`shape` with length 1 along the reduced dimensions."""
        return tuple(1 if axis in self.axes else length for axis, length in enumerate(shape))

    def equation(self, x: Type) -> Equation:
        term = letters(x.ndim)
        return Equation((term,), ("".join(letter for axis, letter in enumerate(term) if axis not in self.axes),))

    def flops(self, *types: Type) -> int:
        return types[0].size

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return replace(self, axes=tuple(axis + 1 for axis in self.axes))

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        dtypes = [dtype for dtype in (float64, int64, bool_, complex128) if kind_of(dtype) in cls.kinds]
        cases = [(shape, axes, float64) for shape, axes in SAMPLES] + [((5, 7), (0,), dtype) for dtype in dtypes[1:]]
        return tuple(
            Sample(cls(axes=axes), (Type(shape, dtype),), ("bool" if dtype == bool_ else "normal",))
            for shape, axes, dtype in cases
        )


@operator
class Sum(Reduction):
    """y[a] = Σ_b x[a,b]; booleans and small integers are summed as 64-bit integers."""

    name: ClassVar[str] = "sum"
    loop: ClassVar[str] = "sum"
    writes: ClassVar[bool] = True
    kinds: ClassVar[str] = "biufc"

    def infer(self, x: Type) -> tuple[Type, ...]:
        self.check(x)
        return (Type(self.kept(x.shape), sum_dtype(x.dtype)),)

    def properties(self, x: Type) -> Algebra:
        # terms of a narrow integer wrap around where their wider sum does not
        is_linear = sum_dtype(x.dtype) == x.dtype
        return Algebra(linear=(frozenset({0}),) if is_linear else (), reduction="sum")

    def kernel(self, x: Array) -> Any:
        wide = accumulator(x.dtype)
        return np.sum(x, axis=self.axes, dtype=wide).astype(sum_dtype(x.dtype), copy=False)

    def write(self, results: Sequence[Any], *arrays: Any) -> Any:
        (x,), result = arrays, results[0]
        if accumulator(x.dtype) == result.dtype:
            np.add.reduce(x, axis=self.axes, out=result)
        else:
            result[...] = self.kernel(x)
        return result

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return _spread(self, dy, x)

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return (
            *super().samples(),
            Sample(cls((1,)), (Type((5, 7), int32),)),
            Sample(cls((1,)), (Type((5, 7), float32),)),
        )


class Extremum(Reduction):
    """y[a] = the greatest or the least of x[a,b] over b."""

    writes: ClassVar[bool] = True
    ufunc: ClassVar[np.ufunc]

    def identity(self, dtype: DType) -> Any:
        """What there is where nothing is reduced."""
        raise NotImplementedError

    def kernel(self, x: Array) -> Any:
        return self.write([np.empty(self.kept(x.shape), x.dtype)], x)

    def write(self, results: Sequence[Any], *arrays: Any) -> Any:
        (x,), result = arrays, results[0]
        if 0 in [x.shape[axis] for axis in self.axes]:
            result.fill(self.identity(x.dtype))
            return result
        return self.ufunc.reduce(x, axis=self.axes, out=result)

    def infer(self, x: Type) -> tuple[Type, ...]:
        self.check(x)
        if 0 in [x.shape[axis] for axis in self.axes]:
            raise ShapeError(f"{self.name} of shape {x.shape} over axes {self.axes}: there is no element; test .size")
        return (Type(self.kept(x.shape), x.dtype),)

    def properties(self, x: Type) -> Algebra:
        return Algebra(reduction=self.name)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        """Ties share the gradient equally."""
        hit = (x == reshape(apply(self, x), self.with_ones(x.shape))).astype(dy.dtype)
        count = apply(Sum(self.axes), hit)
        return hit * reshape(dy / count, self.with_ones(x.shape))


@operator
class Max(Extremum):
    """y[a] = max_b x[a,b]."""

    name: ClassVar[str] = "max"
    loop: ClassVar[str] = "max"
    ufunc: ClassVar[np.ufunc] = np.maximum

    def identity(self, dtype: DType) -> Any:
        return lowest(dtype)


@operator
class Min(Extremum):
    """y[a] = min_b x[a,b]."""

    name: ClassVar[str] = "min"
    ufunc: ClassVar[np.ufunc] = np.minimum

    def identity(self, dtype: DType) -> Any:
        return highest(dtype)


def lowest(dtype: DType) -> Any:
    """The identity of max."""
    return False if dtype.kind == "b" else -np.inf if is_real(dtype) else np.iinfo(dtype).min


def highest(dtype: DType) -> Any:
    """The identity of min."""
    return True if dtype.kind == "b" else np.inf if is_real(dtype) else np.iinfo(dtype).max


def sum_dtype(dtype: DType) -> DType:
    """The dtype of a sum or product: 64 bits for integers and booleans."""
    return dtype if is_float(dtype) else uint64 if dtype.kind == "u" else int64


def accumulator(dtype: DType) -> DType:
    """The dtype in which sums and products of `dtype` are formed: terms in half precision would be lost one by one."""
    return float32 if dtype in NARROW else sum_dtype(dtype)


def _spread(op: Reduction, dy: Tensor, x: Tensor) -> Tensor:
    """`dy` repeated along the dimensions that `op` reduced."""
    return broadcast_to(reshape(dy, op.with_ones(x.shape)), x.shape)


def reduced(kind: type[Reduction], x: TensorLike, axis: Axis, keepdims: bool) -> Tensor:
    """`x` reduced over `axis` as the operator `kind` does; over no axes nothing is left to do but to widen integers."""
    (tensor,) = operands(x)
    op = kind(axes=axes_of(axis, tensor.ndim, kind.name))
    if not op.axes and op.infer(tensor.value.type)[0].dtype == tensor.dtype:
        return fresh(tensor)
    result = apply(op, tensor)
    return reshape(result, op.with_ones(tensor.shape)) if keepdims else result


@function
def sum(x: TensorLike, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """Σ x over `axis` (None: all); booleans and integers are summed as 64-bit integers, or as `dtype`."""
    (tensor,) = operands(x)
    if dtype is None:
        return reduced(Sum, tensor, axis, keepdims)
    return astype(reduced(Sum, astype(tensor, dtype), axis, keepdims), dtype)


@function
def max(x: TensorLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The greatest element over `axis` (None: all)."""
    return reduced(Max, x, axis, keepdims)


@function
def min(x: TensorLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The least element over `axis` (None: all)."""
    return reduced(Min, x, axis, keepdims)


@function
def any(x: TensorLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether some element over `axis` (None: all) is not zero."""
    return _truth(Max, x, axis, keepdims)


@function
def all(x: TensorLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether every element over `axis` (None: all) is not zero."""
    return _truth(Min, x, axis, keepdims)


def _truth(kind: type[Max] | type[Min], x: TensorLike, axis: Axis, keepdims: bool) -> Tensor:
    (tensor,) = operands(x)
    op = kind(axes_of(axis, tensor.ndim, "all" if kind is Min else "any"))
    if 0 in [tensor.shape[place] for place in op.axes]:
        shape = op.with_ones(tensor.shape) if keepdims else op.kept(tensor.shape)
        return filled(shape, kind is Min, bool_, Layout(tensor.placement, "B"))
    return reduced(kind, astype(tensor, bool_), axis, keepdims)


@function
def count_nonzero(x: TensorLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """How many elements over `axis` (None: all) are not zero."""
    (tensor,) = operands(x)
    return reduced(Sum, astype(tensor, bool_), axis, keepdims)
