"""When transfers between hosts begin and end: a physical graph in its order → the stages to do before each node.

A transfer is under way for as long as it is predicted to take (`AMPLE` times that: predictions are rough), at the end
of its span at which memory is less. One after which a rank holds no more than before (a gradient that is reduced)
begins when its operand is there; one after which it holds more (a parameter that is gathered) ends when its result is
read. So gradients leave when they are there and parameters are fetched before they are read, by one law. Messages of
transfers under way share a link and wait for each other there; and all that is under way takes no more bytes than the
largest transfer does and a little more, so a gather begins at the earliest when the one before has ended, but what
carries a weight need not end because a bias is sent.

All ranks do their stages in this one order. A stage waits for nothing but messages that others start in stages before
it: of all stages not done yet, the first in the order can always be done, and so no rank waits for ever.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from types import MappingProxyType

from flowcore.boxing_op import Boxing
from flowcore.comm.price import step_seconds
from flowcore.computing import node_seconds
from flowcore.graph import Graph, Node
from flowcore.passes.late import crosses
from flowcore.placement.layout import box_size
from flowcore.placement.machine import Machine

AMPLE = 2.0
"""For how many times the predicted time a transfer is under way, where nothing else decides."""
LEEWAY = 9 / 8
"""All that is under way takes at most so many times the bytes of the largest transfer."""
PAUSE = 200e-6
"""The seconds of computing after which what is under way is looked at."""
Moment = tuple[int, int]
"""A transfer, by the position of its node, and a stage of it."""


@dataclass(frozen=True)
class Timetable:
    """Per position the stages to do before the node there (behind the last: before the end), in order.

    nudges: positions at which messages that are under way are helped on.
    """

    stages: Mapping[int, tuple[Moment, ...]] = field(default_factory=dict)
    nudges: frozenset[int] = frozenset()

    @property
    def spans(self) -> dict[int, tuple[int, int]]:
        """Per transfer the positions before which it begins and ends."""
        found: dict[int, tuple[int, int]] = {}
        for position in sorted(self.stages):
            for place, _ in self.stages[position]:
                found[place] = found.get(place, (position, position))[0], position
        return found


@dataclass
class _Transfer:
    """A transfer of `bytes` (before and after it) at `place` that may begin at `ready` and must have ended at `use`.

    seconds: of its steps. grows: whether a rank holds more after it. at: the positions of its stages.
    """

    place: int
    seconds: Sequence[float]
    ready: int
    use: int
    bytes: int
    grows: bool
    at: list[int] = field(default_factory=list)
    is_free: bool = True
    """Whether it may begin before others end at the same position."""

    def is_last(self, number: int) -> bool:
        """Whether it ends with this stage."""
        return number == len(self.seconds)


@lru_cache(maxsize=16)
def _kept(graph: Graph, machine: Machine, together: tuple[tuple[int, int], ...]) -> Timetable:
    return _Planner(graph, machine, dict(together)).run()


def timetable(graph: Graph, machine: Machine, together: Mapping[int, int] = MappingProxyType({})) -> Timetable:
    """The stages of all transfers between hosts; empty where nothing could be done meanwhile.

    together: neighbours that are of one number stay neighbours.
    """
    if not any(isinstance(node.op, Boxing) and node.op.hosts for node in graph.nodes):
        return Timetable()
    return _kept(graph, machine, tuple(sorted(together.items())))


class _Planner:
    def __init__(self, graph: Graph, machine: Machine, together: Mapping[int, int]) -> None:
        self.graph, self.machine, self.together = graph, machine, together
        self.count = len(graph.nodes)
        costs = (node_seconds(graph, node, machine) for node in graph.nodes)
        self.clock = [0.0, *accumulate(costs)]
        """Per position the seconds computed before it."""
        self.maker = {number: place for place, node in enumerate(graph.nodes) for number in node.outputs}
        self.first: dict[int, int] = {}
        for place, node in enumerate(graph.nodes):
            for number in node.inputs:
                self.first.setdefault(number, place)
        self.transfers = {p: self._transfer(p, node) for p, node in enumerate(graph.nodes) if crosses(graph, node)}
        for transfer in self.transfers.values():
            transfer.use = self._use(transfer.place)
        self.limit = LEEWAY * max((transfer.bytes for transfer in self.transfers.values()), default=0)

    def run(self) -> Timetable:
        """Transfers in their order, each as soon or as late as the law says."""
        deadlines = self._deadlines()
        free = 0.0
        for place, transfer in self.transfers.items():
            source = self.maker.get(self.graph.nodes[place].inputs[0], -1)
            before = self.transfers.get(source)
            if before is not None:
                transfer.ready, transfer.is_free = before.at[-1], False
            if transfer.grows:
                self._place_late(transfer, deadlines[place])
            else:
                free = self._place_early(transfer, free)
        if all(self.clock[transfer.at[0]] == self.clock[transfer.at[-1]] for transfer in self.transfers.values()):
            return Timetable()
        moments = sorted(
            (position, not (transfer.is_free and number == 0), transfer.place, number)
            for transfer in self.transfers.values()
            for number, position in enumerate(transfer.at)
        )
        found: dict[int, list[Moment]] = {}
        for position, _, place, number in moments:
            found.setdefault(position, []).append((place, number))
        return Timetable({position: tuple(each) for position, each in found.items()}, self._nudges(found))

    def _nudges(self, stages: Mapping[int, Sequence[Moment]]) -> frozenset[int]:
        """Where so much has been computed since messages were last looked at that they are worth a look."""
        found, last, under_way = set[int](), 0.0, set[int]()
        for position in range(self.count):
            if position in stages:
                last = self.clock[position]
                under_way.update(place for place, number in stages[position] if number == 0)
                under_way -= {place for place, number in stages[position] if self.transfers[place].is_last(number)}
            elif under_way and self.clock[position] - last >= PAUSE and not self._is_inside(position):
                last = self.clock[position]
                found.add(position)
        return frozenset(found)

    def _transfer(self, place: int, node: Node) -> _Transfer:
        assert isinstance(node.op, Boxing)
        type = self.graph.values[node.inputs[0]].type
        source, target = (
            max(box_size(box) for box in layout.boxes(type.shape).values()) * type.dtype.itemsize
            for layout in node.op.layouts
        )
        ready = self._up(self.maker.get(node.inputs[0], -1) + 1)
        seconds = step_seconds(node.op.plan(type), self.machine)
        return _Transfer(place, seconds, ready, self.count, source + target, target > source)

    def _use(self, place: int) -> int:
        """Where a result is first read, by what is no transfer between hosts itself."""
        (number,) = self.graph.nodes[place].outputs
        readers = [p for p, node in enumerate(self.graph.nodes) if number in node.inputs]
        return min((self._use(p) if p in self.transfers else self._down(p) for p in readers), default=self.count)

    def _deadlines(self) -> dict[int, float]:
        """Per gather when its messages must have arrived, so that the link has time for those that are read later."""
        found, link = {}, float("inf")
        for place, transfer in sorted(self.transfers.items(), key=lambda pair: (-pair[1].use, -pair[0])):
            if transfer.grows:
                found[place] = min(self.clock[transfer.use], link)
                link = found[place] - sum(transfer.seconds)
        return found

    def _place_late(self, transfer: _Transfer, deadline: float) -> None:
        """Begin so that the messages have arrived at `deadline`, end at the first use."""
        left = [sum(transfer.seconds[number:]) for number in range(len(transfer.seconds))]
        wanted = [bisect_right(self.clock, deadline - AMPLE * seconds) - 1 for seconds in left]
        begin = min(max(self._down(max(wanted[0], 0)), transfer.ready), transfer.use)
        others = [other for other in self.transfers.values() if other.at and other.grows]
        while sum(other.bytes for other in others if other.at[0] <= begin < other.at[-1]) + transfer.bytes > self.limit:
            begin = min(other.at[-1] for other in others if other.at[0] <= begin < other.at[-1])
        begin = min(begin, transfer.use)
        transfer.is_free &= all(other.at[-1] != begin for other in others)
        transfer.at = self._ordered([begin, *wanted[1:], transfer.use], transfer.use)

    def _place_early(self, transfer: _Transfer, free: float) -> float:
        """Begin at once, end when the messages should have arrived; when the link is then free."""
        begin = min(transfer.ready, transfer.use)
        others = [other for other in self.transfers.values() if other.at and not other.grows]
        alive = [other for other in others if other.at[0] <= begin < other.at[-1]]
        while sum(other.bytes for other in alive) + transfer.bytes > self.limit:
            oldest = alive.pop(0)
            oldest.at = [min(position, begin) for position in oldest.at]
        transfer.is_free &= all(other.at[-1] != begin for other in others)
        start = max(self.clock[begin], free)
        due = (start + AMPLE * seconds for seconds in accumulate(transfer.seconds))
        first = (bisect_left(self.clock, moment, hi=self.count) for moment in due)
        # what takes no time stays with what it follows: a product may come to give the transposed result
        wanted = (bisect_right(self.clock, self.clock[position]) - 1 for position in first)
        transfer.at = self._ordered([begin, *wanted], transfer.use)
        return start + sum(transfer.seconds)

    def _ordered(self, wanted: Sequence[int], use: int) -> list[int]:
        """`wanted`, none before the one before it, none behind `use`, and none between neighbours that stay so."""
        found = [wanted[0]]
        for position in wanted[1:]:
            lower = self._down(max(min(position, use), 0))
            found.append(lower if lower >= found[-1] else found[-1])
        return found

    def _up(self, position: int) -> int:
        while self._is_inside(position):
            position += 1
        return position

    def _down(self, position: int) -> int:
        while self._is_inside(position):
            position -= 1
        return position

    def _is_inside(self, position: int) -> bool:
        return position in self.together and self.together.get(position - 1) == self.together[position]
