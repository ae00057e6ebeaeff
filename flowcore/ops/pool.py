"""The greatest element of every window: where it is (`window_argmax`), and moving elements there and back.

Row p of the result looks at the rows p·stride + k·dilation − before of x, of those that exist. `window_argmax` gives
the number of the first greatest tap k (nan counts as greatest), which is the same wherever a block begins;
`window_pick` reads x there, and `window_put` adds into x there: each is the gradient of the other. So the gradient of
a greatest element goes to the first of several.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import product as indices
from math import prod
from typing import Any, ClassVar

import numpy as np

from flowcore.dtypes import float64, int64, is_real
from flowcore.errors import DTypeError, ShapeError
from flowcore.jit.launch import Kernel, Launch
from flowcore.jit.source import NAMES
from flowcore.jit.store import is_available
from flowcore.op import Array, Block, Op, Sample, Type, operator
from flowcore.ops.axes import letters
from flowcore.ops.call import apply
from flowcore.ops.windows import Steps, split_or_window
from flowcore.placement.layout import Shape
from flowcore.placement.sbp import SBP, Split
from flowcore.placement.signature import Algebra, Equation, Signature, derive
from flowcore.tensor import Tensor

__all__: list[str] = []


@dataclass(frozen=True)
class Windowed(Op):
    """What looks at windows of x; `lengths` are the spatial lengths of the result, the last dimensions are spatial."""

    taps: tuple[int, ...]
    lengths: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]

    makes_memory: ClassVar[bool] = True
    writes: ClassVar[bool] = True
    makes_rows: ClassVar[bool] = True
    """Whether the result has the rows p (else: those of x)."""
    arity: ClassVar[int] = 1

    def lead(self, x: Type) -> int:
        """How many dimensions are not spatial."""
        if x.ndim < len(self.taps):
            raise ShapeError(f"{self.name} of shape {x.shape}: it needs {len(self.taps)} spatial dimensions")
        return x.ndim - len(self.taps)

    def equation(self, *types: Type) -> Equation:
        term = letters(types[0].ndim)
        spatial = term[: self.lead(types[0])] + term[self.lead(types[0]) :].upper()
        return Equation((spatial,) * self.arity, (spatial,))

    def rules(self, types: tuple[Type, ...], parts: int) -> tuple[Signature, ...]:
        found, lead = list(derive(self.equation(*types), self.properties(*types))), self.lead(types[0])
        for place, length in enumerate(types[0].shape[lead:]):
            axis = lead + place
            steps = Steps(self.taps[place], self.strides[place], self.dilations[place], self.before[place])
            seen = (steps.forward if self.makes_rows else steps.backward)(axis, self.lengths[place])
            read: list[SBP] = [split_or_window(seen, length, parts), *(Split(axis),) * (self.arity - 1)]
            if not self.makes_rows:
                read = read[:1] * self.arity
            found.append(Signature(tuple(read), (Split(axis),)))
        return tuple(dict.fromkeys(found))

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        lead = len(outputs[0].shape) - len(self.taps)
        x, y = (inputs[0], outputs[0]) if self.makes_rows else (outputs[0], inputs[0])
        moved = zip(self.before, x.start[lead:], self.strides, y.start[lead:], strict=True)
        before = tuple(pad + i - stride * p for pad, i, stride, p in moved)
        lengths = outputs[0].local[lead:]
        same = (before, lengths) == (self.before, self.lengths)
        return self if same else replace(self, before=before, lengths=lengths)

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return self if all(flags) else None

    def write(self, results: Sequence[Array | None], *arrays: Any) -> Any:
        found = self.kernel(*arrays)
        if results[0] is None:
            return found
        results[0][...] = found
        return results[0]

    def launch(self, types: Sequence[Type]) -> Launch | None:
        x, spatial = types[0], len(self.taps)
        (result,) = self.infer(*types)
        kinds = tuple(NAMES.get(str(type.dtype), "") for type in (*types, result))
        if spatial > 3 or kinds[0] not in ("f4", "f8") or "" in kinds or not is_available():
            return None
        given = x.shape[x.ndim - spatial :]
        of_x, rows = (given, self.lengths) if self.makes_rows else (self.lengths, given)
        axes = zip(of_x, rows, self.taps, self.strides, self.dilations, self.before, strict=True)
        alone = ((1, 1, 1, 1, 1, 0),) * (3 - spatial)
        numbers = (prod(x.shape[: x.ndim - spatial]), *(number for axis in (*alone, *axes) for number in axis))
        source = f"from flowcore.jit.windows import {self.name} as loop"
        return Launch(Kernel(source, len(numbers), kinds, checks=True), numbers)

    def places(self, taken: Array, lengths: Shape) -> tuple[Array, Array]:
        """(flat spatial index in x of spatial `lengths`, whether it is inside) of the taps `taken`, by row."""
        numbers = np.unravel_index(taken, self.taps)
        flat, inside = np.zeros(taken.shape, np.int64), np.ones(taken.shape, bool)
        lead, spatial = taken.ndim - len(self.taps), len(self.taps)
        for place in range(spatial):
            rows = np.arange(taken.shape[lead + place]) * self.strides[place] - self.before[place]
            at = rows.reshape(-1, *(1,) * (spatial - place - 1)) + numbers[place] * self.dilations[place]
            inside &= (at >= 0) & (at < lengths[place])
            flat = flat * lengths[place] + at
        return flat, inside


def _sample(op: Windowed, x: Shape, *others: Any) -> Sample:
    """A sample of `op`, whose first operand has this shape, with the exclusions that follow from it."""
    lead = len(x) - len(op.taps)
    free = "a replicated operand is cut into windows first, which moves nothing"
    excluded = []
    for place in range(len(op.taps)):
        whole = ",".join("B" * op.arity)
        excluded.append((f"{whole}->S{lead + place}", free))
        excluded.append((f"B,S{lead + place}->S{lead + place}", free))
        excluded.append(
            (",".join([f"S{lead + place}"] * op.arity) + "->P", "terms of the whole result: windows move less")
        )
    return Sample(op, (Type(x, float64), *others), ("normal", f"index:{prod(op.taps)}")[: op.arity], tuple(excluded))


CASES: tuple[tuple[Shape, tuple[tuple[int, ...], ...]], ...] = (
    # shape of x; taps, lengths of the result, strides, dilations, before
    ((3, 2, 7), ((3,), (4,), (2,), (1,), (1,))),
    ((2, 8), ((2,), (4,), (2,), (1,), (0,))),
    ((2, 3, 5, 7), ((2, 3), (4, 5), (1, 1), (1, 2), (0, 1))),
)


@operator
class WindowArgMax(Windowed):
    """y[…,p] = the first k, in row-major order, for which x[…, p·stride + k·dilation − before] is greatest."""

    name: ClassVar[str] = "window_argmax"

    def infer(self, x: Type) -> tuple[Type, ...]:
        if x.dtype.kind not in "iuf":
            raise DTypeError(f"{self.name} of {x.dtype}: it takes real numbers, which have an order; cast with astype")
        return (Type((*x.shape[: self.lead(x)], *self.lengths), int64),)

    def kernel(self, x: Array) -> Any:
        lead = x.ndim - len(self.taps)
        shape = (*x.shape[:lead], *self.lengths)
        best, found = np.zeros(shape, x.dtype), np.full(shape, -1, np.int64)
        for number, tap in enumerate(indices(*map(range, self.taps))):
            into, source = self._seen(tap, x.shape[lead:])
            if any(part.start >= part.stop for part in into):
                continue
            there: Any = (..., *into)
            from_x: Any = (..., *source)
            value, held, old = x[from_x], best[there], found[there]
            better = (value > held) | (old < 0)
            if is_real(x.dtype):
                better |= np.isnan(value) & ~np.isnan(held)
            np.copyto(held, value, where=better)
            np.copyto(old, number, where=better)
        if found.size and found.min() < 0:
            raise ShapeError(f"{self.name} of spatial shape {x.shape[lead:]}: a window lies outside; pad less")
        return found

    def _seen(self, tap: tuple[int, ...], lengths: Shape) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """The rows p for which tap is inside x, and the rows of x there."""
        into, source = [], []
        for t, rows, s, d, b, length in zip(
            tap, self.lengths, self.strides, self.dilations, self.before, lengths, strict=True
        ):
            low = max(0, -((t * d - b) // s))
            high = max(low, min(rows, (length - 1 - t * d + b) // s + 1))
            start = low * s + t * d - b
            into.append(slice(low, high))
            source.append(slice(start, max(start, start + (high - low - 1) * s + 1), s))
        return tuple(into), tuple(source)

    def vjp(self, dy: Tensor, x: Tensor) -> Any:
        return None

    def flops(self, *types: Type) -> int:
        return prod(self.infer(*types)[0].shape) * prod(self.taps)

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return tuple(_sample(cls(*case), x) for x, case in CASES)


@operator
class WindowPick(Windowed):
    """y[…,p] = x[…, p·stride + taken[…,p]·dilation − before]."""

    name: ClassVar[str] = "window_pick"
    arity: ClassVar[int] = 2
    algebra: ClassVar[Algebra] = Algebra(selects=(frozenset({0}),))

    def infer(self, x: Type, taken: Type) -> tuple[Type, ...]:
        shape = (*x.shape[: self.lead(x)], *self.lengths)
        if taken.shape != shape or taken.dtype.kind != "i":
            raise ShapeError(f"{self.name} of {x} by {taken}: it needs one tap for each of {shape}")
        return (Type(shape, x.dtype),)

    def checks(self, types: Sequence[Type]) -> tuple[int, tuple[Hashable, ...]]:
        return 1, (("tap", self.taps, self.lengths, types[0].shape),)

    def kernel(self, x: Array, taken: Array) -> Any:
        lead = x.ndim - len(self.taps)
        try:
            flat, inside = self.places(taken, x.shape[lead:])
        except ValueError as error:
            raise ShapeError(f"{self.name}: {error}: give taps of windows of {self.taps}") from None
        if not inside.all():
            raise ShapeError(f"{self.name} of spatial shape {x.shape[lead:]}: a tap lies outside; pad less")
        count = prod(x.shape[:lead])
        rows = x.reshape(count, prod(x.shape[lead:]))
        picked = np.take_along_axis(rows, flat.reshape(count, prod(self.lengths)), axis=1)
        return picked.reshape(taken.shape)

    def vjp(self, dy: Tensor, x: Tensor, taken: Tensor) -> Any:
        op = WindowPut(self.taps, x.shape[x.ndim - len(self.taps) :], self.strides, self.dilations, self.before)
        return apply(op, dy, taken), None

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        # without padding, so that every tap that may be drawn exists
        cases = (((3, 2, 7), ((2,), (3,), (2,), (1,), (0,))), ((2, 3, 5, 7), ((2, 3), (4, 3), (1, 1), (1, 2), (0, 0))))
        return tuple(_sample(cls(*case), x, Type((*x[: len(x) - len(case[0])], *case[1]), int64)) for x, case in cases)


@operator
class WindowPut(Windowed):
    """x[…,i] = Σ y[…,p] over the p with p·stride + taken[…,p]·dilation − before = i."""

    name: ClassVar[str] = "window_put"
    arity: ClassVar[int] = 2
    makes_rows: ClassVar[bool] = False

    def properties(self, *types: Type) -> Algebra:
        # windows that do not overlap put every element in a place of its own
        reach = (dilation * (taps - 1) for dilation, taps in zip(self.dilations, self.taps, strict=True))
        operand = (frozenset({0}),)
        disjoint = all(stride > far for stride, far in zip(self.strides, reach, strict=True))
        return Algebra(selects=operand) if disjoint else Algebra(linear=operand)

    def infer(self, y: Type, taken: Type) -> tuple[Type, ...]:
        if taken.shape != y.shape or taken.dtype.kind != "i":
            raise ShapeError(f"{self.name} of {y} by {taken}: it needs one tap for each element")
        return (Type((*y.shape[: self.lead(y)], *self.lengths), y.dtype),)

    def kernel(self, y: Array, taken: Array) -> Any:
        lead = y.ndim - len(self.taps)
        flat, inside = self.places(taken, self.lengths)
        count, size = prod(y.shape[:lead]), prod(self.lengths)
        if y.size == 0 or count * size == 0:
            return np.zeros((*y.shape[:lead], *self.lengths), y.dtype)
        at = flat.reshape(count, -1) + size * np.arange(count)[:, None]
        kept = inside.reshape(count, -1)
        x = np.zeros(count * size, y.dtype)
        np.add.at(x, at[kept], y.reshape(count, -1)[kept])
        return x.reshape(*y.shape[:lead], *self.lengths)

    def vjp(self, dx: Tensor, y: Tensor, taken: Tensor) -> Any:
        op = WindowPick(self.taps, y.shape[y.ndim - len(self.taps) :], self.strides, self.dilations, self.before)
        return apply(op, dx, taken), None

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        cases = (((3, 2, 3), ((2,), (7,), (2,), (1,), (0,))), ((3, 4, 6), ((2, 3), (5, 10), (1, 1), (1, 2), (0, 0))))
        return tuple(_sample(cls(*case), y, Type(y, int64)) for y, case in cases)
