"""Elementwise functions of one operand, and their derivatives."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import operands
from flowcore.op import Array, function, operator
from flowcore.ops.call import apply
from flowcore.ops.cast import floating
from flowcore.ops.complex import conj
from flowcore.ops.elementwise import Elementwise
from flowcore.placement.signature import Algebra
from flowcore.tensor import Tensor, TensorLike

__all__ = ["cos", "exp", "expm1", "log", "log1p", "sin", "sqrt", "square", "tanh"]

RISING = Algebra(monotone=(1,))
IN_DOMAIN = (("P(min)->P(min)", "a least term in the domain has every term in it, a greatest has not: of no use"),)


@operator
class Exp(Elementwise):
    """y = e^x."""

    name: ClassVar[str] = "exp"
    kinds: ClassVar[str] = "fc"
    algebra: ClassVar[Algebra] = RISING

    def kernel(self, x: Array) -> Any:
        return np.exp(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return dy * conj(exp(x))


@operator
class Expm1(Elementwise):
    """y = e^x - 1."""

    name: ClassVar[str] = "expm1"
    kinds: ClassVar[str] = "fc"
    algebra: ClassVar[Algebra] = RISING

    def kernel(self, x: Array) -> Any:
        return np.expm1(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return dy * conj(exp(x))


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
        return dy / conj(x)


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
        return dy / conj(x + 1)


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
        return dy / conj(sqrt(x) * 2)


@operator
class Tanh(Elementwise):
    """y = tanh x."""

    name: ClassVar[str] = "tanh"
    kinds: ClassVar[str] = "fc"
    algebra: ClassVar[Algebra] = RISING

    def kernel(self, x: Array) -> Any:
        return np.tanh(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return dy * conj(1 - square(tanh(x)))


@operator
class Sin(Elementwise):
    """y = sin x."""

    name: ClassVar[str] = "sin"
    kinds: ClassVar[str] = "fc"

    def kernel(self, x: Array) -> Any:
        return np.sin(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return dy * conj(cos(x))


@operator
class Cos(Elementwise):
    """y = cos x."""

    name: ClassVar[str] = "cos"
    kinds: ClassVar[str] = "fc"

    def kernel(self, x: Array) -> Any:
        return np.cos(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return -dy * conj(sin(x))


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
def square(x: TensorLike, /) -> Tensor:
    """x · x, elementwise."""
    (tensor,) = operands(x)
    return tensor * tensor
