"""Random orders, as a pure function of a key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import operands
from flowcore.dtypes import int64
from flowcore.errors import ShapeError
from flowcore.op import Array, Op, Sample, Type, operator
from flowcore.ops.axes import letters
from flowcore.ops.call import apply
from flowcore.ops.philox import words_of
from flowcore.placement.signature import Equation
from flowcore.tensor import Tensor, TensorLike


@operator
class Permutation(Op):
    """y[k] = the numbers below `length` in the order of as many random 64-bit words under key k; key: (…, 2)."""

    length: int

    name: ClassVar[str] = "permutation"

    def infer(self, key: Type) -> tuple[Type, ...]:
        if key.dtype.kind not in "iu" or key.ndim == 0 or key.shape[-1] != 2:
            raise ShapeError(f"permutation with a key of {key}: a key is two integers (seed, counter)")
        if self.length < 0:
            raise ShapeError(f"permutation of {self.length} numbers: give a length from 0")
        return (Type((*key.shape[:-1], self.length), int64),)

    def equation(self, key: Type) -> Equation:
        batch = letters(key.ndim - 1)
        return Equation((batch + "Z",), (batch + "Y",))

    def kernel(self, key: Array) -> Any:
        result = np.empty((*key.shape[:-1], self.length), np.int64)
        blocks = np.arange((self.length + 1) // 2)
        for place in np.ndindex(key.shape[:-1]):
            seed, counter = key[place].astype(np.uint64).tolist()
            words = words_of(seed, counter, blocks).view(np.uint64).reshape(-1)
            result[place] = np.argsort(words[: self.length], kind="stable")
        return result

    def vjp(self, dy: Tensor, key: Tensor) -> Any:
        return None

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return self

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return (Sample(cls(7), (Type((2,), int64),), ("key",)), Sample(cls(4), (Type((3, 2), int64),), ("key",)))


def permutation(key: TensorLike, length: int) -> Tensor:
    """The numbers below `length` in random order."""
    return apply(Permutation(length), *operands(key))
