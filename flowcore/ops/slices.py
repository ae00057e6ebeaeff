"""Regular slices of a tensor, the tensor that is zero but for a slice, and a tensor with a slice written over.

Along every dimension a slice is an arithmetic progression start, start + step, … of `length` indices; a rank that holds
a part of the tensor reads or writes those i < length that fall inside. So what is written may be replicated where the
tensor is split, and what is read is a term of the slice, zero where other ranks hold it. Both may be split alike where
on every rank the part of the progression that its block of the slice covers lies inside its block of the tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import prod
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import filled
from flowcore.dtypes import DType, bool_, float64, zero_of
from flowcore.errors import DTypeError, ShapeError
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
LONG = tuple(
    (f"S{axis}->{partial}", "a slice longer than a rank's block would take more memory as a term than as a block")
    for axis in range(3)
    for partial in ("P", "P(max)")
)


@dataclass(frozen=True)
class Progression(Op):
    """Indices start + i step, i < length, along every dimension of the larger of its two tensors.

    `held`: (first, stop) of the i along every dimension that are inside the larger tensor; (): all.
    """

    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    steps: tuple[int, ...]
    held: tuple[tuple[int, int], ...] = ()

    algebra: ClassVar[Algebra] = MOVES

    @property
    def inside(self) -> tuple[tuple[int, int], ...]:
        """`held`, written out."""
        return self.held or tuple((0, length) for length in self.lengths)

    @cached_property
    def key(self) -> tuple[slice, ...]:
        """The slices that pick what is held of the progression out of the larger array."""
        return tuple(map(_slice, self.starts, self.inside, self.steps))

    @property
    def part(self) -> tuple[slice, ...]:
        """Where that stands in the smaller array."""
        return tuple(slice(first, stop) for first, stop in self.inside)

    def check(self, shape: Shape) -> None:
        """ShapeError where an index is outside a tensor of `shape`."""
        if not len(shape) == len(self.starts) == len(self.lengths) == len(self.steps) == len(self.inside):
            raise ShapeError(f"{self.name} of shape {shape} with {len(self.starts)} starts: give one per dimension")
        for whole, start, (low, high), step in zip(shape, self.starts, self.inside, self.steps, strict=True):
            first, last = start + low * step, start + (high - 1) * step
            if low < high and not (0 <= first < whole and 0 <= last < whole):
                raise ShapeError(
                    f"{self.name} of shape {shape} from {first} to {last}: indices must be in 0..{whole - 1}"
                )

    def fitting(self, shape: Shape, parts: int) -> list[int]:
        """The dimensions along which the tensor of `shape` and its slice can both be split."""
        each = zip(shape, self.starts, self.lengths, self.steps, strict=True)
        fits = [_fits(*progression, parts) for progression in each]
        return [axis for axis, length in enumerate(self.lengths) if fits[axis] and self.inside[axis] == (0, length)]

    def local(self, whole: Block, part: Block) -> Progression:
        """The progression on one rank's blocks of the tensor and of the slice."""
        starts, lengths, held = list(self.starts), list(self.lengths), list(self.inside)
        for axis, ((low, high), (first, last)) in enumerate(zip(whole.box, part.box, strict=True)):
            found = _inside(starts[axis], self.steps[axis], low, high)
            start, stop = max(held[axis][0], found.start, first), min(held[axis][1], found.stop, last)
            starts[axis] += first * self.steps[axis] - low
            lengths[axis] = last - first
            held[axis] = (start - first, stop - first) if start < stop else (0, 0)
        is_all = all(pair == (0, length) for pair, length in zip(held, lengths, strict=True))
        return replace(self, starts=tuple(starts), lengths=tuple(lengths), held=() if is_all else tuple(held))

    def flops(self, *types: Type) -> int:
        return 0

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        if not all(flags):
            return None
        held = ((0, size), *self.held) if self.held else ()
        return replace(self, starts=(0, *self.starts), lengths=(size, *self.lengths), steps=(1, *self.steps), held=held)


