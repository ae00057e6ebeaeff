"""Exponentials, logarithms, powers and roots, elementwise."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import operands
from flowcore.op import Array, function, operator
from flowcore.ops.cast import floating
from flowcore.ops.complex import conj
from flowcore.ops.elementwise import Elementwise
from flowcore.ops.pointwise import unary
from flowcore.placement.signature import Algebra
from flowcore.tensor import Tensor, TensorLike

__all__ = ["exp", "expm1", "log", "log1p", "log2", "log10", "reciprocal", "sqrt", "square"]

RISING = Algebra(monotone=(1,))
IN_DOMAIN = (("P(min)->P(min)", "a least term in the domain has every term in it, a greatest has not: of no use"),)


class Exponential(Elementwise):
    """y = f(x) of floats, everywhere defined."""

    kinds: ClassVar[str] = "fc"
    algebra: ClassVar[Algebra] = RISING


class Positive(Elementwise):
    """y = f(x) of floats, real where x is positive."""

    kinds: ClassVar[str] = "fc"
    draws: ClassVar[tuple[str, ...]] = ("positive",)
    excluded: ClassVar[tuple[tuple[str, str], ...]] = IN_DOMAIN


@operator
class Exp(Exponential):
    """e^x."""

    name: ClassVar[str] = "exp"
    scalar: ClassVar[str] = "exp(a)"
    ufunc: ClassVar[np.ufunc] = np.exp

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return dy * conj(exp(x))


@operator
class Expm1(Exponential):
    """e^x - 1, exact near 0."""

    name: ClassVar[str] = "expm1"
    scalar: ClassVar[str] = "expm1(a)"

    def kernel(self, x: Array, **_: Any) -> Any:
        return _complex_expm1(x) if x.dtype.kind == "c" else np.expm1(x)

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return dy * conj(exp(x))


def _complex_expm1(z: Array) -> Array:
    """e^(a+ib) - 1 = (e^a - 1) cos b - 2 sin²(b/2) + i e^a sin b, and its limits at infinity."""
    a, b = z.real, z.imag
    found = np.empty_like(z)
    found.real = np.expm1(a) * np.cos(b) - 2 * np.square(np.sin(b / 2))
    found.imag = np.exp(a) * np.sin(b)
    found.imag[...] = np.where(b == 0, b, found.imag)  # inf · 0 is not nan here
    found.real[...] = np.where(b == 0, np.expm1(a), found.real)
    unbounded = ~np.isfinite(b)
    found[unbounded & (a == -np.inf)] = -1
    found[unbounded & (a == np.inf)] = complex(math.inf, math.nan)
    return found


@operator
class Log(Positive):
    """The natural logarithm."""

    name: ClassVar[str] = "log"
    scalar: ClassVar[str] = "log(a)"
    ufunc: ClassVar[np.ufunc] = np.log

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return dy / conj(x)


@operator
class Log1p(Positive):
    """log(1 + x), exact near 0."""

    name: ClassVar[str] = "log1p"
    scalar: ClassVar[str] = "log1p(a)"
    ufunc: ClassVar[np.ufunc] = np.log1p

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return dy / conj(x + 1)


@operator
class Log2(Positive):
    """The logarithm to base 2."""

    name: ClassVar[str] = "log2"
    ufunc: ClassVar[np.ufunc] = np.log2

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return dy / conj(x * math.log(2))


@operator
class Log10(Positive):
    """The logarithm to base 10."""

    name: ClassVar[str] = "log10"
    ufunc: ClassVar[np.ufunc] = np.log10

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return dy / conj(x * math.log(10))


@operator
class Sqrt(Positive):
    """The square root."""

    name: ClassVar[str] = "sqrt"
    scalar: ClassVar[str] = "sqrt(a)"
    ufunc: ClassVar[np.ufunc] = np.sqrt

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return dy / conj(sqrt(x) * 2)


@operator
class Reciprocal(Elementwise):
    """1 / x."""

    name: ClassVar[str] = "reciprocal"
    scalar: ClassVar[str] = "1 / a"
    kinds: ClassVar[str] = "fc"
    ufunc: ClassVar[np.ufunc] = np.reciprocal
    draws: ClassVar[tuple[str, ...]] = ("positive",)
    excluded: ClassVar[tuple[tuple[str, str], ...]] = (
        ("P(max)->P(min)", "1 / x falls only where x keeps its sign"),
        ("P(min)->P(max)", "1 / x falls only where x keeps its sign"),
    )

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return -dy * conj(square(reciprocal(x)))


exp = unary("exp", Exp, floating)
expm1 = unary("expm1", Expm1, floating)
log = unary("log", Log, floating)
log1p = unary("log1p", Log1p, floating)
log2 = unary("log2", Log2, floating)
log10 = unary("log10", Log10, floating)
sqrt = unary("sqrt", Sqrt, floating)
reciprocal = unary("reciprocal", Reciprocal, floating)


@function
def square(x: TensorLike, /) -> Tensor:
    """x · x, elementwise."""
    (tensor,) = operands(x)
    return tensor * tensor
