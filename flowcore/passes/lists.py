"""Updates of tables by rows that lie in several places: what ranks of a host gave is read where they wrote it.

The rows and the indices of a batch that is split over ranks are lists, one per rank, and an update takes the lists one
after the other. Rows that are all alike, the gradient of a sum of rows, are read once for all of their indices.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar

import numpy as np

from flowcore.graph import Graph, Node
from flowcore.jit.launch import Launch
from flowcore.jit.rows import update as update_loop
from flowcore.jit.source import NAMES
from flowcore.jit.store import is_available
from flowcore.meeting_op import Collect, Wait
from flowcore.op import Array, Op, Type
from flowcore.passes.dce import dce

UPDATES = ("subtract_rows", "update_rows")
MOST = 8
"""Lists that one kernel takes."""


@dataclass(frozen=True)
class UpdateByLists(Op):
    """Operands: the tables, then per list rows and their indices, then the scalars; results: the tables.

    update: the operator that takes all rows and indices as one list. own: the list whose indices this rank checks; the
    others were checked by the ranks that gave them. A row serves as many indices as follow each other without it.
    """

    update: Op
    lists: int
    own: int

    name: ClassVar[str] = "update_by_lists"
    makes_memory: ClassVar[bool] = True
    writes: ClassVar[bool] = True

    @property
    def count(self) -> int:
        """How many tables there are."""
        return _any(self.update).count  # type: ignore[no-any-return]  # as `_any` says

    def infer(self, *types: Any, **_: Any) -> tuple[Type, ...]:
        return types[: self.count]

    def checks(self, types: Sequence[Type]) -> tuple[int, tuple[Hashable, ...]] | None:
        place, first = self.count + 2 * self.own, types[self.count : self.count + 2]
        found = self.update.checks((*types[: self.count], *first, *types[self.count + 2 * self.lists :]))
        return None if found is None else (place + 1, found[1])

    def over(self, source: int, result: int) -> Op | None:
        found = self.update.over(source, result)
        return None if found is None else replace(self, update=found)

    def new_results(self, numbers: Sequence[int]) -> Sequence[int]:
        return self.update.new_results(numbers)

    def kernel(self, *arrays: Array) -> Any:
        return self.update.kernel(*self._joined(arrays))

    def write(self, results: Sequence[Array | None], *arrays: Array) -> Any:
        return self.update.write(results, *self._joined(arrays))

    def _joined(self, arrays: Sequence[Array]) -> list[Array]:
        """The operands with one list."""
        tables, given = list(arrays[: self.count]), arrays[self.count : self.count + 2 * self.lists]
        indices = [each.reshape(-1) for each in given[1::2]]
        rest = tables[0].shape[1:]
        spread = (np.broadcast_to(x, (*at.shape, *rest)) for x, at in zip(given[::2], given[1::2], strict=True))
        rows = [np.ascontiguousarray(each).reshape(-1, *rest) for each in spread]
        return [*tables, np.concatenate(rows), np.concatenate(indices), *arrays[self.count + 2 * self.lists :]]

    def launch(self, types: Sequence[Type]) -> Launch | None:
        given = types[self.count : self.count + 2 * self.lists]
        table, (rows, indices), op = types[0], given[:2], _any(self.update)
        kind, index = NAMES.get(str(rows.dtype), ""), NAMES.get(str(indices.dtype), "")
        if kind not in ("f4", "f8") or index not in ("i4", "i8"):
            return None
        width = prod(table.shape[1:])
        lists = tuple(
            (at.size, at.size * width // max(each.size, 1)) for each, at in zip(given[::2], given[1::2], strict=True)
        )
        total = table.shape[0] if op.total < 0 else op.total
        into, scalars = op.into, len(types) - self.count - 2 * self.lists
        sizes = lists, width, op.start, table.shape[0], total
        return update_loop(op.texts, into, scalars, op.is_exact, op.is_linear, kind, index, *sizes)

    def flops(self, *types: Type) -> int:
        return sum(type.size for type in types[self.count + 1 : self.count + 2 * self.lists : 2]) * self.count

    def text(self) -> str:
        return f"{self.name}{{{self.update.text()}, {self.lists} lists}}"


def lists_of(graph: Graph) -> set[int]:
    """The values that nothing but updates reads, as rows or their indices: of several ranks, these may be lists.

    Rows may be spread over indices between.
    """
    found, others = set[int](), {*graph.outputs}
    for node in reversed(graph.nodes):
        count, is_spread = len(node.outputs), node.op.name == "broadcast_to" and node.outputs[0] in found - others
        listed = node.inputs[count : count + 2] if node.op.name in UPDATES and is_available() else ()
        found.update(node.inputs if is_spread else listed)
        first, last = (0, len(node.inputs)) if is_spread else (count, count + len(listed))
        others.update(number for place, number in enumerate(node.inputs) if not first <= place < last)
    return found - others


def update_by_lists(graph: Graph) -> Graph:
    """`graph` with updates by lists in the place of updates by what was put together from them."""
    if not is_available():
        return graph
    maker = {number: node for node in graph.nodes for number in node.outputs}
    nodes = [_by_lists(graph, node, maker) if node.op.name in UPDATES else node for node in graph.nodes]
    return dce(replace(graph, nodes=tuple(nodes)))


def _by_lists(graph: Graph, node: Node, maker: Mapping[int, Node]) -> Node:
    op = _any(node.op)
    rows, indices = node.inputs[op.count : op.count + 2]
    spread = maker.get(rows)
    if spread is not None and spread.op.name == "broadcast_to" and _serves(graph, spread.inputs[0], indices, rows):
        rows = spread.inputs[0]
    pairs = list(zip(_terms(rows, maker), _terms(indices, maker), strict=False))
    lengths = [[graph.values[number].type.shape[0] for number in pair] for pair in pairs]
    if op.batch or len(_terms(rows, maker)) != len(_terms(indices, maker)) or any(a != b for a, b in lengths):
        pairs = [(rows, indices)]
    if op.batch or len(pairs) > MOST or (len(pairs) == 1 and rows == node.inputs[op.count]):
        return node
    seen = {number for each in maker.values() if isinstance(each.op, Wait) for number in each.outputs}
    own = next((place for place, (_, at) in enumerate(pairs) if at not in seen), 0)
    lists = [number for pair in pairs for number in pair]
    inputs = (*node.inputs[: op.count], *lists, *node.inputs[op.count + 2 :])
    made = UpdateByLists(node.op, len(pairs), own)
    return node if made.launch(graph.types(inputs)) is None else replace(node, op=made, inputs=inputs)


def _serves(graph: Graph, source: int, indices: int, rows: int) -> bool:
    """Whether the rows of `source`, repeated for indices that follow each other, are `rows`."""
    given, wanted = graph.values[source].type.shape, graph.values[rows].type.shape
    count = len(graph.values[indices].type.shape)
    if len(given) != len(wanted) or given[count:] != wanted[count:]:
        return False
    kept = next((axis for axis in range(count) if given[axis] != wanted[axis]), count)
    return 0 not in wanted and all(length == 1 for length in given[kept:count])


def _terms(number: int, maker: Mapping[int, Node]) -> tuple[int, ...]:
    """The values that stand one after the other along the first dimension in value `number`."""
    node = maker.get(number)
    op = None if node is None else node.op
    if node is None or not isinstance(op, Collect) or op.fills or not op.type.shape:
        return (number,)
    found: list[tuple[int, int, int]] = []
    for (index, count), term in zip(op.parts, node.inputs, strict=False):
        whole = all(part == slice(0, length) for part, length in zip(index[1:], op.type.shape[1:], strict=False))
        if count != 1 or not isinstance(index[0], slice) or not whole:
            return (number,)
        found.append((index[0].start, index[0].stop, term))
    found.sort()
    ends = [0, *(stop for _, stop, _ in found)]
    is_all = ends[:-1] == [start for start, _, _ in found] and ends[-1] == op.type.shape[0]
    return tuple(term for *_, term in found) if is_all else (number,)


def _any(op: Op) -> Any:
    return op
