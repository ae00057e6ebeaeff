"""Philox4x32-10: 128-bit counters and a 64-bit key → four random 32-bit words per counter, by arithmetic alone.

J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11 (2011). The
words of a counter depend on nothing else, so that any rank can draw any element.
"""

from __future__ import annotations

from math import prod

import numpy as np

from flowcore.op import Array

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
ROUNDS = 10
CHUNK = 1 << 14
"""Counters worked on at a time, so that a round stays within the cache."""


def philox(counters: tuple[Array, Array, Array, Array], key: tuple[int, int]) -> Array:
    """(n, 4) uint32: the words of n counters, given as four columns (n,) of words in uint64, under `key`."""
    words = [np.asarray(column, np.uint64) for column in counters]
    size = prod(np.broadcast_shapes(*(column.shape for column in words)))
    result = np.empty((size, 4), np.uint32)
    for start in range(0, size, CHUNK):
        part = slice(start, start + CHUNK)
        chunk = [column if column.size == 1 else column[part] for column in words]
        for lane, value in enumerate(_rounds(chunk, key)):
            result[part, lane] = value
    return result


def _rounds(words: list[Array], key: tuple[int, int]) -> tuple[Array, Array, Array, Array]:
    c0, c1, c2, c3 = words
    k0, k1 = key
    for _ in range(ROUNDS):
        product0, product1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0 = (product1 >> HALF) ^ c1 ^ np.uint64(k0)
        c2 = (product0 >> HALF) ^ c3 ^ np.uint64(k1)
        c1, c3 = product1 & LOW, product0 & LOW
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def words_of(seed: int, counter: int, blocks: Array) -> Array:
    """(…, 4) uint32: four words for every block number of `blocks` (…), in the stream `counter` of `seed`."""
    numbers = blocks.reshape(-1).astype(np.uint64)
    stream = (np.array([counter & 0xFFFFFFFF], np.uint64), np.array([counter >> 32], np.uint64))
    words = philox((numbers & LOW, numbers >> HALF, *stream), (seed & 0xFFFFFFFF, seed >> 32))
    return words.reshape(*blocks.shape, 4)
