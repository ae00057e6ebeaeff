"""A physical graph and a machine → the seconds in which a rank computes, each operator reckoned alone."""

from __future__ import annotations

from math import prod

from flowcore.boxing_op import Boxing
from flowcore.graph import Graph, Node
from flowcore.placement.layout import block, box_size
from flowcore.placement.machine import Machine
from flowcore.placement.sbp import Broadcast, Partial
from flowcore.region import Region


def computing_seconds(graph: Graph, machine: Machine) -> float:
    """What all operators but changes of layout take the busiest rank; loops and branches do not count."""
    return sum(node_seconds(graph, node, machine) for node in graph.nodes)


def node_seconds(graph: Graph, node: Node, machine: Machine) -> float:
    """What `node` takes the rank with the first coordinates, which has the largest blocks."""
    if isinstance(node.op, Boxing | Region):
        return 0.0
    values = [graph.values[number] for number in (*node.inputs, *node.outputs)]
    mesh = values[-1].placement.shape
    split = {
        axis
        for value in values
        for axis, part in enumerate(value.layout.sbp)
        if not isinstance(part, Broadcast | Partial)
    }
    flops = -(-node.op.flops(*graph.types(node.inputs)) // prod(mesh[axis] for axis in split))
    first, made = (0,) * len(mesh), [graph.values[number] for number in node.outputs]
    sizes = (v.type.dtype.itemsize * box_size(block(v.type.shape, mesh, v.layout.sbp, first)) for v in made)
    return machine.computing(flops, sum(sizes))
