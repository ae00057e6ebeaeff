"""Fused loops over many short rows become loops over fewer and longer ones: one rank's graph → the same.

A loop along a row costs something besides its elements, which short rows (the channels of a pixel) pay again and
again. Where nothing but the column tells what is read and where a sum goes, k rows are one row of k times the columns:
what there is per column is written k times, and the k sums per column are added in the end, which rounds them less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flowcore.fused import Fused
from flowcore.graph import Graph, Node
from flowcore.jit import source
from flowcore.jit.store import is_available
from flowcore.op import OPS, Type

ENOUGH, FEW = 512, 64
"""Columns after which a longer row gains nothing; rows of which there must remain some."""


def broaden(graph: Graph) -> Graph:
    """`graph` with longer rows, and with sums over all but the last dimension as such loops."""
    return _Writer(graph).run() if is_available() else graph


class _Writer:
    """Writes the graph anew; `copies`: by value and how many there are."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.values = graph, list(graph.values)
        self.nodes: list[Node] = []
        self.copies: dict[tuple[int, int], int] = {}

    def run(self) -> Graph:
        """The graph with longer rows."""
        for node in self.graph.nodes:
            op = _column_sum(self.graph, node) or node.op
            times = _times(op) if isinstance(op, Fused) else 1
            if isinstance(op, Fused) and times > 1:
                self._broaden(node, op, times)
            else:
                self.nodes.append(replace(node, op=op))
        return replace(self.graph, values=tuple(self.values), nodes=tuple(self.nodes))

    def _broaden(self, node: Node, op: Fused, times: int) -> None:
        body, outputs, shapes = op.body, list(node.outputs), list(op.shapes)
        inputs = [
            self._repeated(number, times) if item.space == "c" else number
            for number, item in zip(node.inputs, body.inputs, strict=True)
        ]
        sums = [place for place, number in enumerate(body.results) if body.values[number].space == "c"]
        for place in sums:
            type = self.values[outputs[place]].type
            shapes[place] = (times * type.size,)
            outputs[place] = self._new(replace(type, shape=shapes[place]), outputs[place])
        wide = replace(op, rows=op.rows // times, columns=op.columns * times, shapes=tuple(shapes))
        self.nodes.append(replace(node, op=wide, inputs=tuple(inputs), outputs=tuple(outputs)))
        for place in sums:
            whole = node.outputs[place]
            whole_sum = _loop("sum", "column", self.values[whole].type, times)
            self.nodes.append(Node(whole_sum, (outputs[place],), (whole,), node.where))

    def _repeated(self, number: int, times: int) -> int:
        """The columns of a value, so many times."""
        if (number, times) not in self.copies:
            type = self.values[number].type
            made = self.copies[number, times] = self._new(Type((times * type.size,), type.dtype), number)
            self.nodes.append(Node(_loop("broadcast_to", "same", type, times), (number,), (made,)))
        return self.copies[number, times]

    def _new(self, type: Type, like: int) -> int:
        self.values.append(replace(self.values[like], type=type))
        return len(self.values) - 1


def _times(op: Fused) -> int:
    """How many rows become one: 1 where they are long enough, or where it matters which row or column it is."""
    body = op.body
    is_told = any(item.space in ("r", "p", "pc") for item in body.values)
    is_kept = any(body.values[number].space == "c" and not body.is_total(number) for number in body.results)
    is_counted = any(step.kind == "index" for step in body.steps)
    if is_told or is_kept or is_counted or op.columns < 2:
        return 1
    times = 1
    while op.rows % (2 * times) == 0 and op.columns * times < ENOUGH and op.rows // (2 * times) >= FEW:
        times *= 2
    return times


def _column_sum(graph: Graph, node: Node) -> Fused | None:
    """A sum of float32 or float64 over all dimensions but the last, as a loop."""
    if node.op.name != "sum" or node.op.loop != "sum":
        return None
    (x,), (y,) = graph.types(node.inputs), graph.types(node.outputs)
    axes: Any = node.op.axes  # type: ignore[attr-defined]  # a sum's
    is_plain = x.dtype == y.dtype and str(x.dtype) in ("float32", "float64") and y.size > 1
    if not is_plain or tuple(axes) != tuple(range(x.ndim - 1)) or x.size // y.size < FEW:
        return None
    return _loop("sum", "column", y, x.size // y.size)


def _loop(name: str, kind: str, columns: Type, rows: int) -> Fused:
    """`rows` copies of what there is per column (kind "same"), or the sums of so many rows (kind "column")."""
    make: Callable[..., Any] = OPS[name]
    given, made = ("c", "rc") if kind == "same" else ("rc", "c")
    shape = (rows * columns.size,) if kind == "same" else columns.shape
    step = source.Step(kind, make((0,)), (0,), str(columns.dtype), made, "" if kind == "same" else given)
    body = source.Body((source.Value(str(columns.dtype), given),), (step,), (1,), (-1,))
    return Fused(body, rows, columns.size, ((1, 1),), (shape,), (-1,))
