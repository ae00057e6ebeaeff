"""Choosing between two operands, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import filled, operands
from flowcore.dtypes import bool_
from flowcore.errors import DTypeError
from flowcore.op import Array, Sample, Type, function, operator
from flowcore.ops.call import apply
from flowcore.ops.cast import aligned
from flowcore.ops.elementwise import Elementwise, broadcast_shape, elementwise_samples, sum_to
from flowcore.placement.layout import Layout
from flowcore.placement.signature import Algebra
from flowcore.tensor import Tensor, TensorLike

__all__ = ["where"]


@operator
class Where(Elementwise):
    """y = a where the condition holds, else b."""

    name: ClassVar[str] = "where"
    scalar: ClassVar[str] = "b if a else c"
    kinds: ClassVar[str] = "biufc"
    draws: ClassVar[tuple[str, ...]] = ("bool", "normal", "normal")
    algebra: ClassVar[Algebra] = Algebra(linear=(frozenset({1, 2}),), selects=(frozenset({1, 2}),), monotone=(0, 1, 1))

    def infer(self, condition: Type, a: Type, b: Type) -> tuple[Type, ...]:
        if condition.dtype != bool_:
            raise DTypeError(f"where with a condition of {condition.dtype}: it must be bool; compare with 0 first")
        return (Type(broadcast_shape(self.name, [condition.shape, a.shape, b.shape]), self.common((a, b))),)

    def kernel(self, condition: Array, a: Array, b: Array) -> Any:
        return np.where(condition, a, b)

    def write(self, results: Sequence[Any], *arrays: Any) -> Any:
        (condition, a, b), result = arrays, results[0]
        np.copyto(result, b)
        np.copyto(result, a, where=condition)
        return result

    def vjp(self, dy: Tensor, condition: Tensor, a: Tensor, b: Tensor) -> Any:
        return None, sum_to(where(condition, dy, 0), a), sum_to(where(condition, 0, dy), b)

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return tuple(
            replace(sample, types=(Type(sample.types[0].shape, bool_), *sample.types[1:]))
            for sample in elementwise_samples(cls())
        )


@function
def where(condition: TensorLike, a: TensorLike, b: TensorLike, /) -> Tensor:
    """a where the condition holds, else b, elementwise, with broadcasting."""
    first, second = aligned(a, b)
    if isinstance(condition, bool):  # a Python number would take the dtype of the tensors beside it
        chosen = filled((), condition, bool_, Layout(first.placement, "B"))
    else:
        chosen = operands(condition, first)[0]
    return apply(Where(), chosen, first, second)
