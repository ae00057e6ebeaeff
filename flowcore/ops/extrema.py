"""The greater and the lesser of two operands, elementwise."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from flowcore.dispatch import operands
from flowcore.op import function, operator
from flowcore.ops.alias import fresh
from flowcore.ops.arithmetic import Binary, Pair
from flowcore.ops.cast import astype
from flowcore.ops.elementwise import sum_to
from flowcore.ops.pointwise import binary
from flowcore.placement.signature import Algebra
from flowcore.tensor import Tensor, TensorLike

__all__ = ["clip", "maximum", "minimum"]


@operator
class Maximum(Binary):
    """The greater of x1 and x2, nan where either is."""

    name: ClassVar[str] = "maximum"
    scalar: ClassVar[str] = "a if a >= b or a != a else b"
    kinds: ClassVar[str] = "biuf"
    algebra: ClassVar[Algebra] = Algebra(monotone=(1, 1), joint=("max",))
    ufunc: ClassVar[np.ufunc] = np.maximum

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> Pair:
        return _chosen(dy, a, b, a > b)


@operator
class Minimum(Binary):
    """The lesser of x1 and x2, nan where either is."""

    name: ClassVar[str] = "minimum"
    scalar: ClassVar[str] = "a if a <= b or a != a else b"
    kinds: ClassVar[str] = "biuf"
    algebra: ClassVar[Algebra] = Algebra(monotone=(1, 1), joint=("min",))
    ufunc: ClassVar[np.ufunc] = np.minimum

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> Pair:
        return _chosen(dy, a, b, a < b)


def _chosen(dy: Tensor, a: Tensor, b: Tensor, first: Tensor) -> Pair:
    """`dy` to the operand that was chosen, half to each where they are equal."""
    share = first.astype(dy.dtype) + (a == b).astype(dy.dtype) * 0.5
    return sum_to(dy * share, a), sum_to(dy * (1 - share), b)


maximum = binary("maximum", Maximum)
minimum = binary("minimum", Minimum)


@function
def clip(x: TensorLike, /, min: TensorLike | None = None, max: TensorLike | None = None) -> Tensor:
    """min where x is less, max where it is greater (None: no bound), elementwise, with broadcasting; in x's dtype."""
    (tensor,) = operands(x)
    clipped = tensor
    for bounded, bound in ((maximum, min), (minimum, max)):
        if bound is not None:
            clipped = bounded(clipped, bound)
    return fresh(tensor) if clipped is tensor else astype(clipped, tensor.dtype, copy=False)
