"""One rank's program: the nodes of a physical graph as prepared calls over registers, and how it runs.

A register holds one value's block and is freed after its last use. A node whose placement lacks the rank leaves no
instruction; a `box` node leaves one on every rank of its source and target.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from flowcore.boxing_op import Boxing
from flowcore.comm.execute import execute
from flowcore.comm.transport import Meeting, Transport
from flowcore.errors import FlowcoreError
from flowcore.graph import Graph, Node, Value
from flowcore.op import Array, Op, local_block
from flowcore.placement.layout import box_shape
from flowcore.region import Region
from flowcore.world import World

Call = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Instruction:
    """Run `call` on registers; `moves`: it also takes the transport."""

    call: Call
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    dead: tuple[int, ...]
    moves: bool
    node: Node


@dataclass(frozen=True)
class Program:
    """What one rank does."""

    graph: Graph
    results: tuple[Value, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    instructions: tuple[Instruction, ...]
    meets: bool
    """Whether ranks must meet before it runs, because some bytes cross ranks."""

    def run(self, world: World, blocks: Sequence[Array | None]) -> list[Array | None]:
        """The blocks of the outputs; None where this rank holds none."""
        if len(self.graph.ranks) > 1:
            chain = world.record(self.graph.ranks, self.graph.digest, self)
            if self.meets and chain is not None:
                meeting = self.graph.ranks, chain.digest, chain.lines
                if self.is_transfer:
                    return [self.instructions[0].call(world.transport, blocks[0], meeting)]
                world.transport.meet(*meeting)
        with np.errstate(all="ignore"):
            return self.execute(world.transport, blocks)

    def execute(self, transport: Transport, blocks: Sequence[Array | None]) -> list[Array | None]:
        """`run`, by ranks that have met."""
        registers: list[Any] = [None] * len(self.graph.values)
        for number, block in zip(self.inputs, blocks, strict=True):
            registers[number] = block
        for instruction in self.instructions:
            _step(instruction, registers, transport)
        return [registers[number] for number in self.outputs]

    @cached_property
    def is_transfer(self) -> bool:
        """Whether it is one change of layout, at which its ranks meet, and nothing else."""
        if len(self.graph.nodes) != 1 or len(self.instructions) != 1:
            return False
        op = self.graph.nodes[0].op
        if not isinstance(op, Boxing):
            return False
        source, target = op.layouts
        return self.graph.ranks == tuple(sorted({*source.placement.ranks, *target.placement.ranks}))

    @cached_property
    def operators(self) -> str:
        """The operators it applies; kept, because whoever waits for other ranks writes its last operations down."""
        names = [node.op.text() for node in self.graph.nodes if not isinstance(node.op, Boxing)]
        return ", ".join(names) or "to_global"

    def __str__(self) -> str:
        return self.operators


def _step(instruction: Instruction, registers: list[Any], transport: Transport) -> None:
    arguments = [registers[number] for number in instruction.inputs]
    try:
        found = instruction.call(transport, *arguments) if instruction.moves else instruction.call(*arguments)
    except FlowcoreError as error:
        error.add_note(f"in {instruction.node.op.name}, called at {instruction.node.where}")
        raise
    if len(instruction.outputs) == 1:
        registers[instruction.outputs[0]] = found
    else:
        for number, block in zip(instruction.outputs, found, strict=True):
            registers[number] = block
    for number in instruction.dead:
        registers[number] = None


def lower(graph: Graph, rank: int) -> Program:
    """The program of `rank` for a physical graph."""
    last: dict[int, int] = {}
    for position, node in enumerate(graph.nodes):
        last.update((number, position) for number in (*node.inputs, *node.outputs))
    kept = set(graph.outputs)
    instructions = []
    for position, node in enumerate(graph.nodes):
        call = _call(graph, node, rank)
        if call is not None:
            dead = tuple(
                n for n in dict.fromkeys((*node.inputs, *node.outputs)) if last[n] == position and n not in kept
            )
            moves = isinstance(node.op, Boxing | Region)
            instructions.append(Instruction(call, node.inputs, node.outputs, dead, moves, node))
    results = tuple(graph.values[number] for number in graph.outputs)
    return Program(graph, results, graph.inputs, graph.outputs, tuple(instructions), _meets(graph))


def _meets(graph: Graph) -> bool:
    """Whether some bytes cross ranks."""
    return any(
        node.op.plan(graph.values[node.outputs[0]].type).messages > 0
        if isinstance(node.op, Boxing)
        else any(map(_meets, node.op.graphs))
        for node in graph.nodes
    )


def _call(graph: Graph, node: Node, rank: int) -> Call | None:
    """What `rank` calls for `node`; None where it takes no part."""
    if isinstance(node.op, Boxing):
        return _transfer(graph, node, node.op, rank)
    if isinstance(node.op, Region):
        return _region(graph, node, node.op, rank)
    placement = graph.values[node.outputs[0]].placement
    if rank not in placement:
        return None
    kernel = localized(graph, node, rank).kernel

    def call(*blocks: Array) -> Any:
        found = kernel(*blocks)
        return found if isinstance(found, tuple | np.ndarray) else np.asarray(found)

    return call


def _region(graph: Graph, node: Node, op: Region, rank: int) -> Call | None:
    values = [graph.values[number] for number in node.outputs]
    if rank not in values[0].placement and not any(rank in body.ranks for body in op.graphs):
        return None
    programs = [lower(body, rank) for body in op.graphs]
    shapes = [box_shape(v.layout.box(v.type.shape, rank)) if rank in v.placement else None for v in values]

    def call(transport: Transport, *blocks: Array | None) -> Any:
        found = op.run([partial(program.execute, transport) for program in programs], blocks, shapes)
        return found[0] if len(found) == 1 else found

    return call


def localized(graph: Graph, node: Node, rank: int) -> Op:
    """The operator `rank` runs for `node`: on its blocks, with attributes that speak of these."""
    values = [graph.values[number] for number in (*node.inputs, *node.outputs)]
    at = values[-1].placement.coordinate(rank)
    blocks = [local_block(v.type.shape, v.placement.shape, v.layout.sbp, at) for v in values]
    count = len(node.inputs)
    return node.op.localize(blocks[:count], blocks[count:])


def _transfer(graph: Graph, node: Node, op: Boxing, rank: int) -> Call | None:
    plan = op.plan(graph.values[node.inputs[0]].type)
    source, target = op.layouts
    if rank not in source.placement and rank not in target.placement:
        return None

    def call(transport: Transport, block: Array | None, meeting: Meeting | None = None) -> Array | None:
        return execute(plan, transport, block, meeting)

    return call
