"""The cast between dtypes, and operands brought to a common dtype.

A change of dtype is an operator of its own, with its own algebra: a wider cast of integers is not linear, because
terms of a sum may wrap around.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import located, operands, to_global
from flowcore.dtypes import ALL, DType, as_dtype, float32, is_float, is_real, promote
from flowcore.errors import DTypeError
from flowcore.op import Array, Sample, Type, function, operator
from flowcore.ops.alias import fresh
from flowcore.ops.call import apply
from flowcore.ops.complex import real
from flowcore.ops.elementwise import Elementwise
from flowcore.placement.signature import Algebra
from flowcore.tensor import Tensor, TensorLike

__all__ = ["astype"]

INFINITE = (("P(max)->P(max)", "the identity -inf as an integer is whatever the machine makes of it"),)


@operator
class Cast(Elementwise):
    """y = x in another dtype, as numpy's astype.

    Linear between floats up to rounding, and from integers to integers no wider (both count modulo a power of two);
    monotone where every value keeps its order: not where integers wrap around.
    """

    dtype: str

    name: ClassVar[str] = "cast"
    narrow: ClassVar[bool] = True
    scalar: ClassVar[str] = "a"
    kinds: ClassVar[str] = "biufc"

    def infer(self, x: Type) -> tuple[Type, ...]:
        if x.dtype.kind == "c" and self.target.kind not in "bc":
            raise DTypeError(f"cast of {x.dtype} to {self.dtype} would drop the imaginary part; take real or abs first")
        return (Type(x.shape, self.target),)

    @property
    def target(self) -> DType:
        """The dtype of the result."""
        return np.dtype(self.dtype)

    def properties(self, x: Type) -> Algebra:
        source, target = x.dtype, self.target
        narrower = source.kind in "iu" and target.kind in "iu" and target.itemsize <= source.itemsize
        keeps_order = source.kind == "b" or (source.kind != "c" and is_real(target)) or np.can_cast(source, target)
        return Algebra(
            linear=(frozenset({0}),) if narrower or (is_float(source) and is_float(target)) else (),
            monotone=(1,) if keeps_order and target.kind not in "bc" else (),
        )

    def kernel(self, x: Array) -> Array:
        return x.astype(self.target)

    def write(self, results: Sequence[Any], *arrays: Any) -> Any:
        result = results[0]
        np.copyto(result, arrays[0], casting="unsafe")
        return result

    def vjp(self, dy: Tensor, x: Tensor) -> Any:
        if not is_float(x.dtype):
            return None
        return astype(dy if x.dtype.kind == "c" else real(dy), x.dtype)

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        pairs = (
            ("float64", "float32"), ("float32", "float64"), ("float64", "int64"), ("float64", "complex128"),
            ("int64", "float64"), ("int64", "int32"), ("int32", "int64"), ("int64", "bool"), ("bool", "float32"),
            ("complex128", "complex64"),            ("bool", "int64"), ("float64", "bool"),
        )  # fmt: skip
        return tuple(
            Sample(
                cls(target),
                (Type((5, 7), np.dtype(source)),),
                ("whole" if target == "bool" else "normal",),
                INFINITE,
            )
            for source, target in pairs
        )


CASTS = {dtype: Cast(dtype.name) for dtype in ALL}


@function
def astype(x: TensorLike, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Tensor:
    """x in another dtype, and on another placement if `device` names one; without `copy` x itself where it is that."""
    (tensor,) = operands(x)
    target, place = as_dtype(dtype), located(device, None)
    cast = tensor if tensor.dtype == target else apply(CASTS[target], tensor)
    moved = cast if place is None else to_global(cast, place)
    return fresh(tensor) if copy and moved is tensor else moved


def aligned(*values: TensorLike) -> tuple[Tensor, ...]:
    """`values` as tensors of their common dtype."""
    tensors = operands(*values)
    dtype = promote(*[tensor.dtype for tensor in tensors])
    return tuple(tensor if tensor.dtype == dtype else astype(tensor, dtype) for tensor in tensors)


def floating(*values: TensorLike) -> tuple[Tensor, ...]:
    """`values` as tensors of their common floating dtype; integers and booleans become float32."""
    tensors = aligned(*values)
    return tensors if is_float(tensors[0].dtype) else tuple(astype(tensor, float32) for tensor in tensors)
