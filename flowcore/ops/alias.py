"""The identity: a new name for a value, through which gradients flow or do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from flowcore.dispatch import operands
from flowcore.dtypes import float64, int64
from flowcore.op import Array, Op, Sample, Type, function, operator
from flowcore.ops.call import apply
from flowcore.placement.signature import Algebra, Equation, broadcast_equation
from flowcore.tensor import Tensor, TensorLike
from flowcore.world import current

__all__ = ["stop_gradient"]


@operator
class Alias(Op):
    """y = x."""

    name: ClassVar[str] = "alias"
    loop: ClassVar[str] = "same"
    algebra: ClassVar[Algebra] = Algebra(selects=(frozenset({0}),))

    def infer(self, *types: Type) -> tuple[Type, ...]:
        return types

    def equation(self, *types: Type) -> Equation:
        return broadcast_equation([types[0].shape], types[0].ndim)

    def kernel(self, *arrays: Array) -> Array:
        return arrays[0]

    def view(self, types: Sequence[Type]) -> int | None:
        return 0

    def vjp(self, dy: Tensor, *inputs: Tensor) -> Any:
        return dy

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op:
        return self

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return (Sample(cls(), (Type((5, 7), float64),)),)


@operator
class StopGradient(Alias):
    """y = x, a constant to differentiation."""

    name: ClassVar[str] = "stop_gradient"

    def vjp(self, dy: Tensor, *inputs: Tensor) -> Any:
        return None

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        # no differences of its values show that it has no gradient: whole numbers have none either
        return (Sample(cls(), (Type((5, 7), int64),)),)


@operator
class Barrier(Alias):
    """y = x, which no pass takes for x: what is computed from y is computed, even if it was from x before."""

    name: ClassVar[str] = "barrier"

    def vjp(self, dy: Tensor, *inputs: Tensor) -> Any:
        return dy


@function
def stop_gradient(x: TensorLike, /) -> Tensor:
    """The value of `x`, through which no gradient flows."""
    (tensor,) = operands(x)
    return tensor.detach()


@function
def fresh(x: Tensor) -> Tensor:
    """The value of x under a new name: assigning to one of the two does not change the other."""
    return apply(Alias(), x) if x.requires_grad or current().trace is not None else x.detach()
