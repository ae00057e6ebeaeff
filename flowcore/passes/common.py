"""Which values a host keeps once for all its ranks: what a program reads whole and replaces part by part.

A parameter that all ranks hold, and whose new value each of them computes a part of, needs one *common* register on a
host: every rank reads it, and writes its part of the new value over the old one. The gather that the plan asks for is
then nothing but a meeting. A parameter of which each rank holds a part, and which is gathered to be read, lies there
as well: it is there whole when the program begins, and its gathers are nothing at all. Ranks meet between the last of
them to read it and the first to write its part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowcore.boxing_op import Boxing
from flowcore.comm.boxing import BoxingPlan
from flowcore.comm.route import range_of
from flowcore.graph import Graph, Node
from flowcore.op import Type
from flowcore.passes.checks import may_raise
from flowcore.passes.donate import Update, makes_memory
from flowcore.placement.layout import Box, box_shape, box_size


@dataclass(frozen=True)
class Piece:
    """What a rank holds of a block of `type` that `ranks` of its host, it among them, hold in pieces of one range each.

    box, part, start: which piece, its type and its first element in the block.
    """

    ranks: tuple[int, ...]
    type: Type
    box: Box
    part: Type
    start: int

    @property
    def holder(self) -> int:
        """The rank in whose window all pieces lie, where they do."""
        return self.ranks[0]


@dataclass(frozen=True)
class Common(Piece):
    """A register that `ranks` of one host have in common, as one of them sees it; the piece is what it computes.

    index: among those of the program. old, new: positions of the input it holds and of the output that replaces that.
    is_part: whether the input is the part, not the whole. input: the number of the whole in the graph of the rank.
    """

    index: int
    old: int
    new: int
    is_part: bool
    input: int = -1

    @property
    def key(self) -> int:
        """By which it is known where values are shown and viewed."""
        return -1 - self.index


def commons(graph: Graph, updates: Sequence[Update], hosts: tuple[int, ...]) -> dict[int, dict[int, Common]]:
    """Per value that a common register serves (by its number in the physical graph) what every rank does."""
    maker = {number: place for place, node in enumerate(graph.nodes) for number in node.outputs}
    settled = max(may_raise(graph), default=-1)
    gathers: dict[int, list[Node]] = {}
    for node in graph.nodes:
        if isinstance(node.op, Boxing):
            gathers.setdefault(node.inputs[0], []).append(node)
    found: dict[int, dict[int, Common]] = {}
    for index, (old, new) in enumerate(updates):
        before, after = graph.inputs[old], graph.outputs[new]
        is_once = graph.outputs.count(after) == 1 and before not in graph.outputs and after not in found
        if after not in maker or not is_once or graph.values[before] != graph.values[after]:
            continue
        node = graph.nodes[maker[after]]
        if isinstance(node.op, Boxing) and maker.get(node.inputs[0], settled + 1) > settled:
            # an error must find the value as it was
            found[after] = _by_rank(graph, node, hosts, (index, old, new), is_part=False)
        if not found.get(after) and maker[after] > settled:
            for node in gathers.get(before, ()):
                found[node.outputs[0]] = _by_rank(graph, node, hosts, (index, old, new), is_part=True)
                if found[node.outputs[0]]:
                    break
    return {number: by_rank for number, by_rank in found.items() if by_rank}


def unmet(graph: Graph, groups: Mapping[int, int], every: Mapping[int, Mapping[int, Common]]) -> set[int]:
    """Those values among `every` whose register a rank may write too early.

    That is where another may still read what was gathered, and where a rank has yet to be told, at the next meeting,
    that another has raised an error. groups: by place the changes of layout at which ranks of a host meet, and the
    meeting.
    """
    maker = {number: place for place, node in enumerate(graph.nodes) for number in node.outputs}
    ranks = {place: set(_plan(graph, graph.nodes[place]).ranks) for place in groups}
    begins = {group: min(place for place in groups if groups[place] == group) for group in groups.values()}
    settled = max(may_raise(graph), default=-1)
    told = [place for place in groups if begins[groups[place]] > settled] if settled >= 0 else list(groups)
    found = set()
    for number, by_rank in every.items():
        common = next(iter(by_rank.values()))
        part = graph.outputs[common.new] if common.is_part else graph.nodes[maker[number]].inputs[0]
        read = number if common.is_part else graph.inputs[common.old]
        last, end = _last_read(graph, read, common.is_part), maker.get(part, maker[number])
        between = [place for place in groups if last < place < end and groups[place] != groups.get(last)]
        late = [place for place in told if place in between or (place <= end and not common.is_part)]
        for each in by_rank.values():
            if not all(any(ranks[place].issuperset(each.ranks) for place in places) for places in (between, late)):
                found.add(number)
    return found


def _plan(graph: Graph, node: Node) -> BoxingPlan:
    assert isinstance(node.op, Boxing)
    return node.op.plan(graph.values[node.inputs[0]].type)


def _last_read(graph: Graph, number: int, is_part: bool) -> int:
    """The place of the last node that reads a value or a view of it; unless `is_part`, slices that it is cut to aside.

    A rank cuts out the piece that it replaces.
    """
    family, last = {number}, -1
    for place, node in enumerate(graph.nodes):
        if not family.isdisjoint(node.inputs) and (is_part or not isinstance(node.op, Boxing)):
            last = place
            if not makes_memory(node.op):
                family.update(node.outputs)
    return last


def _by_rank(
    graph: Graph, node: Node, hosts: tuple[int, ...], named: tuple[int, int, int], is_part: bool
) -> dict[int, Common]:
    """The common register for the result of `node` as every rank sees it; empty where there cannot be one."""
    found = pieces(graph, node, hosts)
    return {
        rank: Common(each.ranks, each.type, each.box, each.part, each.start, *named, is_part)
        for rank, each in found.items()
    }


def pieces(graph: Graph, node: Node, hosts: tuple[int, ...]) -> dict[int, Piece]:
    """Where `node` gathers, within hosts, blocks from pieces that are ranges of these: its piece per rank."""
    if not isinstance(node.op, Boxing):
        return {}
    type = graph.values[node.outputs[0]].type
    source, target = node.op.layouts
    is_partial = source.is_partial or target.is_partial  # a term of a sum is not the whole, though its box is
    if is_partial or set(source.placement.ranks) != set(target.placement.ranks) or not type.size:
        return {}
    held = {rank: source.box(type.shape, rank) for rank in source.placement.ranks}
    needed = {rank: target.box(type.shape, rank) for rank in target.placement.ranks}
    together: dict[tuple[int, Box], list[int]] = {}
    for rank in sorted(needed):
        together.setdefault((hosts[rank], needed[rank]), []).append(rank)
    found = {}
    for (_, whole), ranks in together.items():
        parts = [held[rank] for rank in ranks]
        if len(ranks) < 2 or len(set(parts)) < len(parts) or sum(map(box_size, parts)) != box_size(whole):
            return {}
        for rank, part in zip(ranks, parts, strict=True):
            inside = tuple((a - origin, b - origin) for (a, b), (origin, _) in zip(part, whole, strict=True))
            start = range_of(box_shape(whole), inside)
            if start is None or not _is_inside(part, whole):
                return {}
            block, own = (Type(box_shape(box), type.dtype) for box in (whole, part))
            found[rank] = Piece(tuple(ranks), block, part, own, start if own.size else 0)
    return found


def _is_inside(part: Box, whole: Box) -> bool:
    return all(low <= a and b <= high for (a, b), (low, high) in zip(part, whole, strict=True))
