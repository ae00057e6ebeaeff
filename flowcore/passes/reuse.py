"""Results written where operands lie that nobody reads after them: one rank's program → the same in less memory.

That is done for registers of the program's own memory, where an operator can write over an operand (`Op.over`): what a
loop makes of a product takes the product's place, and moves each of its lines through the caches once instead of twice.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace

from flowcore.graph import Graph, Node
from flowcore.passes.show import SAME_BYTES

Roots = Mapping[int, frozenset[int]]


def reuse(
    graph: Graph, nodes: Sequence[Node], roots: Roots, elsewhere: Container[int]
) -> tuple[list[Node], dict[int, frozenset[int]]]:
    """`nodes`, what is left to run of `graph`, with results over operands; and per value those that it shares with.

    roots: that as it was. elsewhere: the registers that lie in other memory.
    """
    held, found = dict(roots), list[Node]()
    last = {root: len(nodes) for number in graph.outputs for root in held[number]}
    for position, node in enumerate(nodes):
        last.update((root, max(position, last.get(root, 0))) for number in node.inputs for root in held[number])
    own: dict[int, int] = {}
    for position, node in enumerate(nodes):
        for result in node.op.new_results(node.outputs):
            if result in elsewhere:
                continue
            place, register = _place(graph, node, result, own, held, last, position)
            if register < 0:
                if held[result] == {result}:  # what may be an operand as it lies (`Packed`) is not only ours
                    own[result] = result
                continue
            op = node.op.over(place, node.outputs.index(result))
            assert op is not None
            node = replace(node, op=op)
            for number, seen in held.items():
                if result in seen:
                    held[number] = seen | {register}
            own[result] = register
            last[register] = max(last[register], last.get(result, position))
        if node.op.name in SAME_BYTES and node.inputs[0] in own:
            own[node.outputs[0]] = own[node.inputs[0]]
        found.append(node)
    return found, held


def _place(
    graph: Graph, node: Node, result: int, own: Mapping[int, int], held: Roots, last: Mapping[int, int], position: int
) -> tuple[int, int]:
    """The operand over which `node` can write `result`, and its register; -1 for both where there is none.

    own: per value that certainly lies in a register of the program's own which.
    """
    for place, number in enumerate(node.inputs):
        register = own.get(number, -1)
        if register < 0 or graph.values[number].type != graph.values[result].type:
            continue
        readers = [other for other in node.inputs if register in held[other]]
        is_whole = graph.values[register].type.nbytes == graph.values[result].type.nbytes
        is_free = last[register] == position and readers == [number] and is_whole
        if is_free and node.op.over(place, node.outputs.index(result)) is not None:
            return place, register
    return -1, -1
