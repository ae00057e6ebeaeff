"""Which registers other ranks see, and where: one rank's graph with meetings → the same with places for them.

What a rank shows lives from the instruction that writes it until its peers have read it and said so, as what they do
tells (`lives`). Values whose lives do not meet may share memory. That they may is proven when ranks bind (`races`);
where it is not, every value has memory of its own.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from flowcore.graph import Graph, Node
from flowcore.lives import Life, lives
from flowcore.meeting_op import Collect, Post, View, Wait
from flowcore.memory import span
from flowcore.op import Type
from flowcore.packing import packed
from flowcore.passes.common import Common, Piece
from flowcore.passes.donate import Update, makes_memory, roots
from flowcore.races import Access, Footprint, Memory

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
    """What `rank` shows, and all that it does to memory that it shares.

    types: of the registers in its window; keys: by which peers know them; used: the first and the last instruction of
    `count` at which the rank itself needs each; gathered: those of which peers write pieces. own: the registers that
    are its parts of common registers; away: those that are its pieces of what ranks gather in one window. places, size:
    once they are `settled`, where those in the window lie, and its bytes. apart: the same without any memory used
    twice.
    """

    rank: int
    types: Mapping[int, Type]
    keys: Mapping[int, int]
    used: Mapping[int, Life]
    gathered: Container[int]
    count: int
    own: Mapping[int, Common]
    away: Mapping[int, Away]
    footprint: Footprint
    places: Mapping[int, tuple[int, Type]] = field(default_factory=dict)
    size: int = 0
    apart: Shown | None = None

    @property
    def registers(self) -> set[int]:
        """All registers that lie in memory which ranks share."""
        return {*self.types, *self.own, *self.away}

    def settled(self, footprints: Mapping[int, Footprint]) -> Shown:
        """The same with places in the window, where the ranks of the host do as `footprints` say."""
        every = lives(self.rank, self.keys, self.used, self.gathered, self.count, footprints)
        return replace(self._at(every), apart=self._at(dict.fromkeys(self.types, (0, self.count))))

    def _at(self, ends: Mapping[int, Life]) -> Shown:
        found, size = packed([span(*ends[number], type) for number, type in self.types.items()])
        places = {number: (place, type) for (number, type), place in zip(self.types.items(), found, strict=True)}
        told = {key: (places[number][0], number) for key, number in self.keys.items()}
        return replace(self, places=places, size=size, footprint=replace(self.footprint, keys=told))


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
    wholes: dict[int, int] = {}
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
                    wholes[len(values)] = made
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
    types = {number: graph.values[number].type for number in keys.values()}
    shown_by = {number: (((rank, 0), 0, type.nbytes), key) for key, number in keys.items() for type in [types[number]]}
    footprint = _footprint(graph, those, own, shown_by, parts, away)
    used = _used(graph, those, types, wholes)
    return graph, those, Shown(rank, types, keys, used, frozenset(wholes), len(those), own, away, footprint)


def _used(graph: Graph, nodes: Sequence[Node], shown: Container[int], wholes: Mapping[int, int]) -> dict[int, Life]:
    """Per value that is shown the instruction of its rank that writes it and the last that reads it.

    wholes: those of which ranks write pieces, with this rank's.
    """
    held = roots(graph)
    first = {number: position for position, node in enumerate(nodes) for number in node.outputs}
    last = {root: len(nodes) for number in graph.outputs for root in held[number]}
    for position, node in enumerate(nodes):
        for number in (*node.inputs, *node.outputs):
            for root in held[number]:
                last[root] = max(last.get(root, 0), position)
    every = {**{number: number for number in first if number in shown}, **wholes}
    return {number: (first[made], last[made]) for number, made in every.items()}


Region = tuple[Memory, int, int]


def _part(common: Common) -> Region:
    start = common.start * common.type.dtype.itemsize
    return (common.ranks[0], 1 + common.index), start, start + common.part.nbytes


def _footprint(
    graph: Graph,
    nodes: Sequence[Node],
    own: Mapping[int, Common],
    shown: Mapping[int, tuple[Region, int]],
    parts: Mapping[int, Common],
    away: Mapping[int, Away],
) -> Footprint:
    """What instructions `nodes` do to shared memory; shown: per register in the window what it is, by which key."""
    held = roots(graph)
    seen: dict[int, tuple[Region, str, int | None]] = {}
    for number, common in parts.items():
        memory, *_ = part = _part(common)
        seen[number] = part, "early", None
        seen[common.input] = (memory, 0, common.type.nbytes), "early", None
    groups = {common.key: common.ranks for common in parts.values()}
    pieces = {n: (((at.rank, 0), at.start, at.start + at.type.nbytes), at.key) for n, at in away.items()}
    seen.update((number, (region, "read", key)) for number, (region, key) in pieces.items())
    written: dict[int, tuple[Region, int | None]] = {n: (_part(common), None) for n, common in own.items()}
    written |= {**shown, **pieces}

    def _reads(numbers: Sequence[int], position: int) -> list[Access]:
        read = {root for number in numbers for root in held[number]} & seen.keys()
        return [Access(*region, position, kind, key=key) for region, kind, key in (seen[n] for n in sorted(read))]

    meetings, accesses = [], list[Access]()
    for position, node in enumerate(nodes):
        if isinstance(node.op, Post | Wait):
            meetings.append((position, node.op.ranks, node.op.digest, isinstance(node.op, Wait)))
        if isinstance(node.op, Wait):
            seen.update(zip(node.outputs, map(_seen, node.op.views), strict=True))
            groups.update((view.key, node.op.ranks) for view in node.op.views if view.key >= 0)
        if isinstance(node.op, Post):
            groups.update((key, node.op.ranks) for key in node.op.keys if key >= 0)
        made = [written[number] for number in node.outputs if number in written]
        accesses += [Access(*region, position, "write", key=key) for region, key in made]
        if not isinstance(node.op, Post):
            accesses += _reads(node.inputs, position)
    return Footprint(tuple(meetings), (*accesses, *_reads(graph.outputs, len(nodes))), groups, {})


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
