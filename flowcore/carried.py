"""What becomes of every transfer in a compiled program: a physical graph → a line for each change of layout.

Within a host ranks read each other's registers, or a register that they have in common, at meetings; between hosts
messages are under way while ranks compute. What is left is one call in which ranks wait for each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowcore.boxing_op import Boxing
from flowcore.graph import Graph, Node
from flowcore.passes.donate import Update
from flowcore.passes.overlap import timetable
from flowcore.passes.share import met
from flowcore.passes.update import update_early
from flowcore.placement.machine import Machine
from flowcore.placement.sbp import Partial


def carried(
    graph: Graph, updates: Sequence[Update], hosts: tuple[int, ...], machine: Machine, apart: frozenset[int]
) -> Mapping[int, str]:
    """By the number of its result, how every change of layout of `graph` that sends messages is done; see `lower`."""
    early = update_early(graph, updates) if updates else graph
    ordered, groups, common = met(early, updates, hosts, apart) if hosts else (early, {}, {})
    found = timetable(ordered, machine, groups)
    spans = found.spans
    readers: dict[int, Node] = {}
    for node in ordered.nodes:
        for number in node.inputs:
            readers.setdefault(number, node)
    meetings = {group: place for place, group in enumerate(dict.fromkeys(groups.values()), 1)}
    told = {}
    for place, node in enumerate(ordered.nodes):
        if not isinstance(node.op, Boxing) or not node.op.plan(ordered.values[node.outputs[0]].type).messages:
            continue
        (number,) = node.outputs
        if place in groups:
            which = f"meeting {meetings[groups[place]]} of {len(meetings)}"
            told[number] = f"{which}, {_seen(node, number in common, readers.get(number))}"
        elif number in common:
            told[number] = "nothing to do, the host has the whole in one register from the beginning"
        elif place in spans:
            begin, end = spans[place]
            told[number] = f"under way {_between(ordered, spans, begin, end)}"
        else:
            told[number] = "one call, all wait"
    return told


def _seen(node: Node, is_common: bool, reader: Node | None) -> str:
    """How peers' registers are read."""
    assert isinstance(node.op, Boxing)
    if is_common:
        return "one register that the host has in common, each rank writes its part"
    source, target = node.op.layouts
    by = "" if reader is None else f" by {reader.op.name}{f' at {reader.where}' if reader.where else ''}"
    terms = [sum(isinstance(part, Partial) for part in layout.sbp) for layout in (source, target)]
    if terms[0] > terms[1]:
        return f"terms of peers are reduced as they are read{by}"
    return f"blocks of peers are read where they lie{by}"


def _between(graph: Graph, spans: Mapping[int, tuple[int, int]], begin: int, end: int) -> str:
    """Behind which node it begins and before which it ends, those aside that are such transfers themselves."""
    before = [position for position in range(begin) if position not in spans]
    after = [position for position in range(end, len(graph.nodes)) if position not in spans]
    first = f"from {_name(graph.nodes[before[-1]])}" if before else "from the beginning"
    last = f"to {_name(graph.nodes[after[0]])}" if after else "to the end"
    beside = sum(position not in spans for position in range(begin, end))
    return f"{first} {last}, beside {beside} operator{'s' * (beside != 1)}"


def _name(node: Node) -> str:
    return f"{node.op.name}{f' at {node.where}' if node.where else ''}"
