"""What only passes on what transfers between hosts bring stands where that is read: physical graph → same, ordered.

The parts of a bucket, and changes of layout within a host that follow one between hosts: behind the transfer they would
end it, while everybody could still do something else. One order holds for all ranks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flowcore.boxing_op import Boxing
from flowcore.graph import Graph, Node

PASSING_ON = ("slice", "reshape", "permute")
"""Operators that see what came in another form, at little cost."""


def late(graph: Graph) -> Graph:
    """`graph` with what passes on results of transfers between hosts right before what reads that."""
    if not any(crosses(graph, node) for node in graph.nodes):
        return graph
    waiting: dict[int, Node] = {}
    brought: set[int] = set()

    def needed(node: Node) -> Iterator[Node]:
        """The nodes that wait and that `node` reads, directly or through others."""
        for number in node.inputs:
            if number in waiting:
                before = waiting.pop(number)
                yield from needed(before)
                yield before

    nodes: list[Node] = []
    for node in graph.nodes:
        passes_on = node.op.name in PASSING_ON or isinstance(node.op, Boxing)
        if crosses(graph, node):
            brought.update(node.outputs)
        elif passes_on and brought.issuperset(node.inputs):
            brought.update(node.outputs)
            waiting[node.outputs[0]] = node
            continue
        nodes.extend([*needed(node), node])
    for number in tuple(waiting):
        if number in waiting:
            last = waiting.pop(number)
            nodes.extend([*needed(last), last])
    return Graph(graph.values, graph.inputs, tuple(nodes), graph.outputs)


def crosses(graph: Graph, node: Node) -> bool:
    """Whether `node` is a change of layout for which a message crosses hosts."""
    op = node.op
    if not isinstance(op, Boxing) or not op.hosts:
        return False
    steps = op.plan(graph.values[node.inputs[0]].type).steps
    hosts = np.array(op.hosts)
    return any(bool(step.sizes()[hosts[step.source] != hosts[step.target]].any()) for step in steps)
