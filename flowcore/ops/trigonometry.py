"""Angles and ratios: the circular functions, their inverses, and the side of a right triangle."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from flowcore.op import operator
from flowcore.ops.cast import floating
from flowcore.ops.complex import conj
from flowcore.ops.elementwise import Elementwise, sum_to
from flowcore.ops.pointwise import binary, unary
from flowcore.ops.selection import where
from flowcore.ops.unary import sqrt, square
from flowcore.placement.signature import Algebra
from flowcore.tensor import Tensor

__all__ = [
    "acos", "arccos", "arcsin", "arctan", "arctan2", "asin", "atan", "atan2", "cos", "hypot", "sin", "tan",
]  # fmt: skip

RISING = Algebra(monotone=(1,))
UNIT = ("unit",)


class Circular(Elementwise):
    """y = f(x) of floats."""

    kinds: ClassVar[str] = "fc"


@operator
class Sin(Circular):
    """sin x."""

    name: ClassVar[str] = "sin"
    scalar: ClassVar[str] = "sin(a)"
    ufunc: ClassVar[np.ufunc] = np.sin

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return dy * conj(cos(x))


@operator
class Cos(Circular):
    """cos x."""

    name: ClassVar[str] = "cos"
    scalar: ClassVar[str] = "cos(a)"
    ufunc: ClassVar[np.ufunc] = np.cos

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return -dy * conj(sin(x))


@operator
class Tan(Circular):
    """tan x."""

    name: ClassVar[str] = "tan"
    ufunc: ClassVar[np.ufunc] = np.tan
    draws: ClassVar[tuple[str, ...]] = UNIT  # away from the poles, where differences tell nothing

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return dy * conj(1 + square(tan(x)))


@operator
class Asin(Circular):
    """The angle whose sine is x, in [-π/2, π/2]."""

    name: ClassVar[str] = "asin"
    ufunc: ClassVar[np.ufunc] = np.arcsin
    draws: ClassVar[tuple[str, ...]] = UNIT

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return dy / conj(sqrt(1 - square(x)))


@operator
class Acos(Circular):
    """The angle whose cosine is x, in [0, π]."""

    name: ClassVar[str] = "acos"
    ufunc: ClassVar[np.ufunc] = np.arccos
    draws: ClassVar[tuple[str, ...]] = UNIT

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return -dy / conj(sqrt(1 - square(x)))


@operator
class Atan(Circular):
    """The angle whose tangent is x, in [-π/2, π/2]."""

    name: ClassVar[str] = "atan"
    ufunc: ClassVar[np.ufunc] = np.arctan
    algebra: ClassVar[Algebra] = RISING

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return dy / conj(1 + square(x))


class OfSides(Elementwise):
    """y = f(a, b) of two real sides."""

    kinds: ClassVar[str] = "f"
    draws: ClassVar[tuple[str, ...]] = ("normal", "normal")


@operator
class Atan2(OfSides):
    """The angle of the point (x2, x1), in [-π, π]."""

    name: ClassVar[str] = "atan2"
    ufunc: ClassVar[np.ufunc] = np.arctan2

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor, **_: Any) -> Any:
        each = dy / (square(a) + square(b))
        return sum_to(each * b, a), sum_to(-each * a, b)


@operator
class Hypot(OfSides):
    """√(x1² + x2²), without overflow on the way."""

    name: ClassVar[str] = "hypot"
    ufunc: ClassVar[np.ufunc] = np.hypot

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor, **_: Any) -> Any:
        # at the origin, where there is no gradient, 0 is one of the subgradients
        length = hypot(a, b)
        each = dy / where(length == 0, 1, length)
        return sum_to(each * a, a), sum_to(each * b, b)


sin = unary("sin", Sin, floating)
cos = unary("cos", Cos, floating)
tan = unary("tan", Tan, floating)
asin = arcsin = unary("asin", Asin, floating)
acos = arccos = unary("acos", Acos, floating)
atan = arctan = unary("atan", Atan, floating)
atan2 = arctan2 = binary("atan2", Atan2, floating)
hypot = binary("hypot", Hypot, floating)
