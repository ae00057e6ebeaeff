"""One rank's program: the nodes of its graph as prepared calls over registers, and how it runs.

A register holds one block and is freed after its last use. An output that replaces an input (a parameter, a state) is
written where that lies, if nobody else holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from flowcore.assembly import Call, Instruction, Run, assemble, failing
from flowcore.boxing_op import Boxing
from flowcore.comm.boxing import BoxingPlan
from flowcore.comm.errors import is_torn
from flowcore.comm.execute import execute
from flowcore.comm.stages import UnderWay
from flowcore.comm.transport import Meeting, Opens, Transport
from flowcore.errors import FlowcoreError
from flowcore.graph import Graph, Node, Value
from flowcore.jit.store import is_available
from flowcore.local import Inside, Move, Nudge, Staged
from flowcore.meeting_op import Post, Wait
from flowcore.memory import Arena, Leaving
from flowcore.moving import move_call, nudge, post_call, stage_call, wait_call
from flowcore.op import Array
from flowcore.registers import Registers
from flowcore.sharing import Sharing
from flowcore.stretch import Joined, Joiner
from flowcore.world import World, current

Carry = Callable[[Array | None], Array | None]
"""The block of the only input → the block of the only output; None where this rank holds none."""


@dataclass(frozen=True)
class Said:
    """The operators of a graph and what they are applied to, as text; behind `call`, the function it was made from."""

    graph: Graph
    call: str = ""

    @cached_property
    def text(self) -> str:
        """Kept, for whoever waits for others writes its last operations down."""
        names = [self._of(node) for node in self.graph.nodes if not isinstance(node.op, Boxing)]
        operators = ", ".join(names or [self._of(node) for node in self.graph.nodes])
        return f"{self.call}: {operators}" if self.call else operators

    def _of(self, node: Node) -> str:
        values = [self.graph.values[number] for number in node.inputs]
        if isinstance(node.op, Boxing):
            return f"to_global of {values[0].type} from {node.op.source} to {node.op.target}"
        return f"{node.op.text()} of {', '.join(str(value.type) for value in values)}" if values else node.op.text()

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Program:
    """What one rank does. inputs, outputs: the registers of those of the graph; None where the rank holds no block."""

    graph: Graph
    local: Graph
    results: tuple[Value, ...]
    inputs: tuple[int | None, ...]
    outputs: tuple[int | None, ...]
    instructions: tuple[Instruction, ...]
    constants: tuple[tuple[int, Array], ...]
    arena: Arena
    """The memory of the registers that operators write into."""
    leaving: Leaving
    """How results leave that memory."""
    is_compiled: bool
    """Whether it passed through stages, so that its registers lie in the arena."""
    body_of: Callable[[Graph], Program]
    """What the rank runs for a graph of one of its operators."""
    overwritten: tuple[int, ...]
    """The inputs, by position, whose memory takes a result."""
    meets: bool
    """Whether ranks must meet before it runs, because some bytes cross ranks."""
    sharing: Sharing | None = None
    """What the ranks of its host see of each other's registers."""
    called: str = ""
    """The call of a compiled function that it was made for."""

    def run(self, world: World, blocks: Sequence[Array | None]) -> list[Array | None]:
        """The blocks of the outputs; None where this rank holds none."""
        if len(self.graph.ranks) > 1:
            chain = world.record(self.graph.ranks, self.graph.digest, self.said)
            if self.meets and chain is not None:
                meeting = self.graph.ranks, chain.digest, chain.lines
                if self.is_transfer:
                    return [execute(self.plan, world.transport, blocks[0], meeting)]
                if self.sharing is not None and self.sharing.common.count:
                    return self.in_common(world, blocks, meeting, self.sharing.common)
                world.transport.meet(*meeting)
        return self.alone(world, blocks)

    def in_common(
        self, world: World, blocks: Sequence[Array | None], meeting: Meeting, common: Registers
    ) -> list[Array | None]:
        """`run`, where some inputs are replaced in registers that the ranks of the host have in common."""
        common.ask(world.transport, blocks)
        world.transport.meet(*meeting)
        if common.settle(world.transport, blocks):
            for name in ("body", "joined", "registers"):
                self.__dict__.pop(name, None)
        return common.give(self.alone(world, blocks))

    def alone(self, world: World, blocks: Sequence[Array | None]) -> list[Array | None]:
        """`run`, by ranks that have met."""
        try:
            return self.within(world, blocks)
        except BaseException as error:
            self.lose(world, error)
            raise

    def lose(self, world: World, error: BaseException) -> None:
        """Where messages of this run may never be taken, let no rank take them for those of a later one.

        Ranks that all raise the same, and have the same messages left, go on; others would meet again as if nothing had
        been, and are to be told. Nobody knows what is left of a transfer that was interrupted itself.
        """
        place = failing(self.body, error) if "body" in self.__dict__ else -1
        left = [each.node for each in self.joined.instructions[place:] if each.node is not None] if place >= 0 else []
        moves = [(node, node.op) for node in left if isinstance(node.op, Move | Staged | Inside)]
        if len(self.graph.ranks) < 2:
            return
        if not moves:
            if isinstance(error, FlowcoreError):
                world.lose(self.graph.ranks, f"an error in what was called at {self.graph.nodes[0].where}")
            return
        first, op = moves[0]
        is_inside = self.joined.instructions[place].node is first and not isinstance(error, FlowcoreError)
        who = f" on rank {world.rank}" if is_torn(error) or is_inside else ""
        what = f"{type(error).__name__}{who} before {op.moment} at {first.where}"
        world.lose(tuple(range(world.size)) if who else self.graph.ranks, what)

    def within(self, world: World, blocks: Sequence[Array | None]) -> list[Array | None]:
        """`alone`, whatever becomes of messages after an error."""
        if not self.is_compiled:
            with np.errstate(all="ignore"):
                return self.execute(world.transport, blocks)
        with world.memory.lock:
            self.arena.claim(world.memory)
            if self.joined.is_compiled:
                return self.execute(world.transport, blocks)
            with np.errstate(all="ignore"):
                return self.execute(world.transport, blocks)

    def carrying(self, world: World) -> Carry:
        """What runs it, where it has one input and one output; a mere change of layout meets and moves at once."""
        ranks, digest, said = self.graph.ranks, self.graph.digest, self.said
        if not self.meets or world.rank not in ranks or not self.is_transfer:
            return lambda block: self.run(world, (block,))[0]
        transport, chain, plan = world.transport, world.chain(ranks), self.plan
        add, lines = chain.add, chain.lines
        carry = getattr(transport, "carry", None)
        if carry is None:
            return lambda block: execute(plan, transport, block, (ranks, add(digest, said), lines))
        return lambda block: carry(plan, block, (ranks, add(digest, said), lines))

    def execute(self, transport: Transport, blocks: Sequence[Array | None]) -> list[Array | None]:
        """`run`, by ranks that have met, with all registers where they belong."""
        try:
            return self.leaving.leave(blocks, self.body(transport, blocks))
        except BaseException as error:
            place = failing(self.body, error)
            met = error if isinstance(error, FlowcoreError) and error.told_by is None and not is_torn(error) else None
            node = self.joined.instructions[place].node if met is not None and place >= 0 else None
            if node is not None:
                error.add_note(f"in {node.op.name}, called at {node.where}")
            if isinstance(error, FlowcoreError):
                current().stop(self.graph.ranks, error)
            for transfer in self.under_way.values():
                transfer.abandon(transport, waits=not is_torn(error))
            if met is not None and place >= 0:
                self.tell(transport, place, met)
            raise

    def tell(self, transport: Transport, place: int, error: FlowcoreError) -> None:
        """Let the ranks that this one meets after instruction `place` raise what it raises, and not wait for it."""
        for instruction in self.joined.instructions[place + 1 :]:
            op = None if instruction.node is None else instruction.node.op
            if isinstance(op, Post) and isinstance(transport, Opens):
                transport.tell(op.ranks, error)
            if isinstance(op, Move | Post | Wait):
                return

    @cached_property
    def body(self) -> Run:
        """All instructions as one function, made when the program first runs."""
        found = self.joined
        common = {} if self.sharing is None else self.sharing.inputs
        inputs = [None if number in common else number for number in self.inputs]
        return assemble(found.instructions, found.calls, inputs, self.outputs, found.constants)

    @cached_property
    def joined(self) -> Joined:
        """What Python calls, instruction by instruction, or for stretches of those that compiled code can run."""
        known = {**dict(self.constants), **(self.sharing.inputs if self.sharing else {})}
        if not (self.is_compiled and is_available()):
            return Joined(self.instructions, tuple(map(self.call, self.instructions)), known)
        outputs = {number for number in self.outputs if number is not None}
        joiner = Joiner(self.local, known, self.registers, outputs, self.call)
        return joiner.run(self.instructions)

    def call(self, instruction: Instruction) -> Call:
        """What Python calls for an instruction, with the memory of its results."""
        assert instruction.node is not None
        op, outputs = instruction.node.op, instruction.outputs
        if isinstance(op, Move):
            return move_call(op, [self.registers.get(number) for number in (*outputs, *instruction.scratch)])
        if isinstance(op, Nudge):
            return nudge
        if isinstance(op, Staged):
            transfer = self.under_way.setdefault(op.move.place, UnderWay(op.move.plan, op.rank))
            return stage_call(op, transfer, [self.registers.get(number) for number in outputs])
        if isinstance(op, Inside):
            return _inside(op, [self.body_of(graph) for graph in op.region.graphs])
        if self.sharing is not None and isinstance(op, Post | Wait):
            return post_call(op) if isinstance(op, Post) else wait_call(op, self.sharing)
        scratch = instruction.scratch if op.scratch(self.local.types(instruction.inputs)) else ()
        return op.prepare([self.registers.get(number) for number in (*outputs, *scratch)])

    @cached_property
    def under_way(self) -> dict[int, UnderWay]:
        """Its transfers in stages, by the place of the change of layout."""
        return {}

    @cached_property
    def registers(self) -> Mapping[int, Array]:
        """The memory of all registers that are where they are in every run."""
        return {**self.arena.registers, **(self.sharing.registers if self.sharing else {})}

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
    def plan(self) -> BoxingPlan:
        """The steps of its change of layout, where it is one."""
        node = self.instructions[0].node
        assert node is not None and isinstance(node.op, Move)
        return node.op.plan

    @cached_property
    def said(self) -> Said:
        """What it does, for the log of what its ranks did, which outlives programs that users let go of."""
        return Said(self.graph, self.called)


def _inside(op: Inside, programs: Sequence[Program]) -> Call:
    """The part of a rank in an operator that runs graphs: of each it runs its program."""

    def call(transport: Transport, *blocks: Array) -> Any:
        held = iter(blocks)
        given = [next(held) if is_given else None for is_given in op.given]
        found = op.region.run([partial(program.execute, transport) for program in programs], given, op.shapes)
        mine = [block for block, shape in zip(found, op.shapes, strict=True) if shape is not None]
        return mine[0] if len(mine) == 1 else mine

    return call
