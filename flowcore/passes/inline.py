"""Inlining: operators that stand for a graph are replaced by it, names for a value by the value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flowcore.graph import Builder, Graph, Node

NAMES = ("alias", "stop_gradient")
"""Operators that matter to differentiation only."""


def inline(graph: Graph) -> Graph:
    """`graph` without names for values and without operators that stand for graphs."""
    builder = Builder()
    numbers = [builder.input(graph.values[number]) for number in graph.inputs]
    return builder.graph(_copy(graph, numbers, builder))


def _copy(graph: Graph, arguments: Sequence[int], builder: Builder) -> list[int]:
    """Repeat `graph` on `arguments` in `builder`; the numbers of its outputs."""
    number = dict(zip(graph.inputs, arguments, strict=True))
    for node in graph.nodes:
        inputs = [number[old] for old in node.inputs]
        if _is_name(graph, node):
            number[node.outputs[0]] = inputs[0]
        elif node.op.expansion is not None:
            number.update(zip(node.outputs, _copy(node.op.expansion, inputs, builder), strict=True))
        else:
            results = [graph.values[old] for old in node.outputs]
            new = builder.node(node.op, inputs, results, node.where, node.reason)
            builder.nodes[-1] = replace(builder.nodes[-1], reads=node.reads)
            number.update(zip(node.outputs, new, strict=True))
    return [number[old] for old in graph.outputs]


def _is_name(graph: Graph, node: Node) -> bool:
    if node.op.name not in NAMES:
        return False
    given, result = graph.values[node.inputs[0]], graph.values[node.outputs[0]]
    return given.placement == result.placement and result.sbp in (None, given.sbp)
