"""Products, means and variances over axes."""

from __future__ import annotations

from math import nan
from math import prod as size_of
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import operands
from flowcore.dtypes import NARROW, bool_, float32, is_float
from flowcore.op import Array, Type, function, operator
from flowcore.ops.axes import axes_of
from flowcore.ops.call import apply
from flowcore.ops.cast import astype
from flowcore.ops.complex import conj, real
from flowcore.ops.cumulative import CumulativeProd, shifted
from flowcore.ops.reduce import Axis, Reduction, Sum, accumulator, reduced, sum_dtype
from flowcore.ops.shape import broadcast_to, permute_dims, reshape
from flowcore.ops.unary import sqrt
from flowcore.placement.signature import Algebra
from flowcore.tensor import Tensor, TensorLike

__all__ = ["mean", "prod", "std", "var"]


@operator
class Prod(Reduction):
    """y[a] = Π_b x[a,b], whose dimension b is needed whole; booleans and small integers as 64-bit integers."""

    name: ClassVar[str] = "prod"
    kinds: ClassVar[str] = "biufc"

    def infer(self, x: Type) -> tuple[Type, ...]:
        self.check(x)
        return (Type(self.kept(x.shape), sum_dtype(x.dtype)),)

    def properties(self, x: Type) -> Algebra:
        return Algebra(reduction="min" if x.dtype == bool_ else None)  # the product of booleans is whether all hold

    def kernel(self, x: Array) -> Any:
        wide = accumulator(x.dtype)
        return np.prod(x, axis=self.axes, dtype=wide).astype(sum_dtype(x.dtype), copy=False)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        """The product of all others is that of those before and of those behind: no division, zeros do no harm."""
        order = (*(axis for axis in range(x.ndim) if axis not in self.axes), *self.axes)
        moved = permute_dims(x, order)
        row = reshape(moved, (*dy.shape, size_of(x.shape[axis] for axis in self.axes)))
        last = dy.ndim
        before = shifted(apply(CumulativeProd(last), row), last, True, 1)
        behind = shifted(apply(CumulativeProd(last, True), row), last, False, 1)
        found = broadcast_to(reshape(dy, (*dy.shape, 1)), row.shape) * conj(before) * conj(behind)
        return permute_dims(reshape(found, moved.shape), tuple(order.index(axis) for axis in range(x.ndim)))


@function
def prod(x: TensorLike, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """Π x over `axis` (None: all); booleans and integers are multiplied as 64-bit integers, or as `dtype`."""
    (tensor,) = operands(x)
    if dtype is None:
        return reduced(Prod, tensor, axis, keepdims)
    return astype(reduced(Prod, astype(tensor, dtype), axis, keepdims), dtype)


@function
def mean(x: TensorLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over `axis` (None: all), nan of no elements; of integers and booleans in float32, summed exactly."""
    (tensor,) = operands(x)
    wide, narrow = _wide(tensor)
    count = size_of(tensor.shape[place] for place in axes_of(axis, tensor.ndim, "mean"))
    total = astype(reduced(Sum, wide, axis, keepdims), float32 if wide.dtype.kind in "biu" else wide.dtype)
    return astype(total * (1 / count if count else nan), narrow)


def _wide(x: Tensor) -> tuple[Tensor, Any]:
    """`x` in a dtype in which half-precision sums do not overflow, and the dtype of its mean."""
    if x.dtype in NARROW:
        return astype(x, float32), x.dtype
    return x, x.dtype if is_float(x.dtype) else float32


@function
def var(x: TensorLike, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """Σ |x - mean|² / (N - correction) over the N elements along `axis` (None: all); nan where N <= correction."""
    (tensor,) = operands(x)
    wide, narrow = _wide(tensor)
    wide = wide if is_float(wide.dtype) else astype(wide, float32)
    count = size_of(tensor.shape[place] for place in axes_of(axis, tensor.ndim, "var"))
    off = wide - mean(wide, axis=axis, keepdims=True)
    squares = real(off * conj(off))
    left = count - correction
    found = reduced(Sum, squares, axis, keepdims) * (1 / left if left > 0 else nan)
    return found if found.dtype == narrow or tensor.dtype.kind == "c" else astype(found, narrow)


@function
def std(x: TensorLike, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The square root of `var`."""
    return sqrt(var(x, axis=axis, correction=correction, keepdims=keepdims))
