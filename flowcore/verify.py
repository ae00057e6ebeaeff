"""Proves that a graph obeys its form: definitions before uses, types as inferred, layouts as promised."""

from __future__ import annotations

from flowcore.boxing_op import Boxing, Relayout
from flowcore.errors import GraphError
from flowcore.graph import Graph, Node
from flowcore.op import is_valid
from flowcore.placement.sbp import normalize
from flowcore.placement.signature import Signature
from flowcore.region import Region
from flowcore.signatures import nd_signatures


def verify(graph: Graph, physical: bool = False) -> Graph:
    """`graph` itself; GraphError naming the node where a rule is broken.

    physical: every node must also read its inputs in a layout that one of its signatures allows.
    """
    defined = set(graph.inputs)
    if len(defined) != len(graph.inputs):
        raise GraphError(f"inputs {graph.inputs} repeat a value: give each its own number")
    for position, node in enumerate(graph.nodes):
        _verify_node(graph, node, f"node {position} ({node.op.name})", defined)
        if physical:
            _verify_layouts(graph, node, f"node {position} ({node.op.name})")
        defined.update(node.outputs)
    for number in graph.outputs:
        if number not in defined:
            raise GraphError(f"output %{number} is not defined: return an input or the result of a node")
    return graph


def _verify_node(graph: Graph, node: Node, name: str, defined: set[int]) -> None:
    for number in node.inputs:
        if number not in defined:
            raise GraphError(f"{name} reads %{number} before it is defined: order the nodes topologically")
    for number in node.outputs:
        if number in defined:
            raise GraphError(f"{name} defines %{number} a second time: every value is defined once")
    inferred = node.op.infer(*graph.types(node.inputs))
    stated = graph.types(node.outputs)
    if inferred != stated:
        raise GraphError(f"{name} states {_listed(stated)} but its operator infers {_listed(inferred)}")
    for number in node.outputs:
        value = graph.values[number]
        if value.sbp is None:
            continue
        if normalize(value.sbp, value.type.ndim) != value.sbp or len(value.sbp) != value.placement.ndim:
            raise GraphError(f"{name} lays {value.type} out as {value.layout}: one sbp per axis, counted from 0")
        if not all(is_valid(part, value.type) for part in value.sbp):
            raise GraphError(f"{name} lays {value.type} out as {value.layout}: this dtype has no such partial value")


def _verify_layouts(graph: Graph, node: Node, name: str) -> None:
    if isinstance(node.op, Boxing | Relayout):
        return
    if isinstance(node.op, Region):
        for body in node.op.graphs:
            verify(body, physical=True)
        node.op.verify([graph.values[n].layout for n in node.inputs], [graph.values[n].layout for n in node.outputs])
        return
    placements = {graph.values[number].placement for number in (*node.inputs, *node.outputs)}
    if len(placements) != 1:
        raise GraphError(f"{name} works across placements {sorted(map(str, placements))}: box its inputs first")
    mesh = placements.pop().shape
    inputs = [graph.values[number].layout.sbp for number in node.inputs]
    outputs = [graph.values[number].layout.sbp for number in node.outputs]
    per_axis = tuple(
        Signature(tuple(sbp[axis] for sbp in inputs), tuple(sbp[axis] for sbp in outputs)) for axis in range(len(mesh))
    )
    if per_axis not in nd_signatures(node.op, graph.types(node.inputs), mesh):
        raise GraphError(f"{name} runs as {' × '.join(map(str, per_axis))}, which none of its signatures allows")


def _listed(types: object) -> str:
    return ", ".join(map(str, types)) if isinstance(types, tuple) else str(types)
