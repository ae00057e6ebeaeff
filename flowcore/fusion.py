"""How many operators a rank runs before and after fusion: a physical graph → numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flowcore.footprint import VIEWS
from flowcore.fused import Fused
from flowcore.graph import Graph
from flowcore.local import localize
from flowcore.lower import lower
from flowcore.passes.donate import Update
from flowcore.pipeline import LOCAL


@dataclass(frozen=True)
class Fusion:
    """What the first rank of a plan runs, views not counted.

    before: operators on its blocks. after: what it calls for them. loops: how many of these calls are fused loops.
    """

    before: int
    after: int
    loops: int

    def __str__(self) -> str:
        return f"{self.before} operators on a rank run as {self.after} calls, {self.loops} of them fused loops"


def fusion(graph: Graph, updates: Sequence[Update] = ()) -> Fusion:
    """That of a physical graph whose outputs replace inputs as `updates` says."""
    if not graph.ranks:
        return Fusion(0, 0, 0)
    rank = graph.ranks[0]
    before, after = localize(graph, rank).nodes, lower(graph, rank, LOCAL, updates).instructions
    left = [each.node.op for each in after if each.node is not None and each.node.op.name not in VIEWS]
    loops = sum(isinstance(op, Fused) for op in left)
    return Fusion(sum(node.op.name not in VIEWS for node in before), len(left), loops)
