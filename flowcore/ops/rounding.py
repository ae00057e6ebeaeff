"""Sign, absolute value and rounding, elementwise."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import operands
from flowcore.dtypes import real_dtype
from flowcore.errors import DTypeError
from flowcore.op import Array, Type, function, operator
from flowcore.ops.alias import fresh
from flowcore.ops.call import apply
from flowcore.ops.complex import conj, real
from flowcore.ops.elementwise import Elementwise
from flowcore.ops.pointwise import unary
from flowcore.ops.selection import where
from flowcore.placement.signature import Algebra
from flowcore.tensor import Tensor, TensorLike

__all__ = ["abs", "absolute", "ceil", "floor", "negative", "positive", "round", "sign", "trunc"]

RISING = Algebra(monotone=(1,))


@operator
class Negative(Elementwise):
    """-x."""

    name: ClassVar[str] = "negative"
    scalar: ClassVar[str] = "-a"
    algebra: ClassVar[Algebra] = Algebra(linear=(frozenset({0}),), monotone=(-1,))
    wraps: ClassVar[bool] = True
    ufunc: ClassVar[np.ufunc] = np.negative

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return -dy


@operator
class Abs(Elementwise):
    """|x|, real also where x is complex."""

    name: ClassVar[str] = "abs"
    scalar: ClassVar[str] = "abs(a)"
    ufunc: ClassVar[np.ufunc] = np.abs

    def infer(self, x: Type, **_: Any) -> tuple[Type, ...]:
        return (Type(x.shape, real_dtype(self.common((x,)))),)

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return dy * sign(x)


@operator
class Sign(Elementwise):
    """-1, 0 or 1, as x is negative, zero or positive; x / |x| of complex numbers."""

    name: ClassVar[str] = "sign"
    algebra: ClassVar[Algebra] = RISING

    def kernel(self, x: Array, **_: Any) -> Any:
        return np.sign(x) + x.dtype.type(0)  # the sign of -0.0 is 0.0

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor | None:
        """Only what turns x changes its sign; real numbers cannot turn."""
        if x.dtype.kind != "c":
            return None
        turn, size = sign(x), abs(x)
        return (dy - turn * real(conj(turn) * dy)) / where(size == 0, 1.0, size)


class Rounding(Elementwise):
    """y = an integer beside x."""

    kinds: ClassVar[str] = "f"
    algebra: ClassVar[Algebra] = RISING


@operator
class Floor(Rounding):
    """The greatest integer that is not above x."""

    name: ClassVar[str] = "floor"
    ufunc: ClassVar[np.ufunc] = np.floor


@operator
class Ceil(Rounding):
    """The least integer that is not below x."""

    name: ClassVar[str] = "ceil"
    ufunc: ClassVar[np.ufunc] = np.ceil


@operator
class Trunc(Rounding):
    """The integer nearest to x that is not farther from 0."""

    name: ClassVar[str] = "trunc"
    ufunc: ClassVar[np.ufunc] = np.trunc


@operator
class Round(Rounding):
    """The integer nearest to x, the even one of two; of complex numbers in both parts."""

    name: ClassVar[str] = "round"
    kinds: ClassVar[str] = "fc"
    ufunc: ClassVar[np.ufunc] = np.rint


negative = unary("negative", Negative)
abs = absolute = unary("abs", Abs)
sign = unary("sign", Sign)
_floor, _ceil, _trunc, _round = Floor(), Ceil(), Trunc(), Round()


@function
def floor(x: TensorLike, /) -> Tensor:
    """The greatest integer that is not above x, elementwise."""
    return _rounded(_floor, x)


@function
def ceil(x: TensorLike, /) -> Tensor:
    """The least integer that is not below x, elementwise."""
    return _rounded(_ceil, x)


@function
def trunc(x: TensorLike, /) -> Tensor:
    """x without what stands behind the point, elementwise."""
    return _rounded(_trunc, x)


@function
def round(x: TensorLike, /) -> Tensor:
    """The nearest integer, the even one of two, elementwise; of complex numbers in both parts."""
    return _rounded(_round, x)


def _rounded(op: Elementwise, x: TensorLike) -> Tensor:
    """`op` of floats; integers are rounded already."""
    (tensor,) = operands(x)
    return fresh(tensor) if tensor.dtype.kind in "iu" else apply(op, tensor)


@function
def positive(x: TensorLike, /) -> Tensor:
    """x, elementwise; x is a number."""
    (tensor,) = operands(x)
    if tensor.dtype.kind == "b":
        raise DTypeError("positive of bool: takes numbers; cast with astype")
    return fresh(tensor)
