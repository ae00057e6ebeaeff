"""Integers that must name one of so many things: passed on, or an error where one does not."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from flowcore.dtypes import bool_, int64
from flowcore.errors import DTypeError, ShapeError
from flowcore.jit.launch import Kernel, Launch
from flowcore.jit.source import NAMES
from flowcore.jit.store import is_available
from flowcore.op import Array, Op, Sample, Type, operator
from flowcore.ops.call import apply
from flowcore.ops.rows import positions
from flowcore.placement.signature import Equation, broadcast_equation
from flowcore.tensor import Tensor


@operator
class Below(Op):
    """y = x, where every element is in 0..length-1 or among `allowed`; ShapeError naming one that is not."""

    length: int
    what: str
    allowed: tuple[int, ...] = ()

    name: ClassVar[str] = "below"

    def infer(self, x: Type, **_: Any) -> tuple[Type, ...]:
        if x.dtype.kind not in "iu":
            raise DTypeError(f"{self.what} of dtype {x.dtype}: pass integers")
        return (x,)

    def equation(self, x: Type, **_: Any) -> Equation:
        return broadcast_equation([x.shape], x.ndim)

    def kernel(self, x: Array, **_: Any) -> Array:
        bad = (x < 0) | (x >= self.length)
        for value in self.allowed:
            bad &= x != value
        if bad.any():
            raise ShapeError(f"{self.what} {x[bad].flat[0]} is outside 0..{self.length - 1}: pass one that exists")
        return x

    def checks(self, types: Sequence[Type]) -> tuple[int, tuple[Hashable, ...]]:
        rules: tuple[Hashable, ...] = (("below", self.length, self.allowed),)
        return 0, rules if self.allowed else (*rules, ("index", self.length))

    def scratch(self, types: Sequence[Type]) -> Sequence[Type]:
        mask = Type(types[0].shape, bool_)
        return mask, mask, Type((), bool_)

    def write(self, results: Sequence[Any], *arrays: Any) -> Any:
        (x,), (_, bad, other, some) = arrays, results
        zero, length, *allowed = self._limits
        np.logical_or(np.less(x, zero, out=bad), np.greater_equal(x, length, out=other), out=bad)
        for value in allowed:
            np.logical_and(bad, np.not_equal(x, value, out=other), out=bad)
        np.logical_or.reduce(bad, axis=None, out=some)
        return self.kernel(x) if some else x

    def launch(self, types: Sequence[Type]) -> Launch | None:
        kind, count = NAMES.get(str(types[0].dtype)), len(self.allowed)
        if kind is None or count > 1 or not is_available():
            return None
        source = f"from flowcore.jit.check import below{'_or' * count} as loop"
        return Launch(Kernel(source, 1 + count, (kind,), checks=True), (self.length, *self.allowed), into=(0,))

    @cached_property
    def _limits(self) -> list[Array]:
        """0, the length and what is allowed besides, as numpy would otherwise make arrays of them at every call."""
        return [np.array(number, np.int64) for number in (0, self.length, *self.allowed)]

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Any:
        return None

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op:
        return self

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return (Sample(cls(5, "class"), (Type((5, 7), int64),), ("index:5",)),)


def below(x: Tensor, length: int, what: str, allowed: tuple[int, ...] = ()) -> Tensor:
    """`x`, whose elements must be in 0..length-1 or among `allowed`; `what` names them in the error."""
    return apply(Below(length, what, allowed), x)


@operator
class Wrapped(Op):
    """y = x, or x + length where x is negative; IndexingError naming an x outside -length..length-1."""

    length: int

    name: ClassVar[str] = "wrapped"

    def infer(self, x: Type) -> tuple[Type, ...]:
        if x.dtype.kind not in "iu":
            raise DTypeError(f"indices of dtype {x.dtype}: they must be integers; cast with astype")
        return (Type(x.shape, int64),)

    def equation(self, x: Type) -> Equation:
        return broadcast_equation([x.shape], x.ndim)

    def kernel(self, x: Array) -> Array:
        return positions(x, self.length, "indexing").astype(np.int64)

    def checks(self, types: Sequence[Type]) -> tuple[int, tuple[Hashable, ...]]:
        return 0, (("index", self.length),)

    def vjp(self, dy: Tensor, x: Tensor) -> Any:
        return None

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op:
        return self

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return (Sample(cls(5), (Type((5, 7), int64),), ("index:5",)),)


def wrapped(x: Tensor, length: int) -> Tensor:
    """The indices `x` of `length` elements with negative ones counted from the end."""
    return apply(Wrapped(length), x)
