"""Where the greatest or the least element stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import operands
from flowcore.dtypes import bool_, float64, int64
from flowcore.errors import DTypeError, ShapeError
from flowcore.op import Array, Op, Sample, Type, function, operator
from flowcore.ops.axes import axis_of, letters
from flowcore.ops.call import apply
from flowcore.ops.shape import reshape
from flowcore.placement.signature import Equation
from flowcore.tensor import Tensor, TensorLike

__all__ = ["argmax", "argmin"]


@dataclass(frozen=True)
class Argument(Op):
    """y[a] = the first index along `axis` of the extreme element; the axis is needed whole."""

    axis: int

    def infer(self, x: Type) -> tuple[Type, ...]:
        axis_of(self.axis, x.ndim, self.name)
        if x.dtype.kind == "c":
            raise DTypeError(f"{self.name} of {x.dtype}: complex numbers have no order; take abs or real first")
        if x.shape[self.axis] == 0:
            raise ShapeError(f"{self.name} of shape {x.shape} along axis {self.axis}: there is no element; test .size")
        return (Type(x.shape[: self.axis] + x.shape[self.axis + 1 :], int64),)

    def equation(self, x: Type) -> Equation:
        term = letters(x.ndim)
        whole = term[self.axis]
        return Equation((term.replace(whole, whole.upper()),), (term.replace(whole, ""),))

    def vjp(self, dy: Tensor, x: Tensor) -> Any:
        return None

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return type(self)(axis=self.axis + 1)

    def flops(self, *types: Type) -> int:
        return types[0].size

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        cases = (((5, 7), 0, float64), ((5, 7), 1, int64), ((3, 5, 4), 1, float64), ((5, 7), 1, bool_))
        return tuple(
            Sample(cls(axis=axis), (Type(shape, dtype),), ("bool" if dtype == bool_ else "normal",))
            for shape, axis, dtype in cases
        )


@operator
class ArgMax(Argument):
    """y[a] = argmax_b x[a,b], the first where several are equal."""

    name: ClassVar[str] = "argmax"

    def kernel(self, x: Array) -> Any:
        return np.argmax(x, axis=self.axis)


@operator
class ArgMin(Argument):
    """y[a] = argmin_b x[a,b], the first where several are equal."""

    name: ClassVar[str] = "argmin"

    def kernel(self, x: Array) -> Any:
        return np.argmin(x, axis=self.axis)


@function
def argmax(x: TensorLike, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the greatest element along `axis` (None: of the flattened tensor), the first of several."""
    return _argument(ArgMax, x, axis, keepdims)


@function
def argmin(x: TensorLike, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the least element along `axis` (None: of the flattened tensor), the first of several."""
    return _argument(ArgMin, x, axis, keepdims)


def _argument(kind: type[ArgMax] | type[ArgMin], x: TensorLike, axis: int | None, keepdims: bool) -> Tensor:
    (tensor,) = operands(x)
    along = 0 if axis is None else axis_of(axis, tensor.ndim, kind.name)
    found = apply(kind(along), tensor if axis is not None else reshape(tensor, (tensor.size,)))
    ones = range(tensor.ndim) if axis is None else (along,)
    kept = tuple(1 if index in ones else length for index, length in enumerate(tensor.shape))
    return reshape(found, kept) if keepdims else found
