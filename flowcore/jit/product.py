"""Which batch of matrix products a contraction of contiguous arrays is, without copying any of them.

Letters in all three terms count products; those of the first operand and the result are rows, those of the second and
the result columns, the others are summed over. Each group must lie in memory as one dimension would, and every matrix
must have a dimension whose elements are neighbours, as BLAS demands.

One large product of float32 is oneDNN's where that is installed: it takes 5 to 12 % less time than numpy's BLAS where
both were measured, and a microsecond more to call. Which of its codes does it, `jit.onednn` chooses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod

from flowcore.jit import onednn
from flowcore.jit.launch import Kernel, Launch

LEAST = 1 << 22
"""Operations of a product below which numpy's BLAS is as fast, being quicker to call."""
DTYPES = {"f4": "float32"}
"""The kinds of elements that oneDNN multiplies for compiled programs."""
LOOPS = 2
"""The dimensions along which products are counted, after joining those that can be."""
Strides = Mapping[str, int]
Wholes = tuple[Mapping[str, int], Mapping[str, int]]


def launch(
    first: str, second: str, result: str, lengths: Mapping[str, int], kind: str, wholes: Wholes = ({}, {})
) -> Launch | None:
    """The contraction of operands with these letters as one kernel for elements of `kind`; None where it is none.

    wholes: lengths of the arrays of which the operands are but the beginning along some letters.
    """
    if any(length == 0 for length in lengths.values()):
        return None
    terms = ["".join(letter for letter in term if lengths[letter] > 1) for term in (first, second, result)]
    given = [_strides(term, {**lengths, **whole}) for term, whole in zip((first, second), wholes, strict=True)]
    made = _strides(result, lengths)
    for is_turned in (False, True):
        strides = given[is_turned], given[not is_turned], made
        found = _numbers(terms[is_turned], terms[not is_turned], terms[2], lengths, strides)
        if found is not None:
            return _by_library(found, is_turned, kind) or Launch(
                Kernel("from flowcore.jit.matmul import products as loop", 17, (kind,) * 3), (*found, int(is_turned))
            )
    return None


def _by_library(numbers: tuple[int, ...], is_turned: bool, kind: str) -> Launch | None:
    """One product that is large enough as a call of oneDNN; None where it is none, or not installed."""
    m, n, k, ta, tb, lda, ldb, ldc, p, *_ = numbers
    if p * numbers[12] > 1 or 2 * m * n * k < LEAST or kind not in DTYPES:
        return None
    left, right = ((m, k), (1, lda) if ta else (lda, 1)), ((k, n), (1, ldb) if tb else (ldb, 1))
    found = onednn.product(DTYPES[kind], (left, right, ((m, n), (ldc, 1))))
    if found is None:
        return None
    *words, first, second, result, rest = found.words
    operands = (second, first) if is_turned else (first, second)
    kernel = Kernel("from flowcore.jit.foreign import product as loop", 9, (kind,) * 3 + ("b1",), checks=True)
    return Launch(kernel, (*words, *operands, result, rest), (-1,), (found.scratch,), found)


def _numbers(
    first: str, second: str, result: str, lengths: Mapping[str, int], strides: tuple[Strides, Strides, Strides]
) -> tuple[int, ...] | None:
    """The numbers that `jit.matmul.products` takes but for the last."""
    batch = [letter for letter in result if letter in first and letter in second]
    rows = [letter for letter in result if letter in first and letter not in second]
    columns = [letter for letter in result if letter in second and letter not in first]
    summed = [letter for letter in first if letter not in result]
    a, b, y = strides
    groups = ((a, rows), (a, summed), (b, summed), (b, columns), (y, rows), (y, columns))
    if not all(_is_one(strides, letters, lengths) for strides, letters in groups):
        return None
    m, n, k = (prod(lengths[letter] for letter in letters) for letters in (rows, columns, summed))
    left, right = _matrix(a, rows, summed, m, k), _matrix(b, summed, columns, k, n)
    made = _matrix(y, rows, columns, m, n)
    loops = _loops(batch, (a, b, y), lengths)
    if left is None or right is None or made is None or made[0] or len(loops) > LOOPS:
        return None
    loops = [*[(1, 0, 0, 0)] * (LOOPS - len(loops)), *loops]
    return (m, n, k, left[0], right[0], left[1], right[1], made[1], *loops[0], *loops[1])


def _strides(term: str, lengths: Mapping[str, int]) -> dict[str, int]:
    """How many elements apart the neighbours along each letter lie in a contiguous array."""
    return {letter: prod(lengths[other] for other in term[place + 1 :]) for place, letter in enumerate(term)}


def _is_one(strides: Strides, letters: Sequence[str], lengths: Mapping[str, int]) -> bool:
    """Whether these letters lie as one dimension would."""
    return all(strides[outer] == strides[inner] * lengths[inner] for outer, inner in pairwise(letters))


def _matrix(
    strides: Strides, rows: Sequence[str], columns: Sequence[str], height: int, width: int
) -> tuple[int, int] | None:
    """(whether it is stored transposed, the distance of its rows as stored); None where no neighbours lie together."""
    down, along = strides[rows[-1]] if rows else None, strides[columns[-1]] if columns else None
    if along in (1, None):
        return 0, down or width
    return (1, along) if down in (1, None) and along is not None else None


def _loops(letters: Sequence[str], strides: Sequence[Strides], lengths: Mapping[str, int]) -> list[tuple[int, ...]]:
    """Per loop over products how many there are, and how far apart they lie in each term."""
    loops: list[tuple[int, ...]] = []
    for letter in reversed(letters):
        here = (lengths[letter], *(each[letter] for each in strides))
        if loops and all(mine == loops[0][0] * inner for mine, inner in zip(here[1:], loops[0][1:], strict=True)):
            loops[0] = (here[0] * loops[0][0], *loops[0][1:])
        else:
            loops.insert(0, here)
    return loops
