"""Dead code elimination: drops nodes whose results nothing reads."""

from __future__ import annotations

from flowcore.graph import Graph


def dce(graph: Graph) -> Graph:
    """`graph` without the nodes that no output depends on."""
    live = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if live.intersection(node.outputs):
            kept.append(node)
            live.update(node.inputs)
    return Graph(graph.values, graph.inputs, tuple(reversed(kept)), graph.outputs)
