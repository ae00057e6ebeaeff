"""Transfers between hosts go the fastest way: a change of layout → the row of those on its path (`comm.path`)."""

from __future__ import annotations

from flowcore.boxing_op import Boxing
from flowcore.comm.path import choose_path
from flowcore.graph import Builder, Graph, Node, Value
from flowcore.placement.machine import Machine


def route(graph: Graph, machine: Machine) -> Graph:
    """`graph` with changes of layout between hosts over layouts in between where that takes less time on `machine`."""
    if not any(isinstance(node.op, Boxing) and node.op.hosts for node in graph.nodes):
        return graph
    builder = Builder()
    number = {old: builder.input(graph.values[old]) for old in graph.inputs}
    for node in graph.nodes:
        inputs = [number[old] for old in node.inputs]
        results = [graph.values[old] for old in node.outputs]
        if isinstance(node.op, Boxing) and node.op.hosts:
            number[node.outputs[0]] = _routed(builder, machine, node, inputs[0], results[0])
        else:
            number.update(
                zip(node.outputs, builder.node(node.op, inputs, results, node.where, node.reason), strict=True)
            )
    return builder.graph(number[old] for old in graph.outputs)


def _routed(builder: Builder, machine: Machine, node: Node, number: int, target: Value) -> int:
    """The number of value `number` laid out as `target`, after one or several changes of layout."""
    type = target.type
    path = choose_path(type.shape, type.dtype, builder.values[number].layout, target.layout, machine)
    hosts = machine.hosts_of(path.ranks)
    for position, leg in enumerate(path.legs, 1):
        is_last = position == len(path.legs)
        there = target if is_last else Value(type, leg.target.placement, leg.target.sbp)
        why = node.reason if len(path.legs) == 1 else f"{node.reason}, leg {position} of {len(path.legs)}"
        op = Boxing(str(leg.source), str(leg.target), hosts)
        (number,) = builder.node(op, [number], [there], node.where, why)
    return number
