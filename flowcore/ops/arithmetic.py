"""Elementwise arithmetic of two operands that broadcast against each other."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

import numpy as np

from flowcore.dtypes import bool_, is_float, is_real
from flowcore.errors import DTypeError
from flowcore.op import Array, Sample, Type, operator
from flowcore.ops.cast import floating
from flowcore.ops.complex import conj
from flowcore.ops.elementwise import Elementwise, sum_to
from flowcore.ops.pointwise import binary
from flowcore.ops.rounding import floor
from flowcore.ops.selection import where
from flowcore.ops.unary import log
from flowcore.placement.signature import Algebra
from flowcore.tensor import Tensor

__all__ = ["add", "divide", "floor_divide", "multiply", "pow", "power", "remainder", "subtract"]

FIRST, SECOND, BOTH = frozenset({0}), frozenset({1}), frozenset({0, 1})
HALF = np.array(0.5)
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
    """x1 + x2."""

    name: ClassVar[str] = "add"
    scalar: ClassVar[str] = "a + b"
    algebra: ClassVar[Algebra] = Algebra(linear=(BOTH,))
    excluded: ClassVar[tuple[tuple[str, str], ...]] = _unbounded("P(max),B->P(max) B,P(max)->P(max)")
    ufunc: ClassVar[np.ufunc] = np.add

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> Pair:
        return sum_to(dy, a), sum_to(dy, b)


@operator
class Subtract(Binary):
    """x1 - x2."""

    name: ClassVar[str] = "subtract"
    scalar: ClassVar[str] = "a - b"
    algebra: ClassVar[Algebra] = Algebra(linear=(BOTH,))
    excluded: ClassVar[tuple[tuple[str, str], ...]] = _unbounded("P(max),B->P(max) B,P(max)->P(min)")
    ufunc: ClassVar[np.ufunc] = np.subtract

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> Pair:
        return sum_to(dy, a), sum_to(-dy, b)


@operator
class Multiply(Binary):
    """x1 x2."""

    name: ClassVar[str] = "multiply"
    scalar: ClassVar[str] = "a * b"
    algebra: ClassVar[Algebra] = Algebra(linear=(FIRST, SECOND))
    ufunc: ClassVar[np.ufunc] = np.multiply

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> Pair:
        return sum_to(dy * conj(b), a), sum_to(dy * conj(a), b)


@operator
class Divide(Binary):
    """x1 / x2; of integers in float32."""

    name: ClassVar[str] = "divide"
    scalar: ClassVar[str] = "a / b"
    kinds: ClassVar[str] = "fc"
    algebra: ClassVar[Algebra] = Algebra(linear=(FIRST,))
    ufunc: ClassVar[np.ufunc] = np.divide

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> Pair:
        da = dy / conj(b)
        return sum_to(da, a), sum_to(-da * conj(a / b), b)


@operator
class Power(Binary):
    """x1^x2."""

    name: ClassVar[str] = "power"
    scalar: ClassVar[str] = "pow(a, b)"
    draws: ClassVar[tuple[str, ...]] = ("positive", "normal")

    def kernel(self, a: Array, b: Array, **_: Any) -> Any:
        if b.dtype.kind == "i" and b.size and b.min() < 0:
            raise DTypeError(f"pow of {a.dtype} to {b.min()}: integers have no such power; cast one with astype")
        found = np.power(a, b)
        if is_real(a.dtype) and np.any(half := b == 0.5):
            # along an exponent that repeats numpy takes the root: nan of -inf, where the power is inf, -0.0 of -0.0
            found = np.where(half, np.where(a == -np.inf, np.inf, np.abs(found)), found)
        return found

    def checks(self, types: Sequence[Type]) -> tuple[int, tuple[Hashable, ...]] | None:
        return (1, ("not negative",)) if types[1].dtype.kind == "i" else None

    def scratch(self, types: Sequence[Type]) -> Sequence[Type]:
        return Type(types[1].shape, bool_), Type((), bool_)

    def write(self, results: Sequence[Any], *arrays: Any) -> Any:
        (a, b), (result, half, some) = arrays, results
        if a.dtype.kind != "f":
            result[...] = self.kernel(a, b)
            return result
        np.logical_or.reduce(np.equal(b, HALF, out=half), axis=None, out=some)
        if some:
            result[...] = self.kernel(a, b)
        else:
            np.power(a, b, out=result)
        return result

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> Pair:
        # what would be nan is kept out of the products: the logarithm of a real base <= 0 or of 0, and 0 · 0^-1
        above = where(a == 0 if a.dtype.kind == "c" else a <= 0, 1.0, a)
        exponent = where(b == 0, 1.0, b - 1)
        return sum_to(dy * conj(b * power(a, exponent)), a), sum_to(dy * conj(power(a, b) * log(above)), b)

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return [sample for sample in super().samples() if is_float(sample.types[0].dtype)]


@operator
class FloorDivide(Binary):
    """⌊x1 / x2⌋; of integers 0 where x2 is 0."""

    name: ClassVar[str] = "floor_divide"
    kinds: ClassVar[str] = "iuf"

    def kernel(self, a: Array, b: Array, **_: Any) -> Any:
        found = np.floor_divide(a, b)
        if is_real(a.dtype):
            # numpy follows Python where an operand is infinite; the array API follows the quotient
            quotient = np.divide(a, b)
            found = np.where((np.isinf(a) & np.isfinite(b)) | (np.isfinite(a) & np.isinf(b)), quotient, found)
        return found


@operator
class Remainder(Binary):
    """x1 - x2 ⌊x1 / x2⌋, which has the sign of x2; of integers 0 where x2 is 0."""

    name: ClassVar[str] = "remainder"
    kinds: ClassVar[str] = "iuf"
    ufunc: ClassVar[np.ufunc] = np.remainder

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> Pair:
        return sum_to(dy, a), sum_to(-dy * floor(a / b), b)


add = binary("add", Add)
subtract = binary("subtract", Subtract)
multiply = binary("multiply", Multiply)
divide = binary("divide", Divide, floating)
pow = power = binary("pow", Power)
floor_divide = binary("floor_divide", FloorDivide)
remainder = binary("remainder", Remainder)
