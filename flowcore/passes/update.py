"""What replaces inputs runs as soon as it can: a physical graph → the same nodes in another order.

A parameter can be updated once its gradient is there and its old value has been read. So no gradient waits for the
others, and the memory of one is soon free for the next. An update here is what ends in it and in nothing else, element
by element or as a change of layout: it begins where something else made what it reads, the gradient. Updates that begin
with the same value run together, behind the last reader of any value that they replace; what ranks bring together for
them lets them meet between that read and the first write.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flowcore.boxing_op import Boxing
from flowcore.graph import Graph, Node
from flowcore.passes.checks import may_raise
from flowcore.passes.donate import Update, makes_memory


def update_early(graph: Graph, updates: Sequence[Update]) -> Graph:
    """`graph` with `updates` as early as they can be, and behind all that may raise an error.

    What comes from other hosts has its place already (`passes.early`), and so has what needs it.
    """
    return Graph(graph.values, graph.inputs, tuple(_Order(graph, updates).run()), graph.outputs)


class _Order:
    """Sets of updates are numbers with a bit for each."""

    def __init__(self, graph: Graph, updates: Sequence[Update]) -> None:
        self.graph = graph
        self.maker = {number: place for place, node in enumerate(graph.nodes) for number in node.outputs}
        self.old = {graph.inputs[old]: 1 << bit for bit, (old, _) in enumerate(updates)}
        self.new = {graph.outputs[new]: 1 << bit for bit, (_, new) in enumerate(updates)}
        self.serves = self._serves()

    def run(self) -> Iterator[Node]:
        """The nodes: others as they stand, each followed by the updates that waited for it."""
        due: dict[int, list[int]] = {}
        behind = self._behind()
        for place, bits in sorted(self.serves.items()):
            due.setdefault(min(behind[bit] for bit in behind if bit & bits), []).append(place)
        for position in range(-1, len(self.graph.nodes)):
            if position >= 0 and position not in self.serves:
                yield self.graph.nodes[position]
            for place in due.get(position, ()):
                yield self.graph.nodes[place]

    def _serves(self) -> dict[int, int]:
        """Per node that belongs to updates, and to nothing else, to which."""
        from_afar: set[int] = set()
        for node in self.graph.nodes:
            if (isinstance(node.op, Boxing) and node.op.hosts) or not from_afar.isdisjoint(node.inputs):
                from_afar.update(node.outputs)
        needed = {*(number for number in self.graph.outputs if number not in self.new), *from_afar}
        served = dict(self.new)
        found: dict[int, int] = {}
        for place in range(len(self.graph.nodes) - 1, -1, -1):
            node = self.graph.nodes[place]
            bits = 0
            for number in node.outputs:
                bits |= served.get(number, 0)
            if not _is_part(node) or not needed.isdisjoint(node.outputs):
                needed.update(node.inputs)
            elif bits:
                found[place] = bits
                served.update((number, served.get(number, 0) | bits) for number in node.inputs)
        return found

    def _behind(self) -> dict[int, int]:
        """Per set of updates that run together the node behind which they can."""
        begun: dict[int, int] = {}
        for place, bits in self.serves.items():
            for number in self.graph.nodes[place].inputs:
                maker = self.maker.get(number, -1)
                if maker not in self.serves and maker >= 0:
                    begun[maker] = begun.get(maker, 0) | bits
        behind = dict.fromkeys(self.new.values(), max(may_raise(self.graph), default=-1))
        for place, bits in (*begun.items(), *self._last_reads()):
            together = {mask: behind.pop(mask) for mask in list(behind) if mask & bits}
            merged = 0
            for mask in together:
                merged |= mask
            if place in begun:
                behind[merged] = max(place, *together.values())
            else:
                behind.update((mask, max(place, position)) for mask, position in together.items())
        return behind

    def _last_reads(self) -> list[tuple[int, int]]:
        """(node, update) such that nothing else after the node reads what the update replaces."""
        same = dict(self.old)
        last: dict[int, int] = {}
        for place, node in enumerate(self.graph.nodes):
            bits = 0
            for number in node.inputs:
                bits |= same.get(number, 0)
            if bits and (isinstance(node.op, Boxing) or not makes_memory(node.op)):
                same.update((number, same.get(number, 0) | bits) for number in node.outputs)
            if place not in self.serves:
                last.update((bit, place) for bit in self.old.values() if bit & bits)
        return [(place, bit) for bit, place in last.items()]


def _is_part(node: Node) -> bool:
    """Whether a node may be part of an update: it works element by element, or changes nothing but the layout."""
    return isinstance(node.op, Boxing) or node.op.scalar != "" or not makes_memory(node.op) or not node.inputs
