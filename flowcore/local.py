"""What one rank does, as a graph of its own: a physical graph → the same on this rank's blocks.

Every value is the block that the rank holds, every operator the one for its blocks, and values of other ranks are gone.
A change of layout is a `Move`, which the transport runs; its operand or its result is missing where the rank has none.
One that is to be under way while the rank does something else is several `Staged` nodes.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from flowcore.boxing_op import Boxing
from flowcore.comm.boxing import BoxingPlan
from flowcore.comm.stages import Stage, stages_of
from flowcore.graph import Builder, Graph, Node, Value
from flowcore.op import Op, Type, local_block
from flowcore.placement.layout import Layout, Shape, box_shape
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import NdSbp
from flowcore.region import Region


@dataclass(frozen=True)
class Move(Op):
    """The part of `rank` in changing the layout of a value of `type`; `place`: of its node in the graph of all."""

    op: Boxing
    type: Type
    result: Type | None
    place: int
    rank: int

    name: ClassVar[str] = "move"
    narrow: ClassVar[bool] = True
    reaches_others: ClassVar[bool] = True

    def infer(self, *types: Any, **_: Any) -> tuple[Type, ...]:
        return () if self.result is None else (self.result,)

    @property
    def moment(self) -> str:
        """By which ranks tell whether they stand before the same messages."""
        return f"transfer {self.place}"

    @property
    def plan(self) -> BoxingPlan:
        """The steps that move the whole value."""
        return self.op.plan(self.type)

    def shares(self, inputs: Sequence[int], outputs: Sequence[int]) -> Sequence[Sequence[int]]:
        return [inputs if self.plan.kind == "none" else ()] * len(outputs)

    def new_results(self, numbers: Sequence[int]) -> Sequence[int]:
        return () if self.plan.kind == "none" else numbers

    def scratch(self, types: Sequence[Type]) -> Sequence[Type]:
        """What lives from one of its stages to the next: every other stage uses the same."""
        sizes = [0, *(stage.staging for stage in stages_of(self.plan, self.rank))]
        return [Type((max(sizes[first::2]),), np.dtype(np.uint8)) for first in (1, 2) if any(sizes)]

    def text(self) -> str:
        return f"{self.name}{{{self.op.source!r} -> {self.op.target!r}}}"


@dataclass(frozen=True)
class Staged(Op):
    """Stage `number` of `rank` in changing a layout: it ends what the stage before began, and begins the next messages.

    inputs: of the source block, the target block and the staging of the stage before those that the stage takes.
    results: the target block where it begins to be, or where it is complete, and the staging that it gives.
    """

    move: Move
    rank: int
    number: int

    name: ClassVar[str] = "staged"
    narrow: ClassVar[bool] = True
    reaches_others: ClassVar[bool] = True

    def infer(self, *types: Any, **_: Any) -> tuple[Type, ...]:
        target = [self.move.result] if self._gives_target and self.move.result is not None else []
        staging = [Type((self.stage.staging,), np.dtype(np.uint8))] if self.stage.staging else []
        return (*target, *staging)

    @property
    def stage(self) -> Stage:
        """What it takes and gives."""
        return stages_of(self.move.plan, self.rank)[self.number]

    @property
    def moment(self) -> str:
        """As that of a `Move`."""
        return f"{self.move.moment}, stage {self.number}"

    @property
    def is_last(self) -> bool:
        """Whether the target block is complete then."""
        return self.number == len(self.move.plan.steps)

    @property
    def _gives_target(self) -> bool:
        return self.stage.target == "makes" or (self.stage.target == "takes" and self.is_last)

    def shares(self, inputs: Sequence[int], outputs: Sequence[int]) -> Sequence[Sequence[int]]:
        held: list[Sequence[int]] = [()] * len(outputs)
        if self.stage.target == "takes" and self.is_last:
            held[0] = (inputs[int(self.stage.takes_source)],)
        return held

    def new_results(self, numbers: Sequence[int]) -> Sequence[int]:
        return numbers[1:] if self.stage.target == "takes" and self.is_last else numbers

    def text(self) -> str:
        step = "start" if self.number == 0 else "finish" if self.is_last else "go_on"
        return f"{step}{{{self.move.op.source!r} -> {self.move.op.target!r}}}"


@dataclass(frozen=True)
class Nudge(Op):
    """Messages that are under way are helped on."""

    name: ClassVar[str] = "nudge"
    narrow: ClassVar[bool] = True
    reaches_others: ClassVar[bool] = True

    def infer(self, *types: Any, **_: Any) -> tuple[Type, ...]:
        return ()


@dataclass
class _Blocks:
    """The registers of a change of layout that is under way."""

    source: list[int]
    target: list[int] = field(default_factory=list)
    staging: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Inside(Op):
    """The part of `rank` in an operator that runs graphs.

    given: which of its inputs the rank holds. shapes: those of the results here; None where the rank holds none.
    """

    region: Region
    rank: int
    given: tuple[bool, ...]
    shapes: tuple[Shape | None, ...]
    types: tuple[Type, ...]

    moment: ClassVar[str] = "an operator that runs graphs"
    name: ClassVar[str] = "inside"
    narrow: ClassVar[bool] = True
    reaches_others: ClassVar[bool] = True

    def infer(self, *types: Any, **_: Any) -> tuple[Type, ...]:
        return self.types

    def text(self) -> str:
        return f"{self.name}{{{self.region.name}}}"


@cache
def _alone(rank: int) -> tuple[Placement, NdSbp]:
    """Where the blocks of `rank` lie."""
    placement = Placement([rank])
    return placement, Layout(placement, "B").sbp


Moments = Mapping[int, Sequence[tuple[int, int]]]
"""Per position in a graph the stages, (position of a change of layout, number), that stand before the node there."""
NONE: Moments = MappingProxyType({})


def localize(graph: Graph, rank: int, moments: Moments = NONE, nudges: Container[int] = ()) -> Graph:
    """The graph of the blocks of `rank`; its inputs and outputs are those that the rank holds.

    nudges: positions before which messages under way are helped on, if this rank has some.
    """
    alone = _alone(rank)
    builder = Builder()
    place: dict[int, int] = {}

    def held(number: int) -> Value:
        value = graph.values[number]
        shape = box_shape(value.layout.box(value.type.shape, rank))
        return Value(Type(shape, value.type.dtype), *alone)

    for number in graph.inputs:
        if rank in graph.values[number].placement:
            place[number] = builder.input(held(number))
    under_way: dict[int, _Blocks] = {}
    apart = {at for found in moments.values() for at, _ in found}

    def stages(position: int) -> None:
        for at, number in moments.get(position, ()):
            node = graph.nodes[at]
            move = _local_op(graph, node, at, rank)
            if move is None:
                continue
            assert isinstance(move, Move)
            blocks = under_way.setdefault(at, _Blocks([place[n] for n in node.inputs if n in place]))
            op = Staged(move, rank, number)
            made = _staged(builder, op, blocks, node.where)
            if op.is_last:
                del under_way[at]
                if made:
                    place[node.outputs[0]] = made[0]

    for position, node in enumerate(graph.nodes):
        stages(position)
        if position in nudges and under_way:
            builder.node(Nudge(), (), (), node.where)
        if position in apart:
            continue
        if _is_kept(graph, node, rank):
            place[node.outputs[0]] = place[node.inputs[0]]
            continue
        op = _local_op(graph, node, position, rank)
        if op is not None:
            mine = [number for number in node.outputs if rank in graph.values[number].placement]
            made = builder.node(op, [place[n] for n in node.inputs if n in place], [held(n) for n in mine], node.where)
            place.update(zip(mine, made, strict=True))
    stages(len(graph.nodes))
    return builder.graph(place[number] for number in graph.outputs if number in place)


def _staged(builder: Builder, op: Staged, blocks: _Blocks, where: str) -> Sequence[int]:
    """Add a stage; the numbers of the target block, if the stage gives that."""
    stage = op.stage
    source = blocks.source if stage.takes_source else []
    target = blocks.target if stage.target == "takes" else []
    results = [Value(type, *_alone(op.rank)) for type in op.infer()]
    made = builder.node(op, (*source, *target, *blocks.staging), results, where)
    count = len(made) - (stage.staging > 0)
    blocks.target, blocks.staging = list(made[:count]) or blocks.target, list(made[count:])
    return made[:count]


def _is_kept(graph: Graph, node: Node, rank: int) -> bool:
    """Whether `node` is a change of layout after which this rank, and every other, holds what it held."""
    if not isinstance(node.op, Boxing) or node.op.plan(graph.values[node.inputs[0]].type).kind != "none":
        return False
    source, target = node.op.layouts
    return rank in source.placement and rank in target.placement


def _local_op(graph: Graph, node: Node, position: int, rank: int) -> Op | None:
    """What `rank` does for `node`; None where it takes no part."""
    if isinstance(node.op, Boxing):
        source, target = node.op.layouts
        if rank not in source.placement and rank not in target.placement:
            return None
        type = graph.values[node.inputs[0]].type
        shape = box_shape(target.box(type.shape, rank)) if rank in target.placement else None
        return Move(node.op, type, None if shape is None else replace(type, shape=shape), position, rank)
    if isinstance(node.op, Region):
        return _inside(graph, node, node.op, rank)
    if rank not in graph.values[node.outputs[0]].placement:
        return None
    values = [graph.values[number] for number in (*node.inputs, *node.outputs)]
    at = values[-1].placement.coordinate(rank)
    blocks = [local_block(v.type.shape, v.placement.shape, v.layout.sbp, at) for v in values]
    count = len(node.inputs)
    return node.op.localize(blocks[:count], blocks[count:])


def _inside(graph: Graph, node: Node, region: Region, rank: int) -> Op | None:
    values = [graph.values[number] for number in node.outputs]
    if rank not in values[0].placement and not any(rank in body.ranks for body in region.graphs):
        return None
    shapes = tuple(box_shape(v.layout.box(v.type.shape, rank)) if rank in v.placement else None for v in values)
    pairs = zip(values, shapes, strict=True)
    types = tuple(Type(shape, value.type.dtype) for value, shape in pairs if shape is not None)
    given = tuple(rank in graph.values[number].placement for number in node.inputs)
    return Inside(region, rank, given, shapes, types)
