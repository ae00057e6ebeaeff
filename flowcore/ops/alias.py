"""The identity: a new name for a value, through which gradients flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from flowcore.dtypes import float64
from flowcore.op import Array, Op, Sample, Type, operator
from flowcore.placement.signature import Algebra, Equation, broadcast_equation
from flowcore.tensor import Tensor

__all__: list[str] = []


@operator
class Alias(Op):
    """y = x."""

    name: ClassVar[str] = "alias"
    algebra: ClassVar[Algebra] = Algebra(selects=(frozenset({0}),))

    def infer(self, *types: Type) -> tuple[Type, ...]:
        return types

    def equation(self, *types: Type) -> Equation:
        return broadcast_equation([types[0].shape], types[0].ndim)

    def kernel(self, *arrays: Array) -> Array:
        return arrays[0]

    def vjp(self, dy: Tensor, *inputs: Tensor) -> Any:
        return dy

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op:
        return self

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return (Sample(cls(), (Type((5, 7), float64),)),)
