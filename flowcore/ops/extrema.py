"""The greater and the lesser of two operands, elementwise."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from flowcore.op import Array, function, operator
from flowcore.ops.arithmetic import Binary, Pair
from flowcore.ops.call import apply
from flowcore.ops.cast import aligned
from flowcore.ops.elementwise import sum_to
from flowcore.placement.signature import Algebra
from flowcore.tensor import Tensor, TensorLike

__all__ = ["maximum", "minimum"]


@operator
class Maximum(Binary):
    """y = max(a, b)."""

    name: ClassVar[str] = "maximum"
    kinds: ClassVar[str] = "biuf"
    algebra: ClassVar[Algebra] = Algebra(monotone=(1, 1), joint=("max",))

    def kernel(self, a: Array, b: Array) -> Any:
        return np.maximum(a, b)

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> Pair:
        return _chosen(dy, a, b, a > b)


@operator
class Minimum(Binary):
    """y = min(a, b)."""

    name: ClassVar[str] = "minimum"
    kinds: ClassVar[str] = "biuf"
    algebra: ClassVar[Algebra] = Algebra(monotone=(1, 1), joint=("min",))

    def kernel(self, a: Array, b: Array) -> Any:
        return np.minimum(a, b)

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> Pair:
        return _chosen(dy, a, b, a < b)


def _chosen(dy: Tensor, a: Tensor, b: Tensor, first: Tensor) -> Pair:
    """`dy` to the operand that was chosen, half to each where they are equal."""
    share = first.astype(dy.dtype) + (a == b).astype(dy.dtype) * 0.5
    return sum_to(dy * share, a), sum_to(dy * (1 - share), b)


@function
def maximum(a: TensorLike, b: TensorLike, /) -> Tensor:
    """The greater of a and b, elementwise, with broadcasting; nan where either is nan."""
    return apply(Maximum(), *aligned(a, b))


@function
def minimum(a: TensorLike, b: TensorLike, /) -> Tensor:
    """The lesser of a and b, elementwise, with broadcasting; nan where either is nan."""
    return apply(Minimum(), *aligned(a, b))
