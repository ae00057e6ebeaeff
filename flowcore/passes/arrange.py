"""The order of what ranks of a host do, by which their meetings are few and late: physical graph → the same, ordered.

The changes of layout that stay within hosts are put in groups, equal on all ranks: a group stands where the first of
its results is read, and takes along whatever is ready by then. One meeting serves a group. A change of layout after
which a rank holds more (a gather, or another cut of a parameter, which stays) waits until it is needed, and what reads
small values waits until nothing else can be done, or many wait; but for a transfer between hosts, which is the sooner
under way the sooner its ranks have met.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace

from flowcore.boxing_op import Boxing
from flowcore.comm.route import within_hosts
from flowcore.graph import Graph, Node
from flowcore.passes.donate import roots
from flowcore.passes.late import crosses
from flowcore.placement.layout import box_size

Hosts = tuple[int, ...]
SMALL = 64 << 10
"""Bytes of a block that is gathered as soon as it can be, for one meeting to serve many."""
MANY = 4 * SMALL
"""Bytes of small values for which a meeting is not put off any more."""


def arranged(
    graph: Graph, hosts: Hosts, common: Container[int] = (), there: Container[int] = ()
) -> tuple[Graph, dict[int, int]]:
    """A physical graph with its nodes in another order, and the group of every change of layout within a host.

    common: the values for which the ranks of a host have a register in common. there: those that it holds from the
    beginning, so that nobody needs to meet for them.
    """
    shared = {
        place
        for place, node in enumerate(graph.nodes)
        if node.outputs
        and node.outputs[0] not in there
        and (node.outputs[0] in common or is_shared(graph, node, hosts))
    }
    if not shared:
        return graph, {}
    return _Arranger(graph, shared).run()


class _Arranger:
    def __init__(self, graph: Graph, shared: set[int]) -> None:
        self.graph, self.waiting = graph, dict.fromkeys(sorted(shared))
        self.maker = {n: place for place in shared for n in graph.nodes[place].outputs}
        self.known = set(graph.inputs)
        held = roots(graph)
        self.stays = {number for number in held if not held[number].isdisjoint(graph.inputs)}
        """What lies in memory that is there in any case."""
        self.nodes: list[Node] = []
        self.groups: dict[int, int] = {}
        self.count = 0
        self.sent: set[int] = set()
        """What leaves a host, and the other layouts of it before."""
        for node in reversed(graph.nodes):
            if crosses(graph, node) or (isinstance(node.op, Boxing) and not self.sent.isdisjoint(node.outputs)):
                self.sent.update((*node.inputs, *node.outputs))

    def run(self) -> tuple[Graph, dict[int, int]]:
        """Other nodes as they stand, each behind the groups whose results it reads.

        What waits for small values alone lets the others pass, so that one meeting serves many of these; not so what
        leaves the host.
        """
        made = set(self.maker.values())
        left = [node for place, node in enumerate(self.graph.nodes) if place not in made]
        while left:
            later = []
            for node in left:
                missing = [number for number in node.inputs if number not in self.known]
                is_sent = not self.sent.isdisjoint(node.outputs)
                if missing and not (self._can_bring(missing) and (is_sent or self._is_due(missing))):
                    later.append(node)
                    continue
                self._bring(missing)
                self._add(node)
            if later:
                self._bring(later[0].inputs)
            left = later
        self._bring(tuple(self.maker))
        return replace(self.graph, nodes=tuple(self.nodes)), self.groups

    def _can_bring(self, numbers: Sequence[int]) -> bool:
        """Whether these values become known by groups alone."""
        return all(
            n in self.known or (n in self.maker and self._can_bring(self.graph.nodes[self.maker[n]].inputs))
            for n in numbers
        )

    def _is_due(self, numbers: Sequence[int]) -> bool:
        """Whether these values are worth a meeting: one is large, or much waits for the next."""
        is_large = any(self._sizes(self.maker[number])[1] > SMALL for number in numbers)
        ready = [place for place in self.waiting if self._is_ready(place) and not self._grows(place)]
        return is_large or sum(self._sizes(place)[0] for place in ready) > MANY

    def _add(self, node: Node) -> None:
        self.nodes.append(node)
        self.known.update(node.outputs)

    def _bring(self, numbers: Sequence[int]) -> None:
        """Make these values known, as far as groups give them."""
        needed = {self.maker[n] for n in numbers if n in self.maker and n not in self.known}
        while needed:
            first = {p for p in needed if self._is_ready(p)}
            if not first:
                needed |= {self.maker[n] for p in needed for n in self.graph.nodes[p].inputs if n not in self.known}
                continue
            members = [p for p in self.waiting if p in first or (self._is_ready(p) and not self._grows(p))]
            for place in members:
                del self.waiting[place]
                self.groups[len(self.nodes)] = self.count
                self.nodes.append(self.graph.nodes[place])
            for place in members:
                self.known.update(self.graph.nodes[place].outputs)
            self.count += 1
            needed -= set(members)

    def _is_ready(self, place: int) -> bool:
        return all(number in self.known for number in self.graph.nodes[place].inputs)

    def _grows(self, place: int) -> bool:
        source, target = self._sizes(place)
        return target > (SMALL if self.graph.nodes[place].inputs[0] in self.stays else max(source, SMALL))

    def _sizes(self, place: int) -> tuple[int, int]:
        return most_bytes(self.graph, self.graph.nodes[place])


def most_bytes(graph: Graph, node: Node) -> tuple[int, int]:
    """The most bytes of a block of a change of layout, before and after."""
    assert isinstance(node.op, Boxing)
    type = graph.values[node.inputs[0]].type
    blocks = (
        max(box_size(layout.box(type.shape, rank)) for rank in layout.placement.ranks) for layout in node.op.layouts
    )
    source, target = (block * type.dtype.itemsize for block in blocks)
    return source, target


def is_shared(graph: Graph, node: Node, hosts: Hosts) -> bool:
    """Whether a change of layout sends bytes, and all of them stay within hosts."""
    if not isinstance(node.op, Boxing):
        return False
    plan = node.op.plan(graph.values[node.inputs[0]].type)
    return plan.messages > 0 and within_hosts(plan, hosts)
