"""Operators on replicas: the plan that the compiler writes down without a search is the one a search finds."""

from __future__ import annotations

import pytest

import flowcore  # noqa: F401  # fills the registry
from flowcore.boxing_op import LAYOUT_OPERATORS
from flowcore.dispatch import single
from flowcore.graph import Graph, Value
from flowcore.op import OPS
from flowcore.placement.layout import Layout
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import B, Split
from flowcore.plan import plan, replicated, stays_replicated

PAIR, GRID = Placement([0, 1]), Placement([[0, 1], [2, 3]])
NAMES = sorted(name for name, cls in OPS.items() if not issubclass(cls, LAYOUT_OPERATORS) and not cls.bodies)


def graphs(name: str, place: Placement) -> list[Graph]:
    """The operator applied to replicas, once for each of its samples."""
    layout = Layout(place, (B,) * place.ndim)
    return [
        single(sample.op, [Value(type, place, layout.sbp) for type in sample.types], layout)
        for sample in OPS[name].samples()
    ]


@pytest.mark.parametrize("name", NAMES)
def test_what_stays_replicated_is_planned_so(name: str) -> None:
    for graph in (*graphs(name, PAIR), *graphs(name, GRID)):
        if stays_replicated(graph):
            assert plan(graph) == replicated(graph)


def test_most_operators_are_known_to_stay_replicated() -> None:
    known = {name for name in NAMES if all(map(stays_replicated, graphs(name, PAIR)))}
    assert {"add", "sum", "contract", "slice", "reshape", "full", "exp", "take", "sort"} <= known
    assert {"broadcast_to", "scatter_add", "normal"}.isdisjoint(known)


def test_a_part_or_a_wish_needs_a_plan() -> None:
    sample = OPS["exp"].samples()[0]
    (type,) = sample.types
    assert not stays_replicated(single(sample.op, [Value(type, PAIR, (Split(0),))], None))
    full = OPS["full"].samples()[0]
    assert not stays_replicated(single(full.op, [], Layout(PAIR, (Split(0),))))
