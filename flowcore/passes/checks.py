"""What may refuse its operands runs first: physical graph → graph, the same on every rank.

An error must find all parameters and states as they were before the step. Updates in place therefore come after every
operator that may raise (`donate` refuses others), and operators that may raise come as early as they can, so that this
keeps no gradient waiting. An operator that checks what has been checked before cannot raise.
"""

from __future__ import annotations

from collections.abc import Hashable

from flowcore.graph import Graph, Node

KEEPS = ("box", "move", "below", "wrapped", "reshape", "permute", "broadcast_to", "alias", "barrier", "stop_gradient",
         "packed", "cast", "staged")  # fmt: skip
"""Operators whose results have the elements of their operand, so that what is true of all these is true of those."""


def may_raise(graph: Graph) -> list[int]:
    """The positions of nodes that may raise an error for values that no node before has checked."""
    root: dict[int, int] = {}
    proven: dict[int, set[Hashable]] = {}
    found = []
    for position, node in enumerate(graph.nodes):
        if node.op.name in KEEPS and node.inputs and node.outputs:
            root.update((number, root.get(node.inputs[0], node.inputs[0])) for number in node.outputs)
        elif node.op.name == "concatenate":
            parts = [proven.get(root.get(number, number), set()) for number in node.inputs]
            proven[node.outputs[0]] = set.intersection(*parts)
        if any(map(may_raise, node.op.graphs)):
            found.append(position)
        check = node.op.checks(graph.types(node.inputs)) if node.inputs else None
        if check is not None:
            operand, rules = check
            known = proven.setdefault(root.get(node.inputs[operand], node.inputs[operand]), set())
            if rules[0] not in known:
                found.append(position)
            known.update(rules)
    return found


def checks_first(graph: Graph) -> Graph:
    """`graph` with what may raise, and what that needs, in front; else in the order as it was."""
    maker = {number: position for position, node in enumerate(graph.nodes) for number in node.outputs}
    first: set[int] = set()
    left = may_raise(graph)
    while left:
        position = left.pop()
        if position not in first:
            first.add(position)
            left.extend(maker[number] for number in graph.nodes[position].inputs if number in maker)
    front: list[Node] = [node for position, node in enumerate(graph.nodes) if position in first]
    back = [node for position, node in enumerate(graph.nodes) if position not in first]
    return Graph(graph.values, graph.inputs, (*front, *back), graph.outputs)
