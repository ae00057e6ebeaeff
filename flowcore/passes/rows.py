"""Gradients of tables that stay rows: logical graph → the same without the tables in which few rows are not zero.

A `scatter_add` is zero but for the rows that it is given, so

    scatter_add(r, i) + scatter_add(s, j)  =  scatter_add([r s], [i j])
    p − u · scatter_add(r, i)              =  subtract_rows(p, r, i, u)

The right sides touch the rows named; a step of gradient descent then costs what a batch reads, not what a table holds.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from flowcore.graph import Builder, Graph, Node, Value
from flowcore.op import OPS, Op, Type
from flowcore.passes.dce import dce
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import B


def keep_rows(graph: Graph) -> Graph:
    """`graph` with sums of scattered rows scattered once, and scattered rows subtracted where they belong."""
    return _Rows(graph).run()


class _Rows:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.builder = graph, Builder(graph)
        self.made: dict[int, Node] = {}

    def run(self) -> Graph:
        for node in self.graph.nodes:
            found = {"add": self._joined, "subtract": self._subtracted}.get(node.op.name, _same)(node)
            self.builder.nodes.append(found)
            self.made.update((number, found) for number in found.outputs)
        return dce(self.builder.graph(self.graph.outputs))

    def _type(self, number: int) -> Type:
        return self.builder.values[number].type

    def _scattered(self, number: int) -> Node | None:
        """The scatter_add over the first dimension that gives a value, seen through other names of it."""
        node = self.made.get(number)
        while node is not None and node.op.name in ("alias", "stop_gradient"):
            node = self.made.get(node.inputs[0])
        if node is None or node.op.name != "scatter_add":
            return None
        op: Any = node.op
        return node if op.axis == op.batch == 0 and self._type(number).dtype.kind == "f" else None

    def _joined(self, node: Node) -> Node:
        """The sum of two scattered tables as one."""
        pair = [self._scattered(number) for number in node.inputs]
        if None in pair or self._type(node.inputs[0]) != self._type(node.inputs[1]):
            return node
        rows, places = (self._concat([self._flat(n, place) for n in pair if n is not None], node) for place in (0, 1))
        length = self._type(node.outputs[0]).shape[0]
        return replace(node, op=_op("scatter_add", axis=0, length=length), inputs=(rows, places))

    def _flat(self, node: Node, place: int) -> int:
        """The rows (0) or the indices (1) of a scatter_add, with one dimension for all indices."""
        number, count = node.inputs[place], len(self._type(node.inputs[1]).shape)
        type = self._type(number)
        shape = (prod(type.shape[:count]), *type.shape[count:])
        return number if shape == type.shape else self._add(_op("reshape", shape=shape), [number], shape, node)

    def _concat(self, numbers: list[int], node: Node) -> int:
        shape = (sum(self._type(number).shape[0] for number in numbers), *self._type(numbers[0]).shape[1:])
        return self._add(_op("concatenate", axis=0), numbers, shape, node)

    def _subtracted(self, node: Node) -> Node:
        """A scattered table, or a multiple of one, subtracted row by row."""
        table, given = node.inputs
        if self._type(table) != self._type(given):
            return node
        scattered, scale = self._scattered(given), -1
        product = self.made.get(given)
        if product is not None and product.op.name == "multiply":
            for one, other in (product.inputs, product.inputs[::-1]):
                if self._type(other).size == 1 and self._scattered(one) is not None:
                    scattered, scale = self._scattered(one), other
        if scattered is None or self._place(table) != self._place(given):
            return node
        if scale < 0:
            scale = self._one(table, node)
        elif self._type(scale).shape:
            scale = self._add(_op("reshape", shape=()), [scale], (), node)
        return replace(node, op=_op("subtract_rows"), inputs=(table, *scattered.inputs, scale))

    def _one(self, like: int, node: Node) -> int:
        """The number 1 beside a value."""
        type, place = Type((), self._type(like).dtype), self._place(like)
        full = _op("full", shape=(), value=1.0, dtype=str(type.dtype))
        return self.builder.node(full, [], [Value(type, place, (B,) * place.ndim)], node.where)[0]

    def _place(self, number: int) -> Placement:
        return self.builder.values[number].placement

    def _add(self, op: Op, inputs: list[int], shape: tuple[int, ...], node: Node) -> int:
        """The number of a new value that `op` gives."""
        value = Value(Type(shape, self._type(inputs[0]).dtype), self.builder.values[inputs[0]].placement)
        return self.builder.node(op, inputs, [value], node.where)[0]


def _same(node: Node) -> Node:
    return node


def _op(name: str, **fields: Any) -> Op:
    kind: Any = OPS[name]
    return kind(**fields)  # type: ignore[no-any-return]  # the registry knows only that it makes operators
