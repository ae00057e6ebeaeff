"""Large sums over many ranks of a host: physical graph → graph where each rank sums a slice and slices are gathered.

Ranks that see each other's terms could each read all of them. Of two ranks that is as many bytes as when they divide
the work, and a meeting less; of more it is more bytes, by half their number.
"""

from __future__ import annotations

from math import prod

from flowcore.boxing_op import Boxing
from flowcore.graph import Builder, Graph, Node, Value
from flowcore.passes.arrange import SMALL, Hosts, is_shared, most_bytes
from flowcore.placement.sbp import Broadcast, NdSbp, Partial, Split

FEW = 2
"""Ranks that each read all terms."""


def scatter_first(graph: Graph, hosts: Hosts) -> Graph:
    """`graph` with its large sums over more than two ranks of a host in two steps."""
    builder = Builder(graph)
    for node in graph.nodes:
        between = _between(graph, node, hosts)
        if between is None:
            builder.nodes.append(node)
            continue
        assert isinstance(node.op, Boxing)
        value = graph.values[node.outputs[0]]
        slices = Value(value.type, value.placement, between)
        first = Boxing(node.op.source, str(slices.layout))
        (sliced,) = builder.node(first, node.inputs, [slices], node.where, node.reason)
        then = Boxing(str(slices.layout), node.op.target)
        builder.nodes.append(Node(then, (sliced,), node.outputs, node.where, reason=node.reason))
    return builder.graph(graph.outputs)


def _between(graph: Graph, node: Node, hosts: Hosts) -> NdSbp | None:
    """How the slices are laid out that ranks sum; None where they had better sum all by themselves."""
    if not is_shared(graph, node, hosts):
        return None
    assert isinstance(node.op, Boxing)
    value, (source, target) = graph.values[node.outputs[0]], node.op.layouts
    terms = prod(count for count, _ in node.op.plan(value.type).levels)
    before, after = most_bytes(graph, node)
    if terms <= FEW or after != before or after <= SMALL or source.placement != target.placement:
        return None
    split = {part.axis for part in target.sbp if isinstance(part, Split)}
    axis = next((axis for axis, length in enumerate(value.type.shape) if axis not in split and length >= terms), None)
    if axis is None:
        return None
    pairs = zip(source.sbp, target.sbp, strict=True)
    return tuple(
        Split(axis) if isinstance(old, Partial) and isinstance(new, Broadcast) else new for old, new in pairs
    )
