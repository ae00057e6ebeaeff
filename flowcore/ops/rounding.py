"""Sign, absolute value and rounding, elementwise."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import operands
from flowcore.dtypes import real_dtype
from flowcore.op import Array, Type, function, operator
from flowcore.ops.call import apply
from flowcore.ops.complex import conj, real
from flowcore.ops.elementwise import Elementwise
from flowcore.ops.selection import where
from flowcore.placement.signature import Algebra
from flowcore.tensor import Tensor, TensorLike

__all__ = ["abs", "ceil", "floor", "negative", "round", "sign"]

RISING = Algebra(monotone=(1,))


@operator
class Negative(Elementwise):
    """y = -x."""

    name: ClassVar[str] = "negative"
    algebra: ClassVar[Algebra] = Algebra(linear=(frozenset({0}),), monotone=(-1,))
    wraps: ClassVar[bool] = True

    def kernel(self, x: Array) -> Any:
        return np.negative(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return -dy


@operator
class Abs(Elementwise):
    """y = |x|, which is real."""

    name: ClassVar[str] = "abs"
    kinds: ClassVar[str] = "iufc"

    def infer(self, *types: Any, **_: Any) -> tuple[Type, ...]:
        return (Type(types[0].shape, real_dtype(self.common(types))),)

    def kernel(self, x: Array) -> Any:
        return np.abs(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return dy * sign(x)


@operator
class Sign(Elementwise):
    """y = x / |x|, and 0 where x is: of real numbers -1, 0 or 1."""

    name: ClassVar[str] = "sign"
    kinds: ClassVar[str] = "iufc"
    algebra: ClassVar[Algebra] = RISING

    def kernel(self, x: Array) -> Any:
        return np.sign(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor | None:
        """Only what turns x changes its sign; real numbers cannot turn."""
        if x.dtype.kind != "c":
            return None
        turn, size = sign(x), abs(x)
        return (dy - turn * real(conj(turn) * dy)) / where(size == 0, 1.0, size)


@operator
class Floor(Elementwise):
    """y = the greatest integer that is not above x."""

    name: ClassVar[str] = "floor"
    kinds: ClassVar[str] = "f"
    algebra: ClassVar[Algebra] = RISING

    def kernel(self, x: Array) -> Any:
        return np.floor(x)


@operator
class Ceil(Elementwise):
    """y = the least integer that is not below x."""

    name: ClassVar[str] = "ceil"
    kinds: ClassVar[str] = "f"
    algebra: ClassVar[Algebra] = RISING

    def kernel(self, x: Array) -> Any:
        return np.ceil(x)


@operator
class Round(Elementwise):
    """y = the integer nearest to x, the even one of two."""

    name: ClassVar[str] = "round"
    kinds: ClassVar[str] = "f"
    algebra: ClassVar[Algebra] = RISING

    def kernel(self, x: Array) -> Any:
        return np.rint(x)


@function
def negative(x: TensorLike, /) -> Tensor:
    """-x, elementwise."""
    return apply(Negative(), *operands(x))


@function
def abs(x: TensorLike, /) -> Tensor:
    """|x|, elementwise."""
    return apply(Abs(), *operands(x))


@function
def sign(x: TensorLike, /) -> Tensor:
    """-1, 0 or 1, as each element is negative, zero or positive; of a complex one x / |x|."""
    return apply(Sign(), *operands(x))


@function
def floor(x: TensorLike, /) -> Tensor:
    """Rounded down, elementwise."""
    return _rounded(Floor(), x)


@function
def ceil(x: TensorLike, /) -> Tensor:
    """Rounded up, elementwise."""
    return _rounded(Ceil(), x)


@function
def round(x: TensorLike, /) -> Tensor:
    """Rounded to the nearest integer, the even one of two, elementwise."""
    return _rounded(Round(), x)


def _rounded(op: Elementwise, x: TensorLike) -> Tensor:
    """`op` of floats; integers are rounded already."""
    (tensor,) = operands(x)
    return tensor if tensor.dtype.kind in "iu" else apply(op, tensor)
