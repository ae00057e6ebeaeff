"""Transfers between hosts stand right behind what they read: graph → graph of the same nodes in another order.

So a gradient leaves when it is there, and not when its update comes; transfers that can share a message come to stand
together (`passes.bucket`). Only what takes no more memory after the transfer than before moves: what is gathered is
gathered where it is read. One order holds for all ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from flowcore.boxing_op import Boxing
from flowcore.graph import Graph, Node
from flowcore.placement.layout import block, box_size


def early(graph: Graph) -> Graph:
    """`graph` with its transfers between hosts as early as their operands are there, in the order they had."""
    waiting: dict[int, list[Node]] = {}
    for node in graph.nodes:
        if _moves_up(graph, node):
            waiting.setdefault(node.inputs[0], []).append(node)
    nodes: list[Node] = []
    for number in graph.inputs:
        nodes.extend(_following(waiting, number))
    for node in graph.nodes:
        if not _moves_up(graph, node):
            nodes.append(node)
            for number in node.outputs:
                nodes.extend(_following(waiting, number))
    return Graph(graph.values, graph.inputs, tuple(nodes), graph.outputs)


def _following(waiting: Mapping[int, Sequence[Node]], number: int) -> Iterator[Node]:
    """The transfers that wait for a value, each with those that wait for what it brings."""
    for node in waiting.get(number, ()):
        yield node
        yield from _following(waiting, node.outputs[0])


def _moves_up(graph: Graph, node: Node) -> bool:
    """Whether `node` is a transfer between hosts after which no rank holds more than before."""
    return isinstance(node.op, Boxing) and bool(node.op.hosts) and not grows(graph, node)


def grows(graph: Graph, node: Node) -> bool:
    """Whether a rank holds more after a change of layout than before."""
    return _block_size(graph, node.outputs[0]) > _block_size(graph, node.inputs[0])


def _block_size(graph: Graph, number: int) -> int:
    """Elements of the largest block of a value."""
    value = graph.values[number]
    mesh = value.placement.shape
    return box_size(block(value.type.shape, mesh, value.layout.sbp, (0,) * len(mesh)))
