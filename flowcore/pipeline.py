"""The order of the stages, from a logical graph to one rank's program. The whole compiler, readable."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import RLock
from weakref import WeakValueDictionary

from flowcore.box import box
from flowcore.graph import Graph, renumber
from flowcore.lower import lower
from flowcore.passes.ahead import ahead
from flowcore.passes.broaden import broaden
from flowcore.passes.bucket import bucket
from flowcore.passes.channels_last import channels_last
from flowcore.passes.checks import checks_first
from flowcore.passes.cse import cse
from flowcore.passes.dce import dce
from flowcore.passes.early import early
from flowcore.passes.fold import fold
from flowcore.passes.fuse import compile_small, fuse
from flowcore.passes.gather_first import gather_first
from flowcore.passes.inline import NAMES, inline
from flowcore.passes.late import late
from flowcore.passes.lists import update_by_lists
from flowcore.passes.order import free_early
from flowcore.passes.parts import compute_parts
from flowcore.passes.picks import compare_picks
from flowcore.passes.route import route
from flowcore.passes.rows import keep_rows
from flowcore.passes.simplify import simplify
from flowcore.passes.tables import take_together
from flowcore.passes.transposes import fold_transposes
from flowcore.passes.upright import upright
from flowcore.passes.views import pack, view_slices
from flowcore.placement.machine import Machine
from flowcore.plan import plan, replicated, stays_replicated
from flowcore.region import settle
from flowcore.runtime import Program
from flowcore.verify import verify

Stage = Callable[[Graph], Graph]
LOGICAL: tuple[Stage, ...] = (verify, inline, dce, cse, fold, simplify, cse, keep_rows)
PHYSICAL: tuple[Stage, ...] = (gather_first, dce, cse, upright, checks_first, early)
LOCAL: tuple[Stage, ...] = (
    channels_last, view_slices, fold_transposes, compute_parts, compare_picks, take_together, update_by_lists, fuse,
    broaden, compile_small, pack, free_early,
)  # fmt: skip

_kept: WeakValueDictionary[tuple[Graph, Machine], Graph] = WeakValueDictionary()
_turn = RLock()


def settled(graph: Graph, machine: Machine) -> Graph:
    """`graph` with what its operators run inside planned, for the layouts in which their inputs reach them."""
    return settle(graph, lambda part: plan(dce(part), machine), partial(physical, machine=machine))


def physical(graph: Graph, machine: Machine) -> Graph:
    """`graph` planned, boxed and cleaned: what all ranks together run on `machine`.

    Of ranks that are threads of one process one does it, and as long as it keeps the result the others share it.
    """
    with _turn:
        found = _kept.get((graph, machine))
        if found is None:
            found = _kept[graph, machine] = _physical(graph, machine)
    return found


def _physical(graph: Graph, machine: Machine) -> Graph:
    bodies, planned, boxed, fewer, routed, fetched = (
        partial(stage, machine=machine) for stage in (settled, plan, box, bucket, route, ahead)
    )
    stages: tuple[Stage, ...] = (
        *LOGICAL, bodies, planned, boxed, *PHYSICAL, fewer, routed, cse, late, fetched, renumber,
    )  # fmt: skip
    for stage in stages:
        graph = stage(graph)
    return verify(graph, physical=True)


def build(graph: Graph, rank: int, machine: Machine) -> Program:
    """What `rank` runs for `graph`, operator by operator."""
    return lower(replicated(graph) if _is_planned(graph) else physical(graph, machine), rank)


def _is_planned(graph: Graph) -> bool:
    """Whether the stages would only write into `graph` that all is replicated: one operator, no graph and no name."""
    if len(graph.nodes) != 1:
        return False
    op = graph.nodes[0].op
    return not (op.graphs or op.spans or op.name in NAMES or op.expansion is not None) and stays_replicated(graph)


__all__ = ["LOCAL", "LOGICAL", "PHYSICAL", "Program", "build", "physical", "settled"]
