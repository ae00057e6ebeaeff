"""Common subexpression elimination: one node for equal operators on equal inputs, transfers included.

Every operator is a pure function of its inputs and attributes (random numbers too: their key is an input), so equal
nodes have equal results.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flowcore.graph import Graph


def cse(graph: Graph) -> Graph:
    """`graph` with repeated nodes merged into the first of them."""
    same: dict[int, int] = {}
    first: dict[Any, tuple[int, ...]] = {}
    nodes = []
    for node in graph.nodes:
        inputs = tuple(same.get(number, number) for number in node.inputs)
        key = (node.op, inputs, tuple(graph.values[number] for number in node.outputs), node.reads)
        if key in first:
            same.update(zip(node.outputs, first[key], strict=True))
        else:
            first[key] = node.outputs
            nodes.append(node if inputs == node.inputs else replace(node, inputs=inputs))
    return Graph(graph.values, graph.inputs, tuple(nodes), tuple(same.get(n, n) for n in graph.outputs))
