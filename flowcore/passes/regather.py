"""What is gathered between hosts is let go and gathered again: physical graph → graph that holds less, and moves more.

A forward pass reads a parameter, a backward pass reads it again, and in between nobody does. Kept all that while, the
gathered parameters of all layers live at once, which is what dividing them (ZeRO 3) is to save. Where readers of other
gathered inputs stand between two readers of one, it is gathered anew for the second: that of the last layer, read twice
in a row, is not moved again. The operand, an input, is there in any case.
"""

from __future__ import annotations

from dataclasses import replace

from flowcore.boxing_op import Boxing
from flowcore.graph import Builder, Graph, renumber
from flowcore.passes.ahead import ahead
from flowcore.passes.dce import dce
from flowcore.passes.early import grows
from flowcore.passes.late import PASSING_ON, crosses
from flowcore.placement.machine import Machine


def regathered(graph: Graph, machine: Machine) -> Graph:
    """`graph` with inputs gathered between hosts anew wherever others have been read in between."""
    family, builder = _families(graph), Builder(graph)
    maker = {number: node for node in graph.nodes for number in node.outputs}
    turn = dict.fromkeys(family.values(), 0)
    since = {origin: set[int]() for origin in turn}
    copies: dict[tuple[int, int], int] = {}

    def now(number: int) -> int:
        """The value that stands for `number` since its origin was gathered last."""
        count = turn[family[number]] if number in family else 0
        if not count:
            return number
        if (number, count) not in copies:
            node = maker[number]
            inputs = [now(old) for old in node.inputs]
            (made,) = builder.node(node.op, inputs, [graph.values[number]], node.where, node.reason)
            copies[number, count] = made
        return copies[number, count]

    for node in graph.nodes:
        if family.keys().isdisjoint(node.outputs):
            read = {family[number] for number in node.inputs if number in family}
            for origin, others in since.items():
                if origin in read:
                    turn[origin] += bool(others)
                    others.clear()
                else:
                    others |= read
            node = replace(node, inputs=tuple(map(now, node.inputs)))
        builder.nodes.append(node)
    if not copies:
        return graph
    return renumber(ahead(dce(builder.graph(graph.outputs)), machine))


def _families(graph: Graph) -> dict[int, int]:
    """Per value that an input is gathered into between hosts, and other forms of it, that input."""
    origin = {number: number for number in graph.inputs}
    gathered, legs = set[int](), dict[int, int]()
    for node in graph.nodes:
        if not (isinstance(node.op, Boxing) or node.op.name in PASSING_ON) or node.inputs[0] not in origin:
            continue
        (source,), (made,) = node.inputs, node.outputs
        origin[made], legs[made] = origin[source], source
        if source in gathered or (crosses(graph, node) and grows(graph, node)):
            gathered.add(made)
            while source in legs and source not in gathered:  # the legs within hosts that came before
                gathered.add(source)
                source = legs[source]
    return {number: origin[number] for number in gathered}
