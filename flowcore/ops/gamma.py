"""The logarithm of the gamma function and its derivatives, which numpy lacks.

All in float64, by recurrence into a range where a series converges fast (NIST Digital Library of Mathematical
Functions, equations 5.4.3, 5.5.1-5.5.4, 5.7.3, 5.11.1, 5.11.2, 5.15.5-5.15.8, 25.11.1, 25.11.28). Errors, relative to
max(1, |y|): up to 2e-15 for lgamma of positive x, 1e-14 for the derivatives, ten times as much for negative x, and what
the rounding of x means near a pole. At the poles 0, -1, -2, … lgamma and odd derivatives are infinite, others nan.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import factorial, log, pi
from typing import Any, ClassVar

import numpy as np

from flowcore.dtypes import float32, float64
from flowcore.errors import ShapeError
from flowcore.op import Array, Op, Sample, Type, function, operator
from flowcore.ops.call import apply
from flowcore.ops.cast import floating
from flowcore.ops.elementwise import Elementwise
from flowcore.tensor import Tensor, TensorLike

__all__ = ["digamma", "gammaln", "lgamma", "polygamma"]

BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330)
"""B₂, B₄, …, B₂₀."""
ONE_MINUS_EULER = 0.42278433509846713
STIRLING = 8.0
FURTHEST = 150


def hurwitz(s: int, x: Array) -> Array:
    """ζ(s, x) = Σ_k (x + k)^-s for s ≥ 2 and x > 0, by the Euler-Maclaurin formula from x ≥ 10 + s on."""
    total, far = np.zeros_like(x), 10 + s
    for _ in range(far):
        low = x < far
        total[low] += x[low] ** -s
        x = np.where(low, x + 1, x)
    total += x ** (1 - s) / (s - 1) + x**-s / 2
    rising, power = s / x ** (s + 1), x**-2
    for k, bernoulli in enumerate(BERNOULLI, 1):
        total += bernoulli / factorial(2 * k) * rising
        rising = rising * ((s + 2 * k - 1) * (s + 2 * k)) * power
    return total


ZETA = tuple(hurwitz(k, np.array([2.0])).item() / k * (-1) ** k for k in range(2, 32))
"""(-1)^k (ζ(k) - 1) / k for k = 2, 3, …"""


def _near_two(z: Array) -> Array:
    """log Γ(2 + z) for |z| ≤ 1/2."""
    total = np.zeros_like(z)
    for coefficient in reversed(ZETA):
        total = (total + coefficient) * z
    return (total + ONE_MINUS_EULER) * z


def lgamma_array(x: Array) -> Array:
    """log |Γ(x)| of every element, in the dtype of x."""
    flat = np.asarray(x, np.float64).reshape(-1)
    size = np.where(flat < 0, 1 - flat, flat)
    result = np.full_like(size, np.nan)
    small, large = size <= 2.5, size >= STIRLING
    near = size[small]
    # x and x + 1 below 3/2: log Γ(x) = log Γ(x + 2) - log x (x + 1), the latter by log1p where it vanishes
    result[small] = np.select(
        [near < 0.5, near < 1.5],
        [_near_two(near) - np.log1p(near) - np.log(near), _near_two(near - 1) - np.log1p(near - 1)],
        _near_two(near - 2),
    )
    middle = ~small & ~large & ~np.isnan(size)
    rest, factor = size[middle], np.ones(np.count_nonzero(middle))
    for _ in range(int(STIRLING)):
        high = rest > 2.5
        rest = np.where(high, rest - 1, rest)
        factor = np.where(high, factor * rest, factor)
    result[middle] = _near_two(rest - 2) + np.log(factor)
    far = size[large]
    tail = sum(b / (2 * k * (2 * k - 1)) * far ** (1 - 2 * k) for k, b in enumerate(BERNOULLI[:8], 1))
    result[large] = np.where(np.isinf(far), np.inf, (far - 0.5) * (np.log(far) - 1) + (log(2 * pi) - 1) / 2 + tail)
    reflected = (flat < 0) & np.isfinite(flat)
    inside = flat[reflected] - np.floor(flat[reflected])
    result[reflected] = log(pi) - np.log(np.sin(pi * np.minimum(inside, 1 - inside))) - result[reflected]
    return result.reshape(x.shape).astype(x.dtype)


def _digamma_positive(x: Array) -> Array:
    total = np.zeros_like(x)
    for _ in range(10):
        low = x < 10
        total[low] -= 1 / x[low]
        x = np.where(low, x + 1, x)
    tail = sum(b / (2 * k) * x ** (-2 * k) for k, b in enumerate(BERNOULLI[:7], 1))
    return total + np.log(x) - 0.5 / x - tail


def polygamma_array(order: int, x: Array) -> Array:
    """The derivative number `order` of digamma at every element, in the dtype of x."""
    flat = np.asarray(x, np.float64).reshape(-1)
    size = np.where(flat <= 0, 1 - flat, flat)
    sign = (-1) ** order
    result = _digamma_positive(size) if order == 0 else -sign * factorial(order) * hurwitz(order + 1, size)
    reflected = flat <= 0
    inside = flat[reflected] - np.floor(flat[reflected])
    cotangent = np.polynomial.Polynomial([0, 1])
    for _ in range(order):
        cotangent = -np.polynomial.Polynomial([1, 0, 1]) * cotangent.deriv()
    turned = pi ** (order + 1) * cotangent(1 / np.tan(pi * inside))
    result[reflected] = np.where(inside == 0, np.inf if order % 2 else np.nan, sign * result[reflected] - turned)
    return result.reshape(x.shape).astype(x.dtype)


@operator
class Lgamma(Elementwise):
    """y = log |Γ(x)|."""

    name: ClassVar[str] = "lgamma"
    kinds: ClassVar[str] = "f"
    draws: ClassVar[tuple[str, ...]] = ("positive",)

    def kernel(self, x: Array) -> Any:
        return lgamma_array(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return dy * digamma(x)

    def flops(self, *types: Type) -> int:
        return 60 * types[0].size


@operator
class Polygamma(Elementwise):
    """y = d^order ψ(x) / dx^order, ψ = (log Γ)'."""

    order: int

    name: ClassVar[str] = "polygamma"
    kinds: ClassVar[str] = "f"

    def kernel(self, x: Array, **_: Any) -> Any:
        return polygamma_array(self.order, x)

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return dy * polygamma(self.order + 1, x)

    def flops(self, *types: Type) -> int:
        return 60 * types[0].size

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op:
        return self

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        of_positive = "monotone on positive numbers only, and a greatest term may stand beside others that are not"
        cases = ((0, float64, "min"), (1, float64, "max"), (0, float32, "min"))
        return tuple(
            Sample(cls(order), (Type((5, 7), dtype),), ("positive",), ((f"P(min)->P({made})", of_positive),))
            for order, dtype, made in cases
        )


@function
def lgamma(x: TensorLike, /) -> Tensor:
    """log |Γ(x)|, elementwise; infinite at 0, -1, -2, …"""
    return apply(Lgamma(), *floating(x))


gammaln = lgamma


@function
def digamma(x: TensorLike, /) -> Tensor:
    """ψ(x), the derivative of log Γ(x), elementwise; nan at 0, -1, -2, …"""
    return polygamma(0, x)


@function
def polygamma(order: int, x: TensorLike, /) -> Tensor:
    """The derivative number `order` of digamma, elementwise."""
    if not 0 <= order <= FURTHEST:
        raise ShapeError(f"polygamma of order {order}: its factorial is no float; give one of 0..{FURTHEST}")
    return apply(Polygamma(order), *floating(x))
