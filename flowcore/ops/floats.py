"""How floats are stored, elementwise: the bit of the sign, and the neighbours of a number; and sums of exponentials."""

from __future__ import annotations

from itertools import product
from typing import Any, ClassVar

import numpy as np

from flowcore.dtypes import DType, bool_
from flowcore.op import operator
from flowcore.ops.cast import floating
from flowcore.ops.comparison import equal
from flowcore.ops.elementwise import Elementwise, sum_to
from flowcore.ops.pointwise import binary, unary
from flowcore.ops.selection import where
from flowcore.ops.unary import exp
from flowcore.placement.signature import Algebra
from flowcore.tensor import Tensor

__all__ = ["copysign", "logaddexp", "nextafter", "signbit"]


class OfReals(Elementwise):
    """y = f(a, b) of real floats."""

    kinds: ClassVar[str] = "f"
    draws: ClassVar[tuple[str, ...]] = ("normal", "normal")


@operator
class SignBit(Elementwise):
    """Whether the bit of the sign is set: of negative numbers, and of -0.0."""

    name: ClassVar[str] = "signbit"
    kinds: ClassVar[str] = "f"
    result: ClassVar[DType | None] = bool_
    algebra: ClassVar[Algebra] = Algebra(monotone=(-1,))
    ufunc: ClassVar[np.ufunc] = np.signbit


@operator
class CopySign(OfReals):
    """|x1| with the sign of x2."""

    name: ClassVar[str] = "copysign"
    algebra: ClassVar[Algebra] = Algebra(monotone=(0, 1))
    ufunc: ClassVar[np.ufunc] = np.copysign

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor, **_: Any) -> Any:
        return sum_to(where(equal(signbit(a), signbit(b)), dy, -dy), a), None


@operator
class NextAfter(OfReals):
    """The next float after x1 in the direction of x2."""

    name: ClassVar[str] = "nextafter"
    ufunc: ClassVar[np.ufunc] = np.nextafter
    excluded: ClassVar[tuple[tuple[str, str], ...]] = tuple(
        (f"{a},{b}->{y}", "the result is x1 to within rounding, but rounding is what is asked for")
        for a, b, y in product(("B", "S0", "S1", "S2", "P", "P(max)", "P(min)"), repeat=3)
    )

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor, **_: Any) -> Any:
        return sum_to(dy, a), None


@operator
class LogAddExp(OfReals):
    """log(e^x1 + e^x2), without overflow on the way."""

    name: ClassVar[str] = "logaddexp"
    algebra: ClassVar[Algebra] = Algebra(monotone=(1, 1))
    ufunc: ClassVar[np.ufunc] = np.logaddexp

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor, **_: Any) -> Any:
        total = logaddexp(a, b)
        # where both are infinite their difference is nan, and the weight 1
        first, second = (exp(where(equal(x, total), 0, x - total)) for x in (a, b))
        return sum_to(dy * first, a), sum_to(dy * second, b)


signbit = unary("signbit", SignBit, floating)
copysign = binary("copysign", CopySign, floating)
nextafter = binary("nextafter", NextAfter, floating)
logaddexp = binary("logaddexp", LogAddExp, floating)
