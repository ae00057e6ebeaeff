"""Arithmetic on narrow numbers in float32: one rank's graph → graph in which no kernel computes in half precision.

An operator on float16 or bfloat16 becomes itself on float32 between casts, so that it accumulates in float32 and rounds
once; where a loop is generated, the casts are the loads and stores of that loop. What only moves elements, and what
takes narrow numbers as they are (`Op.takes_narrow`), stays.
"""

from __future__ import annotations

from dataclasses import replace

from flowcore.dtypes import NARROW, float32, widened
from flowcore.graph import Graph, Node, Value
from flowcore.op import OPS, Op, Type


def widen(graph: Graph) -> Graph:
    """`graph` with casts around what computes with narrow numbers."""
    if not any(value.type.dtype in NARROW for value in graph.values):
        return graph
    return _Widener(graph).run()


class _Widener:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values = list(graph.values)
        self.nodes: list[Node] = []
        self.wide: dict[int, int] = {}

    def run(self) -> Graph:
        """The new graph."""
        for node in self.graph.nodes:
            types = self.graph.types(node.inputs)
            if any(type.dtype in NARROW for type in types) and not node.op.takes_narrow(types):
                self._widened(node, types)
            else:
                self.nodes.append(node)
        return Graph(tuple(self.values), self.graph.inputs, tuple(self.nodes), self.graph.outputs)

    def _widened(self, node: Node, types: tuple[Type, ...]) -> None:
        inputs = tuple(self._read(n) if t.dtype in NARROW else n for n, t in zip(node.inputs, types, strict=True))
        made = node.op.infer(*(replace(type, dtype=widened(type.dtype)) for type in types))
        stated = self.graph.types(node.outputs)
        outputs = tuple(
            number if found.dtype == told.dtype else self._new(number, told)
            for number, found, told in zip(node.outputs, made, stated, strict=True)
        )
        self.nodes.append(replace(node, inputs=inputs, outputs=outputs))
        for number, new, told in zip(node.outputs, outputs, stated, strict=True):
            if number != new:
                self.nodes.append(Node(cast(told.dtype.name), (new,), (number,), node.where))

    def _read(self, number: int) -> int:
        """The value as float32, made once."""
        if number not in self.wide:
            self.wide[number] = self._new(number, self.graph.values[number].type)
            self.nodes.append(Node(cast("float32"), (number,), (self.wide[number],)))
        return self.wide[number]

    def _new(self, number: int, type: Type) -> int:
        """A new value like `number`, in float32."""
        value: Value = self.values[number]
        self.values.append(replace(value, type=replace(type, dtype=float32)))
        return len(self.values) - 1


def cast(dtype: str) -> Op:
    """The operator that casts to `dtype`."""
    made: Op = OPS["cast"](dtype)  # type: ignore[call-arg]  # a cast's attribute
    return made
