"""Copies that are none, and copies that numpy would make unasked: one rank's graph → graph.

A change of layout that sends nothing is a view of what the rank holds. A view that skips or repeats elements is copied,
into a register, where it is read by what takes its elements in order: a reshape, a generated loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from flowcore.comm.route import is_contiguous
from flowcore.graph import Builder, Graph, Node
from flowcore.local import Move
from flowcore.meeting_op import View, Wait
from flowcore.op import OPS, Array, Op, Type
from flowcore.placement.layout import Box, Shape

SCATTERED = ("permute", "broadcast_to", "slice")
"""Operators whose results may skip or repeat elements of their operands."""
SAME = ("alias", "barrier", "stop_gradient", "below")
"""Operators that give their operand."""


@dataclass(frozen=True)
class Packed(Op):
    """The elements of x in row-major order, contiguous, in another shape: x itself where it lies so already."""

    shape: Shape

    name: ClassVar[str] = "packed"
    writes: ClassVar[bool] = True

    def infer(self, x: Type, **_: Any) -> tuple[Type, ...]:
        return (Type(self.shape, x.dtype),)

    def kernel(self, x: Array, **_: Any) -> Array:
        return np.ascontiguousarray(x).reshape(self.shape)

    def prepare(self, memory: Sequence[Array | None]) -> Callable[..., Any]:
        return partial(self.write, memory)

    def write(self, results: Sequence[Any], *arrays: Any) -> Any:
        (x,), result = arrays, results[0]
        if x.flags.c_contiguous and x.flags.writeable:
            return x.reshape(self.shape)
        if result is None:
            return x.copy(order="C").reshape(self.shape)
        np.copyto(result.reshape(x.shape), x)
        return result

    def flops(self, *types: Type) -> int:
        return 0


def pack(graph: Graph) -> Graph:
    """`graph` with a register for every copy that makes elements contiguous."""
    builder, apart = Builder(graph), scattered(graph)
    sent: dict[int, int] = {}
    for node in graph.nodes:
        match node.op.name:
            case "reshape" if node.inputs[0] in apart:
                node = replace(node, op=Packed(graph.values[node.outputs[0]].type.shape))
            case "staged":
                for number in node.inputs:
                    if number not in sent:
                        sent[number] = _packed(builder, node, number, apart)
                node = replace(node, inputs=tuple(sent[number] for number in node.inputs))
            case "fused":
                node = replace(node, inputs=tuple(_packed(builder, node, n, apart) for n in node.inputs))
        builder.nodes.append(node)
    return builder.graph(graph.outputs)


def scattered(graph: Graph) -> set[int]:
    """The values whose elements may lie apart, or repeat."""
    found: set[int] = set()
    for node in graph.nodes:
        if isinstance(node.op, Wait):
            pairs = zip(node.outputs, node.op.views, strict=True)
            found.update(number for number, view in pairs if not _is_range(view))
        elif node.op.name in SCATTERED:
            is_part = node.op.view(graph.types(node.inputs)) is not None
            if node.inputs[0] in found or not is_part:
                found.update(node.outputs)
        elif node.op.name in SAME and node.inputs[0] in found:
            found.update(node.outputs)
    return found


def _is_range(view: View) -> bool:
    """Whether what is seen of a peer's value is one range of its memory."""
    return view.index == (...,) or is_contiguous(view.source.shape, view.index)


def _packed(builder: Builder, node: Node, number: int, apart: set[int]) -> int:
    """The number of the same value, contiguous."""
    if number not in apart:
        return number
    value = builder.values[number]
    return builder.node(Packed(value.type.shape), [number], [value], node.where)[0]


def view_slices(graph: Graph) -> Graph:
    """`graph` with views in the place of changes of layout for which no rank sends anything.

    What leaves the graph stays a copy: it must not keep the whole alive of which it is a part.
    """
    same: dict[int, int] = {}
    nodes = []
    for node in graph.nodes:
        node = replace(node, inputs=tuple(same.get(number, number) for number in node.inputs))
        part = _part(graph, node)
        if part is None:
            nodes.append(node)
        elif part == ():
            same[node.outputs[0]] = node.inputs[0]
        else:
            starts, lengths = zip(*((start, stop - start) for start, stop in part), strict=True)
            made: Any = OPS["slice"]
            nodes.append(replace(node, op=made(starts, lengths, (1,) * len(part))))
    return Graph(graph.values, graph.inputs, tuple(nodes), graph.outputs)


def _part(graph: Graph, node: Node) -> Box | None:
    """The part of its operand that `node` gives, () for all of it; None where it gives something else."""
    if not isinstance(node.op, Move) or node.op.plan.messages or not (node.inputs and node.outputs):
        return None
    if node.outputs[0] in graph.outputs:
        return None
    mine = node.op.plan.for_rank(graph.values[node.outputs[0]].placement.ranks[0])
    held, needed = mine.held, mine.needed
    if mine.fills or held is None or needed is None:
        return None
    if held == needed:
        return ()
    inside = all(a <= low and high <= b for (a, b), (low, high) in zip(held, needed, strict=True))
    shifted = tuple((low - a, high - a) for (a, _), (low, high) in zip(held, needed, strict=True))
    return shifted if inside and shifted else None
