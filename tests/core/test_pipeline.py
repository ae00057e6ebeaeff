"""A graph is planned once by the ranks of one process, and alike whenever it is planned again."""

from __future__ import annotations

import gc
from pathlib import Path
from weakref import ref

import numpy as np

import flowcore as fc
from flowcore import passes
from flowcore.graph import Graph
from flowcore.pipeline import physical
from flowcore.placement.machine import Machine


def step(x: fc.Tensor) -> fc.Tensor:
    return fc.nn.softmax(x @ x.mT) @ x


def logical() -> Graph:
    return fc.compile(step).graph(fc.asarray(np.ones((6, 4)), sbp="S0"))


def test_ranks_that_are_threads_share_a_plan() -> None:
    found = fc.launch.run(lambda: fc.compile(step).plan(fc.asarray(np.ones((6, 4)), sbp="S0")), ranks=3)
    assert all(plan.graph is found[0].graph for plan in found)


def test_a_graph_planned_again_has_the_same_plan() -> None:
    graph = fc.launch.run(logical, ranks=3)[0]
    planned = physical(graph, Machine())
    text, kept = fc.Plan(planned).text(), ref(planned)
    assert physical(graph, Machine()) is planned
    del planned
    gc.collect()
    assert kept() is None and fc.Plan(physical(graph, Machine())).text() == text


def test_the_account_of_the_order_names_every_pass() -> None:
    text = passes.__doc__ or ""
    files = sorted(path.stem for path in Path(str(passes.__file__)).parent.glob("*.py") if path.stem != "__init__")
    assert [name for name in files if f"`{name}" not in text] == []
