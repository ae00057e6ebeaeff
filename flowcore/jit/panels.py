"""Products and transposes of small matrices inside compiled kernels, tiles of the result in registers; needs numba.

A tile of a product is some rows and two vectors of columns. For every term of its sums, vectors of the second matrix
are read as they lie and one number per row of the first, which may lie in any order. Nothing is packed or copied, so a
call costs nanoseconds; matrices should fit the caches.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils
from numba.core import types as numba_types
from numba.extending import intrinsic

from flowcore.jit.lanes import exact

types: Any = numba_types  # some are made when it is imported
FEATURES = llvm.get_host_cpu_features()
IS_WIDE = FEATURES.get("avx512f", False)
BYTES = 64 if IS_WIDE else 32 if FEATURES.get("avx", False) else 16
"""Of a vector register."""
ROWS = 8 if IS_WIDE or FEATURES.get("neon", False) else 4
"""Of a tile: its sums fill half of 32, or of 16, registers."""


def tile(rows: int, vectors: int, is_narrow: bool) -> Any:
    """A function (depth, alpha, a, a0, ai, ak, b, b0, bk, adds, c, c0, ci) for a tile; see `multiply`.

    is_narrow: a vector is one number.
    """

    def _tile(context, depth, alpha, a, a0, ai, ak, b, b0, bk, adds, c, c0, ci):
        size = c.dtype.bitwidth // 8
        lanes = 1 if is_narrow else BYTES // size

        def generate(context, builder, signature, given):
            # the loops over tiles are compiled once, not at every place that calls them
            builder.function.attributes.add("noinline")
            depth, alpha, a0, ai, ak, b0, bk, adds, c0, ci = (given[n] for n in (0, 1, 3, 4, 5, 7, 8, 9, 11, 12))
            kind = context.get_value_type(c.dtype)
            vector = kind if is_narrow else ir.VectorType(kind, lanes)
            data = [context.make_array(x)(context, builder, given[n]).data for x, n in ((a, 2), (b, 6), (c, 10))]

            def element(array, *offsets):
                for offset in offsets:
                    array = builder.gep(array, [offset])
                return array

            def load(pointer):
                return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=size)

            def spread(number):
                if is_narrow:
                    return number
                one = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.IntType(32)(0))
                order = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
                return builder.shuffle_vector(one, one, order)

            def steps(first, step, count):
                return [builder.add(first, builder.mul(step, step.type(n))) for n in range(count)]

            lines = [element(data[0], place) for place in steps(a0, ai, rows)]
            nothing = ir.Constant(vector, None) if not is_narrow else kind(0)
            sums = [[cgutils.alloca_once_value(builder, nothing) for _ in range(vectors)] for _ in range(rows)]
            for line in sums:
                for held in line:
                    builder.store(nothing, held)
            with cgutils.for_range(builder, depth) as loop:
                source = element(data[1], b0, builder.mul(loop.index, bk))
                across = [load(element(source, b0.type(v * lanes))) for v in range(vectors)]
                down = builder.mul(loop.index, ak)
                for line, row in zip(sums, lines, strict=True):
                    factor = spread(builder.load(element(row, down)))
                    for held, other in zip(line, across, strict=True):
                        term = builder.fmul(factor, other, flags=("contract",))
                        builder.store(builder.fadd(builder.load(held), term, flags=("contract",)), held)
            scale = spread(alpha)
            for line, first in zip(sums, steps(c0, ci, rows), strict=True):
                for v, held in enumerate(line):
                    into = element(data[2], first, c0.type(v * lanes))
                    found = builder.fmul(builder.load(held), scale)
                    with builder.if_else(builder.trunc(adds, ir.IntType(1))) as (more, new):
                        with more:
                            added = builder.fadd(load(into), found)
                            builder.store(added, builder.bitcast(into, vector.as_pointer()), align=size)
                        with new:
                            builder.store(found, builder.bitcast(into, vector.as_pointer()), align=size)
            return context.get_dummy_value()

        whole, number = types.int64, c.dtype
        signature = types.void(
            whole, number, a, whole, whole, whole, b, whole, whole, types.boolean, c, whole, whole
        )  # fmt: skip
        return signature, generate

    return intrinsic(_tile)


TILES = {(rows, vectors): tile(rows, vectors or 1, vectors == 0) for rows in (ROWS, 1) for vectors in (2, 1, 0)}
many_two, many_one, many_narrow = (TILES[ROWS, vectors] for vectors in (2, 1, 0))
one_two, one_one, one_narrow = (TILES[1, vectors] for vectors in (2, 1, 0))


@exact
def multiply(rows, columns, depth, alpha, a, a0, ai, ak, b, b0, bk, adds, c, c0, ci):
    """c (rows, columns) ← alpha · a (rows, depth) b (depth, columns), added to what c held where `adds`.

    Elements (i, k) of a lie at a0 + i · ai + k · ak, (k, j) of b at b0 + k · bk + j, (i, j) of c at c0 + i · ci + j.
    """
    lanes = BYTES // c.itemsize
    j = 0
    while j < columns:
        left = columns - j
        i = 0
        while i < rows:
            x, y, z = a0 + i * ai, b0 + j, c0 + i * ci + j
            if rows - i >= ROWS:
                if left >= 2 * lanes:
                    many_two(depth, alpha, a, x, ai, ak, b, y, bk, adds, c, z, ci)
                elif left >= lanes:
                    many_one(depth, alpha, a, x, ai, ak, b, y, bk, adds, c, z, ci)
                else:
                    many_narrow(depth, alpha, a, x, ai, ak, b, y, bk, adds, c, z, ci)
                i += ROWS
            else:
                if left >= 2 * lanes:
                    one_two(depth, alpha, a, x, ai, ak, b, y, bk, adds, c, z, ci)
                elif left >= lanes:
                    one_one(depth, alpha, a, x, ai, ak, b, y, bk, adds, c, z, ci)
                else:
                    one_narrow(depth, alpha, a, x, ai, ak, b, y, bk, adds, c, z, ci)
                i += 1
        j += 2 * lanes if left >= 2 * lanes else lanes if left >= lanes else 1


def _turned(context, x, at, distance, y, to, step):
    """A tile of y ← that of x, transposed: as many rows and columns as a vector has numbers."""
    size = x.dtype.bitwidth // 8
    lanes = BYTES // size

    def generate(context, builder, signature, given):
        builder.function.attributes.add("noinline")
        vector = ir.VectorType(context.get_value_type(x.dtype), lanes)

        def places(array, data, first, distance):
            held = context.make_array(array)(context, builder, data).data
            offsets = (builder.add(first, builder.mul(distance, distance.type(n))) for n in range(lanes))
            return [builder.bitcast(builder.gep(held, [offset]), vector.as_pointer()) for offset in offsets]

        lines = [builder.load(place, align=size) for place in places(x, *given[:3])]
        half = 1
        while half < lanes:
            # of every two squares beside the diagonal of a larger one, each takes the other's place
            upper = [n - half + lanes if n & half else n for n in range(lanes)]
            lower = [n + lanes if n & half else n + half for n in range(lanes)]
            orders = [ir.Constant(ir.VectorType(ir.IntType(32), lanes), order) for order in (upper, lower)]
            for n in range(lanes):
                if not n & half:
                    pair = lines[n], lines[n + half]
                    lines[n], lines[n + half] = (builder.shuffle_vector(*pair, order) for order in orders)
            half *= 2
        for line, place in zip(lines, places(y, *given[3:]), strict=True):
            builder.store(line, place, align=size)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(x, whole, whole, y, whole, whole), generate


turned: Any = intrinsic(_turned)


@exact
def transpose(rows, columns, x, at, distance, y, to, step):
    """y (columns, rows) ← the transpose of x (rows, columns); rows of x lie `distance` apart, those of y `step`."""
    lanes = BYTES // x.itemsize
    for i in range(0, rows, lanes):
        for j in range(0, columns, lanes):
            if i + lanes <= rows and j + lanes <= columns:
                turned(x, at + i * distance + j, distance, y, to + j * step + i, step)
            else:
                for c in range(j, min(j + lanes, columns)):
                    for r in range(i, min(i + lanes, rows)):
                        y[to + c * step + r] = x[at + r * distance + c]
