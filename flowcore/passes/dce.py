"""Dead code elimination: drops nodes whose results nothing reads, and what gives dead results inside nodes."""

from __future__ import annotations

from dataclasses import replace

from flowcore.graph import Graph, Node


def dce(graph: Graph) -> Graph:
    """`graph` without the nodes that no output depends on; one in which other ranks take part is kept."""
    live = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if not node.outputs or node.op.reaches_others or live.intersection(node.outputs):
            kept.append(_pruned(node, live))
            live.update(kept[-1].inputs)
    return Graph(graph.values, graph.inputs, tuple(reversed(kept)), graph.outputs)


def _pruned(node: Node, live: set[int]) -> Node:
    found = node.op.pruned([number in live for number in node.outputs]) if node.op.bodies and not node.reads else None
    if found is None:
        return node
    op, inputs, outputs = found
    return replace(
        node, op=op, inputs=tuple(node.inputs[i] for i in inputs), outputs=tuple(node.outputs[o] for o in outputs)
    )
