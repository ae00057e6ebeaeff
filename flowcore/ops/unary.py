"""Elementwise functions of one operand, and their derivatives."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import apply, operands
from flowcore.op import Array, function, operator
from flowcore.ops.elementwise import Elementwise, floating
from flowcore.placement.signature import Algebra
from flowcore.tensor import Tensor, TensorLike

RISING = Algebra(monotone=(1,))
IN_DOMAIN = (("P(min)->P(min)", "a least term in the domain has every term in it, a greatest has not: of no use"),)


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
    """y = |x|."""

    name: ClassVar[str] = "abs"
    kinds: ClassVar[str] = "iuf"

    def kernel(self, x: Array) -> Any:
        return np.abs(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return dy * sign(x)


@operator
class Sign(Elementwise):
    """y = -1, 0 or 1, as x is negative, zero or positive."""

    name: ClassVar[str] = "sign"
    kinds: ClassVar[str] = "iuf"
    algebra: ClassVar[Algebra] = RISING

    def kernel(self, x: Array) -> Any:
        return np.sign(x)


@operator
class Exp(Elementwise):
    """y = e^x."""

    name: ClassVar[str] = "exp"
    kinds: ClassVar[str] = "fc"
    algebra: ClassVar[Algebra] = RISING

    def kernel(self, x: Array) -> Any:
        return np.exp(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return dy * exp(x)


@operator
class Expm1(Elementwise):
    """y = e^x - 1."""

    name: ClassVar[str] = "expm1"
    kinds: ClassVar[str] = "fc"
    algebra: ClassVar[Algebra] = RISING

    def kernel(self, x: Array) -> Any:
        return np.expm1(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return dy * exp(x)


@operator
class Log(Elementwise):
    """y = log x."""

    name: ClassVar[str] = "log"
    kinds: ClassVar[str] = "fc"
    draws: ClassVar[tuple[str, ...]] = ("positive",)
    excluded: ClassVar[tuple[tuple[str, str], ...]] = IN_DOMAIN

    def kernel(self, x: Array) -> Any:
        return np.log(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return dy / x


@operator
class Log1p(Elementwise):
    """y = log(1 + x)."""

    name: ClassVar[str] = "log1p"
    kinds: ClassVar[str] = "fc"
    draws: ClassVar[tuple[str, ...]] = ("positive",)
    excluded: ClassVar[tuple[tuple[str, str], ...]] = IN_DOMAIN

    def kernel(self, x: Array) -> Any:
        return np.log1p(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return dy / (x + 1)


@operator
class Sqrt(Elementwise):
    """y = the square root of x."""

    name: ClassVar[str] = "sqrt"
    kinds: ClassVar[str] = "fc"
    draws: ClassVar[tuple[str, ...]] = ("positive",)
    excluded: ClassVar[tuple[tuple[str, str], ...]] = IN_DOMAIN

    def kernel(self, x: Array) -> Any:
        return np.sqrt(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return dy / (sqrt(x) * 2)


@operator
class Tanh(Elementwise):
    """y = tanh x."""

    name: ClassVar[str] = "tanh"
    kinds: ClassVar[str] = "fc"
    algebra: ClassVar[Algebra] = RISING

    def kernel(self, x: Array) -> Any:
        return np.tanh(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return dy * (1 - square(tanh(x)))


@operator
class Sin(Elementwise):
    """y = sin x."""

    name: ClassVar[str] = "sin"
    kinds: ClassVar[str] = "fc"

    def kernel(self, x: Array) -> Any:
        return np.sin(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return dy * cos(x)


@operator
class Cos(Elementwise):
    """y = cos x."""

    name: ClassVar[str] = "cos"
    kinds: ClassVar[str] = "fc"

    def kernel(self, x: Array) -> Any:
        return np.cos(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return -dy * sin(x)


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
    """-1, 0 or 1, as each element is negative, zero or positive."""
    return apply(Sign(), *operands(x))


@function
def exp(x: TensorLike, /) -> Tensor:
    """e^x, elementwise."""
    return apply(Exp(), *floating(x))


@function
def expm1(x: TensorLike, /) -> Tensor:
    """e^x - 1, elementwise, exact near 0."""
    return apply(Expm1(), *floating(x))


@function
def log(x: TensorLike, /) -> Tensor:
    """The natural logarithm, elementwise."""
    return apply(Log(), *floating(x))


@function
def log1p(x: TensorLike, /) -> Tensor:
    """log(1 + x), elementwise, exact near 0."""
    return apply(Log1p(), *floating(x))


@function
def sqrt(x: TensorLike, /) -> Tensor:
    """The square root, elementwise."""
    return apply(Sqrt(), *floating(x))


@function
def tanh(x: TensorLike, /) -> Tensor:
    """The hyperbolic tangent, elementwise."""
    return apply(Tanh(), *floating(x))


@function
def sin(x: TensorLike, /) -> Tensor:
    """The sine, elementwise."""
    return apply(Sin(), *floating(x))


@function
def cos(x: TensorLike, /) -> Tensor:
    """The cosine, elementwise."""
    return apply(Cos(), *floating(x))


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


@function
def square(x: TensorLike, /) -> Tensor:
    """x · x, elementwise."""
    (tensor,) = operands(x)
    return tensor * tensor


def _rounded(op: Elementwise, x: TensorLike) -> Tensor:
    """`op` of floats; integers are rounded already."""
    (tensor,) = operands(x)
    return tensor if tensor.dtype.kind in "iu" else apply(op, tensor)
