"""A plan → the seconds that its compiled program takes one rank, of whatever kind they are.

What the rank runs is gone through in its order, after fusion: a kernel takes its arithmetic or the bytes that it
touches, peers' registers among them, whichever takes longer; a view takes nothing; a meeting takes its waiting, and
what is then read, by whom it is read. Transfers under way while the rank computes end no sooner than they take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flowcore.comm.price import seconds
from flowcore.footprint import VIEWS
from flowcore.graph import Graph, Node
from flowcore.local import Move, Staged
from flowcore.lower import lower
from flowcore.meeting_op import Wait
from flowcore.passes.donate import Update
from flowcore.pipeline import LOCAL
from flowcore.placement.machine import Machine


@dataclass(frozen=True)
class Predicted:
    """Seconds of a step on the first rank: its kernels, its meetings, and waiting for messages."""

    computing: float = 0.0
    meeting: float = 0.0
    waiting: float = 0.0

    @property
    def total(self) -> float:
        """All of them, one after the other."""
        return self.computing + self.meeting + self.waiting


def predicted(
    graph: Graph, updates: Sequence[Update], hosts: tuple[int, ...], machine: Machine, apart: frozenset[int]
) -> Predicted:
    """What the compiled program of the first rank of a physical graph takes; see `lower`."""
    if not graph.ranks:
        return Predicted()
    local = lower(graph, graph.ranks[0], LOCAL, updates, hosts, machine, apart).local
    computing = meeting = waiting = 0.0
    begun: dict[int, float] = {}
    for node in local.nodes:
        now = computing + meeting + waiting
        match node.op:
            case Wait():
                meeting += machine.step + machine.within.latency
            case Move(plan=plan):
                waiting += seconds(plan, machine)
            case Staged(move=move):
                ends = begun.setdefault(move.place, now) + seconds(move.plan, machine)
                waiting += max(ends - now, 0.0) if node.op.is_last else 0.0
            case _ if node.op.name not in VIEWS:
                computing += _kernel(local, node, machine)
    return Predicted(computing, meeting, waiting)


def _kernel(local: Graph, node: Node, machine: Machine) -> float:
    types = local.types(node.inputs)
    touched = sum(type.nbytes for type in (*types, *local.types(node.outputs)))
    # who copies touches every byte twice
    return machine.computing(max(node.op.flops(*types), 1), touched // 2)
