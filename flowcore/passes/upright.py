"""Results of products with few rows and many columns are kept transposed: physical graph → the same.

BLAS copies the operands of a product into strips, in blocks that its inner loops then read from a cache. The strips of
what gives the columns are copied many rows at a time: where that is a large matrix whose rows are summed along (the
weights of a linear layer), these rows lie far apart, and copying is slow. As the operand that gives the rows it is
copied few rows at a time and in smaller pieces, so x·Wᵀ is computed as W·xᵀ. (oneDNN gains less by it.)

What elementwise operators and changes of layout tie together lies one way: such a *family* of values is transposed
whole, where all that makes and reads it can do without a transpose (products, elementwise operators, sums and maxima,
changes of layout), or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

from flowcore.boxing_op import Boxing
from flowcore.graph import Builder, Graph, Node, Value
from flowcore.op import OPS, Op
from flowcore.placement.layout import Layout, box_shape
from flowcore.placement.sbp import NdSbp, Split

LARGE = 1 << 20
"""Bytes of a block that no cache of a core holds."""
DTYPES = "float32", "float64"
"""What BLAS multiplies."""


def upright(graph: Graph) -> Graph:
    """`graph` with families transposed in which some product gains by it."""
    families, made = _families(graph), {number: node for node in graph.nodes for number in node.outputs}
    tall = {families[node.outputs[0]] for node in graph.nodes if _is_wide(graph, node, made)}
    free = tall - _bound(graph, families) if tall else tall
    turned = {number for number, family in families.items() if family in free}
    return _Turner(graph, turned).run() if turned else graph


def _families(graph: Graph) -> dict[int, int]:
    """The least number of the family of every matrix."""
    family = {number: number for number, value in enumerate(graph.values) if value.type.ndim == 2}

    def least(number: int) -> int:
        while family[number] != number:
            number = family[number]
        return number

    for node in graph.nodes:
        if _ties(node):
            (result,) = node.outputs
            for number in node.inputs:
                if result in family and graph.values[number].type.shape == graph.values[result].type.shape:
                    first, second = sorted((least(number), least(result)))
                    family[second] = first
    return {number: least(number) for number in family}


def _ties(node: Node) -> bool:
    """Whether result and operands of `node` lie alike."""
    return len(node.outputs) == 1 and (node.op.loop == "map" or isinstance(node.op, Boxing))


def _bound(graph: Graph, families: dict[int, int]) -> set[int]:
    """The families that something makes or reads which wants them as they are."""
    bound = {*graph.inputs, *graph.outputs}
    for node in graph.nodes:
        if node.op.name == "contract":
            continue
        if node.op.loop in ("sum", "max"):
            bound.update(node.outputs)
        elif not _ties(node):
            bound.update((*node.inputs, *node.outputs))
        elif not isinstance(node.op, Boxing):
            shape = graph.values[node.outputs[0]].type.shape
            # what is broadcast is transposed for itself
            bound.update(n for n in node.inputs if graph.values[n].type.shape != shape)
    return {families[number] for number in bound if number in families}


def _is_wide(graph: Graph, node: Node, made: Mapping[int, Node]) -> bool:
    """Whether `node` is a product of few rows with a large matrix that gives the columns and is summed along rows."""
    value = graph.values[node.outputs[0]] if node.op.name == "contract" else None
    if value is None or str(value.type.dtype) not in DTYPES or value.type.ndim != 2:
        return False
    terms, result = _terms(node.op)
    column = result[1]
    number, term = next((n, term) for n, term in zip(node.inputs, terms, strict=True) if column in term)
    if len(term) != 2:
        return False
    source = made.get(number)
    stored = term[::-1] if source is not None and source.op.name == "permute" else term
    (rows, columns), held = _block(value), graph.values[number]
    return rows < columns and stored[0] == column and prod(_block(held)) * held.type.dtype.itemsize >= LARGE


def _terms(op: Op) -> tuple[list[str], str]:
    """The letters of the operands of a contraction, and those of its result."""
    formula: str = op.formula  # type: ignore[attr-defined]  # a contraction's
    terms, result = formula.split("->")
    return terms.split(","), result


def _block(value: Value) -> tuple[int, ...]:
    """The shape of the block of the first rank."""
    return box_shape(value.layout.box(value.type.shape, value.placement.ranks[0]))


class _Turner:
    """Writes the graph anew, with the values `turned` transposed."""

    def __init__(self, graph: Graph, turned: set[int]) -> None:
        self.graph, self.turned = graph, turned
        self.builder = Builder(graph)
        for number in turned:
            self.builder.values[number] = _transposed(graph.values[number])
        self.twins: dict[int, int] = {}

    def run(self) -> Graph:
        """The graph."""
        for node in self.graph.nodes:
            self.builder.nodes.append(self._turn(node) if self._concerns(node) else node)
        return self.builder.graph(self.graph.outputs)

    def _concerns(self, node: Node) -> bool:
        return any(number in self.turned for number in (*node.inputs, *node.outputs))

    def _turn(self, node: Node) -> Node:
        op: Any = node.op
        if op.name == "contract":
            terms, result = _terms(op)
            terms = [self._order(number, term) for number, term in zip(node.inputs, terms, strict=True)]
            return replace(node, op=replace(op, formula=f"{','.join(terms)}->{self._order(node.outputs[0], result)}"))
        if op.loop in ("sum", "max"):
            return replace(node, op=replace(op, axes=tuple(sorted(1 - axis for axis in op.axes))))
        if isinstance(op, Boxing):
            source, target = (str(Layout(each.placement, _swapped(each.sbp))) for each in op.layouts)
            return replace(node, op=replace(op, source=source, target=target))
        return replace(node, inputs=tuple(self._column(number) for number in node.inputs))

    def _order(self, number: int, term: str) -> str:
        return term[::-1] if number in self.turned else term

    def _column(self, number: int) -> int:
        """Value `number` as an elementwise operator on transposed values reads it."""
        value = self.builder.values[number]
        if number in self.turned or value.type.ndim == 0:
            return number
        if number not in self.twins:
            is_matrix = value.type.ndim == 2
            made = _transposed(value) if is_matrix else _shaped(value, (value.type.size, 1))
            op: Any = OPS["permute" if is_matrix else "reshape"]
            (self.twins[number],) = self.builder.node(op((1, 0) if is_matrix else made.type.shape), [number], [made])
        return self.twins[number]


def _transposed(value: Value) -> Value:
    return replace(_shaped(value, value.type.shape[::-1]), sbp=_swapped(value.layout.sbp))


def _shaped(value: Value, shape: Iterable[int]) -> Value:
    return replace(value, type=replace(value.type, shape=tuple(shape)))


def _swapped(sbp: NdSbp) -> NdSbp:
    """The same layout of a matrix that is transposed."""
    return tuple(Split(1 - part.axis) if isinstance(part, Split) else part for part in sbp)
