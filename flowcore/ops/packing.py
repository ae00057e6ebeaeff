"""Eight booleans in a byte, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from flowcore.dtypes import bool_, uint8
from flowcore.errors import DTypeError, ShapeError
from flowcore.op import Array, Op, Sample, Type, operator
from flowcore.ops.axes import letters
from flowcore.placement.signature import Equation

__all__: list[str] = []


class Packing(Op):
    """An operator on the last dimension, of which it needs the whole."""

    takes: ClassVar[Any]
    makes_memory: ClassVar[bool] = True

    def check(self, x: Type) -> None:
        """DTypeError or ShapeError where `x` cannot be packed or unpacked."""
        if x.dtype != self.takes:
            raise DTypeError(f"{self.name} of {x.dtype}: takes {self.takes}; cast with astype")
        if not x.ndim:
            raise ShapeError(f"{self.name} of a tensor without dimensions: reshape it to one")

    def equation(self, x: Type, **_: Any) -> Equation:
        lead = letters(x.ndim - 1)
        return Equation((lead + "Y",), (lead + "Z",))

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op:
        return self

    def vjp(self, dy: Any, *inputs: Any, **_: Any) -> Any:
        return None


@operator
class Pack(Packing):
    """(…, n) booleans → (…, ⌈n/8⌉) bytes, the first in the highest bit, zeros behind the last."""

    name: ClassVar[str] = "pack"
    takes: ClassVar[Any] = bool_

    def infer(self, x: Type, **_: Any) -> tuple[Type, ...]:
        self.check(x)
        return (Type((*x.shape[:-1], -(-x.shape[-1] // 8)), uint8),)

    def kernel(self, x: Array, **_: Any) -> Any:
        return np.packbits(x, axis=-1)

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return tuple(Sample(cls(), (Type(shape, bool_),), ("bool",)) for shape in ((5, 19), (8,)))


@operator
class Unpack(Packing):
    """(…, ⌈n/8⌉) bytes → (…, n) booleans, n = `count`."""

    count: int

    name: ClassVar[str] = "unpack"
    takes: ClassVar[Any] = uint8

    def infer(self, x: Type, **_: Any) -> tuple[Type, ...]:
        self.check(x)
        if not x.shape[-1] * 8 - 8 < self.count <= x.shape[-1] * 8:
            raise ShapeError(f"unpack of shape {x.shape} to {self.count}: a byte has 8 booleans, the last at least 1")
        return (Type((*x.shape[:-1], self.count), bool_),)

    def kernel(self, x: Array, **_: Any) -> Any:
        return np.unpackbits(x, axis=-1, count=self.count).view(bool_)

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return tuple(Sample(cls(count), (Type(shape, uint8),)) for shape, count in (((5, 3), 19), ((2,), 16)))
