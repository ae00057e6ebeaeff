"""The algebra of partial values: what reduces them, and what a rank holds that contributes nothing.

A value partial over several mesh axes is a tree: the first axis reduces what the second axis gives, and so on. So a
reduction runs from the last axis to the first, in the order of coordinates, and its result never depends on arrival.
Terms of 16-bit floats are reduced in float32 and rounded once; a path of several steps rounds after each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from flowcore.placement.errors import PlacementError
from flowcore.placement.layout import Layout
from flowcore.placement.sbp import Partial

Array = np.ndarray[Any, Any]
Levels = tuple[tuple[int, str], ...]
"""(number of terms, op) per partial axis, first axis first."""

UFUNCS = {"sum": np.add, "max": np.maximum, "min": np.minimum}


def is_narrow(dtype: np.dtype[Any]) -> bool:
    """Whether `dtype` is float16 or bfloat16, in which no terms are added up."""
    return dtype.itemsize == 2 and dtype.kind not in "iu"


@cache
def identity(op: str, dtype: np.dtype[Any]) -> Any:
    """The element that leaves every other unchanged under `op`."""
    if op == "sum":
        # -0.0 leaves the sign of every zero as it is; 0.0 would make 0.0 of -0.0
        return dtype.type(0) if dtype.kind in "iub" else -np.zeros((), dtype)[()]
    if dtype.kind == "b":
        return op == "min"
    if dtype.kind in "iu":
        return np.iinfo(dtype).min if op == "max" else np.iinfo(dtype).max
    return -np.inf if op == "max" else np.inf


def check_partial(layout: Layout, dtype: np.dtype[Any]) -> None:
    """PlacementError where a partial axis of `layout` has no meaning for `dtype`."""
    for part in layout.sbp:
        if isinstance(part, Partial):
            if part.op == "sum" and dtype.kind == "b":
                raise PlacementError("P(sum) of bool has no meaning: cast to an integer dtype, or use P(max)")
            if part.op != "sum" and dtype.kind == "c":
                raise PlacementError(f"{part} of {dtype} has no meaning: complex numbers have no order; use P(sum)")


def reduce_terms(terms: Sequence[Array], levels: Levels, out: Array) -> None:
    """Reduce `terms`, row-major over `levels`, into `out`; a term may be `out` itself only where there is one level."""
    if is_narrow(out.dtype) and len(terms) > 1:
        wide = np.empty(out.shape, np.float32)
        reduce_terms([term.astype(np.float32) for term in terms], levels, wide)
        np.copyto(out, wide, casting="unsafe")
        return
    if len(levels) > 1:
        inner = levels[1:]
        count = len(terms) // levels[0][0]
        groups = [terms[start : start + count] for start in range(0, len(terms), count)]
        results = []
        for group in groups:
            results.append(np.empty_like(out))
            reduce_terms(group, inner, results[-1])
        terms = results
    ufunc = UFUNCS[levels[0][1]]
    if len(terms) == 1:
        np.copyto(out, terms[0])
        return
    ufunc(terms[0], terms[1], out=out)
    for term in terms[2:]:
        ufunc(out, term, out=out)


def levels_of(layout: Layout, staying: frozenset[int]) -> Levels:
    """The partial axes of `layout` that are reduced away, neighbours of one op joined."""
    levels: list[tuple[int, str]] = []
    for axis, part in enumerate(layout.sbp):
        if isinstance(part, Partial) and axis not in staying:
            size = layout.placement.shape[axis]
            if levels and levels[-1][1] == part.op:
                levels[-1] = (levels[-1][0] * size, part.op)
            else:
                levels.append((size, part.op))
    return tuple(levels)
