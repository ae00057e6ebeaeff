"""The programs of ranks as all of them agree on them: what each shows the others lies where nobody needs it too long.

Each rank lowers the graph for itself, and how long peers read what it shows only they know: so all tell each other what
they do to memory that they share. Where a rank reads a tensor later than another would replace it in common, all lower
the graph again without a register in common for that. A plan does the same for all ranks by itself: those whose blocks
have the same shapes run the same program but for the numbers in it, so only one of them is lowered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from flowcore.boxing_op import Boxing
from flowcore.comm.transport import Opens
from flowcore.graph import Graph
from flowcore.lives import unsafe
from flowcore.lower import lower
from flowcore.op import Type
from flowcore.passes.donate import Update
from flowcore.pipeline import LOCAL
from flowcore.placement.layout import Layout, box_shape
from flowcore.placement.machine import Machine
from flowcore.placement.sbp import Partial
from flowcore.races import Footprint
from flowcore.runtime import Program
from flowcore.world import World

Told = Mapping[int, Footprint | None]
"""What each rank does to memory that it shares; None: it shares none."""
T = TypeVar("T")


def bound(world: World, graph: Graph, updates: Sequence[Update], tensors: Sequence[int]) -> Program:
    """The program of this rank; ranks of a host that see memory of each other have agreed on what lies where.

    tensors: the same number for every input that is the same tensor.
    """
    transport = world.transport
    if isinstance(transport, Opens) and world.rank in graph.ranks:
        is_far = len({transport.hosts[rank] for rank in graph.ranks}) > 1

        def tell(program: Program) -> Told:
            own = _told(program)
            each = [own] if own is None and not is_far else transport.gather_objects(graph.ranks, own)
            return dict(zip(graph.ranks, each, strict=False))

        make = partial(lower, graph, world.rank, LOCAL, updates, transport.hosts, world.machine)
        program, told, _ = _agreed(make, tell)
        _settle(program, told)
        is_bound = program.sharing is None or program.sharing.bind(world, tensors)
        if is_far:
            # the order of what crosses hosts is that of this program, or on no host
            is_bound = all(transport.gather_objects(graph.ranks, is_bound))
        if is_bound:
            return program
    return lower(graph, world.rank, LOCAL, updates, machine=world.machine)


def foreseen(
    graph: Graph, updates: Sequence[Update], hosts: tuple[int, ...], machine: Machine
) -> tuple[dict[int, Program], frozenset[int]]:
    """The program of the first of all ranks that do alike, and which tensors lie in no register in common."""
    like = alike(graph, hosts)

    def make(apart: frozenset[int]) -> dict[int, Program]:
        return {
            first: lower(graph, first, LOCAL, updates, hosts, machine, apart) for first in dict.fromkeys(like.values())
        }

    def tell(programs: dict[int, Program]) -> Told:
        return {rank: _told(programs[first]) for rank, first in like.items()}

    programs, told, apart = _agreed(make, tell)
    for program in programs.values():
        _settle(program, told)
    return programs, apart


def _agreed(make: Callable[[frozenset[int]], T], tell: Callable[[T], Told]) -> tuple[T, Told, frozenset[int]]:
    """What `make` gives where the tensors of these updates lie in no register in common, what is told of it, and these.

    They are the fewest; on all ranks the same, as what they tell each other is.
    """
    apart = frozenset[int]()
    while True:
        made = make(apart)
        told = tell(made)
        more = unsafe(told) - apart
        if not more:
            return made, told, apart
        apart |= more


def _told(program: Program) -> Footprint | None:
    return None if program.sharing is None else program.sharing.shown.footprint


def _settle(program: Program, told: Told) -> None:
    if program.sharing is not None:
        program.sharing.settle({rank: each for rank, each in told.items() if each is not None})


def alike(graph: Graph, hosts: tuple[int, ...] = ()) -> dict[int, int]:
    """Per rank the first whose blocks of all values have the same shapes, and that has as many ranks beside it."""
    layouts: dict[tuple[Type, Layout], bool] = {}
    _collect(graph, layouts)
    near = Counter(hosts[rank] for rank in graph.ranks) if hosts else {}
    seen: dict[int, list[object]] = {rank: [near[hosts[rank]] if hosts else 1] for rank in graph.ranks}
    for (type, layout), is_filled in layouts.items():
        boxes = layout.boxes(type.shape)
        partial = [axis for axis, part in enumerate(layout.sbp) if isinstance(part, Partial)] if is_filled else []
        firsts = {rank for rank, at in layout.placement.coordinates() if partial and not any(at[a] for a in partial)}
        for rank, key in seen.items():
            key.append((box_shape(boxes[rank]) if rank in boxes else None, rank in firsts))
    first: dict[tuple[object, ...], int] = {}
    return {rank: first.setdefault(tuple(key), rank) for rank, key in seen.items()}


def _collect(graph: Graph, layouts: dict[tuple[Type, Layout], bool]) -> None:
    """All types and layouts, and whether a change of layout fills blocks so: the first rank then gets the value."""
    for number in graph.inputs:
        layouts.setdefault((graph.values[number].type, graph.values[number].layout), False)
    for node in graph.nodes:
        for value in (graph.values[number] for number in node.outputs):
            layouts[value.type, value.layout] = layouts.get((value.type, value.layout)) or isinstance(node.op, Boxing)
        for body in node.op.graphs:
            _collect(body, layouts)
