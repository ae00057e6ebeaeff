"""One rank's program from a physical graph: its own graph, in order, with every register in its place.

What depends on no input is computed once, here. Inputs that results replace, values that ranks of one host show each
other and registers of the arena are settled in this order, each on what the one before left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from flowcore.assembly import Instruction, mortal
from flowcore.boxing_op import Boxing
from flowcore.errors import FlowcoreError
from flowcore.graph import Graph, Node
from flowcore.local import localize
from flowcore.memory import Arena, Leaving, arena, leaving
from flowcore.op import Array, as_tuple
from flowcore.passes.donate import Update, donate, roots
from flowcore.passes.overlap import Timetable, timetable
from flowcore.passes.reuse import reuse
from flowcore.passes.share import Shared, shared
from flowcore.passes.show import show
from flowcore.passes.update import update_early
from flowcore.passes.widen import widen
from flowcore.placement.machine import Machine
from flowcore.registers import Registers
from flowcore.runtime import Program
from flowcore.sharing import Sharing

Stage = Callable[[Graph], Graph]
KEPT_BYTES = 2**24
"""The most bytes of values that are computed once because they depend on no input."""


def lower(
    graph: Graph,
    rank: int,
    stages: Sequence[Stage] = (),
    updates: Sequence[Update] = (),
    hosts: tuple[int, ...] = (),
    machine: Machine = Machine(),  # noqa: B008  # it is a frozen value
    apart: frozenset[int] = frozenset(),
) -> Program:
    """The program of `rank` for a physical graph, its own graph passed through `stages`.

    updates: pairs (input, output) of positions: the output replaces the input, whose old block nobody needs then.
    hosts: of every rank of the world, where ranks of one host see memory of each other; they then settle and bind its
    `sharing`. apart: those of `updates` whose tensors these ranks have no registers in common for.
    machine: by which is decided when transfers between hosts begin and end, the same on all ranks.
    """
    early = update_early(graph, updates) if updates else graph
    if hosts:
        joint = shared(early, rank, updates, hosts, graph.digest, machine, apart)
    else:
        times = timetable(early, machine) if stages else Timetable()
        joint = Shared(localize(early, rank, times.stages, times.nudges))
    local = widen(joint.graph)
    for stage in stages:
        local = stage(local)
    inputs = _registers(graph, graph.inputs, local.inputs, rank)
    outputs = _registers(graph, graph.outputs, local.outputs, rank)
    pairs = [(inputs[old], outputs[new]) for old, new in updates]
    own = [(old, new) for old, new in pairs if old is not None and new is not None]
    wholes = {part: common.input for part, common in joint.parts.items()}
    common = joint.updates(local, outputs)
    local, taken = donate(local, own + common, wholes)
    constants, nodes = _constants(local) if stages else ({}, local.nodes)
    sharing = None
    if joint.ranks:
        local, nodes, shown = show(local, nodes, rank, joint.parts, common, taken, joint.pieces)
        outputs = _registers(graph, graph.outputs, local.outputs, rank)
        registers = Registers(rank, joint.ranks, joint.commons, joint.count)
        sharing = Sharing(rank, joint.ranks, shown, joint.parts, registers)
    memory, away = Arena({}, 0), Leaving(())
    if stages:
        elsewhere = sharing.shown.registers if sharing else set[int]()
        nodes, held = reuse(local, nodes, roots(local), elsewhere)
        local = replace(local, nodes=_replaced(local.nodes, nodes))
        memory = arena(local, nodes, held, elsewhere)
        seen = frozenset[int]().union(*(held[number] for number in local.outputs))
        replaced = {new: old for old, new in updates if inputs[old] not in taken | seen}
        away = leaving(memory, held, outputs, replaced)
    return Program(
        graph, local, tuple(graph.values[number] for number in graph.outputs), inputs, outputs,
        _instructions(local, nodes, {*constants, *joint.known}, memory), tuple(constants.items()), memory,
        away, bool(stages), partial(lower, rank=rank, stages=stages, machine=machine),
        tuple(place for place, number in enumerate(inputs) if number in taken), _meets(graph), sharing,
    )  # fmt: skip


def _replaced(nodes: Sequence[Node], others: Sequence[Node]) -> tuple[Node, ...]:
    """`nodes`, of each that gives what one of `others` gives that one."""
    known = {node.outputs: node for node in others if node.outputs}
    return tuple(known.get(node.outputs, node) for node in nodes)


def _meets(graph: Graph) -> bool:
    """Whether some bytes cross ranks."""
    return any(
        node.op.plan(graph.values[node.outputs[0]].type).messages > 0
        if isinstance(node.op, Boxing)
        else any(map(_meets, node.op.graphs))
        for node in graph.nodes
    )


def _registers(graph: Graph, numbers: Sequence[int], local: Sequence[int], rank: int) -> tuple[int | None, ...]:
    """Per value of the whole graph its register, from those of the values that the rank holds."""
    held = iter(local)
    return tuple(next(held) if rank in graph.values[number].placement else None for number in numbers)


def _instructions(local: Graph, nodes: Sequence[Node], constants: set[int], memory: Arena) -> tuple[Instruction, ...]:
    """Those of `nodes`, each with the registers that nothing reads after it."""
    found = [
        Instruction(node.inputs, node.outputs, (), node.op.reaches_others, node, memory.scratch.get(position, ()))
        for position, node in enumerate(nodes)
    ]
    return mortal(found, {*local.outputs, *constants})


def _constants(local: Graph) -> tuple[dict[int, Array], Sequence[Node]]:
    """What depends on no input, computed, as far as it fits; and the nodes that are left."""
    known: dict[int, Array] = {}
    left, size = [], 0
    for node in local.nodes:
        made = sum(type.nbytes for type in local.types(node.outputs))
        if node.op.reaches_others or size + made > KEPT_BYTES or any(number not in known for number in node.inputs):
            left.append(node)
            continue
        try:
            with np.errstate(all="ignore"):
                found = node.op.prepare([None] * len(node.outputs))(*(known[number] for number in node.inputs))
        except FlowcoreError:
            left.append(node)  # it is raised where the operator stands, if that is reached
            continue
        known.update(zip(node.outputs, as_tuple(found), strict=True))
        size += made
    used = {*local.outputs, *(number for node in left for number in node.inputs)}
    return {number: block for number, block in known.items() if number in used}, left
