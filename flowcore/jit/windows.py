"""The greatest element of every window, and moving elements there and back (`ops/pool.py`); needs numba.

There are three spatial dimensions, of which some may have length 1; each is given as the lengths of x, of the result
and of the window, stride, dilation and the elements before x. Each function returns 0, or 1 where a window, or what was
taken of one, lies outside x.
"""

from __future__ import annotations

from flowcore.jit.lanes import exact
from flowcore.jit.runs import zero


@exact
def place(row, tap, axis):
    """Where the tap of a row lies in x along one dimension; -1 outside."""
    length, _, _, stride, dilation, before = axis
    at = row * stride + tap * dilation - before
    return at if 0 <= at < length else -1


@exact
def spot(i1, i2, i3, tap, first, second, third):
    """Where the tap with this number lies among the pixels of x; -1 outside."""
    at1 = place(i1, tap // (second[2] * third[2]), first)
    at2 = place(i2, tap // third[2] % second[2], second)
    at3 = place(i3, tap % third[2], third)
    return -1 if at1 < 0 or at2 < 0 or at3 < 0 else (at1 * second[0] + at2) * third[0] + at3


@exact
def window_argmax(count, h1, p1, k1, s1, d1, b1, h2, p2, k2, s2, d2, b2, h3, p3, k3, s3, d3, b3, x, taken):
    """The number of the first greatest tap of every row; nan is greatest."""
    first, second, third = (h1, p1, k1, s1, d1, b1), (h2, p2, k2, s2, d2, b2), (h3, p3, k3, s3, d3, b3)
    bad, to = 0, 0
    for n in range(count):
        for i1 in range(p1):
            for i2 in range(p2):
                for i3 in range(p3):
                    best, found = -1, x.dtype.type(0)
                    for tap in range(k1 * k2 * k3):
                        at = spot(i1, i2, i3, tap, first, second, third)
                        if at >= 0:
                            value = x[n * h1 * h2 * h3 + at]
                            if best < 0 or value > found or (value != value and found == found):
                                best, found = tap, value
                    bad |= best < 0
                    taken[to] = best
                    to += 1
    return bad


@exact
def window_pick(count, h1, p1, k1, s1, d1, b1, h2, p2, k2, s2, d2, b2, h3, p3, k3, s3, d3, b3, x, taken, y):
    """y: per row the element of x that was taken."""
    first, second, third = (h1, p1, k1, s1, d1, b1), (h2, p2, k2, s2, d2, b2), (h3, p3, k3, s3, d3, b3)
    to = 0
    for n in range(count):
        for i1 in range(p1):
            for i2 in range(p2):
                for i3 in range(p3):
                    at = spot(i1, i2, i3, taken[to], first, second, third)
                    if at < 0:
                        return 1
                    y[to] = x[n * h1 * h2 * h3 + at]
                    to += 1
    return 0


@exact
def window_put(count, h1, p1, k1, s1, d1, b1, h2, p2, k2, s2, d2, b2, h3, p3, k3, s3, d3, b3, y, taken, x):
    """x: the sums of the elements of y that were taken there; what was taken outside is left out."""
    first, second, third = (h1, p1, k1, s1, d1, b1), (h2, p2, k2, s2, d2, b2), (h3, p3, k3, s3, d3, b3)
    zero(x, 0, count * h1 * h2 * h3)
    to = 0
    for n in range(count):
        for i1 in range(p1):
            for i2 in range(p2):
                for i3 in range(p3):
                    at = spot(i1, i2, i3, taken[to], first, second, third)
                    if at >= 0:
                        x[n * h1 * h2 * h3 + at] += y[to]
                    to += 1
    return 0
