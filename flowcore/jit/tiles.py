"""Rectangles of a flat array, many channels at once, multiplied by constant matrices from both sides; needs numba.

A rectangle is n × m rows of channels, anywhere in its array: what is computed is L X Rᵀ, channel by channel. Machine
code is written out vector by vector: no loop over a rectangle is left. The matrices are those of fast correlation
(Winograd; Lavin and Gray, arXiv:1509.09308), from the interpolation points of Toom and Cook.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types as numba_types
from numba.extending import intrinsic

from flowcore.jit.lanes import distinct

types: Any = numba_types  # some are made when it is imported
LANES = 16
"""Channels of a vector: 64 bytes of float32."""
TILE = 4
POINTS = {5: (0.0, 0.625, -0.625, 1.5, -1.5), 4: (0.0, 0.75, -0.75, 1.5)}
"""By how many there are, besides infinity: among small fractions those with little error, a quarter of that of the
usual 0, ±1, ±2."""


@dataclass(frozen=True)
class Fast:
    """y = a [(g w) ∘ (b d)]: a tile y of a correlation of d with the taps w, along one dimension.

    The tiles of y begin at multiples of its length, those of d `step` apart, the first of them at `first`.
    """

    a: Any
    g: Any
    b: Any
    step: int
    first: int

    @property
    def count(self) -> int:
        """Products of a tile."""
        return len(self.g)


def toom_cook(taps: int) -> tuple[Any, Any, Any]:
    """(a, g, b) for `TILE` elements of the correlation with stride 1; both are as they are with one tap."""
    if taps == 1:
        return np.eye(TILE), np.ones((TILE, 1)), np.eye(TILE)
    span = TILE + taps - 1
    points = np.array(POINTS[span - 1])
    a, g, b = np.zeros((TILE, span)), np.zeros((span, taps)), np.zeros((span, span))
    for row, point in enumerate(points):
        others = np.delete(points, row)
        a[:, row] = point ** np.arange(TILE)
        g[row] = point ** np.arange(taps) / np.prod(point - others)
        b[row, :-1] = np.poly(others)[::-1]
    a[-1, -1] = g[-1, -1] = 1
    b[-1] = np.poly(points)[::-1]
    return a, g, b


def forward(taps: int, stride: int) -> Fast:
    """y[p] = Σ_k d[p·stride + k] w[k]: per remainder of k by the stride a correlation with stride 1; `TILE` of y."""
    parts = [toom_cook(len(range(phase, taps, stride))) for phase in range(min(stride, taps))]
    count = sum(len(g) for _, g, _ in parts)
    a, g, b = np.zeros((TILE, count)), np.zeros((count, taps)), np.zeros((count, (TILE - 1) * stride + taps))
    row = 0
    for phase, (part_a, part_g, part_b) in enumerate(parts):
        rows = slice(row, row + len(part_g))
        a[:, rows], g[rows, phase::stride] = part_a, part_g
        b[rows, phase : phase + stride * len(part_g) : stride] = part_b
        row += len(part_g)
    return Fast(a, g, b, TILE * stride, 0)


def backward(taps: int, stride: int, before: int) -> Fast:
    """x[i] = Σ y[p] w[k] over p·stride + k − before = i, for taps ≥ stride; `TILE`·stride of x, `before` < stride."""
    starts = [before + (phase - before) % stride for phase in range(stride)]
    firsts = [(start - phase) // stride for phase, start in enumerate(starts)]
    counts = [len(range(phase, taps, stride)) for phase in range(stride)]
    low = min(first - count + 1 for first, count in zip(firsts, counts, strict=True))
    parts = [toom_cook(count) for count in counts]
    total = sum(len(g) for _, g, _ in parts)
    a, g = np.zeros((TILE * stride, total)), np.zeros((total, taps))
    b = np.zeros((total, max(firsts) + TILE - low))
    row = 0
    for phase, (part_a, part_g, part_b) in enumerate(parts):
        rows, at = slice(row, row + len(part_g)), firsts[phase] - counts[phase] + 1 - low
        a[starts[phase] - before :: stride, rows], g[rows, phase::stride] = part_a, part_g[:, ::-1]
        b[rows, at : at + len(part_g)] = part_b
        row += len(part_g)
    return Fast(a, g, b, TILE, low)


Vector = Any
"""A value of LLVM."""


def product(builder: Any, matrix: Any, given: Sequence[Vector]) -> list[Vector]:
    """matrix · given, with sums and differences of two shared: points come in pairs of one size."""
    matrix, given = np.array(matrix), list(given)
    for j in range(len(given) - 1):
        first, second = matrix[:, j].copy(), matrix[:, j + 1].copy()
        if (abs(first) == abs(second)).all() and (first == second).any() and (first != second).any():
            x, y = given[j], given[j + 1]
            given[j], given[j + 1] = builder.fadd(x, y), builder.fsub(x, y)
            matrix[:, j], matrix[:, j + 1] = (first + second) / 2, (first - second) / 2
    found: list[Vector] = []
    for row in range(len(matrix)):
        if len(found) > row:
            continue
        half = (matrix[row] + matrix[row + 1]) / 2 if row + 1 < len(matrix) else matrix[row]
        rest = matrix[row] - half
        if rest.any() and half.any() and not (half * rest).any():
            x, y = _sum(builder, half, given), _sum(builder, rest, given)
            found += [builder.fadd(x, y), builder.fsub(x, y)]
        else:
            found.append(_sum(builder, matrix[row], given))
    return found


def _sum(builder: Any, factors: Any, given: Sequence[Vector]) -> Vector:
    """Σ factors · given, which are not all zero."""

    def constant(factor: float, like: Vector) -> Vector:
        kind = like.type
        return ir.Constant(kind, [factor] * kind.count) if isinstance(kind, ir.VectorType) else kind(factor)

    # those with factor 1 first, so that every later one is one instruction
    terms = sorted(((f, x) for f, x in zip(factors, given, strict=True) if f), key=lambda term: term[0] != 1)
    (factor, x), *others = terms
    start = x if factor == 1 else builder.fmul(constant(factor, x), x)

    def more(total: Vector, term: tuple[float, Vector]) -> Vector:
        by, y = term
        return builder.fadd(total, builder.fmul(constant(by, y), y, flags=("contract",)), flags=("contract",))

    return reduce(more, others, start)


def rectangles(left: Any, right: Any, is_near: tuple[bool, bool] = (True, True)) -> Callable[..., None]:
    """A compiled function (channels, x, at, row, column, step, y, to, to_row, to_column, to_step): L X Rᵀ.

    For channel c: X[i, j] is x[at + i·row + j·column + c·step], the result y[to + …] likewise. is_near: whether the
    steps of x and of y are 1, whatever is said.
    """

    def transform(lanes: int) -> Any:
        def rectangle(context, x, at, row, column, step, y, to, to_row, to_column, to_step):
            whole = (types.int64,) * 4

            def generate(context, builder, signature, given):
                kind = context.get_value_type(x.dtype)
                size = x.dtype.bitwidth // 8
                vector = kind if lanes == 1 else ir.VectorType(kind, lanes)
                arrays = [context.make_array(a)(context, builder, given[p]).data for a, p in ((x, 0), (y, 5))]

                def place(array, first, i, j):
                    offset, *across = given[first : first + 3]
                    steps = (builder.mul(n, n.type(k)) for n, k in zip(across, (i, j), strict=True))
                    return builder.gep(array, [reduce(builder.add, steps, offset)])

                def lane(pointer, step, number):
                    return builder.gep(pointer, [builder.mul(step, step.type(number))])

                def load(i, j):
                    pointer = place(arrays[0], 1, i, j)
                    if lanes == 1 or is_near[0]:
                        return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=size)
                    held = ir.Constant(vector, ir.Undefined)
                    for number in range(lanes):
                        held = builder.insert_element(
                            held, builder.load(lane(pointer, given[4], number)), ir.IntType(32)(number)
                        )
                    return held

                def store(value, i, j):
                    pointer = place(arrays[1], 6, i, j)
                    if lanes == 1 or is_near[1]:
                        builder.store(value, builder.bitcast(pointer, vector.as_pointer()), align=size)
                        return
                    for number in range(lanes):
                        builder.store(
                            builder.extract_element(value, ir.IntType(32)(number)), lane(pointer, given[9], number)
                        )

                across = [
                    product(builder, left, [load(i, j) for i in range(left.shape[1])]) for j in range(right.shape[1])
                ]
                for i in range(len(left)):
                    for j, value in enumerate(product(builder, right, [column[i] for column in across])):
                        store(value, i, j)
                return context.get_dummy_value()

            return types.void(x, *whole, y, *whole), generate

        return intrinsic(rectangle)

    wide, narrow = transform(LANES), transform(1)

    def over(channels, x, at, row, column, step, y, to, to_row, to_column, to_step):
        c = 0
        while c + LANES <= channels:
            wide(x, at + c * step, row, column, step, y, to + c * to_step, to_row, to_column, to_step)
            c += LANES
        while c < channels:
            narrow(x, at + c * step, row, column, step, y, to + c * to_step, to_row, to_column, to_step)
            c += 1

    return distinct(over, left, right, is_near)  # type: ignore[no-any-return]  # numba's
