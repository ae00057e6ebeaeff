"""Uniform numbers from counters (`flowcore.ops.philox`), many blocks at once, as compiled kernels; needs numba."""

from __future__ import annotations

import numpy as np

from flowcore.jit.lanes import distinct, exact, f4, f8, fused
from flowcore.ops.philox import MULTIPLIERS, ROUNDS, WEYL

u8 = np.uint64
FIRST, SECOND = MULTIPLIERS
LOW, HALF = u8(0xFFFFFFFF), u8(32)
STEP0, STEP1 = u8(WEYL[0]), u8(WEYL[1])


@fused
def words(block, counter, seed):
    """The four words of a block in the stream `counter` of `seed`."""
    c0, c1, c2, c3 = block & LOW, block >> HALF, counter & LOW, counter >> HALF
    k0, k1 = seed & LOW, seed >> HALF
    for _ in range(ROUNDS):
        p0, p1 = c0 * FIRST, c2 * SECOND
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + STEP0) & LOW, (k1 + STEP1) & LOW
    return c0, c1, c2, c3


@fused
def unit_f4(block, counter, seed):
    """Four numbers, multiples of 2^-24."""
    a, b, c, d = words(block, counter, seed)
    scale, drop = f4(2.0**-24), u8(8)
    return f4(a >> drop) * scale, f4(b >> drop) * scale, f4(c >> drop) * scale, f4(d >> drop) * scale


@fused
def unit_f8(block, counter, seed):
    """Two numbers, multiples of 2^-53."""
    a, b, c, d = words(block, counter, seed)
    scale, drop = f8(2.0**-53), u8(11)
    return f8((a | (b << HALF)) >> drop) * scale, f8((c | (d << HALF)) >> drop) * scale


@exact
def whole_f4(block, counter, seed, row):
    """All numbers of the blocks from `block` on."""
    for n in range(row.shape[0] // 4):
        row[4 * n], row[4 * n + 1], row[4 * n + 2], row[4 * n + 3] = unit_f4(block + u8(n), counter, seed)


@exact
def whole_f8(block, counter, seed, row):
    """As `whole_f4`."""
    for n in range(row.shape[0] // 2):
        row[2 * n], row[2 * n + 1] = unit_f8(block + u8(n), counter, seed)


def _uniform(unit, whole, lanes):
    def uniform(runs, length, first, step, keys, key, y):
        """y (keys, runs, length) ← under each key the elements from index first + step · i on, for run i."""
        for k in range(keys):
            seed, counter = u8(key[2 * k]), u8(key[2 * k + 1])
            for i in range(runs):
                start = first + step * i
                row = y[(k * runs + i) * length : (k * runs + i + 1) * length]
                head = min(-start % lanes, length)
                tail = head + (length - head) // lanes * lanes
                whole(u8((start + head) // lanes), counter, seed, row[head:tail])
                for c in range(head):
                    row[c] = unit(u8((start + c) // lanes), counter, seed)[(start + c) % lanes]
                for c in range(tail, length):
                    row[c] = unit(u8((start + c) // lanes), counter, seed)[(start + c) % lanes]

    return distinct(uniform, unit, whole, lanes)


uniform_f4, uniform_f8 = _uniform(unit_f4, whole_f4, 4), _uniform(unit_f8, whole_f8, 2)
