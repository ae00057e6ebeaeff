"""Small transfers between hosts become one: the values are put side by side, move together, and are cut apart again.

A message takes α + β·n seconds. Transfers from one layout to the same other layout, none of which waits for another,
are collected until their messages are so long that α hardly counts, until something reads what one of them brings, or
until as much has been computed as a long message takes: computing hides what leaves now, and can hide the next as well.
What moves is a matrix with a row for every part into which the layouts split dimension 0 (one row where they split
nothing), so that every rank moves the very bytes it would have moved, in fewer messages. All of it is ordinary
operators: the graph is verified, printed and run as any other, and all ranks run it in one order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import lcm, prod
from typing import Any

from flowcore.boxing_op import Boxing
from flowcore.computing import node_seconds
from flowcore.graph import Builder, Graph, Node, Value
from flowcore.op import OPS, Type
from flowcore.placement.layout import Layout
from flowcore.placement.machine import Machine
from flowcore.placement.sbp import SBP, Broadcast, Partial, Split

LONG = 10
"""A message is long where its bytes take so many times the latency."""

Key = tuple[Any, ...]


@dataclass
class _Bucket:
    """Transfers that will be one; `length`: bytes of a message, `due`: when it leaves in any case."""

    due: float
    members: list[Node] = field(default_factory=list)
    length: float = 0.0


def bucket(graph: Graph, machine: Machine) -> Graph:
    """`graph` with fewer messages between hosts, and no byte more."""
    if not any(isinstance(node.op, Boxing) and node.op.hosts for node in graph.nodes):
        return graph
    return _Collector(graph, machine).run()


class _Collector:
    def __init__(self, graph: Graph, machine: Machine) -> None:
        self.graph, self.machine = graph, machine
        self.long = LONG * machine.between.latency / max(machine.between.seconds_per_byte, 1e-15)
        self.clock = 0.0
        """The seconds computed so far."""
        self.builder = Builder()
        self.number: dict[int, int] = {}
        self.open: dict[Key, _Bucket] = {}
        self.bringing: dict[int, Key] = {}
        """Per value that a collected transfer brings, its bucket."""

    def run(self) -> Graph:
        """The new graph."""
        for old in self.graph.inputs:
            self.number[old] = self.builder.input(self.graph.values[old])
        for node in self.graph.nodes:
            for due in dict.fromkeys(self.bringing[old] for old in node.inputs if old in self.bringing):
                self._close(due)
            for late in [key for key, found in self.open.items() if found.due <= self.clock]:
                self._close(late)
            self.clock += node_seconds(self.graph, node, self.machine)
            key = self._key(node)
            if key is None:
                self._copy(node)
                continue
            found = self.open.setdefault(key, _Bucket(self.clock + LONG * self.machine.between.latency))
            found.members.append(node)
            found.length += self._length(node)
            self.bringing[node.outputs[0]] = key
            if found.length >= self.long:
                self._close(key)
        for due in list(self.open):
            self._close(due)
        return self.builder.graph(self.number[old] for old in self.graph.outputs)

    def _length(self, node: Node) -> float:
        """Bytes of a message of a transfer."""
        assert isinstance(node.op, Boxing)
        plan = node.op.plan(self.graph.values[node.inputs[0]].type)
        return plan.bytes_moved / max(plan.messages, 1)

    def _key(self, node: Node) -> Key | None:
        """What transfers that can be one have in common; None where a transfer stays alone."""
        if not isinstance(node.op, Boxing) or not node.op.hosts:
            return None
        type = self.graph.values[node.inputs[0]].type
        rows = _rows(type, node.op.layouts)
        if rows is None or not 0 < self._length(node) < self.long:
            return None
        return (node.op, type.dtype, rows)

    def _copy(self, node: Node) -> None:
        results = [self.graph.values[old] for old in node.outputs]
        new = self.builder.node(node.op, [self.number[o] for o in node.inputs], results, node.where, node.reason)
        self.number.update(zip(node.outputs, new, strict=True))

    def _close(self, key: Key) -> None:
        """Make what was collected under `key` one transfer."""
        members = self.open.pop(key).members
        for node in members:
            del self.bringing[node.outputs[0]]
        if len(members) == 1:
            self._copy(members[0])
            return
        op, dtype, rows = key
        source, target = op.layouts
        made: Any = OPS
        parts: list[int] = []
        columns: list[int] = []
        for node in members:
            (old,) = node.inputs
            columns.append(self.graph.values[old].type.size // rows)
            shape = (rows, columns[-1])
            value = Value(Type(shape, dtype), source.placement, source.sbp)
            parts.extend(self.builder.node(made["reshape"](shape), [self.number[old]], [value], node.where))
        where, whole = members[0].where, Type((rows, sum(columns)), dtype)
        (joined,) = self.builder.node(
            made["concatenate"](1), parts, [Value(whole, source.placement, source.sbp)], where
        )
        reason = f"{len(members)} transfers in one; {members[0].reason}"
        (moved,) = self.builder.node(op, [joined], [Value(whole, target.placement, target.sbp)], where, reason)
        start = 0
        for node, width in zip(members, columns, strict=True):
            (old,) = node.outputs
            value = Value(Type((rows, width), dtype), target.placement, target.sbp)
            cut = made["slice"]((0, start), (rows, width), (1, 1))
            (part,) = self.builder.node(cut, [moved], [value], node.where)
            result = self.graph.values[old]
            back = made["reshape"](result.type.shape)
            (self.number[old],) = self.builder.node(back, [part], [result], node.where)
            start += width


def _rows(type: Type, layouts: Sequence[Layout]) -> int | None:
    """Into how many equal parts the layouts split dimension 0; None where they split otherwise."""
    rows = 1
    for layout in layouts:
        split = [(parts, part) for parts, part in zip(layout.placement.shape, layout.sbp, strict=True) if _splits(part)]
        if any(not isinstance(part, Split) or part.axis for _, part in split):
            return None
        rows = lcm(rows, prod(parts for parts, _ in split))
    return rows if rows == 1 or (type.ndim and type.shape[0] % rows == 0) else None


def _splits(part: SBP) -> bool:
    return not isinstance(part, Broadcast | Partial)
