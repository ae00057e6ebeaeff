"""Convolution of any form as products of matrices, channels last: forward and both gradients, from gathered patches.

A patch is what one pixel of y sees of x, all taps and channels of its group: a row of a matrix of which `rows` at a
time are gathered, so that they stay in the cache. Where a patch is a pixel, nothing is gathered.

x: (n, *h, g, c); y: (n, *p, g, o); weights as (g, o, c, *k), read as (g, o, *k, c). There are three spatial
dimensions, of which some may have length 1. A *form* is the numbers n, g, c, o and per spatial dimension h, p, k,
stride, dilation, and the zeros before x.
"""

from __future__ import annotations

from flowcore.jit.blas import gemm
from flowcore.jit.lanes import exact
from flowcore.jit.runs import add, copy, zero


@exact
def position(pixel, form):
    """(n, and where x begins along every spatial dimension) of a pixel of y, all pixels of all n counted."""
    (_, _, _, _), (_, p1, _, s1, _, b1), (_, p2, _, s2, _, b2), (_, p3, _, s3, _, b3) = form
    rest, i3 = pixel // p3, pixel % p3
    rest, i2 = rest // p2, rest % p2
    return rest // p1, rest % p1 * s1 - b1, i2 * s2 - b2, i3 * s3 - b3


@exact
def run(n, at1, at2, at3, k1, k2, k3, form):
    """The pixel of x that a tap sees, all pixels of all n counted; -1 where there is none."""
    (_, _, _, _), (h1, _, _, _, d1, _), (h2, _, _, _, d2, _), (h3, _, _, _, d3, _) = form
    i1, i2, i3 = at1 + k1 * d1, at2 + k2 * d2, at3 + k3 * d3
    if i1 < 0 or i1 >= h1 or i2 < 0 or i2 >= h2 or i3 < 0 or i3 >= h3:
        return -1
    return ((n * h1 + i1) * h2 + i2) * h3 + i3


@exact
def gather(first, count, group, form, x, patches, is_back):
    """The patches (count, *k, c) of pixels first … first + count of y, from x; is_back: added to x where they lie."""
    (_, g, c, _), (_, _, k1, _, _, _), (_, _, k2, _, _, _), (h3, _, k3, _, d3, _) = form
    at = 0
    for pixel in range(first, first + count):
        n, at1, at2, at3 = position(pixel, form)
        # the taps of a row lie side by side in x where nothing is between them
        is_row = g == 1 and d3 == 1 and at3 >= 0 and at3 + k3 <= h3
        runs, length = (1, k3 * c) if is_row else (k3, c)
        for j1 in range(k1):
            for j2 in range(k2):
                for j3 in range(runs):
                    seen = run(n, at1, at2, at3, j1, j2, j3, form)
                    here = (seen * g + group) * c
                    if seen < 0:
                        if not is_back:
                            zero(patches, at, length)
                    elif is_back:
                        add(x, here, patches, at, length)
                    else:
                        copy(patches, at, x, here, length)
                    at += length


@exact
def turn(outer, c, taps, from_channels, weight, turned):
    """Weights (outer, c, taps) as (outer, taps, c), or back."""
    for i in range(outer):
        for j in range(c):
            for k in range(taps):
                channels, taps_last = (i * taps + k) * c + j, (i * c + j) * taps + k
                if from_channels:
                    weight[taps_last] = turned[channels]
                else:
                    turned[channels] = weight[taps_last]


@exact
def sizes(form):
    """(taps, pixels of y, pixels of x, whether patches are pixels)"""
    (n, g, _, _), (h1, p1, k1, s1, _, b1), (h2, p2, k2, s2, _, b2), (h3, p3, k3, s3, _, b3) = form
    taps = k1 * k2 * k3
    is_plain = (
        g * taps == 1 and s1 * s2 * s3 == 1 and b1 == 0 and b2 == 0 and b3 == 0 and h1 == p1 and h2 == p2 and h3 == p3
    )
    return taps, n * p1 * p2 * p3, n * h1 * h2 * h3, is_plain


@exact
def forward(rows, form, x, weight, y, turned, patches):
    """y from x. Scratch: `turned` g·o·c·k, `patches` rows·c·k elements."""
    (_, g, c, o) = form[0]
    taps, pixels, _, is_plain = sizes(form)
    one, none, width = x.dtype.type(1), x.dtype.type(0), taps * c
    if is_plain:
        gemm(False, True, pixels, o, c, one, x, 0, c, weight, 0, c, none, y, 0, o)
        return
    turn(g * o, c, taps, False, weight, turned)
    for first in range(0, pixels, rows):
        count = min(rows, pixels - first)
        for group in range(g):
            gather(first, count, group, form, x, patches, False)
            gemm(
                False, True, count, o, width, one, patches, 0, width, turned, group * o * width, width, none,
                y, (first * g + group) * o, g * o,
            )  # fmt: skip


@exact
def backward(rows, form, y, weight, x, turned, patches):
    """The gradient by x from that by y. Scratch as `forward`."""
    (_, g, c, o) = form[0]
    taps, pixels, size, is_plain = sizes(form)
    one, none, width = x.dtype.type(1), x.dtype.type(0), taps * c
    if is_plain:
        gemm(False, False, pixels, c, o, one, y, 0, o, weight, 0, c, none, x, 0, c)
        return
    turn(g * o, c, taps, False, weight, turned)
    zero(x, 0, size * g * c)
    for first in range(0, pixels, rows):
        count = min(rows, pixels - first)
        for group in range(g):
            gemm(
                False, False, count, width, o, one, y, (first * g + group) * o, g * o,
                turned, group * o * width, width, none, patches, 0, width,
            )  # fmt: skip
            gather(first, count, group, form, x, patches, True)


@exact
def correlate(rows, form, x, y, weight, turned, patches):
    """The gradient by the weights from x and the gradient by y. Scratch as `forward`."""
    (_, g, c, o) = form[0]
    taps, pixels, _, is_plain = sizes(form)
    one, none, width = x.dtype.type(1), x.dtype.type(0), taps * c
    if is_plain:
        gemm(True, False, o, c, pixels, one, y, 0, o, x, 0, c, none, weight, 0, c)
        return
    if pixels == 0:
        zero(turned, 0, g * o * width)
    for first in range(0, pixels, rows):
        count = min(rows, pixels - first)
        for group in range(g):
            gather(first, count, group, form, x, patches, False)
            gemm(
                True, False, o, width, count, one, y, (first * g + group) * o, g * o, patches, 0, width,
                one if first else none, turned, group * o * width, width,
            )  # fmt: skip
    turn(g * o, c, taps, True, weight, turned)
