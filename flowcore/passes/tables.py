"""Rows of tables that go at once where they are needed: one rank's graph → graph.

The rows of a few categories beside each other and beside other columns, which the first layer of a model reads, or
their sum: where nothing else reads the rows, they are gathered into the result, and exist nowhere else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar

import numpy as np

from flowcore.graph import Graph, Node
from flowcore.jit.launch import Launch
from flowcore.jit.rows import take_beside, take_sum
from flowcore.jit.source import NAMES
from flowcore.jit.store import is_available
from flowcore.op import Array, Op, Type
from flowcore.passes.dce import dce


@dataclass(frozen=True)
class TakeTogether(Op):
    """Operands: a table (n, …), indices (b, …), others (b, …). The rows of the table that index[b] names, together.

    beside: columns of the operands that stand in front of the rows and behind them, 0: there is none; None: the rows
    are added up. take: the operator that gives the rows alone.
    """

    take: Op
    result: Type
    beside: tuple[int, int] | None

    name: ClassVar[str] = "take_together"
    makes_memory: ClassVar[bool] = True
    writes: ClassVar[bool] = True

    def infer(self, *types: Any, **_: Any) -> tuple[Type, ...]:
        return (self.result,)

    def checks(self, types: Sequence[Type]) -> tuple[int, tuple[Hashable, ...]] | None:
        return self.take.checks(types[:2])

    def kernel(self, table: Array, indices: Array, *others: Array) -> Any:
        rows = self.take.kernel(table, indices)
        if self.beside is None:
            return rows.sum(axis=tuple(range(1, indices.ndim)), dtype=rows.dtype)
        front = others[: bool(self.beside[0])]
        parts = (*front, rows.reshape(len(indices), prod(rows.shape[1:])), *others[len(front) :])
        return np.concatenate(parts, axis=1)

    def write(self, results: Sequence[Array | None], *arrays: Array) -> Array:
        (memory,) = results
        assert memory is not None
        np.copyto(memory, self.kernel(*arrays))
        return memory

    def launch(self, types: Sequence[Type]) -> Launch | None:
        table, indices, take = types[0], types[1], _any(self.take)
        kind, index = NAMES.get(str(table.dtype), ""), NAMES.get(str(indices.dtype), "")
        if kind not in ("f4", "f8") or index not in ("i4", "i8") or not indices.size:
            return None
        length, group = table.shape[0], prod(indices.shape[1:])
        sizes = indices.size, prod(table.shape[1:]), take.start, length, length if take.total < 0 else take.total
        if self.beside is None:
            return take_sum(kind, index, *sizes, group)
        return take_beside(kind, index, *sizes, group, self.beside)

    def flops(self, *types: Type) -> int:
        return 0 if self.beside else types[1].size * prod(types[0].shape[1:])

    def text(self) -> str:
        return f"{self.name}{{{self.beside}}}"


def take_together(graph: Graph) -> Graph:
    """`graph` with rows gathered into what is made of them, where loops are compiled."""
    return _Gatherer(graph).run() if is_available() else graph


class _Gatherer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.maker = {number: place for place, node in enumerate(graph.nodes) for number in node.outputs}
        self.uses = Counter((*graph.outputs, *(number for node in graph.nodes for number in node.inputs)))

    def run(self) -> Graph:
        """Gathers stand where rows were taken, so that what may raise does so no later than before."""
        together: dict[int, Node] = {}
        gone: set[int] = set()
        for place, node in enumerate(self.graph.nodes):
            found = self._gathered(node)
            if found is not None and found[0] not in together:
                together[found[0]] = found[1]
                gone.add(place)
        nodes = (together.get(place, node) for place, node in enumerate(self.graph.nodes) if place not in gone)
        return dce(replace(self.graph, nodes=tuple(nodes))) if together else self.graph

    def _gathered(self, node: Node) -> tuple[int, Node] | None:
        """Where rows are taken that `node` puts together, and what gives its result there."""
        match node.op.name:
            case "sum":
                return self._added(node)
            case "concatenate" if _any(node.op).axis == 1 and len(node.inputs) <= 3:
                return self._beside(node)
        return None

    def _added(self, node: Node) -> tuple[int, Node] | None:
        place = self._taken(node.inputs[0])
        if place is None:
            return None
        taken, indices = self.graph.nodes[place], self.graph.values[self.graph.nodes[place].inputs[1]].type
        if _any(node.op).axes != tuple(range(1, indices.ndim)):
            return None
        return self._node(place, taken, node, (), None)

    def _beside(self, node: Node) -> tuple[int, Node] | None:
        for position, number in enumerate(node.inputs):
            maker = self.maker.get(number)
            flat = None if maker is None else self.graph.nodes[maker]
            if flat is None or flat.op.name != "reshape" or self.uses[number] != 1:
                continue
            place = self._taken(flat.inputs[0])
            front, behind = node.inputs[:position], node.inputs[position + 1 :]
            if place is None or max(len(front), len(behind)) > 1:
                continue
            taken = self.graph.nodes[place]
            is_plain = self._shape(taken.inputs[1])[0] == self._shape(number)[0]
            is_early = all(self.maker.get(other, -1) < place for other in (*front, *behind))
            if is_plain and is_early:
                columns = [sum(self._shape(other)[1] for other in part) for part in (front, behind)]
                return self._node(place, taken, node, (*front, *behind), (columns[0], columns[1]))
        return None

    def _taken(self, number: int) -> int | None:
        """Where the rows of a table, whole, are taken that are value `number`, which one operator reads."""
        place = self.maker.get(number)
        if place is None or self.uses[number] != 1 or self.graph.nodes[place].op.name != "take":
            return None
        op = _any(self.graph.nodes[place].op)
        indices = self._shape(self.graph.nodes[place].inputs[1])
        return place if op.axis == op.batch == 0 and len(indices) > 1 else None

    def _node(
        self, place: int, taken: Node, node: Node, others: Sequence[int], beside: tuple[int, int] | None
    ) -> tuple[int, Node] | None:
        op = TakeTogether(taken.op, self.graph.values[node.outputs[0]].type, beside)
        inputs = (*taken.inputs, *others)
        if op.launch(self.graph.types(inputs)) is None:
            return None
        return place, replace(node, op=op, inputs=inputs, where=taken.where)

    def _shape(self, number: int) -> tuple[int, ...]:
        return self.graph.values[number].type.shape


def _any(op: Op) -> Any:
    return op
