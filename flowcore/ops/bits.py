"""Bits of integers and booleans, elementwise: logic on each, and shifts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from flowcore.dtypes import bool_, int32, uint8
from flowcore.op import Sample, Type, operator
from flowcore.ops.elementwise import SHAPES, Elementwise
from flowcore.ops.pointwise import binary, unary
from flowcore.placement.signature import Algebra

__all__ = [
    "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor",
    "invert", "left_shift", "right_shift",
]  # fmt: skip


class Bitwise(Elementwise):
    """y = f(a, b), bit by bit."""

    kinds: ClassVar[str] = "biu"
    draws: ClassVar[tuple[str, ...]] = ("normal", "normal")

    def properties(self, *types: Type, **_: Any) -> Algebra:
        return self.algebra if types[0].dtype == bool_ else Algebra()

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        cases = [(shapes, bool_) for shapes in SHAPES[len(cls.draws)][:2]] + [(SHAPES[len(cls.draws)][0], int32)]
        return tuple(Sample(cls(), tuple(Type(shape, dtype) for shape in case), cls.draws) for case, dtype in cases)


@operator
class And(Bitwise):
    """The bits that are set in both."""

    name: ClassVar[str] = "bitwise_and"
    algebra: ClassVar[Algebra] = Algebra(monotone=(1, 1), joint=("min",))
    ufunc: ClassVar[np.ufunc] = np.bitwise_and


@operator
class Or(Bitwise):
    """The bits that are set in one or both."""

    name: ClassVar[str] = "bitwise_or"
    algebra: ClassVar[Algebra] = Algebra(monotone=(1, 1), joint=("max",))
    ufunc: ClassVar[np.ufunc] = np.bitwise_or


@operator
class Xor(Bitwise):
    """The bits that are set in one, not both."""

    name: ClassVar[str] = "bitwise_xor"
    ufunc: ClassVar[np.ufunc] = np.bitwise_xor


@operator
class Invert(Bitwise):
    """The bits that are not set."""

    name: ClassVar[str] = "bitwise_invert"
    draws: ClassVar[tuple[str, ...]] = ("normal",)
    ufunc: ClassVar[np.ufunc] = np.bitwise_invert

    def properties(self, *types: Type, **_: Any) -> Algebra:
        return Algebra(monotone=(-1,))  # -1 - x of signed integers, the greatest - x of others


class Shift(Elementwise):
    """y = the bits of a moved by b places."""

    kinds: ClassVar[str] = "iu"
    draws: ClassVar[tuple[str, ...]] = ("normal", "index:9")

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        cases = ((SHAPES[2][0], int32), (SHAPES[2][1], uint8))
        return tuple(Sample(cls(), tuple(Type(shape, dtype) for shape in case), cls.draws) for case, dtype in cases)


@operator
class LeftShift(Shift):
    """x1 · 2^x2, without the bits that leave the dtype."""

    name: ClassVar[str] = "bitwise_left_shift"
    algebra: ClassVar[Algebra] = Algebra(linear=(frozenset({0}),))
    ufunc: ClassVar[np.ufunc] = np.left_shift


@operator
class RightShift(Shift):
    """⌊x1 / 2^x2⌋."""

    name: ClassVar[str] = "bitwise_right_shift"
    ufunc: ClassVar[np.ufunc] = np.right_shift

    def properties(self, *types: Type, **_: Any) -> Algebra:
        return Algebra(monotone=(1, 0 if types[0].dtype.kind == "i" else -1))  # a shift raises what is negative


bitwise_and = binary("bitwise_and", And)
bitwise_or = binary("bitwise_or", Or)
bitwise_xor = binary("bitwise_xor", Xor)
bitwise_invert = invert = unary("bitwise_invert", Invert)
bitwise_left_shift = left_shift = binary("bitwise_left_shift", LeftShift)
bitwise_right_shift = right_shift = binary("bitwise_right_shift", RightShift)
