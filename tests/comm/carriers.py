"""Plans run through shared memory by threads of one process: each rank with its own arena in one segment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from flowcore.comm.arena import NoRoom
from flowcore.comm.boxing import BoxingPlan
from flowcore.comm.carrier import Carrier
from flowcore.comm.group import MOST, Group, lines_of
from flowcore.comm.route import route_of
from flowcore.comm.segment import Segment
from flowcore.comm.walk import simulate
from tests.comm.tensors import Array


class Host:
    """`ranks` ranks that share a segment, and nothing else."""

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self.segment = Segment.create(ranks)
        self.carriers = [Carrier(self.segment, rank) for rank in range(ranks)]
        self._groups: dict[tuple[int, ...], list[Group]] = {}

    def groups(self, ranks: tuple[int, ...]) -> list[Group]:
        """The group of `ranks` as each of them sees it."""
        found = self._groups.get(ranks)
        if found is None:
            at = self.carriers[ranks[0]].arena.lines(lines_of(len(ranks)))
            words = self.segment.words
            found = self._groups[ranks] = [Group(ranks, rank, words, at, wait_long, 20) for rank in ranks]
        return found

    def run(
        self, plan: BoxingPlan, blocks: dict[int, Array], small: int = MOST, moves: bool = True
    ) -> dict[int, Array]:
        """The target blocks; what needs no memory of others is simulated."""
        routes = {rank: route_of(plan, rank, [0] * self.ranks, small, moves) for rank in plan.ranks}
        if None in routes.values():
            return simulate(plan, blocks)
        groups = dict(zip(plan.ranks, self.groups(plan.ranks), strict=True))

        def carry(rank: int) -> Any:
            route = routes[rank]
            assert route is not None
            return self.carriers[rank].way(plan, route, groups[rank]).carry(blocks.get(rank), 7, agree)

        results = on_threads(plan.ranks, carry)
        return {rank: block for rank, block in results.items() if block is not None}


def on_threads(ranks: Sequence[int], call: Callable[[int], Any]) -> dict[int, Any]:
    """What `call` gave for every rank; raises what it raised for the first that failed."""
    results: dict[int, Any] = {}

    def live(rank: int) -> None:
        try:
            results[rank] = call(rank)
        except (Exception, NoRoom) as error:
            results[rank] = error

    threads = [threading.Thread(target=live, args=(rank,), daemon=True) for rank in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "a rank hangs"
    for result in results.values():
        if isinstance(result, BaseException):
            raise result
    return results


def wait_long(is_done: Callable[[], bool], missing: Callable[[], frozenset[int]]) -> None:
    """Poll."""
    deadline = time.monotonic() + 10
    while not is_done():
        assert time.monotonic() < deadline, f"ranks {sorted(missing())} do not come"
        time.sleep(0)


def agree(group: Group, digest: int) -> None:
    """Wait, and compare."""
    group.wait()
    assert group.agree(digest)
