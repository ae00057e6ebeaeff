"""Sums of products of any number of operands, as contractions of two at a time.

A letter that stands twice in one operand is its diagonal, a letter that no other operand and not the result bears is
summed at once, and the rest is a tree of contractions of two: for up to eight operands the one with the fewest
multiplications, found over all subsets; for more, the cheapest next contraction at each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from math import prod

from flowcore.dtypes import bool_, int64
from flowcore.errors import DTypeError, ShapeError
from flowcore.op import function
from flowcore.ops.axes import letters
from flowcore.ops.cast import aligned, astype
from flowcore.ops.contract import contract
from flowcore.ops.matrix import diagonal
from flowcore.ops.reduce import sum as total
from flowcore.ops.shape import permute_dims, squeeze
from flowcore.tensor import Tensor, TensorLike

__all__ = ["einsum"]

MOST_EXACT = 8
Group = frozenset[int]
Tree = int | tuple["Tree", "Tree"]


@function
def einsum(formula: str, /, *operands: TensorLike) -> Tensor:
    """Σ of the products of the operands over the letters that the result lacks, as in `bij,bjk->bik`.

    `...` stands for the dimensions that no letter names; these, and lengths of 1, broadcast. Without `->` the result
    has what `...` stands for and, in alphabetical order, the letters that stand once.
    """
    if not isinstance(formula, str):
        raise DTypeError(f"einsum with the formula {formula!r}: give text, as in 'ij,jk->ik'")
    tensors = aligned(*operands) if operands else ()
    if tensors and tensors[0].dtype == bool_:
        return astype(einsum(formula, *(astype(x, int64) for x in tensors)), bool_)
    terms, result = _terms(formula, tensors)
    lengths = _lengths(formula, terms, tensors)
    whole = [_without_ones(x, term, lengths) for x, term in zip(tensors, terms, strict=True)]
    parts = []
    for place, (x, term) in enumerate(whole):
        others = [other for _, other in (*whole[:place], *whole[place + 1 :])]
        parts.append(_reduced(x, term, "".join((*others, result))))
    tree = _tree(tuple(term for _, term in parts), result, tuple(lengths.items()))
    found, term = _follow(tree, parts, result)
    return permute_dims(found, [term.index(letter) for letter in result])


def _terms(formula: str, tensors: Sequence[Tensor]) -> tuple[list[str], str]:
    """The letters of every operand and of the result: one for each dimension, from a to z."""
    left, arrow, right = formula.replace(" ", "").partition("->")
    inputs = left.split(",")
    if len(inputs) != len(tensors):
        raise ShapeError(
            f"einsum {formula!r} of {len(tensors)} operands: it names {len(inputs)}; give one term for each"
        )
    named = [term.replace("...", "", 1) for term in (*inputs, right)]
    if not all(term.isascii() and (term.isalpha() or not term) for term in named):
        raise ShapeError(f"einsum {formula!r}: write terms of letters and at most one `...`, as in `...ij,jk->...ik`")
    free = [x.ndim - len(term) for x, term in zip(tensors, named, strict=False)]
    for x, term, count in zip(tensors, inputs, free, strict=True):
        if count < 0 or (count and "..." not in term):
            raise ShapeError(f"einsum {formula!r} with an operand of shape {x.shape}: {term!r} does not name all of it")
    every = sorted(set("".join(named)))
    most = max((count for count, term in zip(free, inputs, strict=True) if "..." in term), default=0)
    if len(every) + most > 26:
        raise ShapeError(f"einsum {formula!r}: {len(every) + most} letters; at most 26 can be told apart")
    names, rest = dict(zip(every, letters(26), strict=False)), letters(26)[len(every) : len(every) + most]
    if not arrow:
        once = [letter for letter in every if "".join(named).count(letter) == 1]
        right = ("..." if any("..." in term for term in inputs) else "") + "".join(once)

    def written(term: str, count: int) -> str:
        before, _, after = term.partition("...")
        spread = rest[most - count :] if "..." in term else ""
        return "".join(names[letter] for letter in before) + spread + "".join(names[letter] for letter in after)

    result = written(right, most)
    terms = [written(term, count) for term, count in zip(inputs, free, strict=True)]
    if len(set(result)) != len(result) or not set(result) <= set("".join(terms)):
        raise ShapeError(f"einsum {formula!r}: the result needs letters of the operands, each once; broadcast it later")
    return terms, result


def _lengths(formula: str, terms: Sequence[str], tensors: Sequence[Tensor]) -> dict[str, int]:
    """The length of every letter; 1 gives way to any other."""
    found: dict[str, int] = {}
    for term, x in zip(terms, tensors, strict=True):
        own: dict[str, int] = {}
        for letter, length in zip(term, x.shape, strict=True):
            fits = own.setdefault(letter, length) == length and (length == 1 or found.get(letter, 1) in (1, length))
            if not fits:
                shapes = ", ".join(str(tensor.shape) for tensor in tensors)
                raise ShapeError(f"einsum {formula!r} of {shapes}: a letter has two lengths; transpose or reshape one")
            found[letter] = length if found.get(letter, 1) == 1 else found[letter]
    return found


def _without_ones(x: Tensor, term: str, lengths: dict[str, int]) -> tuple[Tensor, str]:
    """`x` without the dimensions along which it is broadcast."""
    gone = [axis for axis, letter in enumerate(term) if x.shape[axis] != lengths[letter]]
    kept = "".join(letter for axis, letter in enumerate(term) if axis not in gone)
    return (squeeze(x, axis=gone) if gone else x), kept


def _reduced(x: Tensor, term: str, others: str) -> tuple[Tensor, str]:
    """`x` with letters that stand twice as diagonals, and summed over those that are not among `others`."""
    for letter in dict.fromkeys(term):
        while term.count(letter) > 1:
            pair = (term.index(letter), term.rindex(letter))
            rest = [axis for axis in range(x.ndim) if axis not in pair]
            x, term = diagonal(permute_dims(x, [*rest, *pair])), "".join(term[axis] for axis in rest) + letter
    alone = tuple(axis for axis, letter in enumerate(term) if letter not in others)
    if alone:
        x, term = total(x, axis=alone, dtype=x.dtype), "".join(letter for letter in term if letter in others)
    return x, term


def _kept(group: Group, terms: Sequence[str], result: str) -> frozenset[str]:
    """The letters of the product of a group of operands: those that the result or another operand bears."""
    outside = "".join(term for place, term in enumerate(terms) if place not in group) + result
    return frozenset(letter for place in group for letter in terms[place] if letter in outside)


@lru_cache(maxsize=1024)
def _tree(terms: tuple[str, ...], result: str, lengths: tuple[tuple[str, int], ...]) -> Tree:
    """In which order to contract operands with these letters."""
    known = dict(lengths)

    def cost(a: Group, b: Group) -> int:
        return prod(known[letter] for letter in _kept(a, terms, result) | _kept(b, terms, result))

    single = {frozenset({place}): (0, place) for place in range(len(terms))}
    best: dict[Group, tuple[int, Tree]] = dict(single.items())
    if len(terms) <= MOST_EXACT:
        for size in range(2, len(terms) + 1):
            for members in combinations(range(len(terms)), size):
                whole, (first, *rest) = frozenset(members), members
                halves = (frozenset({first, *more}) for count in range(size - 1) for more in combinations(rest, count))
                splits = [(best[a][0] + best[whole - a][0] + cost(a, whole - a), a) for a in halves]
                price, a = min(splits, key=lambda split: split[0])
                best[whole] = (price, (best[a][1], best[whole - a][1]))
        return best[frozenset(range(len(terms)))][1]
    groups = list(best)
    while len(groups) > 1:
        a, b = min(combinations(groups, 2), key=lambda pair: cost(*pair))
        groups = [group for group in groups if group not in (a, b)] + [a | b]
        best[a | b] = (0, (best[a][1], best[b][1]))
    return best[groups[0]][1]


def _follow(tree: Tree, parts: Sequence[tuple[Tensor, str]], result: str) -> tuple[Tensor, str]:
    """The product of the operands of `tree`, and its letters."""
    if isinstance(tree, int):
        return parts[tree]
    (a, first), (b, second) = (_follow(branch, parts, result) for branch in tree)
    kept = _kept(frozenset(_members(tree)), [term for _, term in parts], result)
    made = "".join(letter for letter in dict.fromkeys(first + second) if letter in kept)
    return contract(f"{first},{second}->{made}", a, b), made


def _members(tree: Tree) -> list[int]:
    return [tree] if isinstance(tree, int) else [*_members(tree[0]), *_members(tree[1])]
