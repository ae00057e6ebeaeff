"""The hyperbolic functions and their inverses."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from flowcore.op import Array, operator
from flowcore.ops.cast import floating
from flowcore.ops.complex import conj
from flowcore.ops.elementwise import Elementwise
from flowcore.ops.pointwise import unary
from flowcore.ops.unary import IN_DOMAIN, sqrt, square
from flowcore.placement.signature import Algebra
from flowcore.tensor import Tensor

__all__ = [
    "acosh", "arccosh", "arcsinh", "arctanh", "asinh", "atanh", "cosh", "sinh", "tanh",
]  # fmt: skip

RISING = Algebra(monotone=(1,))


class Hyperbolic(Elementwise):
    """y = f(x) of floats."""

    kinds: ClassVar[str] = "fc"


@operator
class Sinh(Hyperbolic):
    """sinh x."""

    name: ClassVar[str] = "sinh"
    ufunc: ClassVar[np.ufunc] = np.sinh
    algebra: ClassVar[Algebra] = RISING

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return dy * conj(cosh(x))


@operator
class Cosh(Hyperbolic):
    """cosh x."""

    name: ClassVar[str] = "cosh"
    ufunc: ClassVar[np.ufunc] = np.cosh

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return dy * conj(sinh(x))


@operator
class Tanh(Hyperbolic):
    """tanh x."""

    name: ClassVar[str] = "tanh"
    scalar: ClassVar[str] = "tanh(a)"
    algebra: ClassVar[Algebra] = RISING

    def kernel(self, x: Array, **_: Any) -> Any:
        found = np.tanh(x)
        if x.dtype.kind == "c":
            # numpy gives the imaginary part of the limit at ±inf a sign that depends on the period
            far = np.isinf(x.real) & np.isfinite(x.imag)
            limit = np.copysign(1, x.real) + 1j * np.copysign(0, x.imag)
            found = np.where(far, limit.astype(x.dtype), found)
        return found

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return dy * conj(1 - square(tanh(x)))


@operator
class Asinh(Hyperbolic):
    """The number whose sinh is x."""

    name: ClassVar[str] = "asinh"
    ufunc: ClassVar[np.ufunc] = np.arcsinh
    algebra: ClassVar[Algebra] = RISING

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return dy / conj(sqrt(1 + square(x)))


@operator
class Acosh(Hyperbolic):
    """The number, not negative, whose cosh is x."""

    name: ClassVar[str] = "acosh"
    ufunc: ClassVar[np.ufunc] = np.arccosh
    draws: ClassVar[tuple[str, ...]] = ("above 1",)
    excluded: ClassVar[tuple[tuple[str, str], ...]] = IN_DOMAIN

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return dy / conj(sqrt(x - 1) * sqrt(x + 1))


@operator
class Atanh(Hyperbolic):
    """The number whose tanh is x."""

    name: ClassVar[str] = "atanh"
    ufunc: ClassVar[np.ufunc] = np.arctanh
    draws: ClassVar[tuple[str, ...]] = ("unit",)

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return dy / conj(1 - square(x))


sinh = unary("sinh", Sinh, floating)
cosh = unary("cosh", Cosh, floating)
tanh = unary("tanh", Tanh, floating)
asinh = arcsinh = unary("asinh", Asinh, floating)
acosh = arccosh = unary("acosh", Acosh, floating)
atanh = arctanh = unary("atanh", Atanh, floating)
