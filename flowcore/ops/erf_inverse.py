"""The inverse of the error function, which numpy lacks.

M. J. Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied Statistics 37 (1988),
477-484: rational functions within 1e-16 relative, in double precision.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any, ClassVar

import numpy as np

from flowcore.op import Array, function, operator
from flowcore.ops.call import apply
from flowcore.ops.cast import floating
from flowcore.ops.elementwise import Elementwise
from flowcore.ops.unary import exp, square
from flowcore.tensor import Tensor, TensorLike

__all__ = ["erfinv"]

# numerator and denominator in descending powers
CENTRAL = (
    (
        2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
        1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080,
    ),
    (
        5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
        5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0,
    ),
)  # fmt: skip
TAIL = (
    (
        7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258,
        3.64784832476320460504, 5.76949722146069140550, 4.63033784615654529590, 1.42343711074968357734,
    ),
    (
        1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
        6.89767334985100004550e-1, 1.67638483018380384940, 2.05319162663775882187, 1.0,
    ),
)  # fmt: skip
FAR_TAIL = (
    (
        2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
        2.96560571828504891230e-1, 1.78482653991729133580, 5.46378491116411436990, 6.65790464350110377720,
    ),
    (
        2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
        1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0,
    ),
)  # fmt: skip


def erfinv_array(x: Array) -> Array:
    """The y with erf(y) = x of every element, in the dtype of `x`; nan outside -1..1."""
    wide = np.asarray(x, np.float64)
    half = wide / 2
    root = np.sqrt(-np.log((1 - np.abs(wide)) / 2))
    tail = np.where(root <= 5, _ratio(TAIL, np.minimum(root, 5) - 1.6), _ratio(FAR_TAIL, np.clip(root, 5, 40) - 5))
    tail = np.copysign(np.where(np.isinf(root), np.inf, tail), wide)
    found = np.where(np.abs(half) <= 0.425, half * _ratio(CENTRAL, 0.180625 - half * half), tail) / sqrt(2)
    return np.where(np.abs(wide) <= 1, found, np.nan).astype(x.dtype)


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Array) -> Array:
    numerator, denominator = (np.polyval(powers, x) for powers in coefficients)
    result: Array = numerator / denominator
    return result


@operator
class Erfinv(Elementwise):
    """y with erf(y) = x."""

    name: ClassVar[str] = "erfinv"
    kinds: ClassVar[str] = "f"
    draws: ClassVar[tuple[str, ...]] = ("unit",)

    def kernel(self, x: Array) -> Any:
        return erfinv_array(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return dy * exp(square(erfinv(x))) * (sqrt(pi) / 2)


@function
def erfinv(x: TensorLike, /) -> Tensor:
    """The inverse of erf, elementwise; infinite at -1 and 1, nan beyond."""
    return apply(Erfinv(), *floating(x))
