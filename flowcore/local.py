"""What one rank does, as a graph of its own: a physical graph → the same on this rank's blocks.

Every value is the block that the rank holds, every operator the one for its blocks, and values of other ranks are gone.
A change of layout is a `Move`, which the transport runs; its operand or its result is missing where the rank has none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

from flowcore.boxing_op import Boxing
from flowcore.comm.boxing import BoxingPlan
from flowcore.graph import Builder, Graph, Node, Value
from flowcore.op import Op, Type, local_block
from flowcore.placement.layout import Layout, Shape, box_shape
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import NdSbp
from flowcore.region import Region


@dataclass(frozen=True)
class Move(Op):
    """The part of this rank in changing the layout of a value of `type`; `place`: of its node in the graph of all."""

    op: Boxing
    type: Type
    result: Type | None
    place: int

    name: ClassVar[str] = "move"
    narrow: ClassVar[bool] = True
    reaches_others: ClassVar[bool] = True

    def infer(self, *types: Any, **_: Any) -> tuple[Type, ...]:
        return () if self.result is None else (self.result,)

    @property
    def plan(self) -> BoxingPlan:
        """The steps that move the whole value."""
        return self.op.plan(self.type)

    def text(self) -> str:
        return f"{self.name}{{{self.op.source!r} -> {self.op.target!r}}}"


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


def localize(graph: Graph, rank: int) -> Graph:
    """The graph of the blocks of `rank`; its inputs and outputs are those that the rank holds."""
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
    for position, node in enumerate(graph.nodes):
        if _is_kept(graph, node, rank):
            place[node.outputs[0]] = place[node.inputs[0]]
            continue
        op = _local_op(graph, node, position, rank)
        if op is not None:
            mine = [number for number in node.outputs if rank in graph.values[number].placement]
            made = builder.node(op, [place[n] for n in node.inputs if n in place], [held(n) for n in mine], node.where)
            place.update(zip(mine, made, strict=True))
    return builder.graph(place[number] for number in graph.outputs if number in place)


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
        return Move(node.op, type, None if shape is None else replace(type, shape=shape), position)
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
