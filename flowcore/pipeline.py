"""The order of the stages, from a logical graph to one rank's program. The whole compiler, readable."""

from __future__ import annotations

from collections.abc import Callable

from flowcore.box import box
from flowcore.graph import Graph, renumber
from flowcore.passes.cse import cse
from flowcore.passes.dce import dce
from flowcore.passes.inline import inline
from flowcore.plan import plan
from flowcore.runtime import Program, lower
from flowcore.verify import verify

LOGICAL: tuple[Callable[[Graph], Graph], ...] = (verify, inline, dce, cse)
PHYSICAL: tuple[Callable[[Graph], Graph], ...] = (plan, box, dce, cse, renumber)


def physical(graph: Graph) -> Graph:
    """`graph` planned, boxed and cleaned: what all ranks together run."""
    for stage in (*LOGICAL, *PHYSICAL):
        graph = stage(graph)
    return verify(graph, physical=True)


def build(graph: Graph, rank: int) -> Program:
    """What `rank` runs for `graph`."""
    return lower(physical(graph), rank)


__all__ = ["LOGICAL", "PHYSICAL", "Program", "build", "physical"]
