"""Formulas: index equations in which `...` stands for any leading dimensions, the same in every term that has it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from string import ascii_lowercase

from flowcore.errors import GraphError, ShapeError
from flowcore.placement.layout import Shape
from flowcore.placement.signature import Equation, parse_equation

LEADING = "..."


@lru_cache(maxsize=4096)
def expanded(formula: str, ndims: tuple[int, ...]) -> Equation:
    """The equation for operands with so many dimensions; ShapeError where they do not fit."""
    equation = parse_equation(formula)
    if len(ndims) != len(equation.inputs):
        raise GraphError(f"{formula} is of {len(equation.inputs)} operands, not {len(ndims)}: pass as many")
    counts = set()
    for term, ndim in zip(equation.inputs, ndims, strict=True):
        own = len(term.replace(LEADING, ""))
        if ndim < own or (ndim > own and LEADING not in term):
            raise ShapeError(f"an operand with {ndim} dimensions does not fit {term!r} of {formula}: reshape it")
        if LEADING in term:
            counts.add(ndim - own)
    if len(counts) > 1:
        raise ShapeError(f"operands of {formula} have different numbers of leading dimensions {sorted(counts)}")
    free = [letter for letter in ascii_lowercase if letter not in formula.lower()]
    leading = "".join(free[: max(counts, default=0)])
    filled = [[term.replace(LEADING, leading) for term in side] for side in (equation.inputs, equation.outputs)]
    return Equation(tuple(filled[0]), tuple(filled[1]))


def result_shapes(name: str, equation: Equation, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    """The shapes of the results; ShapeError where a letter has two lengths."""
    lengths: dict[str, int] = {}
    for term, shape in zip(equation.inputs, shapes, strict=True):
        for letter, length in zip(term.lower(), shape, strict=True):
            if lengths.setdefault(letter, length) != length:
                raise ShapeError(
                    f"{name} of shapes {', '.join(map(str, shapes))}: {equation} gives {letter} one length"
                )
    unknown = sorted({letter for term in equation.outputs for letter in term.lower()}.difference(lengths))
    if unknown:
        raise GraphError(f"{name}: the lengths of {', '.join(unknown)} in {equation} do not follow: give it infer")
    return tuple(tuple(lengths[letter] for letter in term.lower()) for term in equation.outputs)


def takes_leading(formula: str) -> bool:
    """Whether every operand and result may have further leading dimensions."""
    equation = parse_equation(formula)
    return all(term.startswith(LEADING) for term in (*equation.inputs, *equation.outputs))
