"""What every plan must obey, measured: what each rank receives, who sends it, and what really passes a transport.

Each law is computed here from the layouts and nothing else, so that the planner is never its own judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from flowcore.comm.boxing import BoxingPlan
from flowcore.comm.counting import CountingTransport
from flowcore.comm.execute import execute
from flowcore.comm.steps import STAGING
from flowcore.comm.threads import ThreadWorld
from flowcore.comm.walk import simulate
from flowcore.placement.layout import Layout, box_size, intersect
from tests.comm.tensors import Array, check_boxing

RANKS = 24
Run = Callable[[BoxingPlan, dict[int, Array]], dict[int, Array]]


@dataclass(frozen=True)
class Tally:
    """How many transitions were checked, how many of them above their bound, bytes moved and least possible."""

    transitions: int
    above: int
    moved: int
    bound: int

    def __str__(self) -> str:
        ratio = self.moved / self.bound if self.bound else 1
        return f"{self.transitions} transitions, {self.above} above the bound, {ratio:.2f} x the bound in total"


def check_all(
    cases: Iterable[tuple[tuple[int, ...], Layout, Layout]], dtype: Any = np.float32, run: Run | None = None
) -> Tally:
    """Run every case, on threads that count what passes unless `run` says otherwise, and check every law."""
    count = above = moved = bound = 0
    for shape, source, target in cases:
        plan = check_boxing(shape, source, target, dtype, run or run_on_threads)
        least = least_received(plan)
        check_senders(plan)
        assert flops(plan) == plan.flops, plan.text()
        assert max(plan.peak_temporary.values()) <= STAGING
        count, above, moved, bound = (
            count + 1,
            above + (plan.bytes_moved > least),
            moved + plan.bytes_moved,
            bound + least,
        )
    tally = Tally(count, above, moved, bound)
    print(tally)
    assert above == 0
    return tally


def least_received(plan: BoxingPlan) -> int:
    """Bytes no plan can undercut; asserts that, where nothing is partial, no rank receives more than it must.

    With partial axes it is the plan's own bound: the least of all plans that reduce each element once.
    """
    if plan.source.is_partial or plan.target.is_partial:
        return plan.bound
    held, needed = plan.source.boxes(plan.shape), plan.target.boxes(plan.shape)
    lacks = dict.fromkeys(plan.ranks, 0)
    for rank, box in needed.items():
        common = intersect(box, held[rank]) if rank in held else None
        lacks[rank] = (box_size(box) - (0 if common is None else box_size(common))) * plan.dtype.itemsize
    assert plan.received == lacks, plan.text()
    return sum(lacks.values())


def check_senders(plan: BoxingPlan) -> None:
    """No rank sends more than one block above an equal share of what its replicas together must send.

    Replicas of a value that is not partial hold the same box; of one that is, also the same coordinates on its
    partial axes. What leaves them is the same for every plan that moves the least, so the share is the least possible.
    """
    loads: dict[Any, dict[int, int]] = {}
    partial = [axis for axis, part in enumerate(plan.source.sbp) if str(part).startswith("P")]
    for rank, box in plan.source.boxes(plan.shape).items():
        at = plan.source.placement.coordinate(rank)
        loads.setdefault((box, tuple(at[axis] for axis in partial)), {})[rank] = 0
    replicas = {rank: load for load in loads.values() for rank in load}
    largest = 0
    for step in plan.steps:
        if step.reads == "source":
            size = np.where(step.source == step.target, 0, step.sizes()) * plan.dtype.itemsize
            for giver, count in zip(step.source.tolist(), size.tolist(), strict=True):
                replicas[giver][giver] += count
                largest = max(largest, count)
    least = max(sum(load.values()) / len(load) for load in loads.values())
    assert max(max(load.values()) for load in loads.values()) <= least + largest, plan.text()


def flops(plan: BoxingPlan) -> int:
    """Reductions of one element that all ranks do, counted rank by rank."""
    steps = (step for rank in plan.ranks for step in plan.for_rank(rank).steps)
    return sum((len(r.terms) - 1) * box_size(r.box) for step in steps for r in step.reductions)


def run_on_threads(plan: BoxingPlan, blocks: dict[int, Array]) -> dict[int, Array]:
    """The target blocks, by ranks that really run at once; asserts that every rank's counted traffic is the plan's."""
    world = ThreadWorld(max(plan.ranks) + 1, timeout=20)
    transports = {rank: CountingTransport(world.transport(rank)) for rank in plan.ranks}

    def live(rank: int) -> Array | None:
        try:
            return execute(plan, transports[rank], blocks.get(rank))
        except BaseException as error:
            transports[rank].fail(error)
            raise

    assert len(plan.ranks) <= RANKS, "every rank needs a thread of its own"
    running = {rank: threads().submit(live, rank) for rank in plan.ranks}
    results = {rank: future.result() for rank, future in running.items()}
    assert {rank: transport.bytes_sent for rank, transport in transports.items()} == plan.sent
    assert {rank: transport.bytes_received for rank, transport in transports.items()} == plan.received
    assert sum(transport.messages_sent for transport in transports.values()) == plan.messages
    return {rank: block for rank, block in results.items() if block is not None}


@cache
def threads() -> ThreadPoolExecutor:
    """Threads that live as long as the tests: starting some for each of thousands of transitions would cost more."""
    return ThreadPoolExecutor(RANKS)


__all__ = ["check_all", "check_senders", "least_received", "run_on_threads", "simulate"]
