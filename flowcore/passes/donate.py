"""Results written where the inputs lie that they replace: one rank's graph → graph whose updates are in place.

That is done where an operator can write over its input (`Op.over`): a fused kernel that reads it and gives the result
element by element in one pass, an update of few rows; and where everything else that reads the input, also through
views of it, has run before, and so has all that may raise an error, here or on ranks that are met: whoever catches it
finds the inputs as they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from flowcore.graph import Graph, Node
from flowcore.meeting_op import Wait
from flowcore.op import Op
from flowcore.passes.checks import may_raise

Update = tuple[int, int]
"""An input and the output that replaces it."""


def donate(
    graph: Graph, updates: Sequence[Update], wholes: Mapping[int, int] = MappingProxyType({})
) -> tuple[Graph, set[int]]:
    """`graph` with results in the memory of inputs, and those inputs; wholes: the input of which another is a part."""
    views = _views(graph)
    settled = max(may_raise(graph), default=-1)
    if settled >= 0:  # what others raise, a rank is told when it meets them next
        told = (place for place, node in enumerate(graph.nodes) if place > settled and isinstance(node.op, Wait))
        settled = next(told, settled)
    last = {number: place for place, node in enumerate(graph.nodes) for number in node.inputs}
    maker = {number: place for place, node in enumerate(graph.nodes) for number in node.outputs}
    nodes, taken = list(graph.nodes), set()
    for old, new in updates:
        place = maker.get(new)
        family = views.get(old, {old}) | views.get(wholes.get(old, old), set())
        if place is None or place < settled or old not in graph.inputs or family & set(graph.outputs):
            continue
        if any(last.get(number, -1) > place for number in family) or any(last.get(n) == place for n in family - {old}):
            continue
        node = _over(nodes[place], old, new)
        if node is not None and old not in taken:
            nodes[place] = node
            taken.add(old)
    return Graph(graph.values, graph.inputs, tuple(nodes), graph.outputs), taken


def _over(node: Node, old: int, new: int) -> Node | None:
    """`node` with its result `new` written over its input `old`, which it reads once; None where it cannot be."""
    if node.inputs.count(old) != 1:
        return None
    op = node.op.over(node.inputs.index(old), node.outputs.index(new))
    return None if op is None else replace(node, op=op)


def _views(graph: Graph) -> dict[int, set[int]]:
    """Per input all values that may share its memory, itself included."""
    found: dict[int, set[int]] = {number: set() for number in graph.inputs}
    for number, held in roots(graph).items():
        for root in held & found.keys():
            found[root].add(number)
    return found


def roots(graph: Graph) -> dict[int, frozenset[int]]:
    """Per value the values whose memory it may share: itself, where its operator makes memory of its own."""
    found: dict[int, frozenset[int]] = {number: frozenset([number]) for number in graph.inputs}
    for node in graph.nodes:
        for number, seen in zip(node.outputs, node.op.shares(node.inputs, node.outputs), strict=True):
            found[number] = frozenset([number]).union(*(found[operand] for operand in seen))
    return found


def makes_memory(op: Op) -> bool:
    """Whether what `op` gives is memory of its own; whatever is not known to be may be a view of an operand."""
    return op.makes_memory or op.scalar != ""
