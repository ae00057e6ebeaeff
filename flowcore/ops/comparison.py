"""Comparisons and logic: elementwise operators whose result is boolean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from flowcore.dtypes import DType, bool_, is_float
from flowcore.op import Sample, operator
from flowcore.ops.elementwise import Elementwise, elementwise_samples
from flowcore.ops.pointwise import binary, unary
from flowcore.placement.signature import Algebra

__all__ = [
    "equal",
    "greater",
    "greater_equal",
    "isfinite",
    "isinf",
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

    result: ClassVar[DType | None] = bool_
    draws: ClassVar[tuple[str, ...]] = ("special",)
    excluded: ClassVar[tuple[tuple[str, str], ...]] = ACROSS_RANKS

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        # of integers the answer is known beforehand
        return [sample for sample in elementwise_samples(cls()) if is_float(sample.types[0].dtype)]


@operator
class Equal(Comparison):
    """Whether x1 = x2."""

    name: ClassVar[str] = "equal"
    scalar: ClassVar[str] = "a == b"
    kinds: ClassVar[str] = "iufcb"
    ufunc: ClassVar[np.ufunc] = np.equal


@operator
class NotEqual(Comparison):
    """Whether x1 ≠ x2."""

    name: ClassVar[str] = "not_equal"
    scalar: ClassVar[str] = "a != b"
    kinds: ClassVar[str] = "iufcb"
    ufunc: ClassVar[np.ufunc] = np.not_equal


@operator
class Less(Comparison):
    """Whether x1 < x2."""

    name: ClassVar[str] = "less"
    scalar: ClassVar[str] = "a < b"
    algebra: ClassVar[Algebra] = RISING
    ufunc: ClassVar[np.ufunc] = np.less


@operator
class LessEqual(Comparison):
    """Whether x1 ≤ x2."""

    name: ClassVar[str] = "less_equal"
    scalar: ClassVar[str] = "a <= b"
    algebra: ClassVar[Algebra] = RISING
    ufunc: ClassVar[np.ufunc] = np.less_equal


@operator
class Greater(Comparison):
    """Whether x1 > x2."""

    name: ClassVar[str] = "greater"
    scalar: ClassVar[str] = "a > b"
    algebra: ClassVar[Algebra] = FALLING
    ufunc: ClassVar[np.ufunc] = np.greater


@operator
class GreaterEqual(Comparison):
    """Whether x1 ≥ x2."""

    name: ClassVar[str] = "greater_equal"
    scalar: ClassVar[str] = "a >= b"
    algebra: ClassVar[Algebra] = FALLING
    ufunc: ClassVar[np.ufunc] = np.greater_equal


@operator
class LogicalAnd(Logical):
    """x1 and x2, of booleans."""

    name: ClassVar[str] = "logical_and"
    scalar: ClassVar[str] = "a & b"
    algebra: ClassVar[Algebra] = Algebra(monotone=(1, 1), joint=("min",))
    ufunc: ClassVar[np.ufunc] = np.logical_and


@operator
class LogicalOr(Logical):
    """x1 or x2, of booleans."""

    name: ClassVar[str] = "logical_or"
    scalar: ClassVar[str] = "a | b"
    algebra: ClassVar[Algebra] = Algebra(monotone=(1, 1), joint=("max",))
    ufunc: ClassVar[np.ufunc] = np.logical_or


@operator
class LogicalXor(Logical):
    """x1 or x2, not both, of booleans."""

    name: ClassVar[str] = "logical_xor"
    ufunc: ClassVar[np.ufunc] = np.logical_xor


@operator
class LogicalNot(Elementwise):
    """Not x, of booleans."""

    name: ClassVar[str] = "logical_not"
    scalar: ClassVar[str] = "not a"
    kinds: ClassVar[str] = "b"
    draws: ClassVar[tuple[str, ...]] = ("bool",)
    algebra: ClassVar[Algebra] = Algebra(monotone=(-1,))
    ufunc: ClassVar[np.ufunc] = np.logical_not


@operator
class IsNan(Predicate):
    """Whether x is nan."""

    name: ClassVar[str] = "isnan"
    scalar: ClassVar[str] = "a != a"
    ufunc: ClassVar[np.ufunc] = np.isnan


@operator
class IsFinite(Predicate):
    """Whether x is neither infinite nor nan."""

    name: ClassVar[str] = "isfinite"
    ufunc: ClassVar[np.ufunc] = np.isfinite


@operator
class IsInf(Predicate):
    """Whether x is infinite."""

    name: ClassVar[str] = "isinf"
    ufunc: ClassVar[np.ufunc] = np.isinf


equal = binary("equal", Equal)
not_equal = binary("not_equal", NotEqual)
less = binary("less", Less)
less_equal = binary("less_equal", LessEqual)
greater = binary("greater", Greater)
greater_equal = binary("greater_equal", GreaterEqual)
logical_and = binary("logical_and", LogicalAnd)
logical_or = binary("logical_or", LogicalOr)
logical_xor = binary("logical_xor", LogicalXor)
logical_not = unary("logical_not", LogicalNot)
isnan = unary("isnan", IsNan)
isfinite = unary("isfinite", IsFinite)
isinf = unary("isinf", IsInf)
