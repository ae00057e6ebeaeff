"""Which registers other ranks see, and where: one rank's graph with meetings → the same with places for them.

What a rank shows lives from the instruction that writes it until its peers have read it and said so: they read as this
rank does, it is assumed, and are done with a value at the meeting that follows its own last read of what they showed
beside it. Values whose lives do not meet may share memory. That peers do as is assumed is proven when they bind
(`races`); where it is not so, every value has memory of its own.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from flowcore.graph import Graph, Node
from flowcore.meeting_op import Collect, Post, View, Wait
from flowcore.memory import span
from flowcore.op import Type
from flowcore.packing import packed
from flowcore.passes.common import Common, Piece
from flowcore.passes.donate import Update, makes_memory, roots
from flowcore.races import Access, Footprint, Group, Memory

SAME_BYTES = ("reshape", "alias", "stop_gradient")
"""Operators whose result has the bytes of their operand."""


@dataclass(frozen=True)
class Away:
    """A register of `type` that is `start` bytes behind where what is known as `key` lies in the window of `rank`."""

    rank: int
    key: int
    start: int
    type: Type


@dataclass(frozen=True)
class Shown:
    """Where what a rank shows lies: `places` in its window, of `size` bytes; `own`: the registers that are its parts
    of common registers; `away`: those that are its pieces of what ranks gather in one window; and all that it does to
    memory that it shares. apart: the same without any memory used twice.
    """

    places: Mapping[int, tuple[int, Type]]
    size: int
    own: Mapping[int, Common]
    away: Mapping[int, Away]
    footprint: Footprint
    apart: Shown | None = None

    @property
    def registers(self) -> set[int]:
        """All registers that lie in memory which ranks share."""
        return {*self.places, *self.own, *self.away}


def show(
    graph: Graph,
    left: Sequence[Node],
    rank: int,
    parts: Mapping[int, Common],
    updates: Sequence[Update],
    taken: Container[int],
    pieces: Mapping[int, Piece] = MappingProxyType({}),
) -> tuple[Graph, list[Node], Shown]:
    """`graph` and those of its nodes that are `left` to run, with copies of what cannot be made where peers see it.

    taken: the inputs whose memory takes a result; parts: those that are parts of common registers, and updates: what
    replaces each of them. pieces: by key those of what is gathered in the window of one rank.
    """
    by_key = {common.key: (number, common) for number, common in parts.items()}
    values, maker = list(graph.values), {number: node for node in left for number in node.outputs}
    held = roots(graph)
    escaped = {root for number in graph.outputs for root in held[number]}
    copies: dict[int, list[Node]] = {}
    keys: dict[int, int] = {}
    own: dict[int, Common] = {}
    away: dict[int, Away] = {}
    wholes: dict[int, tuple[int, Piece]] = {}
    for post in left:
        if not isinstance(post.op, Post):
            continue
        for key, number in zip(post.op.keys, post.inputs, strict=True):
            if key < 0 and by_key[key][0] in taken:
                own[number] = by_key[key][1]
                continue
            type, made, piece = values[number].type, None if key < 0 else _writable(number, maker), pieces.get(key)
            has_place = made in away or (piece is not None and made in keys.values())
            if made is None or made in escaped or has_place:
                made = len(values)
                values.append(values[number])
                copy = Node(Collect(type, (((...,), 1),)), (number,), (made,), post.where)
                copies.setdefault(id(post), []).append(copy)
            if key < 0:
                own[made] = by_key[key][1]
                continue
            if piece is not None:
                at, type = piece.holder, values[made].type
                away[made] = Away(at, key, piece.start * type.dtype.itemsize, type)
                if at == rank:
                    wholes[len(values)] = made, piece
                    values.append(replace(values[made], type=piece.type))
                    made = len(values) - 1
            if piece is None or made in wholes:
                keys[key] = made
    ends: dict[int, Node] = {}
    for part, number in updates:
        if parts[part].is_part and part not in taken:  # copied at the end, when peers have read what lies there
            values.append(values[number])
            ends[number] = Node(Collect(values[number].type, (((...,), 1),)), (number,), (len(values) - 1,))
        if parts[part].is_part:
            own[ends[number].outputs[0] if number in ends else number] = parts[part]
    every, those = (
        [*(each for node in nodes for each in (*copies.get(id(node), ()), node)), *ends.values()]
        for nodes in (graph.nodes, left)
    )
    outputs = tuple(ends[number].outputs[0] if number in ends else number for number in graph.outputs)
    graph = Graph(tuple(values), graph.inputs, tuple(every), outputs)
    lives, types = _lives(graph, those, keys, wholes), {number: graph.values[number].type for number in keys.values()}

    def shown(ends: Mapping[int, tuple[int, int]], apart: Shown | None) -> Shown:
        found, size = packed([span(*ends[number], type) for number, type in types.items()])
        places = {number: (place, types[number]) for number, place in zip(types, found, strict=True)}
        told = {key: (places[number][0], number) for key, number in keys.items()}
        uses = _uses(graph, those, _regions(rank, places, own), parts, away)
        return Shown(places, size, own, away, Footprint(*uses, told), apart)

    return graph, those, shown(lives, shown(dict.fromkeys(lives, (0, len(those))), None))


def _lives(
    graph: Graph, nodes: Sequence[Node], keys: Mapping[int, int], wholes: Mapping[int, tuple[int, Piece]]
) -> dict[int, tuple[int, int]]:
    """Per value that is shown, by `keys`, the instruction that writes it and the last before which it must stay.

    wholes: those of which ranks write pieces, with this rank's. Others may write theirs once this one meets them for
    the last time before it writes.
    """
    held = roots(graph)
    first = {number: position for position, node in enumerate(nodes) for number in node.outputs}
    last = {root: len(nodes) for number in graph.outputs for root in held[number]}
    seen: dict[int, set[int]] = {}
    groups: dict[int, Group] = {}
    waits: dict[Group, list[tuple[int, int]]] = {}
    posted: dict[Group, int] = {}
    for position, node in enumerate(nodes):
        for number in (*node.inputs, *node.outputs):
            for root in held[number]:
                last[root] = max(last.get(root, 0), position)
        if isinstance(node.op, Post):
            posted[node.op.ranks] = position
        if isinstance(node.op, Wait):
            waits.setdefault(node.op.ranks, []).append((posted[node.op.ranks], position))
            for view, number in zip(node.op.views, node.outputs, strict=True):
                seen.setdefault(view.key, set()).add(number)
                groups[view.key] = node.op.ranks

    def stays(key: int, number: int) -> int:
        """The instruction at which it is known that peers have read what is shown as `key`, and their pieces of it."""
        read = max((last[view] for view in seen.get(key, ())), default=len(nodes))
        read = max(read, last[number]) if number in wholes else read
        return next((wait for post, wait in waits.get(groups.get(key, ()), ()) if post > read), len(nodes))

    for whole, (made, piece) in wholes.items():
        met = [wait for group, found in waits.items() if {*piece.ranks} <= {*group} for _, wait in found]
        first[whole] = max((wait + 1 for wait in met if wait < first[made]), default=0)
        last[whole] = last[made]
    ends: dict[int, int] = {}
    for key, number in keys.items():
        ends[number] = max(ends.get(number, last[number]), stays(key, number))
    return {number: (first[number], end) for number, end in ends.items()}


Region = tuple[Memory, int, int]


def _regions(rank: int, places: Mapping[int, tuple[int, Type]], own: Mapping[int, Common]) -> dict[int, Region]:
    """The shared bytes that every register is."""
    shown = {number: ((rank, 0), place, place + type.nbytes) for number, (place, type) in places.items()}
    return {**shown, **{number: _part(common) for number, common in own.items()}}


def _part(common: Common) -> Region:
    start = common.start * common.type.dtype.itemsize
    return (common.ranks[0], 1 + common.index), start, start + common.part.nbytes


def _uses(
    graph: Graph,
    nodes: Sequence[Node],
    written: Mapping[int, Region],
    parts: Mapping[int, Common],
    away: Mapping[int, Away],
) -> tuple[tuple[tuple[int, Group, int, bool], ...], tuple[Access, ...]]:
    """The meetings and the accesses to shared memory of instructions `nodes`."""
    held = roots(graph)
    seen: dict[int, tuple[Region, str, int | None]] = {}
    for number, common in parts.items():
        memory, *_ = part = _part(common)
        seen[number] = part, "early", None
        seen[common.input] = (memory, 0, common.type.nbytes), "early", None
    pieces = {n: (((at.rank, 0), at.start, at.start + at.type.nbytes), at.key) for n, at in away.items()}
    seen.update((number, (region, "read", key)) for number, (region, key) in pieces.items())

    def _reads(numbers: Sequence[int], position: int) -> list[Access]:
        read = {root for number in numbers for root in held[number]} & seen.keys()
        return [Access(*region, position, kind, key=key) for region, kind, key in (seen[n] for n in sorted(read))]

    meetings, accesses = [], list[Access]()
    for position, node in enumerate(nodes):
        if isinstance(node.op, Post | Wait):
            meetings.append((position, node.op.ranks, node.op.digest, isinstance(node.op, Wait)))
        if isinstance(node.op, Wait):
            seen.update(zip(node.outputs, map(_seen, node.op.views), strict=True))
        made = [number for number in node.outputs if number in written]
        accesses += [Access(*written[n], position, "write", None if written[n][0][1] else n) for n in made]
        accesses += [Access(*pieces[n][0], position, "write", key=pieces[n][1]) for n in node.outputs if n in pieces]
        if not isinstance(node.op, Post):
            accesses += _reads(node.inputs, position)
    return tuple(meetings), (*accesses, *_reads(graph.outputs, len(nodes)))


def _seen(view: View) -> tuple[Region, str, int | None]:
    if view.key < 0:
        return ((view.rank, -view.key), 0, view.source.nbytes), "read", None
    return ((view.rank, 0), 0, view.source.nbytes), "read", view.key


def _writable(number: int, maker: Mapping[int, Node]) -> int | None:
    """The value with the bytes of value `number` that an operator writes where it is told to; None: there is none."""
    while number in maker:
        node = maker[number]
        if makes_memory(node.op) and number in node.op.new_results(node.outputs):
            return number
        if node.op.name not in SAME_BYTES:
            return None
        (number,) = node.inputs
    return None
