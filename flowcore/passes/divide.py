"""Updates of a few rows of tables that a host keeps once are divided among its ranks: physical graph → the same graph.

Where every rank of a host would change its own copy of a table alike, one copy can serve all of them (`passes.common`):
each rank changes the rows that lie in its part. Nothing moves for that, so a step that is not planned so becomes so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from flowcore.boxing_op import Boxing
from flowcore.graph import Builder, Graph, Node, Value
from flowcore.passes.common import commons
from flowcore.passes.donate import Update
from flowcore.passes.lists import UPDATES
from flowcore.placement.sbp import B, NdSbp, Split


def divide(graph: Graph, updates: Sequence[Update], hosts: Sequence[int]) -> tuple[Graph, set[int]]:
    """`graph` with every update of rows divided that common registers can take the results of; these results."""
    found = set[int]()
    for number in [node.outputs[0] for node in graph.nodes if node.op.name in UPDATES]:
        results = _node(graph, number).outputs
        for divided in _divisions(graph, number, hosts):
            if commons(divided, updates, tuple(hosts)).keys() >= {*results}:
                graph = divided
                found.update(results)
                break
    return graph, found


def _node(graph: Graph, number: int) -> Node:
    return next(node for node in graph.nodes if number in node.outputs)


def _divisions(graph: Graph, number: int, hosts: Sequence[int]) -> Iterator[Graph]:
    """`graph` with the update that gives value `number` divided along all axes of its mesh that allow it, or one."""
    node = _node(graph, number)
    table = graph.values[number]
    given = [graph.values[n] for n in node.inputs]
    if table.sbp is None or any(value.placement != table.placement for value in given):
        return
    axes = [
        axis
        for axis in range(table.placement.ndim)
        if table.placement.shape[axis] > 1
        and all(value.layout.sbp[axis] == B for value in given)
        and all(len({hosts[rank] for rank in group}) == 1 for group in table.placement.groups(axis))
    ]
    for chosen in dict.fromkeys([tuple(axes), *((axis,) for axis in axes)]):
        if chosen:
            rows = Split(_any(node.op).batch)
            sbp = tuple(rows if axis in chosen else part for axis, part in enumerate(table.layout.sbp))
            yield _divided(graph, node, sbp, hosts)


def _divided(graph: Graph, node: Node, sbp: NdSbp, hosts: Sequence[int]) -> Graph:
    """`graph` with the tables of `node` in layout `sbp` while they are updated."""
    builder = Builder(graph)
    for each in graph.nodes:
        if each is not node:
            builder.nodes.append(each)
            continue
        count = len(node.outputs)
        wholes = [graph.values[number] for number in node.outputs]
        parts = [replace(value, sbp=sbp) for value in wholes]
        before = [
            builder.node(_box(graph.values[number], part, hosts), [number], [part], node.where, REASON)[0]
            for number, part in zip(node.inputs, parts, strict=False)
        ]
        made = builder.node(node.op, [*before, *node.inputs[count:]], parts, node.where)
        for old, new, part, whole in zip(node.outputs, made, parts, wholes, strict=True):
            builder.nodes.append(Node(_box(part, whole, hosts), (new,), (old,), node.where, reason=REASON))
    return builder.graph(graph.outputs)


REASON = "the ranks of a host keep one table"


def _box(source: Value, target: Value, hosts: Sequence[int]) -> Boxing:
    ranks = source.placement.ranks
    is_one_host = len({hosts[rank] for rank in ranks}) == 1
    return Boxing(str(source.layout), str(target.layout), () if is_one_host else tuple(hosts[: max(ranks) + 1]))


def _any(op: Any) -> Any:
    return op
