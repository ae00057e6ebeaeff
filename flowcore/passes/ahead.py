"""What is fetched over several layouts is fetched ahead from its first leg on: physical graph → same, ordered.

A value that is gathered may first be gathered within hosts, which meet for that, and then between them
(`passes.route`). The legs stand where the value is read, and nobody could send what its host has yet to bring together.
So they come to stand where the transfer between hosts should begin, by the law of `passes.overlap`, if nothing but its
first operand held it up. One order holds for all ranks.
"""

from __future__ import annotations

from collections.abc import Mapping

from flowcore.boxing_op import Boxing
from flowcore.graph import Graph
from flowcore.passes.early import grows
from flowcore.passes.late import crosses
from flowcore.passes.overlap import timetable
from flowcore.placement.machine import Machine


def ahead(graph: Graph, machine: Machine) -> Graph:
    """`graph` with legs within hosts, and the gathers between hosts that read what they bring, where these begin."""
    maker = {number: place for place, node in enumerate(graph.nodes) for number in node.outputs}
    behind: dict[int, int] = {}
    legs: dict[int, list[int]] = {}
    for place, node in enumerate(graph.nodes):
        if crosses(graph, node) and grows(graph, node):
            chain, first = [place], maker.get(node.inputs[0], -1)
            while first >= 0 and isinstance(graph.nodes[first].op, Boxing) and not crosses(graph, graph.nodes[first]):
                chain.append(first)
                first = maker.get(graph.nodes[first].inputs[0], -1)
            if len(chain) > 1 and (first < 0 or not crosses(graph, graph.nodes[first])):
                legs[place] = chain
                behind.update(dict.fromkeys(chain, first))
    if not legs:
        return graph
    order = sorted(range(len(graph.nodes)), key=lambda place: (behind.get(place, place), place in behind, place))
    spans = timetable(_ordered(graph, order), machine).spans
    begins: dict[int, int] = {}
    for position, place in enumerate(order):
        if place in legs and position in spans:
            begin = next((p for p in order[spans[position][0] :] if p not in behind), len(order))
            begins.update((leg, min(begin, begins.get(leg, begin))) for leg in legs[place])
    return _ordered(graph, sorted(range(len(order)), key=lambda place: _key(place, begins)))


def _key(place: int, begins: Mapping[int, int]) -> tuple[int, bool, int]:
    """Before the node where it begins, but never behind its own place."""
    begin = begins.get(place, place)
    return (begin, False, place) if begin < place else (place, True, place)


def _ordered(graph: Graph, order: list[int]) -> Graph:
    return Graph(graph.values, graph.inputs, tuple(graph.nodes[place] for place in order), graph.outputs)


__all__ = ["ahead"]
