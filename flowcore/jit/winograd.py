"""Convolution with few multiplications, tile by tile, channels last: forward and both gradients; needs numba.

`tiles` takes a tile of the result and what it is computed from into a domain in which the convolution is a product, of
one matrix over all tiles and channels per number of the domain. For 3 × 3 taps that is 36 numbers for 16 pixels, a
quarter of the multiplications, and with stride 2 81 for 16, a half; and several times the rounding errors of plain sums
(4e-6 of the size of the result in float32, where those have 1e-6): for float32 only.

x: (n, h, w, c); y: (n, p, q, o); weights as (o, c, k, k). `top`, `left` zeros stand before x, as many as it takes
behind it. Tiles are taken `block` at a time, so that what is in hand fits the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from flowcore.jit.blas import gemm
from flowcore.jit.lanes import distinct, exact
from flowcore.jit.runs import copy, zero
from flowcore.jit.tiles import Fast, backward, forward, rectangles

GAP = 16
"""Elements between the planes of the domain, which otherwise would meet in the same lines of the cache."""


@exact
def part(rows, columns, at_row, at_column, h, w, c, x, start, patch):
    """rows × columns pixels of the image at `start` from (at_row, at_column) on, zeros outside: into `patch`."""
    left, right = max(at_column, 0), min(at_column + columns, w)
    for i in range(rows):
        row, to = at_row + i, i * columns * c
        if row < 0 or row >= h or left >= right:
            zero(patch, to, columns * c)
            continue
        zero(patch, to, (left - at_column) * c)
        copy(patch, to + (left - at_column) * c, x, start + (row * w + left) * c, (right - left) * c)
        zero(patch, to + (right - at_column) * c, (at_column + columns - right) * c)


def reader(rows: Any, columns: Any, step_row: int, step_column: int) -> Callable[..., None]:
    """What takes tiles first … first + count of x (n, h, w, c) into the domain by the matrices `rows`, `columns`.

    Number t of tile k and channel c of it comes to t·plane + k·C + c. The first tile begins at (-top, -left).
    """
    transform, (products, high), (width, wide) = rectangles(rows, columns), rows.shape, columns.shape

    def read(first, count, top, left, across, down, h, w, c, x, domain, plane, patch):
        for k in range(count):
            n, inside = (first + k) // (across * down), (first + k) % (across * down)
            row, column = inside // across * step_row - top, inside % across * step_column - left
            if row >= 0 and column >= 0 and row + high <= h and column + wide <= w:
                transform(c, x, ((n * h + row) * w + column) * c, w * c, c, 1, domain, k * c, width * plane, plane, 1)
            else:
                part(high, wide, row, column, h, w, c, x, n * h * w * c, patch)
                transform(c, patch, 0, wide * c, c, 1, domain, k * c, width * plane, plane, 1)

    assert products
    return distinct(read, rows, columns, step_row, step_column)  # type: ignore[no-any-return]  # numba's


def writer(rows: Any, columns: Any) -> Callable[..., None]:
    """What gives the tiles of y (n, p, q, o) from the domain."""
    transform, high, (wide, width) = rectangles(rows, columns), len(rows), columns.shape

    def write(first, count, across, down, p, q, o, domain, plane, y, patch):
        for k in range(count):
            n, inside = (first + k) // (across * down), (first + k) % (across * down)
            row, column = inside // across * high, inside % across * wide
            to = ((n * p + row) * q + column) * o
            if row + high <= p and column + wide <= q:
                transform(o, domain, k * o, width * plane, plane, 1, y, to, q * o, o, 1)
                continue
            transform(o, domain, k * o, width * plane, plane, 1, patch, 0, wide * o, o, 1)
            for i in range(min(high, p - row)):
                copy(y, to + i * q * o, patch, i * wide * o, min(wide, q - column) * o)

    return distinct(write, rows, columns)  # type: ignore[no-any-return]  # numba's


def convolve(rows: Fast, columns: Fast, is_turned: bool) -> Callable[..., None]:
    """The kernel (n, h, w, c, p, q, o, top, left, block, x, weight, y, …) that gives y from x.

    is_turned: the weights are (c, o, k, k), not (o, c, k, k). With N numbers in the domain the scratch is: factors
    N·c·o, domain N·(block·c + 16), results N·(block·o + 16), patch (pixels of the larger tile)·max(c, o) elements.
    """
    read = reader(rows.b, columns.b, rows.step, columns.step)
    write, weigh = writer(rows.a, columns.a), rectangles(rows.g, columns.g, (False, True))
    products, width, taps = rows.count * columns.count, columns.count, columns.g.shape[1]
    area, high, wide = rows.g.shape[1] * taps, len(rows.a), len(columns.a)

    def kernel(n, h, w, c, p, q, o, top, left, block, x, weight, y, factors, domain, results, patch):
        size = c * o
        for i in range(c):
            at, step = (i * o * area, area) if is_turned else (i * area, c * area)
            weigh(o, weight, at, taps, 1, step, factors, i * o, width * size, size, 1)
        across, down = (q + wide - 1) // wide, (p + high - 1) // high
        one, none = x.dtype.type(1), x.dtype.type(0)
        for first in range(0, n * across * down, block):
            count = min(block, n * across * down - first)
            plane, other = count * c + GAP, count * o + GAP
            read(first, count, top, left, across, down, h, w, c, x, domain, plane, patch)
            for t in range(products):
                gemm(
                    False, False, count, o, c, one, domain, t * plane, c, factors, t * size, o, none,
                    results, t * other, o,
                )  # fmt: skip
            write(first, count, across, down, p, q, o, results, other, y, patch)

    key = (rows.a, rows.g, rows.b, rows.step, columns.a, columns.g, columns.b, columns.step)
    return distinct(kernel, "y", is_turned, *key)  # type: ignore[no-any-return]  # numba's


def correlate(rows: Fast, columns: Fast) -> Callable[..., None]:
    """The kernel (n, h, w, c, p, q, o, top, left, block, x, y, weight, …): the gradient by the weights (o, c, k, k).

    Scratch as `convolve`, where `results` are the tiles of y.
    """
    read, high, wide = reader(rows.b, columns.b, rows.step, columns.step), len(rows.a), len(columns.a)
    read_slopes, give = reader(rows.a.T, columns.a.T, high, wide), rectangles(rows.g.T, columns.g.T, (True, False))
    products, width, taps = rows.count * columns.count, columns.count, columns.g.shape[1]
    area = rows.g.shape[1] * taps

    def kernel(n, h, w, c, p, q, o, top, left, block, x, y, weight, factors, domain, results, patch):
        size = c * o
        across, down = (q + wide - 1) // wide, (p + high - 1) // high
        one, none = x.dtype.type(1), x.dtype.type(0)
        for first in range(0, n * across * down, block):
            count = min(block, n * across * down - first)
            plane, other = count * c + GAP, count * o + GAP
            read(first, count, top, left, across, down, h, w, c, x, domain, plane, patch)
            read_slopes(first, count, 0, 0, across, down, p, q, o, y, results, other, patch)
            for t in range(products):
                gemm(
                    True, False, o, c, count, one, results, t * other, o, domain, t * plane, c, one if first else none,
                    factors, t * size, c,
                )  # fmt: skip
        for i in range(o):
            give(c, factors, i * c, width * size, size, 1, weight, i * c * area, taps, 1, area)

    return distinct(kernel, "w", rows.a, rows.g, rows.b, rows.step, columns.a, columns.g, columns.b, columns.step)  # type: ignore[no-any-return]  # numba's


@lru_cache(maxsize=64)
def by_form(result: str, taps: int, stride: int, row_parity: int = 0, column_parity: int = 0) -> Callable[..., None]:
    """The kernel that gives `result`: "y", "w", or "x", whose tiles depend on the zeros before x modulo the stride."""
    if result == "x":
        return convolve(backward(taps, stride, row_parity), backward(taps, stride, column_parity), True)
    found = forward(taps, stride)
    return correlate(found, found) if result == "w" else convolve(found, found, False)
