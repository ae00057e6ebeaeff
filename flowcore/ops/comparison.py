"""Comparisons and logic: elementwise operators whose result is boolean."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import operands
from flowcore.dtypes import DType, bool_
from flowcore.op import Array, function, operator
from flowcore.ops.call import apply
from flowcore.ops.cast import aligned
from flowcore.ops.elementwise import Elementwise
from flowcore.placement.signature import Algebra
from flowcore.tensor import Tensor, TensorLike

__all__ = [
    "equal",
    "greater",
    "greater_equal",
    "isfinite",
    "isnan",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "not_equal",
]

FALLING, RISING = Algebra(monotone=(1, -1)), Algebra(monotone=(-1, 1))
ACROSS_RANKS = tuple(
    (f"{term}->{result}", "what a reduction across ranks makes of nan and inf is the transport's affair")
    for term in ("P", "P(max)", "P(min)")
    for result in ("P(max)", "P(min)")
)


class Comparison(Elementwise):
    """y = a ? b."""

    kinds: ClassVar[str] = "iuf"
    result: ClassVar[DType | None] = bool_
    draws: ClassVar[tuple[str, ...]] = ("index:3", "index:3")


class Logical(Elementwise):
    """y = f(a, b) of booleans."""

    kinds: ClassVar[str] = "b"
    draws: ClassVar[tuple[str, ...]] = ("bool", "bool")


class Predicate(Elementwise):
    """Whether x is of a kind."""

    kinds: ClassVar[str] = "fc"
    result: ClassVar[DType | None] = bool_
    draws: ClassVar[tuple[str, ...]] = ("special",)
    excluded: ClassVar[tuple[tuple[str, str], ...]] = ACROSS_RANKS


@operator
class Equal(Comparison):
    """y = [a = b]."""

    name: ClassVar[str] = "equal"
    kinds: ClassVar[str] = "iufcb"

    def kernel(self, a: Array, b: Array) -> Any:
        return np.equal(a, b)


@operator
class NotEqual(Comparison):
    """y = [a ≠ b]."""

    name: ClassVar[str] = "not_equal"
    kinds: ClassVar[str] = "iufcb"

    def kernel(self, a: Array, b: Array) -> Any:
        return np.not_equal(a, b)


@operator
class Less(Comparison):
    """y = [a < b]."""

    name: ClassVar[str] = "less"
    algebra: ClassVar[Algebra] = RISING

    def kernel(self, a: Array, b: Array) -> Any:
        return np.less(a, b)


@operator
class LessEqual(Comparison):
    """y = [a ≤ b]."""

    name: ClassVar[str] = "less_equal"
    algebra: ClassVar[Algebra] = RISING

    def kernel(self, a: Array, b: Array) -> Any:
        return np.less_equal(a, b)


@operator
class Greater(Comparison):
    """y = [a > b]."""

    name: ClassVar[str] = "greater"
    algebra: ClassVar[Algebra] = FALLING

    def kernel(self, a: Array, b: Array) -> Any:
        return np.greater(a, b)


@operator
class GreaterEqual(Comparison):
    """y = [a ≥ b]."""

    name: ClassVar[str] = "greater_equal"
    algebra: ClassVar[Algebra] = FALLING

    def kernel(self, a: Array, b: Array) -> Any:
        return np.greater_equal(a, b)


@operator
class LogicalAnd(Logical):
    """y = a and b."""

    name: ClassVar[str] = "logical_and"
    algebra: ClassVar[Algebra] = Algebra(monotone=(1, 1), joint=("min",))

    def kernel(self, a: Array, b: Array) -> Any:
        return np.logical_and(a, b)


@operator
class LogicalOr(Logical):
    """y = a or b."""

    name: ClassVar[str] = "logical_or"
    algebra: ClassVar[Algebra] = Algebra(monotone=(1, 1), joint=("max",))

    def kernel(self, a: Array, b: Array) -> Any:
        return np.logical_or(a, b)


@operator
class LogicalXor(Logical):
    """y = a or b, not both."""

    name: ClassVar[str] = "logical_xor"

    def kernel(self, a: Array, b: Array) -> Any:
        return np.logical_xor(a, b)


@operator
class LogicalNot(Elementwise):
    """y = not x."""

    name: ClassVar[str] = "logical_not"
    kinds: ClassVar[str] = "b"
    draws: ClassVar[tuple[str, ...]] = ("bool",)
    algebra: ClassVar[Algebra] = Algebra(monotone=(-1,))

    def kernel(self, x: Array) -> Any:
        return np.logical_not(x)


@operator
class IsNan(Predicate):
    """y = [whether x is nan]."""

    name: ClassVar[str] = "isnan"

    def kernel(self, x: Array) -> Any:
        return np.isnan(x)


@operator
class IsFinite(Predicate):
    """y = [whether x is neither infinite nor nan]."""

    name: ClassVar[str] = "isfinite"

    def kernel(self, x: Array) -> Any:
        return np.isfinite(x)


@function
def equal(a: TensorLike, b: TensorLike, /) -> Tensor:
    """Whether a = b, elementwise, with broadcasting."""
    return apply(Equal(), *aligned(a, b))


@function
def not_equal(a: TensorLike, b: TensorLike, /) -> Tensor:
    """Whether a ≠ b, elementwise, with broadcasting."""
    return apply(NotEqual(), *aligned(a, b))


@function
def less(a: TensorLike, b: TensorLike, /) -> Tensor:
    """Whether a < b, elementwise, with broadcasting."""
    return apply(Less(), *aligned(a, b))


@function
def less_equal(a: TensorLike, b: TensorLike, /) -> Tensor:
    """Whether a ≤ b, elementwise, with broadcasting."""
    return apply(LessEqual(), *aligned(a, b))


@function
def greater(a: TensorLike, b: TensorLike, /) -> Tensor:
    """Whether a > b, elementwise, with broadcasting."""
    return apply(Greater(), *aligned(a, b))


@function
def greater_equal(a: TensorLike, b: TensorLike, /) -> Tensor:
    """Whether a ≥ b, elementwise, with broadcasting."""
    return apply(GreaterEqual(), *aligned(a, b))


@function
def logical_and(a: TensorLike, b: TensorLike, /) -> Tensor:
    """Whether a and b, elementwise, with broadcasting."""
    return apply(LogicalAnd(), *aligned(a, b))


@function
def logical_or(a: TensorLike, b: TensorLike, /) -> Tensor:
    """Whether a or b, elementwise, with broadcasting."""
    return apply(LogicalOr(), *aligned(a, b))


@function
def logical_xor(a: TensorLike, b: TensorLike, /) -> Tensor:
    """Whether a or b, not both, elementwise, with broadcasting."""
    return apply(LogicalXor(), *aligned(a, b))


@function
def logical_not(x: TensorLike, /) -> Tensor:
    """Not x, elementwise; x is boolean."""
    return apply(LogicalNot(), *operands(x))


@function
def isnan(x: TensorLike, /) -> Tensor:
    """Whether x is nan, elementwise."""
    return apply(IsNan(), *operands(x))


@function
def isfinite(x: TensorLike, /) -> Tensor:
    """Whether x is neither infinite nor nan, elementwise."""
    return apply(IsFinite(), *operands(x))
