"""The error function, which numpy lacks.

W. J. Cody, "Rational Chebyshev approximations for the error function", Mathematics of Computation 23 (1969), 631-637,
with the coefficients of his program CALERF: erf on |x| <= 0.46875, erfc up to 4 and beyond, each within 6e-19 relative.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi, sqrt
from typing import Any, ClassVar

import numpy as np

from flowcore.op import Array, function, operator
from flowcore.ops.call import apply
from flowcore.ops.cast import floating
from flowcore.ops.elementwise import Elementwise
from flowcore.ops.unary import RISING, exp, square
from flowcore.placement.signature import Algebra
from flowcore.tensor import Tensor, TensorLike

__all__ = ["erf", "erfc"]

SMALL, LARGE = 0.46875, 4.0

# numerator and denominator in descending powers
ERF_SMALL = (
    (1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)  # fmt: skip
ERFC_MIDDLE = (
    (
        2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1,
        2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
        1.23033935479799725e3,
    ),
    (
        1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
        3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
    ),
)  # fmt: skip
ERFC_LARGE = (
    (
        1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
        1.60837851487422766e-2, 6.58749161529837803e-4,
    ),
    (
        1.0, 2.56852019228982242, 1.87295284992346725, 5.27905102951428412e-1, 6.05183413124413191e-2,
        2.33520497626869185e-3,
    ),
)  # fmt: skip


def _ratio(coefficients: tuple[Sequence[float], Sequence[float]], x: Array) -> Array:
    """The rational function of `x`, by Horner's rule in the dtype of `x`."""
    terms = []
    for powers in coefficients:
        value = np.full_like(x, powers[0])
        for coefficient in powers[1:]:
            value *= x
            value += coefficient
        terms.append(value)
    numerator, denominator = terms
    return np.divide(numerator, denominator, out=numerator)


def erf_array(x: Array) -> Array:
    """erf of every element, in the dtype of `x`."""
    flat = np.ascontiguousarray(x).reshape(-1)
    size = np.abs(flat)
    result = np.sign(flat)  # right where |x| is beyond the last erfc that rounding can see, infinite or nan
    near = size <= SMALL
    inner = flat[near]
    result[near] = inner * _ratio(ERF_SMALL, inner * inner)
    middle = (size > SMALL) & (size <= LARGE)
    inner = size[middle]
    result[middle] *= 1 - _gaussian(inner) * _ratio(ERFC_MIDDLE, inner)
    far = (size > LARGE) & (size < 6)
    if far.any():
        inner = size[far]
        inverse = 1 / (inner * inner)
        tail = (1 / sqrt(pi) - inverse * _ratio(ERFC_LARGE, inverse)) / inner
        result[far] *= 1 - _gaussian(inner) * tail.astype(x.dtype)
    shaped: Array = result.reshape(x.shape)
    return shaped


def erfc_array(x: Array) -> Array:
    """1 - erf of every element, in the dtype of `x`, computed in double precision and without cancellation."""
    flat = np.asarray(x, np.float64).reshape(-1)
    size = np.abs(flat)
    result = np.where(np.isnan(size), np.nan, 0.0)
    near, middle, far = size <= SMALL, (size > SMALL) & (size <= LARGE), (size > LARGE) & (size < 28)
    inner = size[near]
    result[near] = 1 - inner * _ratio(ERF_SMALL, inner * inner)
    inner = size[middle]
    result[middle] = _gaussian(inner) * _ratio(ERFC_MIDDLE, inner)
    inner = size[far]
    inverse = 1 / (inner * inner)
    result[far] = _gaussian(inner) * (1 / sqrt(pi) - inverse * _ratio(ERFC_LARGE, inverse)) / inner
    return np.where(flat < 0, 2 - result, result).reshape(x.shape).astype(x.dtype)


def _gaussian(size: Array) -> Array:
    """exp(-x²), with x² split so that its rounding does not spoil the exponential."""
    coarse = np.trunc(size * 16) / 16
    result: Array = np.exp(-coarse * coarse) * np.exp(-(size - coarse) * (size + coarse))
    return result


@operator
class Erf(Elementwise):
    """y = 2/√π ∫₀ˣ exp(-t²) dt."""

    name: ClassVar[str] = "erf"
    scalar: ClassVar[str] = "erf(a)"
    kinds: ClassVar[str] = "f"
    algebra: ClassVar[Algebra] = RISING

    def kernel(self, x: Array) -> Any:
        return erf_array(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return dy * exp(-square(x)) * (2 / sqrt(pi))


@operator
class Erfc(Elementwise):
    """y = 1 - erf x."""

    name: ClassVar[str] = "erfc"
    kinds: ClassVar[str] = "f"
    algebra: ClassVar[Algebra] = Algebra(monotone=(-1,))

    def kernel(self, x: Array) -> Any:
        return erfc_array(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return dy * exp(-square(x)) * (-2 / sqrt(pi))


@function
def erf(x: TensorLike, /) -> Tensor:
    """The error function, elementwise."""
    return apply(Erf(), *floating(x))


@function
def erfc(x: TensorLike, /) -> Tensor:
    """1 - erf(x), elementwise, exact where that is small."""
    return apply(Erfc(), *floating(x))
