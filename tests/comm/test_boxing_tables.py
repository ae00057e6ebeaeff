"""The tables of transitions by which boxing is known: right values, counted bytes, every one at its bound.

Every table runs on threads through a transport that counts; `check_all` says what is checked and prints the tally.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from flowcore.comm.boxing import plan_boxing
from flowcore.placement.layout import Layout
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import SBP, B, NdSbp, P, Partial, Split
from tests.comm.laws import check_all, check_senders, least_received
from tests.comm.tensors import ONE_AXIS, mesh

S0, S1, S2 = Split(0), Split(1), Split(2)
FOUR: tuple[SBP, ...] = (B, P, S0, S1)
ONE_AXIS_SHAPES = ((4, 4), (6, 8), (5, 7))
PLACES = {
    "same": (mesh(4), mesh(4)),
    "overlapping": (mesh(4), mesh(4, first=2)),
    "nested": (mesh(4), mesh(2, first=1)),
    "around": (mesh(2, first=1), mesh(4)),
    "disjoint": (mesh(3), mesh(4, first=3)),
}
LINES = [mesh(4), mesh(2), Placement([3, 0, 2, 1]), mesh(4, first=2), mesh(4, first=4), Placement([5, 1, 3]), mesh(1)]
GRIDS = [mesh(2, 2), Placement([[0, 2], [1, 3]]), mesh(2, 3, first=1)]


def pairs(parts: tuple[SBP, ...], axes: int) -> list[tuple[NdSbp, NdSbp]]:
    """Every ordered pair of nd-SBPs of these parts."""
    signatures = list(product(parts, repeat=axes))
    return list(product(signatures, signatures))


def test_72_pairs_on_two_by_four_are_at_the_bound() -> None:
    found = [pair for pair in pairs((B, S0, S1), 2) if pair[0] != pair[1]]
    tally = check_all(((1024, 1024), Layout(mesh(2, 4), a), Layout(mesh(2, 4), b)) for a, b in found)
    assert (tally.transitions, tally.above, tally.moved) == (72, 0, tally.bound)


@pytest.mark.parametrize("relation", PLACES)
def test_16_pairs_on_one_axis(relation: str) -> None:
    here, there = PLACES[relation]
    check_all((s, Layout(here, a), Layout(there, b)) for s, (a, b) in product(ONE_AXIS_SHAPES, pairs(FOUR, 1)))


@pytest.mark.parametrize("relation", ["same", "overlapping", "disjoint"])
def test_every_kind_of_partial_on_one_axis(relation: str) -> None:
    here, there = PLACES[relation]
    check_all((s, Layout(here, a), Layout(there, b)) for s, (a, b) in product([(5, 7)], pairs(ONE_AXIS, 1)))


@pytest.mark.parametrize("shape", [(8, 8, 16), (25, 33), (13, 17), (3, 2), (0, 5), (1, 1)], ids=str)
def test_256_pairs_on_two_by_two(shape: tuple[int, ...]) -> None:
    tally = check_all((shape, Layout(mesh(2, 2), a), Layout(mesh(2, 2), b)) for a, b in pairs(FOUR, 2))
    assert tally.transitions == 256


def test_256_pairs_on_higher_dimensions() -> None:
    higher = pairs((B, P, S1, S2), 2)
    assert check_all(((8, 8, 16), Layout(mesh(2, 2), a), Layout(mesh(2, 2), b)) for a, b in higher).transitions == 256


@pytest.mark.parametrize("there", [mesh(3, 2), Placement([[5, 3, 1], [4, 2, 0]]), mesh(2, 3, first=3)], ids=str)
def test_uneven_grids_that_overlap(there: Placement) -> None:
    check_all(((13, 17), Layout(mesh(2, 3), a), Layout(there, b)) for a, b in pairs((B, P, S0, S1), 2)[::2])


def test_one_axis_and_two_axes_over_42_placement_pairs() -> None:
    places = [*product(LINES, GRIDS), *product(GRIDS, LINES)]
    assert len(places) == 42
    cases = (
        ((4, 6), Layout(here, a), Layout(there, b))
        for here, there in places
        for a, b in product(product(FOUR, repeat=here.ndim), product(FOUR, repeat=there.ndim))
    )
    assert check_all(cases).transitions == 42 * 64


@pytest.mark.parametrize("there", [mesh(2, 2, 2), Placement(np.arange(8).reshape(2, 2, 2).T)], ids=str)
def test_three_axes(there: Placement) -> None:
    found = pairs((B, S0, S1), 3)[::3] + pairs((B, P, S1, S2), 3)[5::19]
    check_all(((5, 3, 4), Layout(mesh(2, 2, 2), a), Layout(there, b)) for a, b in found)


def test_mixed_kinds_of_partial_on_two_axes() -> None:
    mixed = pairs((P, Partial("max"), Partial("min"), S0), 2)
    check_all(((5, 3), Layout(mesh(2, 2), a), Layout(mesh(2, 2), b)) for a, b in mixed)


@pytest.mark.parametrize("there", [mesh(4, 4), Placement(np.arange(16).reshape(4, 4).T), mesh(2, 8, first=8)], ids=str)
def test_replicas_share_the_sending_on_larger_meshes(there: Placement) -> None:
    found = pairs((B, P, S0, S1), 2)
    for a, b in found:
        plan = plan_boxing((61, 47), "f4", Layout(mesh(4, 4), a), Layout(there, b))
        check_senders(plan)
        assert plan.bytes_moved == least_received(plan)
    print(f"{len(found)} transitions")
