"""Regular slices of a tensor, and the tensor that is zero but for a slice: each is the gradient of the other.

Along every dimension a slice is an arithmetic progression start, start + step, … of `length` indices. Split blocks fit
where on every rank the progression's part that the block of the result covers lies inside the block of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from flowcore.dtypes import bool_, float64
from flowcore.errors import GraphError, ShapeError
from flowcore.op import Array, Block, Op, Sample, Type, operator
from flowcore.ops.call import apply
from flowcore.ops.shape import MOVES
from flowcore.placement.layout import Shape, local_range
from flowcore.placement.sbp import REDUCTIONS, SBP, B, Partial, Split
from flowcore.placement.signature import Algebra, Signature
from flowcore.tensor import Tensor

CASES: tuple[tuple[Shape, tuple[int, ...], tuple[int, ...], tuple[int, ...]], ...] = (
    # shape, starts, lengths, steps
    ((5, 7), (1, 0), (3, 7), (1, 1)),
    ((5, 7), (0, 6), (5, 7), (1, -1)),
    ((5, 7), (4, 1), (3, 3), (-2, 2)),
    ((3, 5, 4), (0, 2, 0), (3, 1, 4), (1, 1, 1)),
    ((5, 7), (0, 0), (1, 7), (1, 1)),
)


@dataclass(frozen=True)
class Progression(Op):
    """Indices start + i step, i < length, along every dimension of the larger of its two tensors."""

    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    steps: tuple[int, ...]

    algebra: ClassVar[Algebra] = MOVES

    @property
    def key(self) -> tuple[slice, ...]:
        """The slices that pick the progression out of an array."""
        return tuple(map(_slice, self.starts, self.lengths, self.steps))

    def check(self, shape: Shape) -> None:
        """ShapeError where an index is outside a tensor of `shape`."""
        if not len(shape) == len(self.starts) == len(self.lengths) == len(self.steps):
            raise ShapeError(f"{self.name} of shape {shape} with {len(self.starts)} starts: give one per dimension")
        for whole, start, length, step in zip(shape, self.starts, self.lengths, self.steps, strict=True):
            last = start + (length - 1) * step
            if length and not (0 <= start < whole and 0 <= last < whole):
                raise ShapeError(
                    f"{self.name} of shape {shape} from {start} to {last}: indices must be in 0..{whole - 1}"
                )

    def fitting(self, shape: Shape, parts: int) -> list[int]:
        """The dimensions along which the tensor of `shape` and its slice can both be split."""
        each = zip(shape, self.starts, self.lengths, self.steps, strict=True)
        return [axis for axis, progression in enumerate(each) if _fits(*progression, parts)]

    def at(self, whole: Block, part: Block) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(starts, lengths) for one rank's blocks of the whole tensor and of the slice."""
        starts, lengths = list(self.starts), list(self.lengths)
        for axis, ((low, high), (first, last)) in enumerate(zip(whole.box, part.box, strict=True)):
            if (low, high) != (0, whole.shape[axis]):
                starts[axis] += first * self.steps[axis] - low
                lengths[axis] = last - first
                ends = (starts[axis], starts[axis] + (last - first - 1) * self.steps[axis])
                if first < last and not (min(ends) >= 0 and max(ends) < high - low):
                    raise GraphError(f"{self} on blocks {whole} and {part}: one does not hold what the other needs")
        return tuple(starts), tuple(lengths)

    def flops(self, *types: Type) -> int:
        return 0

    def _signatures(self, shape: Shape, parts: int) -> tuple[Signature, ...]:
        passing: list[SBP] = [B, *map(Split, self.fitting(shape, parts)), *map(Partial, REDUCTIONS)]
        return tuple(Signature((sbp,), (sbp,)) for sbp in passing)


@lru_cache(maxsize=4096)
def _fits(whole: int, start: int, length: int, step: int, parts: int) -> bool:
    for rank in range(parts):
        (low, high), (first, last) = local_range(whole, parts, rank), local_range(length, parts, rank)
        ends = (start + first * step, start + (last - 1) * step)
        if first < last and not (low <= min(ends) and max(ends) < high):
            return False
    return True


def _slice(start: int, length: int, step: int) -> slice:
    if length == 0:
        return slice(0, 0)
    stop = start + length * step
    return slice(start, stop if stop >= 0 else None, step)


@operator
class Slice(Progression):
    """y[i, …] = x[starts + i steps, …], i < lengths."""

    name: ClassVar[str] = "slice"

    def infer(self, x: Type) -> tuple[Type, ...]:
        self.check(x.shape)
        return (Type(self.lengths, x.dtype),)

    def rules(self, types: tuple[Type, ...], parts: int) -> tuple[Signature, ...]:
        return self._signatures(types[0].shape, parts)

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        return Slice(*self.at(inputs[0], outputs[0]), self.steps)

    def kernel(self, x: Array) -> Any:
        return x[self.key]

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return apply(Unslice(self.starts, self.lengths, self.steps, x.shape), dy)

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return Slice((0, *self.starts), (size, *self.lengths), (1, *self.steps))

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        floats = tuple(Sample(cls(*progression), (Type(shape, float64),)) for shape, *progression in CASES)
        (shape, *progression), *_ = CASES
        return (*floats, Sample(cls(*progression), (Type(shape, bool_),), ("bool",)))


@operator
class Unslice(Progression):
    """y[starts + i steps, …] = x[i, …], i < lengths, in a tensor of `shape`; y is zero elsewhere."""

    shape: tuple[int, ...]

    name: ClassVar[str] = "unslice"

    def infer(self, x: Type) -> tuple[Type, ...]:
        self.check(self.shape)
        if x.shape != self.lengths:
            raise ShapeError(f"unslice of shape {x.shape} into {self.lengths}: they must be equal; reshape it")
        return (Type(self.shape, x.dtype),)

    def rules(self, types: tuple[Type, ...], parts: int) -> tuple[Signature, ...]:
        return self._signatures(self.shape, parts)

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        return Unslice(*self.at(outputs[0], inputs[0]), self.steps, outputs[0].local)

    def kernel(self, x: Array) -> Any:
        y = np.zeros(self.shape, x.dtype)
        y[self.key] = x
        return y

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return apply(Slice(self.starts, self.lengths, self.steps), dy)

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return Unslice((0, *self.starts), (size, *self.lengths), (1, *self.steps), (size, *self.shape))

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return tuple(
            Sample(cls(starts, lengths, steps, shape), (Type(lengths, float64),))
            for shape, starts, lengths, steps in CASES
        )