@lru_cache(maxsize=4096)
def _fits(whole: int, start: int, length: int, step: int, parts: int) -> bool:
    for rank in range(parts):
        (low, high), (first, last) = local_range(whole, parts, rank), local_range(length, parts, rank)
        ends = (start + first * step, start + (last - 1) * step)
        if first < last and not (low <= min(ends) and max(ends) < high):
            return False
    return True


def _inside(start: int, step: int, low: int, high: int) -> range:
    """The i for which start + i step is in low..high-1; they may be negative."""
    if step < 0:
        start, low, high = -start, 1 - high, 1 - low
    return range(-((start - low) // abs(step)), -((start - high) // abs(step)))


def _slice(start: int, held: tuple[int, int], step: int) -> slice:
    first, stop = held
    if first == stop:
        return slice(0, 0)
    end = start + stop * step
    return slice(start + first * step, end if end >= 0 else None, step)


def _alike(axes: Sequence[int]) -> list[SBP]:
    """Split along one of `axes`, or partial: how a tensor and its slice can both lie."""
    return [*map(Split, axes), *map(Partial, REDUCTIONS)]


@operator
class Slice(Progression):
    """y[i, …] = x[starts + i steps, …], i < lengths."""

    name: ClassVar[str] = "slice"

    def infer(self, x: Type) -> tuple[Type, ...]:
        self.check(x.shape)
        return (Type(self.lengths, x.dtype),)

    def rules(self, types: tuple[Type, ...], parts: int) -> tuple[Signature, ...]:
        (x,) = types
        term = Partial("max" if x.dtype == bool_ else "sum")
        short = [axis for axis, length in enumerate(self.lengths) if 0 < length * parts <= x.shape[axis]]
        alike = [B, *_alike(self.fitting(x.shape, parts))]
        return (
            *(Signature((sbp,), (sbp,)) for sbp in alike),
            *(Signature((B,), (Split(axis),)) for axis in range(x.ndim)),
            *(Signature((Split(axis),), (term,)) for axis in short),
        )

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        return self.local(inputs[0], outputs[0])

    def kernel(self, x: Array) -> Any:
        if not self.held:
            return x[self.key]
        return self.write([np.empty(self.lengths, x.dtype)], x)

    def write(self, results: Sequence[Any], *arrays: Any) -> Any:
        (x,), y = arrays, results[0]
        y[...] = zero_of(x.dtype)
        y[self.part] = x[self.key]
        return y

    def new_results(self, numbers: Sequence[int]) -> Sequence[int]:
        return numbers if self.held else ()

    def view(self, types: Sequence[Type]) -> int | None:
        shape, inner = types[0].shape, len(self.lengths)
        while inner and (self.lengths[inner - 1], self.steps[inner - 1]) == (shape[inner - 1], 1):
            inner -= 1
        # one dimension may be cut; those before it must have one index, those behind it all
        is_cut = inner > 0 and self.lengths[inner - 1] > 1 and self.steps[inner - 1] != 1
        if self.held or is_cut or any(length != 1 for length in self.lengths[: max(inner - 1, 0)]):
            return None
        first = sum(start * prod(shape[axis + 1 :]) for axis, start in enumerate(self.starts))
        return first * types[0].dtype.itemsize

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return apply(Unslice(self.starts, self.lengths, self.steps, shape=x.shape), dy)

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        floats = tuple(
            Sample(cls(case[1], case[2], case[3]), (Type(case[0], float64),), excluded=LONG) for case in CASES
        )
        return (*floats, Sample(cls(*CASES[-1][1:4]), (Type(CASES[-1][0], bool_),), ("bool",), LONG))


@operator
class Unslice(Progression):
    """y[starts + i steps, …] = x[i, …], i < lengths, in a tensor of `shape`; y is zero elsewhere."""

    shape: tuple[int, ...] = ()

    name: ClassVar[str] = "unslice"
    makes_memory: ClassVar[bool] = True
    writes: ClassVar[bool] = True

    def infer(self, x: Type) -> tuple[Type, ...]:
        self.check(self.shape)
        if x.shape != self.lengths:
            raise ShapeError(f"unslice of shape {x.shape} into {self.lengths}: they must be equal; reshape it")
        return (Type(self.shape, x.dtype),)

    def rules(self, types: tuple[Type, ...], parts: int) -> tuple[Signature, ...]:
        (x,) = types
        axes = range(x.ndim)
        term = Partial("max" if x.dtype == bool_ else "sum")
        return (
            Signature((B,), (B,)),
            *(Signature((sbp,), (sbp,)) for sbp in _alike(self.fitting(self.shape, parts))),
            *(Signature((B,), (Split(axis),)) for axis in axes),
            *(Signature((Split(axis),), (term,)) for axis in axes),
        )

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        local = self.local(outputs[0], inputs[0])
        return Unslice(local.starts, local.lengths, local.steps, local.held, outputs[0].local)

    def kernel(self, x: Array) -> Any:
        return self.write([np.empty(self.shape, x.dtype)], x)

    def write(self, results: Sequence[Any], *arrays: Any) -> Any:
        (x,), y = arrays, results[0]
        y[...] = 0
        y[self.key] = x[self.part]
        return y

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return apply(Slice(self.starts, self.lengths, self.steps), dy)

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        found = super().batched(flags, size, types)
        return replace(found, shape=(size, *self.shape)) if isinstance(found, Unslice) else None

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return tuple(
            Sample(cls(starts, lengths, steps, shape=shape), (Type(lengths, float64),))
            for shape, starts, lengths, steps in CASES
        )


@operator
class Overwrite(Progression):
    """y = x, but y[starts + i steps, …] = v[i, …], i < lengths."""

    name: ClassVar[str] = "overwrite"
    makes_memory: ClassVar[bool] = True
    writes: ClassVar[bool] = True
    algebra: ClassVar[Algebra] = Algebra(selects=(frozenset({0, 1}),))

    def infer(self, x: Type, v: Type) -> tuple[Type, ...]:
        self.check(x.shape)
        if v.shape != self.lengths:
            raise ShapeError(f"overwrite of {self.lengths} elements by {v.shape}: they must be equal; broadcast it")
        if x.dtype != v.dtype:
            raise DTypeError(f"overwrite of {x.dtype} by {v.dtype}: they must be equal; cast with astype")
        return (x,)

    def rules(self, types: tuple[Type, ...], parts: int) -> tuple[Signature, ...]:
        x, _ = types
        kept: list[SBP] = [B, *map(Split, range(x.ndim))]
        alike = _alike(self.fitting(x.shape, parts))
        return (*(Signature((sbp, B), (sbp,)) for sbp in kept), *(Signature((sbp, sbp), (sbp,)) for sbp in alike))

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        return self.local(*inputs)

    def kernel(self, x: Array, v: Array) -> Any:
        return self.write([np.empty(x.shape, x.dtype)], x, v)

    def write(self, results: Sequence[Any], *arrays: Any) -> Any:
        (x, v), y = arrays, results[0]
        y[...] = x
        y[self.key] = v[self.part]
        return y

    def vjp(self, dy: Tensor, x: Tensor, v: Tensor) -> Any:
        nothing = filled(v.shape, 0, dy.dtype, Layout(dy.placement, B))
        return apply(self, dy, nothing), apply(Slice(self.starts, self.lengths, self.steps), dy)

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        def sample(case: Sequence[tuple[int, ...]], dtype: DType, draw: str) -> Sample:
            shape, starts, lengths, steps = case
            return Sample(cls(starts, lengths, steps), (Type(shape, dtype), Type(lengths, dtype)), (draw,) * 2)

        floats = (sample(case, float64, "normal") for case in (CASES[0], *CASES[2:]))
        return (*floats, sample(CASES[0], bool_, "bool"))
