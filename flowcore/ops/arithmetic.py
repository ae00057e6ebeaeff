"""Elementwise arithmetic of two operands that broadcast against each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from flowcore.op import Array, Sample, function, operator
from flowcore.ops.call import apply
from flowcore.ops.cast import aligned, floating
from flowcore.ops.complex import conj
from flowcore.ops.elementwise import Elementwise, sum_to
from flowcore.ops.rounding import floor
from flowcore.ops.selection import where
from flowcore.ops.unary import log
from flowcore.placement.signature import Algebra
from flowcore.tensor import Tensor, TensorLike

__all__ = ["add", "divide", "floor_divide", "multiply", "power", "remainder", "subtract"]

FIRST, SECOND, BOTH = frozenset({0}), frozenset({1}), frozenset({0, 1})
Pair = tuple[Tensor | None, Tensor | None]


def _unbounded(signatures: str) -> tuple[tuple[str, str], ...]:
    """Why these, and their mirror images in max and min, are not declared."""
    swapped = {"max": "min", "min": "max"}
    mirrored = re.sub("max|min", lambda found: swapped[found[0]], signatures)
    reason = "a rank without elements holds the infinite identity, and inf - inf is nan"
    return tuple((text, reason) for text in (*signatures.split(), *mirrored.split()))


class Binary(Elementwise):
    """y = f(a, b)."""

    draws: ClassVar[tuple[str, ...]] = ("normal", "normal")


@operator
class Add(Binary):
    """y = a + b."""

    name: ClassVar[str] = "add"
    algebra: ClassVar[Algebra] = Algebra(linear=(BOTH,))
    excluded: ClassVar[tuple[tuple[str, str], ...]] = _unbounded("P(max),B->P(max) B,P(max)->P(max)")

    def kernel(self, a: Array, b: Array) -> Any:
        return np.add(a, b)

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> Pair:
        return sum_to(dy, a), sum_to(dy, b)


@operator
class Subtract(Binary):
    """y = a - b."""

    name: ClassVar[str] = "subtract"
    algebra: ClassVar[Algebra] = Algebra(linear=(BOTH,))
    excluded: ClassVar[tuple[tuple[str, str], ...]] = _unbounded("P(max),B->P(max) B,P(max)->P(min)")

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
        return sum_to(dy * conj(b), a), sum_to(dy * conj(a), b)


@operator
class Divide(Binary):
    """y = a / b."""

    name: ClassVar[str] = "divide"
    kinds: ClassVar[str] = "fc"
    algebra: ClassVar[Algebra] = Algebra(linear=(FIRST,))

    def kernel(self, a: Array, b: Array) -> Any:
        return np.divide(a, b)

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> Pair:
        da = dy / conj(b)
        return sum_to(da, a), sum_to(-da * conj(a / b), b)


@operator
class Power(Binary):
    """y = a^b."""

    name: ClassVar[str] = "power"
    draws: ClassVar[tuple[str, ...]] = ("positive", "normal")

    def kernel(self, a: Array, b: Array) -> Any:
        return np.power(a, b)

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> Pair:
        # what would be nan is kept out of the products: the logarithm of a real base <= 0 or of 0, and 0 · 0^-1
        above = where(a == 0 if a.dtype.kind == "c" else a <= 0, 1.0, a)
        exponent = where(b == 0, 1.0, b - 1)
        return sum_to(dy * conj(b * power(a, exponent)), a), sum_to(dy * conj(power(a, b) * log(above)), b)

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return [sample for sample in super().samples() if sample.types[0].dtype.kind in "fc"]


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


@function
def add(a: TensorLike, b: TensorLike, /) -> Tensor:
    """a + b, elementwise, with broadcasting."""
    return apply(Add(), *aligned(a, b))


@function
def subtract(a: TensorLike, b: TensorLike, /) -> Tensor:
    """a - b, elementwise, with broadcasting."""
    return apply(Subtract(), *aligned(a, b))


@function
def multiply(a: TensorLike, b: TensorLike, /) -> Tensor:
    """a b, elementwise, with broadcasting."""
    return apply(Multiply(), *aligned(a, b))


@function
def divide(a: TensorLike, b: TensorLike, /) -> Tensor:
    """a / b, elementwise, with broadcasting; of integers in float32."""
    return apply(Divide(), *floating(a, b))


@function
def power(a: TensorLike, b: TensorLike, /) -> Tensor:
    """a^b, elementwise, with broadcasting."""
    return apply(Power(), *aligned(a, b))


@function
def floor_divide(a: TensorLike, b: TensorLike, /) -> Tensor:
    """⌊a / b⌋, elementwise, with broadcasting."""
    return apply(FloorDivide(), *aligned(a, b))


@function
def remainder(a: TensorLike, b: TensorLike, /) -> Tensor:
    """a - b ⌊a / b⌋, elementwise, with broadcasting; it has the sign of b."""
    return apply(Remainder(), *aligned(a, b))
