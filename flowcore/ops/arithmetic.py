"""Elementwise arithmetic of two operands that broadcast against each other."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import apply
from flowcore.op import Array, function, operator
from flowcore.ops.elementwise import Elementwise, aligned, floating, sum_to
from flowcore.ops.unary import floor, log
from flowcore.placement.signature import Algebra
from flowcore.tensor import Tensor, TensorLike

FIRST, SECOND, BOTH = frozenset({0}), frozenset({1}), frozenset({0, 1})
Pair = tuple[Tensor | None, Tensor | None]


class Binary(Elementwise):
    """y = f(a, b)."""

    draws: ClassVar[tuple[str, ...]] = ("normal", "normal")


@operator
class Add(Binary):
    """y = a + b."""

    name: ClassVar[str] = "add"
    algebra: ClassVar[Algebra] = Algebra(linear=(BOTH,), monotone=(1, 1))
    wraps: ClassVar[bool] = True

    def kernel(self, a: Array, b: Array) -> Any:
        return np.add(a, b)

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> Pair:
        return sum_to(dy, a), sum_to(dy, b)


@operator
class Subtract(Binary):
    """y = a - b."""

    name: ClassVar[str] = "subtract"
    algebra: ClassVar[Algebra] = Algebra(linear=(BOTH,), monotone=(1, -1))
    wraps: ClassVar[bool] = True

    def kernel(self, a: Array, b: Array) -> Any:
        return np.subtract(a, b)

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> Pair:
        return sum_to(dy, a), sum_to(-dy, b)


@operator
class Multiply(Binary):
    """y = a b."""

    name: ClassVar[str] = "multiply"
    algebra: ClassVar[Algebra] = Algebra(linear=(FIRST, SECOND))

    def kernel(self, a: Array, b: Array) -> Any:
        return np.multiply(a, b)

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> Pair:
        return sum_to(dy * b, a), sum_to(dy * a, b)


@operator
class Divide(Binary):
    """y = a / b."""

    name: ClassVar[str] = "divide"
    kinds: ClassVar[str] = "fc"
    algebra: ClassVar[Algebra] = Algebra(linear=(FIRST,))

    def kernel(self, a: Array, b: Array) -> Any:
        return np.divide(a, b)

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> Pair:
        da = dy / b
        return sum_to(da, a), sum_to(-da * (a / b), b)


@operator
class Power(Binary):
    """y = a^b."""

    name: ClassVar[str] = "power"
    kinds: ClassVar[str] = "fciu"
    draws: ClassVar[tuple[str, ...]] = ("positive", "index:4")

    def kernel(self, a: Array, b: Array) -> Any:
        return np.power(a, b)

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> Pair:
        # the logarithm of a base that is not positive is kept out of the product, where it would be nan
        positive = where(a > 0, a, 1.0)
        return sum_to(dy * b * power(a, b - 1), a), sum_to(dy * power(a, b) * log(positive), b)


@operator
class FloorDivide(Binary):
    """y = ⌊a / b⌋."""

    name: ClassVar[str] = "floor_divide"
    kinds: ClassVar[str] = "iuf"

    def kernel(self, a: Array, b: Array) -> Any:
        return np.floor_divide(a, b)


@operator
class Remainder(Binary):
    """y = a - b ⌊a / b⌋, with the sign of b."""

    name: ClassVar[str] = "remainder"
    kinds: ClassVar[str] = "iuf"

    def kernel(self, a: Array, b: Array) -> Any:
        return np.remainder(a, b)

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> Pair:
        return sum_to(dy, a), sum_to(-dy * floor(a / b), b)


@operator
class Maximum(Binary):
    """y = max(a, b)."""

    name: ClassVar[str] = "maximum"
    kinds: ClassVar[str] = "biuf"
    algebra: ClassVar[Algebra] = Algebra(monotone=(1, 1), joint=("max",))

    def kernel(self, a: Array, b: Array) -> Any:
        return np.maximum(a, b)

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> Pair:
        return _chosen(dy, a, b, a > b)


@operator
class Minimum(Binary):
    """y = min(a, b)."""

    name: ClassVar[str] = "minimum"
    kinds: ClassVar[str] = "biuf"
    algebra: ClassVar[Algebra] = Algebra(monotone=(1, 1), joint=("min",))

    def kernel(self, a: Array, b: Array) -> Any:
        return np.minimum(a, b)

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> Pair:
        return _chosen(dy, a, b, a < b)


def _chosen(dy: Tensor, a: Tensor, b: Tensor, first: Tensor) -> Pair:
    """`dy` to the operand that was chosen, half to each where they are equal."""
    share = first.astype(dy.dtype) + (a == b).astype(dy.dtype) * 0.5
    return sum_to(dy * share, a), sum_to(dy * (1 - share), b)


@operator
class Where(Elementwise):
    """y = a where the condition holds, else b."""

    name: ClassVar[str] = "where"
    kinds: ClassVar[str] = "biufc"
    draws: ClassVar[tuple[str, ...]] = ("bool", "normal", "normal")
    algebra: ClassVar[Algebra] = Algebra(linear=(frozenset({1, 2}),), selects=(frozenset({1, 2}),), monotone=(0, 1, 1))
