"""Small squares of a flat array, many channels at once, multiplied by a constant matrix from both sides; needs numba.

A square is n × n rows of channels, anywhere in its array: what is computed is M X Mᵀ, channel by channel. The matrices
are those of the convolution of Winograd (Lavin and Gray, arXiv:1509.09308), from the interpolation points of Toom and
Cook. Machine code is written out vector by vector: no loop over a square is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types as numba_types
from numba.extending import intrinsic

from flowcore.jit.lanes import exact

types: Any = numba_types  # some are made when it is imported
LANES = 16
"""Channels of a vector: 64 bytes of float32."""
POINTS = (0.0, 0.625, -0.625, 1.5, -1.5)
"""Among small fractions those with the least error: a quarter of that of the usual 0, ±1, ±2."""
TILE, TAPS = 4, 3
SPAN = TILE + TAPS - 1


def matrices() -> tuple[Any, Any, Any]:
    """(A, G, B) with y = Aᵀ[(G g Gᵀ) ∘ (Bᵀ d B)]A for the correlation y (4 × 4) of d (6 × 6) with g (3 × 3)."""
    points = np.array(POINTS)
    a, g, b = np.zeros((SPAN, TILE)), np.zeros((SPAN, TAPS)), np.zeros((SPAN, SPAN))
    for row, point in enumerate(points):
        others = np.delete(points, row)
        a[row] = point ** np.arange(TILE)
        g[row] = point ** np.arange(TAPS) / np.prod(point - others)
        b[:-1, row] = np.poly(others)[::-1]
    a[-1, -1] = g[-1, -1] = 1
    b[:, -1] = np.poly(points)[::-1]
    return a, g, b


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


def squares(matrix: Any, is_near: tuple[bool, bool] = (True, True)) -> Callable[..., None]:
    """A compiled function (channels, x, at, row, column, step, y, to, to_row, to_column, to_step) that gives M X Mᵀ.

    For channel c: X[i, j] is x[at + i·row + j·column + c·step], the result y[to + …] likewise. is_near: whether the
    steps of x and of y are 1, whatever is said.
    """

    def transform(lanes: int) -> Any:
        def square(context, x, at, row, column, step, y, to, to_row, to_column, to_step):
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

                rows, columns = matrix.shape
                across = [product(builder, matrix, [load(i, j) for i in range(columns)]) for j in range(columns)]
                for i in range(rows):
                    for j, value in enumerate(product(builder, matrix, [column[i] for column in across])):
                        store(value, i, j)
                return context.get_dummy_value()

            return types.void(x, *whole, y, *whole), generate

        return intrinsic(square)

    wide, narrow = transform(LANES), transform(1)

    @exact
    def over(channels, x, at, row, column, step, y, to, to_row, to_column, to_step):
        c = 0
        while c + LANES <= channels:
            wide(x, at + c * step, row, column, step, y, to + c * to_step, to_row, to_column, to_step)
            c += LANES
        while c < channels:
            narrow(x, at + c * step, row, column, step, y, to + c * to_step, to_row, to_column, to_step)
            c += 1

    return over  # type: ignore[no-any-return]  # numba's


A, G, B = matrices()
by_input = squares(B.T)
by_output = squares(A.T)
by_slope = squares(A)
by_weight = squares(G, (False, True))
by_product = squares(G.T, (True, False))
