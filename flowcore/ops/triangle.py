"""The lower and the upper triangle of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import operands
from flowcore.dtypes import bool_, float64
from flowcore.errors import ShapeError
from flowcore.op import Array, Block, Op, Sample, Type, function, operator
from flowcore.ops.call import apply
from flowcore.ops.shape import MOVES
from flowcore.placement.signature import Algebra, Equation, broadcast_equation
from flowcore.tensor import Tensor, TensorLike

__all__ = ["tril", "triu"]


@operator
class Triangle(Op):
    """y[…,r,c] = x[…,r,c] where c - r ≤ k (is_lower) or c - r ≥ k, else 0."""

    k: int
    is_lower: bool

    name: ClassVar[str] = "triangle"
    algebra: ClassVar[Algebra] = MOVES

    def infer(self, x: Type, **_: Any) -> tuple[Type, ...]:
        if x.ndim < 2:
            raise ShapeError(f"a triangle of shape {x.shape}: it needs 2 dimensions or more; reshape it to a matrix")
        return (x,)

    def equation(self, x: Type, **_: Any) -> Equation:
        return broadcast_equation([x.shape], x.ndim)

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        row, column = inputs[0].start[-2:]
        return replace(self, k=self.k + row - column) if row != column else self

    def kernel(self, x: Array, **_: Any) -> Any:
        return np.tril(x, self.k) if self.is_lower else np.triu(x, self.k)

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return apply(self, dy)

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op:
        return self

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return (
            Sample(cls(0, True), (Type((5, 7), float64),)),
            Sample(cls(-1, False), (Type((3, 5, 4), float64),)),
            Sample(cls(2, False), (Type((5, 7), bool_),), ("bool",)),
        )


@function
def tril(x: TensorLike, /, *, k: int = 0) -> Tensor:
    """The elements on and below diagonal `k` of the last two dimensions, 0 above."""
    return apply(Triangle(_within(k), True), *operands(x))


@function
def triu(x: TensorLike, /, *, k: int = 0) -> Tensor:
    """The elements on and above diagonal `k` of the last two dimensions, 0 below."""
    return apply(Triangle(_within(k), False), *operands(x))


def _within(k: int) -> int:
    """`k`, or a diagonal as far outside every matrix."""
    return max(-(2**62), min(2**62, int(k)))
