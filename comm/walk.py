"""One rank's walk through a plan: its blocks, and what it posts and finishes in every step; `simulate` walks all ranks.

A walk never sees a transport: `post` gives the buffers to send and to receive into, `finish` uses what arrived. So
real transports, threads and the in-process simulation run the very same code. The memory it needs it asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from flowcore.comm.boxing import BoxingPlan
from flowcore.comm.reduction import identity, reduce_terms
from flowcore.comm.steps import RankStep
from flowcore.placement.errors import PlacementError
from flowcore.placement.layout import Box, Shape, box_shape

Array = np.ndarray[Any, Any]
Buffers = list[tuple[int, Array]]


class Walk:
    """The state of one rank during a plan; `result` is its target block, None outside the target placement.

    take: gives memory of a shape. Where the caller gives it, it also says with `begin` where the target block lies.
    """

    def __init__(
        self, plan: BoxingPlan, rank: int, block: Array | None, take: Callable[[Shape], Array] | None = None
    ) -> None:
        self.plan, self.mine = plan, plan.for_rank(rank)
        self.block = check_block(plan, rank, block)
        self.take: Callable[[Shape], Array] = take or partial(np.empty, dtype=plan.dtype)
        self.result: Array | None = None
        if take is None and self.mine.needed is not None:
            self.begin(np.empty(box_shape(self.mine.needed), plan.dtype))
        self._reduced: dict[Box, Array] = {}
        self._landing: list[tuple[Box, Array]] = []
        self._arrived: list[Array] = []

    def begin(self, result: Array) -> None:
        """Let `result` be the target block."""
        self.result = result
        for box, op in self.mine.fills:
            _view(result, self.mine.needed, box)[...] = identity(op, self.plan.dtype)

    def post(self, step: RankStep) -> tuple[Buffers, Buffers]:
        """(sends, receives) of `step`, every buffer contiguous; what this rank has already is copied."""
        sends = [(send.peer, self._packed(self._readable(step, send.box))) for send in step.sends]
        for box in step.copies:
            if step.reads == "source":
                _view(self.result, self.mine.needed, box)[...] = _view(self.block, self.mine.held, box)
        receives: Buffers = []
        self._landing.clear()
        for receive in step.receives:
            is_there = step.kind == "move" and self.result is not None
            place = _view(self.result, self.mine.needed, receive.box) if is_there else None
            if place is not None and place.flags.c_contiguous:
                receives.append((receive.peer, place))
                continue
            buffer = self.take(box_shape(receive.box))
            receives.append((receive.peer, buffer))
            if step.kind == "move":
                self._landing.append((receive.box, buffer))
        self._arrived = [buffer for _, buffer in receives]
        return sends, receives

    def finish(self, step: RankStep) -> None:
        """Put what arrived in its place, reduce terms."""
        for box, buffer in self._landing:
            _view(self.result, self.mine.needed, box)[...] = buffer
        if step.kind == "reduce":
            self._reduced.clear()
        for reduction in step.reductions:
            own = _view(self.block, self.mine.held, reduction.box) if -1 in reduction.terms else None
            terms = [own if index < 0 else self._arrived[index] for index in reduction.terms]
            if reduction.is_kept:
                out = _view(self.result, self.mine.needed, reduction.box)
            else:
                out = self.take(box_shape(reduction.box))
            reduce_terms(terms, self.plan.levels, out)  # type: ignore[arg-type]  # own is set where it is a term
            self._reduced[reduction.box] = out
        self._arrived = []

    def _packed(self, array: Array) -> Array:
        """`array`, in memory of its own where its elements lie apart."""
        if array.flags.c_contiguous:
            return array
        packed = self.take(array.shape)
        packed[...] = array
        return packed

    def _readable(self, step: RankStep, box: Box) -> Array:
        return self._reduced[box] if step.reads == "reduced" else _view(self.block, self.mine.held, box)


def simulate(plan: BoxingPlan, blocks: Mapping[int, Array]) -> dict[int, Array]:
    """The target block of every rank, from the source blocks: all ranks walked in one thread."""
    walks = {rank: Walk(plan, rank, blocks.get(rank)) for rank in plan.ranks}
    for number in range(len(plan.steps)):
        posted = {rank: walk.post(walk.mine.steps[number]) for rank, walk in walks.items()}
        waiting: dict[tuple[int, int], list[Array]] = {}
        for rank, (sends, _) in posted.items():
            for peer, buffer in sends:
                waiting.setdefault((rank, peer), []).append(buffer.copy())
        for rank, (_, receives) in posted.items():
            for peer, buffer in receives:
                buffer[...] = waiting[peer, rank].pop(0).reshape(buffer.shape)
        left = [pair for pair, queue in waiting.items() if queue]
        assert not left, f"messages never received: {left}"
        for walk in walks.values():
            walk.finish(walk.mine.steps[number])
    return {rank: walk.result for rank, walk in walks.items() if walk.result is not None}


def _view(block: Array | None, held: Box | None, box: Box) -> Array:
    """The part of `block`, which covers `held`, that covers `box`."""
    assert block is not None and held is not None
    index = [slice(a - origin, b - origin) for (a, b), (origin, _) in zip(box, held, strict=True)]
    view: Array = block[(*index, ...)]  # type: ignore[arg-type]  # the stubs know no slices before an ellipsis
    return view


def check_block(plan: BoxingPlan, rank: int, block: Array | None) -> Array | None:
    """`block` if it is what the source layout says `rank` holds; PlacementError otherwise."""
    held = plan.for_rank(rank).held
    if held is None:
        return None
    if block is None:
        raise PlacementError(f"rank {rank} holds a block of {plan.source} but gave none: pass its block")
    if block.shape != box_shape(held) or block.dtype != plan.dtype:
        raise PlacementError(
            f"rank {rank} gave a block {block.dtype}{list(block.shape)} but holds {plan.dtype}{list(box_shape(held))} "
            f"of {list(plan.shape)} laid out as {plan.source}: pass the block of that layout"
        )
    return block
