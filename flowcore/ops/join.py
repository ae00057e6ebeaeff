"""Joining tensors along an axis, and surrounding one with a constant."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import operands
from flowcore.dtypes import bool_, float64, int64
from flowcore.errors import DTypeError, ShapeError
from flowcore.op import Array, Op, Sample, Type, function, operator
from flowcore.ops.alias import fresh
from flowcore.ops.axes import axis_of, letters, whole_number
from flowcore.ops.call import apply
from flowcore.ops.cast import aligned
from flowcore.ops.shape import expand_dims
from flowcore.ops.slices import Slice
from flowcore.placement.layout import Shape
from flowcore.placement.signature import Algebra, Equation
from flowcore.tensor import Tensor, TensorLike

__all__ = ["concat", "concatenate", "pad", "stack"]


@operator
class Concatenate(Op):
    """The operands one after another along `axis`, which is needed whole."""

    axis: int

    name: ClassVar[str] = "concatenate"
    makes_memory: ClassVar[bool] = True
    writes: ClassVar[bool] = True

    def infer(self, *types: Type) -> tuple[Type, ...]:
        first = types[0]
        axis_of(self.axis, first.ndim, self.name)
        rest = [type.shape[: self.axis] + type.shape[self.axis + 1 :] for type in types]
        if any(type.ndim != first.ndim for type in types) or len(set(rest)) != 1:
            shown = " and ".join(str(type.shape) for type in types)
            raise ShapeError(f"concatenate of {shown} along {self.axis}: all other lengths must be equal; slice or pad")
        if len({type.dtype for type in types}) != 1:
            shown = " and ".join(str(type.dtype) for type in types)
            raise DTypeError(f"concatenate of {shown}: operands must have one dtype; cast with astype")
        length = sum(type.shape[self.axis] for type in types)
        return (Type((*first.shape[: self.axis], length, *first.shape[self.axis + 1 :]), first.dtype),)

    def equation(self, *types: Type) -> Equation:
        term = _whole(types[0].ndim, [self.axis])
        return Equation((term,) * len(types), (term,))

    def properties(self, *types: Type) -> Algebra:
        return Algebra(selects=(frozenset(range(len(types))),))

    def kernel(self, *arrays: Array) -> Any:
        return np.concatenate(arrays, axis=self.axis)

    def write(self, results: Sequence[Any], *arrays: Any) -> Any:
        return np.concatenate(arrays, axis=self.axis, out=results[0])

    def vjp(self, dy: Tensor, *inputs: Tensor) -> Any:
        grads, start = [], 0
        for x in inputs:
            starts = tuple(start if axis == self.axis else 0 for axis in range(x.ndim))
            grads.append(apply(Slice(starts, x.shape, (1,) * x.ndim), dy))
            start += x.shape[self.axis]
        return tuple(grads)

    def flops(self, *types: Type) -> int:
        return 0

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return Concatenate(self.axis + 1) if all(flags) else None

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        cases: tuple[tuple[int, tuple[Shape, ...]], ...] = (
            (0, ((5, 7), (3, 7))), (1, ((5, 7), (5, 2), (5, 1))), (1, ((3, 5, 4), (3, 2, 4))),
        )  # fmt: skip
        floats = tuple(Sample(cls(axis), tuple(Type(shape, float64) for shape in shapes)) for axis, shapes in cases)
        return (*floats, Sample(cls(0), (Type((5, 7), bool_), Type((3, 7), bool_)), ("bool", "bool")))


def _whole(ndim: int, axes: Sequence[int]) -> str:
    """A letter per dimension, capitals for those needed whole."""
    return "".join(letter.upper() if axis in axes else letter for axis, letter in enumerate(letters(ndim)))


@operator
class Pad(Op):
    """x surrounded by `value`: widths[i] = (before, after) along dimension i; padded dimensions are needed whole."""

    widths: tuple[tuple[int, int], ...]
    value: float

    name: ClassVar[str] = "pad"
    makes_memory: ClassVar[bool] = True
    writes: ClassVar[bool] = True

    def infer(self, x: Type) -> tuple[Type, ...]:
        if len(self.widths) != x.ndim or any(before < 0 or after < 0 for before, after in self.widths):
            raise ShapeError(f"pad of shape {x.shape} by {self.widths}: give (before, after) >= 0 for every dimension")
        if x.dtype.kind in "biu" and self.value != int(self.value):
            raise DTypeError(f"pad of {x.dtype} with {self.value}: it has no such value; cast with astype")
        return (Type(tuple(b + length + a for length, (b, a) in zip(x.shape, self.widths, strict=True)), x.dtype),)

    def equation(self, x: Type) -> Equation:
        term = _whole(x.ndim, [axis for axis, width in enumerate(self.widths) if width != (0, 0)])
        return Equation((term,), (term,))

    def properties(self, x: Type) -> Algebra:
        # the constant is the greatest and the least of itself, but its own sum only if it is 0
        return Algebra(selects=(frozenset({0}),)) if self.value == 0 else Algebra(monotone=(1,))

    def kernel(self, x: Array) -> Any:
        shape = tuple(before + length + after for length, (before, after) in zip(x.shape, self.widths, strict=True))
        return self.write([np.empty(shape, x.dtype)], x)

    def write(self, results: Sequence[Any], *arrays: Any) -> Any:
        (x,), y = arrays, results[0]
        y[...] = self.value
        y[tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, self.widths, strict=True))] = x
        return y

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return apply(Slice(tuple(before for before, _ in self.widths), x.shape, (1,) * x.ndim), dy)

    def flops(self, *types: Type) -> int:
        return 0

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return Pad(((0, 0), *self.widths), self.value)

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        cases = (((0, 0), (1, 2)), 0.0), (((2, 1), (0, 0)), -1.5)
        floats = tuple(Sample(cls(*case), (Type((5, 7), float64),)) for case in cases)
        return (*floats, Sample(cls(((0, 0), (1, 0)), 3.0), (Type((5, 7), int64),)))


@function
def concatenate(tensors: Sequence[TensorLike], /, *, axis: int | None = 0) -> Tensor:
    """The tensors one after another along `axis` (None: flattened)."""
    if len(tensors) == 0:
        raise ShapeError("concatenate of no tensors: pass at least one")
    parts = aligned(*tensors)
    if axis is None:
        parts, axis = tuple(part.reshape((part.size,)) for part in parts), 0
    along = axis_of(axis, parts[0].ndim, "concatenate")
    return fresh(parts[0]) if len(parts) == 1 else apply(Concatenate(along), *parts)


@function
def concat(tensors: Sequence[TensorLike], /, *, axis: int | None = 0) -> Tensor:
    """`concatenate`, by its name in the array API."""
    return concatenate(tensors, axis=axis)


@function
def stack(tensors: Sequence[TensorLike], /, *, axis: int = 0) -> Tensor:
    """The tensors, all of one shape, along a new dimension at `axis`."""
    if len(tensors) == 0:
        raise ShapeError("stack of no tensors: pass at least one")
    place = whole_number(axis, "stack along axis")
    return concatenate([expand_dims(tensor, place) for tensor in aligned(*tensors)], axis=place)


@function
def pad(x: TensorLike, /, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """x with (before, after) elements `value` added along each dimension."""
    (tensor,) = operands(x)
    try:
        pairs = tuple((index(before), index(after)) for before, after in widths)
    except (TypeError, ValueError):
        raise ShapeError(f"pad by {widths!r}: give (before, after) for every dimension") from None
    return apply(Pad(pairs, float(value)), tensor)
