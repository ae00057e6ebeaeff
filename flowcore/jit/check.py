"""Checks of integers, which return 1 where one is bad; needs numba."""

from __future__ import annotations

from flowcore.jit.lanes import inlined


@inlined
def below(length, x):
    """0, or 1 where an element of `x` is outside 0..length-1."""
    bad = 0
    for i in range(x.size):
        bad |= (x[i] < 0) | (x[i] >= length)
    return bad


@inlined
def below_or(length, other, x):
    """0, or 1 where an element of `x` is outside 0..length-1 and not `other`."""
    bad = 0
    for i in range(x.size):
        bad |= ((x[i] < 0) | (x[i] >= length)) & (x[i] != other)
    return bad
