"""Convolution with 3 × 3 taps, stride 1, by Winograd's F(4 × 4, 3 × 3), channels last: forward and both gradients.

A tile is 4 × 4 pixels of the result, which 6 × 6 pixels of x decide; `tiles` takes both into a domain of 36 numbers in
which the convolution is a product, of matrices over all channels and tiles. That is a quarter of the multiplications,
and about four times the rounding errors of plain sums (4e-6 of the size of the result in float32): for float32 only.

x: (n, h, w, c); y: (n, p, q, o); weights as (o, c, 3, 3). `top`, `left` zeros stand before x, as many as it takes
behind it. Tiles are taken `block` at a time, so that what is in hand fits the cache.
"""

from __future__ import annotations

from flowcore.jit.blas import gemm
from flowcore.jit.lanes import exact
from flowcore.jit.runs import copy, zero
from flowcore.jit.tiles import SPAN, TAPS, TILE, by_input, by_output, by_product, by_slope, by_weight

NUMBERS = SPAN * SPAN
GAP = 16
"""Elements between the planes of the domain, which otherwise would meet in the same lines of the cache."""


@exact
def square(span, at_row, at_column, h, w, c, x, start, patch):
    """The span × span pixels of the image at `start` from (at_row, at_column) on, zeros outside: into `patch`."""
    left, right = max(at_column, 0), min(at_column + span, w)
    for i in range(span):
        row = at_row + i
        to = i * span * c
        if row < 0 or row >= h or left >= right:
            zero(patch, to, span * c)
            continue
        zero(patch, to, (left - at_column) * c)
        copy(patch, to + (left - at_column) * c, x, start + (row * w + left) * c, (right - left) * c)
        zero(patch, to + (right - at_column) * c, (at_column + span - right) * c)


@exact
def inputs(first, count, top, left, across, down, h, w, c, x, domain, plane, patch):
    """Tiles first … first + count of x into the domain: number t of tile k and channel c at t·plane + k·C + c."""
    for k in range(count):
        tile = first + k
        n, inside = tile // (across * down), tile % (across * down)
        row, column = inside // across * TILE - top, inside % across * TILE - left
        if row >= 0 and column >= 0 and row + SPAN <= h and column + SPAN <= w:
            by_input(c, x, ((n * h + row) * w + column) * c, w * c, c, 1, domain, k * c, SPAN * plane, plane, 1)
        else:
            square(SPAN, row, column, h, w, c, x, n * h * w * c, patch)
            by_input(c, patch, 0, SPAN * c, c, 1, domain, k * c, SPAN * plane, plane, 1)


@exact
def slopes(first, count, across, down, p, q, o, y, domain, plane, patch):
    """The same for tiles of y, 4 × 4 pixels each."""
    for k in range(count):
        tile = first + k
        n, inside = tile // (across * down), tile % (across * down)
        row, column = inside // across * TILE, inside % across * TILE
        if row + TILE <= p and column + TILE <= q:
            by_slope(o, y, ((n * p + row) * q + column) * o, q * o, o, 1, domain, k * o, SPAN * plane, plane, 1)
        else:
            square(TILE, row, column, p, q, o, y, n * p * q * o, patch)
            by_slope(o, patch, 0, TILE * o, o, 1, domain, k * o, SPAN * plane, plane, 1)


@exact
def outputs(first, count, across, down, p, q, o, domain, plane, y, patch):
    """Tiles of y from the domain."""
    for k in range(count):
        tile = first + k
        n, inside = tile // (across * down), tile % (across * down)
        row, column = inside // across * TILE, inside % across * TILE
        to = ((n * p + row) * q + column) * o
        if row + TILE <= p and column + TILE <= q:
            by_output(o, domain, k * o, SPAN * plane, plane, 1, y, to, q * o, o, 1)
            continue
        by_output(o, domain, k * o, SPAN * plane, plane, 1, patch, 0, TILE * o, o, 1)
        for i in range(min(TILE, p - row)):
            copy(y, to + i * q * o, patch, i * TILE * o, min(TILE, q - column) * o)


@exact
def convolve(n, h, w, c, p, q, o, top, left, turned, block, x, weight, y, factors, domain, results, patch):
    """y from x. turned: the weights are (c, o, 3, 3) and are read backwards: y is then the gradient of x by the other.

    Scratch: `factors` 36·c·o, `domain` 36·(block·c + 16), `results` 36·(block·o + 16), `patch` 36·max(c, o) elements.
    """
    taps, size = TAPS * TAPS, c * o
    for i in range(c):
        if turned:
            by_weight(o, weight, i * o * taps + taps - 1, -TAPS, -1, taps, factors, i * o, SPAN * size, size, 1)
        else:
            by_weight(o, weight, i * taps, TAPS, 1, c * taps, factors, i * o, SPAN * size, size, 1)
    across, down = (q + TILE - 1) // TILE, (p + TILE - 1) // TILE
    one, none = x.dtype.type(1), x.dtype.type(0)
    for first in range(0, n * across * down, block):
        count = min(block, n * across * down - first)
        plane, other = count * c + GAP, count * o + GAP
        inputs(first, count, top, left, across, down, h, w, c, x, domain, plane, patch)
        for t in range(NUMBERS):
            gemm(
                False, False, count, o, c, one, domain, t * plane, c, factors, t * size, o, none,
                results, t * other, o,
            )  # fmt: skip
        outputs(first, count, across, down, p, q, o, results, other, y, patch)


@exact
def correlate(n, h, w, c, p, q, o, top, left, block, x, y, weight, factors, domain, slope, patch):
    """The gradient by the weights, (o, c, 3, 3), from x and the gradient y.

    Scratch: `factors` 36·c·o, `domain` 36·(block·c + 16), `slope` 36·(block·o + 16), `patch` 36·max(c, o) elements.
    """
    across, down = (q + TILE - 1) // TILE, (p + TILE - 1) // TILE
    one, none = x.dtype.type(1), x.dtype.type(0)
    for first in range(0, n * across * down, block):
        count = min(block, n * across * down - first)
        plane, other = count * c + GAP, count * o + GAP
        inputs(first, count, top, left, across, down, h, w, c, x, domain, plane, patch)
        slopes(first, count, across, down, p, q, o, y, slope, other, patch)
        for t in range(NUMBERS):
            gemm(
                True, False, o, c, count, one, slope, t * other, o, domain, t * plane, c, one if first else none,
                factors, t * c * o, c,
            )  # fmt: skip
    for i in range(o):
        by_product(c, factors, i * c, SPAN * c * o, c * o, 1, weight, i * c * TAPS * TAPS, TAPS, 1, TAPS * TAPS)
