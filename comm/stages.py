"""One rank's part in a plan, cut where it would wait: what every stage does, and the memory that lives between two.

A plan of n steps has n + 1 stages: stage k finishes step k - 1 and starts the messages of step k. Between two stages a
rank does something else. Meanwhile its messages are sent from, and received into, the source block, the target block,
or *staging*: memory that lives from one stage to the next. All of it the caller gives, and leaves alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, Literal

import numpy as np

from flowcore.comm.boxing import BoxingPlan
from flowcore.comm.collectives import collective
from flowcore.comm.execute import execute
from flowcore.comm.route import range_of, within_hosts
from flowcore.comm.steps import RankStep
from flowcore.comm.transport import Array, Begun, Transport
from flowcore.comm.walk import Walk
from flowcore.placement.errors import FlowcoreError
from flowcore.placement.layout import Box, Shape, box_shape, box_size

LINE = 64
"""Bytes of a cache line, at which what lies in staging begins."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What a stage of a rank takes and gives.

    takes_source: whether it reads the source block, or messages of the step before do. target: whether the target block
    begins to be in this stage, or was there before. staging: bytes that live from this stage to the next.
    """

    takes_source: bool
    target: Literal["", "makes", "takes"]
    staging: int


@lru_cache(maxsize=4096)
def stages_of(plan: BoxingPlan, rank: int) -> tuple[Stage, ...]:
    """The stages of `rank`, one more than the plan has steps."""
    mine, count = plan.for_rank(rank), len(plan.steps)
    begins, ends = 0 if mine.fills else count, -1 if mine.held is None else 0
    staging = [0] * (count + 1)
    is_kept: dict[Box, bool] = {}

    def piece(box: Box) -> int:
        return -(-box_size(box) * plan.dtype.itemsize // LINE) * LINE

    for number, step in enumerate(mine.steps):
        for send in step.sends:
            from_source = step.reads == "source"
            lies_in = mine.held if from_source else mine.needed if is_kept[send.box] else send.box
            is_whole = _is_range(lies_in, send.box)
            staging[number] += 0 if is_whole else piece(send.box)
            if from_source:
                ends = max(ends, number + is_whole)
        for receive in step.receives:
            lands = step.kind == "reduce" or not _is_range(mine.needed, receive.box)
            staging[number] += piece(receive.box) if lands else 0
            if step.kind == "move":
                begins = min(begins, number + lands)
        if step.copies and step.reads == "source":
            begins, ends = min(begins, number), max(ends, number)
        is_kept = {reduction.box: reduction.is_kept for reduction in step.reductions} if step.reductions else is_kept
        for reduction in step.reductions:
            staging[number + 1] += 0 if reduction.is_kept else piece(reduction.box)
            begins = min(begins, number + 1) if reduction.is_kept else begins
            ends = max(ends, number + 1) if -1 in reduction.terms else ends
    has_target = mine.needed is not None
    return tuple(
        Stage(
            number <= ends,
            ("takes" if number > begins else "makes" if number == begins else "") if has_target else "",
            staging[number],
        )
        for number in range(count + 1)
    )


def _is_range(origin: Box | None, box: Box) -> bool:
    """Whether `box` is one range of memory of the block that covers `origin`."""
    assert origin is not None
    inside = tuple((a - start, b - start) for (a, b), (start, _) in zip(box, origin, strict=True))
    return range_of(box_shape(origin), inside) is not None


class UnderWay:
    """A change of layout of `rank` that is under way: its stages, called one after the other."""

    def __init__(self, plan: BoxingPlan, rank: int) -> None:
        self.plan, self.rank = plan, rank
        self.steps: tuple[RankStep, ...] = plan.for_rank(rank).steps
        self._walk: Walk | None = None
        self._begun: Begun = None
        self._staging: Array | None = None
        self._used = 0

    def run(
        self, number: int, transport: Transport, block: Array | None, target: Array | None, staging: Array | None
    ) -> None:
        """Stage `number`; what it does not take or give is None. `block` is the same in all stages that take it."""
        if number == 0:
            if block is not None and not block.flags.c_contiguous:  # it may be a user's; staging is for others
                block = block.copy()
            self._walk = Walk(self.plan, self.rank, block, self._take)
        walk = self._walk
        assert walk is not None
        self._staging, self._used = staging, 0
        if target is not None and walk.result is None:
            walk.begin(target)
        if number:
            self._finish(transport)
            walk.finish(self.steps[number - 1])
        if number == len(self.steps):
            self._walk = self._staging = None
            return
        sends, receives = walk.post(self.steps[number])
        if sends or receives:
            self._begun = transport.start(sends, receives)

    def abandon(self, transport: Transport, waits: bool) -> None:
        """Let the messages under way arrive, after an error in between: their memory is needed for something else.

        waits: whether they may still come.
        """
        self._walk = self._staging = None
        begun, self._begun = self._begun, None
        if begun is None:
            return
        try:
            if waits:
                transport.finish(begun)
                return
        except FlowcoreError:  # nobody sends them any more; the error that is being raised says more
            pass
        transport.drop(begun)

    def _finish(self, transport: Transport) -> None:
        if self._begun is not None:
            transport.finish(self._begun)
            self._begun = None

    def _take(self, shape: Shape) -> Array:
        """The next piece of staging."""
        dtype: np.dtype[Any] = self.plan.dtype
        assert self._staging is not None
        start, size = self._used, prod(shape) * dtype.itemsize
        self._used += -(-size // LINE) * LINE
        return self._staging[start : start + size].view(dtype).reshape(shape)


def execute_into(
    plan: BoxingPlan, transport: Transport, block: Array | None, target: Array | None, staging: Sequence[Any]
) -> Array | None:
    """`execute`, into `target`, with two pieces of `staging` that stages use in turn; none where they need none."""
    if within_hosts(plan, getattr(transport, "hosts", ())) and hasattr(transport, "carry"):
        found = execute(plan, transport, block)
        if target is not None and found is not None:
            np.copyto(target, found)
        return target
    if collective(plan, transport, block, target) is None:
        transfer = UnderWay(plan, transport.rank)
        for number, stage in enumerate(stages_of(plan, transport.rank)):
            transfer.run(number, transport, block, target, staging[number % 2] if stage.staging else None)
    return target
