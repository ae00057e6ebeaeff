"""Which values a host keeps once for all its ranks: replicas that a program reads and replaces part by part.

A parameter that all ranks hold, and whose new value each of them computes a part of, needs one *common* register on a
host: every rank reads it, and writes its part of the new value over the old one. The gather that the plan asks for is
then nothing but a meeting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flowcore.boxing_op import Boxing
from flowcore.comm.route import range_of
from flowcore.graph import Graph, Node
from flowcore.op import Type
from flowcore.passes.checks import may_raise
from flowcore.passes.donate import Update
from flowcore.placement.layout import Box, box_shape, box_size


@dataclass(frozen=True)
class Common:
    """A register that `ranks` of one host have in common, as one of them sees it.

    index: among those of the program. old, new: positions of the input it holds and of the output that replaces that.
    type: of the block. box, part, start: what this rank computes, its type and its first element in the block.
    input: the number of the input in the graph of the rank.
    """

    index: int
    old: int
    new: int
    ranks: tuple[int, ...]
    type: Type
    box: Box
    part: Type
    start: int
    input: int = -1

    @property
    def key(self) -> int:
        """By which it is known where values are shown and viewed."""
        return -1 - self.index


def commons(graph: Graph, updates: Sequence[Update], hosts: tuple[int, ...]) -> dict[int, dict[int, Common]]:
    """Per value that a common register serves (by its number in the physical graph) what every rank does."""
    maker = {number: place for place, node in enumerate(graph.nodes) for number in node.outputs}
    settled = max(may_raise(graph), default=-1)
    found: dict[int, dict[int, Common]] = {}
    for index, (old, new) in enumerate(updates):
        before, after = graph.inputs[old], graph.outputs[new]
        node = graph.nodes[maker[after]] if after in maker else None
        is_once = graph.outputs.count(after) == 1 and before not in graph.outputs and after not in found
        # an error must find the value as it was
        is_safe = node is not None and maker.get(node.inputs[0], settled + 1) > settled
        if node is not None and is_once and is_safe and graph.values[before] == graph.values[after]:
            by_rank = _by_rank(graph, node, hosts, (index, old, new))
            if by_rank:
                found[after] = by_rank
    return found


def _by_rank(graph: Graph, node: Node, hosts: tuple[int, ...], named: tuple[int, int, int]) -> dict[int, Common]:
    """The common register for the result of `node` as every rank sees it; empty where there cannot be one."""
    if not isinstance(node.op, Boxing):
        return {}
    type = graph.values[node.outputs[0]].type
    source, target = node.op.layouts
    if source.is_partial or set(source.placement.ranks) != set(target.placement.ranks) or not type.size:
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
            found[rank] = Common(*named, tuple(ranks), block, part, own, start if own.size else 0)
    return found


def _is_inside(part: Box, whole: Box) -> bool:
    return all(low <= a and b <= high for (a, b), (low, high) in zip(part, whole, strict=True))
