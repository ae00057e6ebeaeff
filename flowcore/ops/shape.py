"""Operators that only rename the places of elements: reshape, permute_dims, broadcast_to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import operands
from flowcore.dtypes import bool_, float64, int64
from flowcore.errors import ShapeError
from flowcore.op import Array, Block, Op, Sample, Type, function, operator
from flowcore.ops.alias import fresh
from flowcore.ops.axes import axes_of, axis_of, lengths_of, letters, whole_numbers
from flowcore.ops.call import apply
from flowcore.placement.layout import Shape, local_range
from flowcore.placement.sbp import REDUCTIONS, SBP, B, Partial, Split
from flowcore.placement.signature import Algebra, Equation, Signature
from flowcore.tensor import Tensor, TensorLike

__all__ = ["broadcast_to", "expand_dims", "permute_dims", "reshape", "squeeze", "transpose"]

MOVES = Algebra(selects=(frozenset({0}),))


@operator
class Reshape(Op):
    """The elements of x in row-major order, in another shape.

    S(i) of x fits S(j) of y where on every rank both blocks hold the same elements, in order.
    """

    shape: tuple[int, ...]

    name: ClassVar[str] = "reshape"
    loop: ClassVar[str] = "same"
    algebra: ClassVar[Algebra] = MOVES

    def infer(self, x: Type) -> tuple[Type, ...]:
        if prod(self.shape) != x.size or any(length < 0 for length in self.shape):
            raise ShapeError(
                f"reshape of {x.shape} to {self.shape}: {x.size} elements cannot be {prod(self.shape)}; "
                f"give lengths with the same product, or one of them as -1"
            )
        return (Type(self.shape, x.dtype),)

    def rules(self, types: tuple[Type, ...], parts: int) -> tuple[Signature, ...]:
        (x,) = types
        target = [elements_held(self.shape, axis, parts) for axis in range(len(self.shape))]
        pairs: list[tuple[SBP, SBP]] = [(B, B)]
        for axis in range(x.ndim):
            source = elements_held(x.shape, axis, parts)
            pairs.extend((Split(axis), Split(to)) for to, held in enumerate(target) if held == source)
        pairs.extend((Partial(op), Partial(op)) for op in REDUCTIONS)
        return tuple(Signature((given,), (result,)) for given, result in pairs)

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        return self if outputs[0].local == self.shape else Reshape(outputs[0].local)

    def kernel(self, x: Array) -> Any:
        return x.reshape(self.shape)

    def view(self, types: Sequence[Type]) -> int | None:
        return 0

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return reshape(dy, x.shape)

    def flops(self, *types: Type) -> int:
        return 0

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return Reshape((size, *self.shape))

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        cases: tuple[tuple[Shape, Shape], ...] = (
            ((5, 7), (35,)), ((35,), (5, 7)), ((6, 5), (30,)), ((6, 5), (2, 3, 5)), ((4, 3, 5), (12, 5)),
            ((12, 5), (4, 3, 5)), ((3, 5, 4), (3, 20)), ((6, 4), (4, 6)), ((5, 7), (5, 1, 7)), ((3, 1, 5), (3, 5)),
            ((3, 4, 5), (3, 2, 2, 5)), ((7, 6), (7, 2, 3)), ((1,), ()), ((2, 6, 5), (12, 5)),
        )  # fmt: skip
        floats = tuple(Sample(cls(target), (Type(source, float64),)) for source, target in cases)
        return (
            *floats,
            Sample(cls((30,)), (Type((6, 5), int64),)),
            Sample(cls((30,)), (Type((6, 5), bool_),), ("bool",)),
        )


@lru_cache(maxsize=4096)
def elements_held(shape: Shape, axis: int, parts: int) -> tuple[tuple[int, int, int, int], ...]:
    """Per rank, which elements of a row-major tensor of `shape` split along `axis` it holds, in a canonical form.

    (count, period, start, stop): the ranges start..stop, repeated `count` times at distances of `period`.
    """
    count, length, inner = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    held = []
    for rank in range(parts):
        start, stop = local_range(length, parts, rank)
        if start == stop or count * inner == 0:
            held.append((0, 0, 0, 0))
        elif stop - start == length:
            held.append((1, prod(shape), 0, prod(shape)))
        else:
            held.append((count, length * inner if count > 1 else prod(shape), start * inner, stop * inner))
    return tuple(held)


@operator
class Permute(Op):
    """y[x's letters in the order `axes`] = x[…]: dimension i of y is dimension axes[i] of x."""

    axes: tuple[int, ...]

    name: ClassVar[str] = "permute"
    algebra: ClassVar[Algebra] = MOVES

    def infer(self, x: Type) -> tuple[Type, ...]:
        if sorted(self.axes) != list(range(x.ndim)):
            raise ShapeError(f"permute_dims of {x.ndim} dimensions by {self.axes}: name each of 0..{x.ndim - 1} once")
        return (Type(tuple(x.shape[axis] for axis in self.axes), x.dtype),)

    def equation(self, x: Type) -> Equation:
        term = letters(x.ndim)
        return Equation((term,), ("".join(term[axis] for axis in self.axes),))

    def kernel(self, x: Array) -> Any:
        return x.transpose(self.axes)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return permute_dims(dy, tuple(int(axis) for axis in np.argsort(self.axes)))

    def flops(self, *types: Type) -> int:
        return 0

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return Permute((0, *(axis + 1 for axis in self.axes)))

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        cases: tuple[tuple[Shape, tuple[int, ...]], ...] = (((5, 7), (1, 0)), ((3, 5, 4), (2, 0, 1)))
        return tuple(Sample(cls(axes), (Type(shape, float64),)) for shape, axes in cases)


@operator
class BroadcastTo(Op):
    """y[a,b] = x[a,1]: dimensions of length 1 repeated to the lengths of `shape`, which has as many dimensions as x."""

    shape: tuple[int, ...]

    name: ClassVar[str] = "broadcast_to"
    loop: ClassVar[str] = "same"
    algebra: ClassVar[Algebra] = MOVES

    def infer(self, x: Type) -> tuple[Type, ...]:
        fits = all(length in (1, wanted) for length, wanted in zip(x.shape, self.shape, strict=False))
        if not fits or x.ndim != len(self.shape):
            raise ShapeError(f"broadcast of {x.shape} to {self.shape}: lengths must be equal or 1; reshape it")
        return (Type(self.shape, x.dtype),)

    def equation(self, x: Type) -> Equation:
        term = letters(x.ndim)
        kept = zip(term, x.shape, self.shape, strict=True)
        return Equation(("".join(letter if length == wanted else "1" for letter, length, wanted in kept),), (term,))

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        return self if outputs[0].local == self.shape else BroadcastTo(outputs[0].local)

    def kernel(self, x: Array) -> Any:
        return np.broadcast_to(x, self.shape)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        stretched = tuple(axis for axis, length in enumerate(x.shape) if length != self.shape[axis])
        return dy.sum(axis=stretched, keepdims=True)

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return BroadcastTo((size, *self.shape))

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        cases: tuple[tuple[Shape, Shape], ...] = (((1, 7), (5, 7)), ((5, 1, 1), (5, 3, 4)), ((1,), (5,)))
        floats = tuple(Sample(cls(target), (Type(source, float64),)) for source, target in cases)
        return (*floats, Sample(cls((5, 7)), (Type((1, 7), bool_),), ("bool",)))


@function
def reshape(x: TensorLike, /, shape: int | Sequence[int], *, copy: bool | None = None) -> Tensor:
    """The elements of x in row-major order in another shape; one length may be -1: whatever is left."""
    (tensor,) = operands(x)
    wanted = lengths_of(shape)
    if wanted.count(-1) == 1:
        known = prod(length for length in wanted if length != -1)
        left = tensor.size // known if known else 0
        wanted = tuple(left if length == -1 else length for length in wanted)
    return fresh(tensor) if wanted == tensor.shape else apply(Reshape(wanted), tensor)


@function
def permute_dims(x: TensorLike, /, axes: Sequence[int]) -> Tensor:
    """x with its dimensions in the order `axes`."""
    (tensor,) = operands(x)
    order = tuple(axis_of(axis, tensor.ndim, "permute_dims") for axis in axes)
    return fresh(tensor) if order == tuple(range(tensor.ndim)) else apply(Permute(order), tensor)


@function
def transpose(x: TensorLike, /, axes: Sequence[int] | None = None) -> Tensor:
    """`permute_dims`; without axes all dimensions in reverse order, as numpy's."""
    (tensor,) = operands(x)
    return permute_dims(tensor, tuple(range(tensor.ndim))[::-1] if axes is None else axes)


@function
def broadcast_to(x: TensorLike, /, shape: Sequence[int]) -> Tensor:
    """x repeated along dimensions of length 1, and along new leading ones, to `shape`."""
    (tensor,) = operands(x)
    wanted = tuple(shape)
    padded = reshape(tensor, (1,) * (len(wanted) - tensor.ndim) + tensor.shape)
    return padded if padded.shape == wanted else apply(BroadcastTo(wanted), padded)


@function
def expand_dims(x: TensorLike, /, axis: int | Sequence[int] = 0) -> Tensor:
    """x with new dimensions of length 1 at the places `axis` of the result."""
    (tensor,) = operands(x)
    named = whole_numbers(axis, "expand_dims along axis")
    count = len(named)
    new = axes_of(named, tensor.ndim + count, "expand_dims")
    lengths = iter(tensor.shape)
    return reshape(tensor, tuple(1 if place in new else next(lengths) for place in range(tensor.ndim + count)))


@function
def squeeze(x: TensorLike, /, axis: int | Sequence[int] | None = None) -> Tensor:
    """x without the dimensions `axis`, which have length 1 (None: all of length 1)."""
    (tensor,) = operands(x)
    ones = tuple(place for place, length in enumerate(tensor.shape) if length == 1)
    gone = ones if axis is None else axes_of(axis, tensor.ndim, "squeeze")
    if not set(gone) <= set(ones):
        raise ShapeError(f"squeeze of {tensor.shape} along {gone}: only a length of 1 can go; index or reduce instead")
    return reshape(tensor, tuple(length for place, length in enumerate(tensor.shape) if place not in gone))
