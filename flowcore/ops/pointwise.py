"""Public elementwise functions made of their operators: operands are brought to a common dtype, then applied to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowcore.op import function
from flowcore.ops.call import apply
from flowcore.ops.cast import aligned
from flowcore.ops.elementwise import Elementwise
from flowcore.tensor import Tensor, TensorLike

__all__: list[str] = []

Unary = Callable[[TensorLike], Tensor]
Binary = Callable[[TensorLike, TensorLike], Tensor]
Common = Callable[..., tuple[Tensor, ...]]
"""Makes tensors of one dtype of operands: `cast.aligned`, `cast.floating`, …"""


def unary(name: str, op: type[Elementwise], takes: Common = aligned) -> Unary:
    """The public function `name` that applies `op` to one operand."""
    made = op()

    def pointwise(x: TensorLike, /) -> Tensor:
        return apply(made, *takes(x))

    return _named(pointwise, name, f"{op.__doc__} Elementwise.")


def binary(name: str, op: type[Elementwise], takes: Common = aligned) -> Binary:
    """The public function `name` that applies `op` to two operands that broadcast against each other."""
    made = op()

    def pointwise(x1: TensorLike, x2: TensorLike, /) -> Tensor:
        return apply(made, *takes(x1, x2))

    return _named(pointwise, name, f"{op.__doc__} Elementwise, with broadcasting.")


def _named(f: Callable[..., Any], name: str, doc: str) -> Callable[..., Any]:
    f.__name__ = f.__qualname__ = name
    f.__doc__ = doc
    return function(f)
