"""Makes every change of layout an operator: annotated graph → physical graph.

A value wanted in several layouts gets one `box` node per layout, however many nodes read it; requests (`to_global`) are
then fulfilled by these nodes and disappear.
"""

from __future__ import annotations

from flowcore.boxing_op import Boxing, Carry, Relayout
from flowcore.errors import PlanError
from flowcore.graph import Builder, Graph, Node, Value
from flowcore.placement.machine import Machine
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import NdSbp
from flowcore.region import Region


def box(graph: Graph, machine: Machine) -> Graph:
    """The physical graph: each node's inputs lie as it reads them; `machine` says which ranks share a host."""
    return _Boxer(graph, machine).run()


class _Boxer:
    def __init__(self, graph: Graph, machine: Machine) -> None:
        self.graph, self.machine = graph, machine
        self.builder = Builder()
        self.number: dict[int, int] = {}
        self.moved: dict[tuple[int, Placement, NdSbp], int] = {}

    def run(self) -> Graph:
        for old in self.graph.inputs:
            self.number[old] = self.builder.input(self.graph.values[old])
        for node in self.graph.nodes:
            self._node(node)
        return self.builder.graph(self.number[old] for old in self.graph.outputs)

    def _node(self, node: Node) -> None:
        if node.reads is None:
            raise PlanError(f"{node.op.name} at {node.where} has no signature: plan the graph first")
        results = [self.graph.values[old] for old in node.outputs]
        inputs = [
            self._as(self.number[old], self._place(node, old), sbp, node)
            for old, sbp in zip(node.inputs, node.reads, strict=True)
        ]
        if isinstance(node.op, Relayout | Carry):
            self.number[node.outputs[0]] = inputs[0]
        else:
            new = self.builder.node(node.op, inputs, results, node.where)
            self.number.update(zip(node.outputs, new, strict=True))

    def _place(self, node: Node, number: int) -> Placement:
        """Where `node` reads a value: where it gives its results, unless its inputs lie where they will."""
        is_region = isinstance(node.op, Region)
        return self.graph.values[number if is_region else node.outputs[0]].placement

    def _as(self, number: int, placement: Placement, sbp: NdSbp, reader: Node) -> int:
        """The number of value `number` in layout `sbp` on `placement`."""
        value = self.builder.values[number]
        if (value.placement, value.sbp) == (placement, sbp):
            return number
        key = (number, placement, sbp)
        if key not in self.moved:
            asked = isinstance(reader.op, Relayout)
            reason = reader.reason or ("asked for by to_global" if asked else f"{reader.op.name} reads it so")
            self.moved[key] = self._move(number, Value(value.type, placement, sbp), reader.where, reason)
        return self.moved[key]

    def _move(self, number: int, target: Value, where: str, reason: str) -> int:
        """The number of value `number` laid out as `target`."""
        source = self.builder.values[number].layout
        hosts = self.machine.hosts_of((*source.placement.ranks, *target.placement.ranks))
        op = Boxing(str(source), str(target.layout), hosts)
        (new,) = self.builder.node(op, [number], [target], where, reason)
        return new
