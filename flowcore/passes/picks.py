"""One element of each row picked by its number, as a comparison of column numbers, which loops can compute.

`take` and its transpose, by one index per row that is known to be in range, become a choice between the element and 0:
the loss of a classifier and its gradient are then part of the loop over the logits.
"""

from __future__ import annotations

from typing import Any

from flowcore.dtypes import bool_, int32, is_real
from flowcore.graph import Builder, Graph, Node, Value
from flowcore.op import OPS, Op, Type
from flowcore.passes.dce import dce


def compare_picks(graph: Graph) -> Graph:
    """`graph` with such picks as comparisons."""
    made = {number: node for node in graph.nodes for number in node.outputs}
    builder, hits = Builder(graph), dict[tuple[int, int, int], int]()
    for node in graph.nodes:
        table = _table(graph, node)
        if table is not None and _is_pick(graph, node, table, made):
            _compared(graph, builder, node, table, hits)
        else:
            builder.nodes.append(node)
    return dce(builder.graph(graph.outputs))


def _table(graph: Graph, node: Node) -> Type | None:
    """The type of what is picked from, or of what the transpose gives."""
    numbers = {"take": node.inputs, "scatter_add": node.outputs}.get(node.op.name, ())
    return graph.values[numbers[0]].type if numbers else None


def _is_pick(graph: Graph, node: Node, table: Type, made: dict[int, Node]) -> bool:
    """Whether `node` takes or gives one element per row of `table`, by indices that are in range."""
    op: Any = node.op
    if not is_real(table.dtype) or not op.axis == op.batch == table.ndim - 1:
        return False
    indices = node.inputs[1]
    if graph.values[indices].type.shape != (*table.shape[:-1], 1):
        return False
    source = made.get(indices)
    while source is not None and source.op.name in ("reshape", "alias"):
        source = made.get(source.inputs[0])
    if source is None or source.op.name != "below":
        return False
    check: Any = source.op
    return not check.allowed and check.length == (table.shape[-1] if op.total < 0 else op.total)


def _compared(graph: Graph, builder: Builder, node: Node, table: Type, hits: dict[tuple[int, int, int], int]) -> None:
    """Add what stands in the place of `node`; hits: comparisons made, by indices, columns and the first of these."""
    op: Any = node.op
    place = graph.values[node.outputs[0]]

    def add(new: Op, inputs: list[int], type: Type) -> int:
        return builder.node(new, inputs, [Value(type, place.placement, place.sbp)], node.where)[0]

    def make(name: str, *fields: Any) -> Op:
        kind: Any = OPS[name]
        return kind(*fields)  # type: ignore[no-any-return]  # the registry knows only that it makes operators

    other, indices = node.inputs
    index, count = graph.values[indices].type, table.shape[-1]
    if (indices, count, op.start) not in hits:
        # indices are in range: where 32 bits tell columns apart, twice as many are compared at once
        dtype = int32 if max(op.total, op.start + count) < 2**31 else index.dtype
        columns = add(make("arange", 0, 1, count, str(dtype), op.start), [], Type((count,), dtype))
        numbers = indices
        if dtype != index.dtype:
            numbers = add(make("cast", str(dtype)), [indices], Type(index.shape, dtype))
        hits[indices, count, op.start] = add(make("equal"), [numbers, columns], Type(table.shape, bool_))
    hit = hits[indices, count, op.start]
    zero = add(make("full", (), 0, str(table.dtype)), [], Type((), table.dtype))
    if op.name == "scatter_add":
        builder.nodes.append(Node(make("where"), (hit, other, zero), node.outputs, node.where))
        return
    chosen = add(make("where"), [hit, other, zero], table)
    total = add(make("sum", (table.ndim - 1,)), [chosen], Type(table.shape[:-1], table.dtype))
    builder.nodes.append(Node(make("reshape", (*table.shape[:-1], 1)), (total,), node.outputs, node.where))
