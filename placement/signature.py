"""The SBP signatures of an operator, derived from its index equation.

A signature is an SBP for every input and output under which running the operator on the local blocks is right. From
`y[m,n] = sum_k a[m,k] b[k,n]`, written `mk,kn->mn`:

- all inputs B give outputs B;
- a letter on the outputs may be split: every operand that bears it is split there, the others are B;
- a contracted letter may be split: the outputs are then partial under the reduction;
- where the operator is linear in a set of operands jointly, P(sum) in these passes through;
- where it merely moves elements of a set of operands (`selects`), every kind of P passes through;
- where it is elementwise monotone in one operand, P(max) and P(min) pass through, swapped if it decreases;
- where max (min) is the reduction, P(max) (P(min)) in the reduced operand passes through.

A capital letter is one the operator needs whole; `1` stands for a dimension of length one that is broadcast; both
are never split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product

from flowcore.placement.sbp import SBP, B, Partial, Split


@dataclass(frozen=True, slots=True)
class Signature:
    """One SBP per input and per output, on one mesh axis."""

    inputs: tuple[SBP, ...]
    outputs: tuple[SBP, ...]

    def __str__(self) -> str:
        return f"{','.join(map(str, self.inputs))}->{','.join(map(str, self.outputs))}"


@dataclass(frozen=True, slots=True)
class Algebra:
    """What an operator's values obey, beyond its index equation.

    `linear`: sets of operands in which it is jointly linear. `selects`: sets of operands whose elements it only moves.
    `monotone`: +1, 0 or -1 per operand: elementwise non-decreasing, neither, non-increasing.
    `reduction`: how contracted letters are reduced: "sum", "max", "min", or None (they are needed whole).
    """

    linear: tuple[frozenset[int], ...] = ()
    selects: tuple[frozenset[int], ...] = ()
    monotone: tuple[int, ...] = ()
    reduction: str | None = None
    joint: tuple[str, ...] = field(default=())
    """Reductions with which it commutes in all operands at once, as maximum does with max."""


@dataclass(frozen=True, slots=True)
class Equation:
    """The letters of every operand and result."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def letters(self) -> tuple[str, ...]:
        """Every letter, in order of first appearance."""
        return tuple(
            dict.fromkeys(letter for term in (*self.outputs, *self.inputs) for letter in term if letter != "1")
        )

    def __str__(self) -> str:
        return f"{','.join(self.inputs)}->{','.join(self.outputs)}"


def parse_equation(text: str) -> Equation:
    """The equation written as `mk,kn->mn`."""
    left, _, right = text.replace(" ", "").partition("->")
    return Equation(tuple(left.split(",")) if left else (), tuple(right.split(",")))


@lru_cache(maxsize=4096)
def derive(equation: Equation, algebra: Algebra) -> tuple[Signature, ...]:
    """Every signature that follows from `equation` and `algebra`, all-B first, without repetition."""
    found = [Signature((B,) * len(equation.inputs), (B,) * len(equation.outputs))]
    for letter in equation.letters:
        found.extend(_split(equation, algebra, letter))
    found.extend(_passing(equation, algebra))
    return tuple(dict.fromkeys(found))


def _split(equation: Equation, algebra: Algebra, letter: str) -> Iterable[Signature]:
    if letter.isupper() or any(term.count(letter) > 1 for term in (*equation.inputs, *equation.outputs)):
        return
    inputs = tuple(_at(term, letter) for term in equation.inputs)
    borne = [letter in term for term in equation.outputs]
    if all(borne):
        yield Signature(inputs, tuple(_at(term, letter) for term in equation.outputs))
    elif not any(borne) and algebra.reduction is not None:
        yield Signature(inputs, (Partial(algebra.reduction),) * len(borne))


def _at(term: str, letter: str) -> SBP:
    return Split(term.index(letter)) if letter in term else B


def _passing(equation: Equation, algebra: Algebra) -> Iterable[Signature]:
    arity, results = len(equation.inputs), len(equation.outputs)

    def signature(operands: Iterable[int], given: str, result: str) -> Signature:
        chosen = set(operands)
        inputs = tuple(Partial(given) if index in chosen else B for index in range(arity))
        return Signature(inputs, (Partial(result),) * results)

    for operands in algebra.linear:
        yield signature(operands, "sum", "sum")
    for operands in algebra.selects:
        for op in ("sum", "max", "min"):
            yield signature(operands, op, op)
    for index, sign in enumerate(algebra.monotone):
        for op, swapped in (("max", "min"), ("min", "max")):
            if sign:
                yield signature({index}, op, op if sign > 0 else swapped)
    for op in algebra.joint:
        yield signature(range(arity), op, op)
    if algebra.reduction in ("max", "min"):
        yield signature({0}, algebra.reduction, algebra.reduction)


def broadcast_equation(shapes: Sequence[Sequence[int]], ndim: int) -> Equation:
    """The elementwise equation of operands that broadcast against each other to `ndim` dimensions, right-aligned."""
    result = "abcdefghijklmnopqrstuvwxyz"[:ndim]
    lengths = [_broadcast_length(shapes, dim, ndim) for dim in range(ndim)]
    terms = []
    for shape in shapes:
        first = ndim - len(shape)
        terms.append("".join(result[first + d] if shape[d] == lengths[first + d] else "1" for d in range(len(shape))))
    return Equation(tuple(terms), (result,))


def _broadcast_length(shapes: Sequence[Sequence[int]], dim: int, ndim: int) -> int:
    lengths = {shape[dim - ndim + len(shape)] for shape in shapes if dim >= ndim - len(shape)} - {1}
    return lengths.pop() if lengths else 1


def products(per_axis: Sequence[Sequence[Signature]]) -> Iterable[tuple[Signature, ...]]:
    """Every choice of one signature per mesh axis, the last axis changing fastest."""
    return product(*per_axis)
