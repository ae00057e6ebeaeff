"""Regular slices of a tensor, the tensor that is zero but for a slice, and a tensor with a slice written over.

Along every dimension a slice is an arithmetic progression start, start + step, … of `length` indices. Split blocks fit
where on every rank the progression's part that the block of the result covers lies inside the block of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import filled
from flowcore.dtypes import DType, bool_, float64
from flowcore.errors import DTypeError, GraphError, ShapeError
from flowcore.op import Array, Block, Op, Sample, Type, operator
from flowcore.ops.call import apply
from flowcore.ops.shape import MOVES
from flowcore.placement.layout import Layout, Shape, local_range
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


def _inside(start: int, length: int, step: int, low: int, high: int) -> range:
    """The i < length for which start + i step is in low..high-1."""
    if step < 0:
        start, step, low, high = -start, -step, 1 - high, 1 - low
    first, stop = -((start - low) // step), -((start - high) // step)
    return range(max(first, 0), max(min(stop, length), 0))


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


@operator
class Overwrite(Progression):
    """y = x, but y[starts + i steps, …] = v[skips + i, …], i < lengths; v may be longer than what is read of it."""

    skips: tuple[int, ...]

    name: ClassVar[str] = "overwrite"
    algebra: ClassVar[Algebra] = Algebra(selects=(frozenset({0, 1}),))

    def infer(self, x: Type, v: Type) -> tuple[Type, ...]:
        self.check(x.shape)
        ends = tuple(skip + length for skip, length in zip(self.skips, self.lengths, strict=True))
        if len(ends) != v.ndim or any(end > length for end, length in zip(ends, v.shape, strict=True)):
            raise ShapeError(f"overwrite of {self.lengths} elements by {v.shape}: they must be equal; broadcast it")
        if x.dtype != v.dtype:
            raise DTypeError(f"overwrite of {x.dtype} by {v.dtype}: they must be equal; cast with astype")
        return (x,)

    def rules(self, types: tuple[Type, ...], parts: int) -> tuple[Signature, ...]:
        x, v = types
        kept: list[SBP] = [B, *map(Split, range(x.ndim))]
        read_whole = [axis for axis in self.fitting(x.shape, parts) if v.shape[axis] == self.lengths[axis]]
        joint: list[SBP] = [*map(Split, read_whole), *map(Partial, REDUCTIONS)]
        return (*(Signature((sbp, B), (sbp,)) for sbp in kept), *(Signature((sbp, sbp), (sbp,)) for sbp in joint))

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        starts, lengths, skips = list(self.starts), list(self.lengths), list(self.skips)
        x, v = inputs
        for axis, (low, high) in enumerate(x.box):
            if (low, high) == (0, x.shape[axis]):
                continue
            held = _inside(starts[axis], lengths[axis], self.steps[axis], low, high)
            starts[axis] = starts[axis] + held.start * self.steps[axis] - low if held else 0
            lengths[axis] = len(held)
            skips[axis] = skips[axis] + held.start - v.box[axis][0] if held else 0
        return Overwrite(tuple(starts), tuple(lengths), self.steps, tuple(skips))

    def kernel(self, x: Array, v: Array) -> Any:
        y = x.copy()
        read = tuple(slice(skip, skip + length) for skip, length in zip(self.skips, self.lengths, strict=True))
        y[self.key] = v[read]
        return y

    def vjp(self, dy: Tensor, x: Tensor, v: Tensor) -> Any:
        nothing = filled(v.shape, 0, dy.dtype, Layout(dy.placement, B))
        dv = apply(Slice(self.starts, self.lengths, self.steps), dy)
        if v.shape != self.lengths:
            dv = apply(Unslice(self.skips, self.lengths, (1,) * v.ndim, v.shape), dv)
        return apply(self, dy, nothing), dv

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        if not all(flags):
            return None
        return Overwrite((0, *self.starts), (size, *self.lengths), (1, *self.steps), (0, *self.skips))

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        def sample(case: Sequence[tuple[int, ...]], dtype: DType, draw: str) -> Sample:
            shape, starts, lengths, steps = case
            return Sample(
                cls(starts, lengths, steps, (0,) * len(shape)), (Type(shape, dtype), Type(lengths, dtype)), (draw,) * 2
            )

        longer = Sample(cls((4, 1), (3, 3), (-2, 2), (1, 0)), (Type((5, 7), float64), Type((4, 3), float64)))
        floats = (sample(case, float64, "normal") for case in (CASES[0], *CASES[2:]))
        return (*floats, longer, sample(CASES[0], bool_, "bool"))
