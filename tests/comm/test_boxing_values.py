"""Every change between any two layouts gives the right value, with exactly the bytes of its bound."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from flowcore.placement.layout import Layout
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import Broadcast, Partial, Split, parse_nd_sbp
from tests.comm.tensors import ONE_AXIS, check_boxing, mesh

SHAPES = ((4, 4), (5, 7), (1, 3), (0, 3))
FOUR = (Broadcast(), Split(0), Split(1), Partial())


def related(size: int) -> dict[str, Placement]:
    """Placements in every relation to the ranks 0..size-1 in a row."""
    ranks = list(range(size))
    return {
        "same": Placement(ranks),
        "permuted": Placement(ranks[1:] + ranks[:1]),
        "overlapping": Placement([rank + size // 2 for rank in ranks]),
        "inside": Placement(ranks[:-1]),
        "around": Placement([*ranks[::-1], size, size + 1]),
        "disjoint": Placement([rank + size for rank in ranks]),
        "one other": Placement([size + 3]),
    }


@pytest.mark.parametrize("relation", related(2))
@pytest.mark.parametrize("size", [2, 3, 4])
def test_every_pair_on_one_axis_is_right(size: int, relation: str) -> None:
    there = related(size)[relation]
    pairs = list(product(ONE_AXIS, ONE_AXIS, SHAPES))
    for a, b, shape in pairs:
        check_boxing(shape, Layout(mesh(size), a), Layout(there, b))
        check_boxing(shape, Layout(there, a), Layout(mesh(size), b))
    print(f"{2 * len(pairs)} transitions")


@pytest.mark.parametrize(
    "there", [mesh(2, 3), mesh(3, 2), Placement([[5, 3, 1], [4, 2, 0]]), mesh(2, 3, first=3)], ids=str
)
def test_all_pairs_on_two_by_three_are_right(there: Placement) -> None:
    for a, b in product(product(FOUR, FOUR), product(FOUR, FOUR)):
        check_boxing((5, 7), Layout(mesh(2, 3), a), Layout(there, b))


@pytest.mark.parametrize("dtype", [np.float64, np.int32])
@pytest.mark.parametrize("there", [mesh(2, 2), Placement([[3, 1], [2, 0]])], ids=str)
def test_mixed_partials_are_right(there: Placement, dtype: type) -> None:
    mixed = [pair for pair in product(ONE_AXIS, repeat=2) if any(isinstance(part, Partial) for part in pair)]
    for a, b in product(mixed, mixed):
        check_boxing((5, 3), Layout(mesh(2, 2), a), Layout(there, b), dtype)


def test_three_axes_are_right() -> None:
    texts = ("S0,S0,S1", "P,S1,P(max)", "B,P,S2", "S2,S1,S0", "B,B,B", "P,P,P", "P(min),S2,P")
    signatures = [parse_nd_sbp(text) for text in texts]
    for a, b in product(signatures, signatures):
        for there in (mesh(2, 2, 2), mesh(2, 3, 2, first=1), Placement([[[7, 3], [5, 1]], [[6, 2], [4, 0]]])):
            check_boxing((5, 3, 4), Layout(mesh(2, 2, 2), a), Layout(there, b))


def test_a_scalar_changes_layout() -> None:
    for a, b in product((Broadcast(), Partial(), Partial("max")), repeat=2):
        for there in related(3).values():
            check_boxing((), Layout(mesh(3), a), Layout(there, b))


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint16, np.complex64, np.bool_], ids=str)
def test_every_dtype_changes_layout(dtype: type) -> None:
    kinds = {"sum": "iufc", "max": "iufb", "min": "iufb"}
    fits = [part for part in ONE_AXIS if not isinstance(part, Partial) or np.dtype(dtype).kind in kinds[part.op]]
    for a, b in product(fits, fits):
        check_boxing((6, 5), Layout(mesh(3), a), Layout(mesh(3), b), dtype)
