"""A boxing plan and a rank's source block → its target block, over any transport."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowcore.comm.boxing import BoxingPlan
from flowcore.comm.collectives import collective
from flowcore.comm.transport import Meeting, Transport
from flowcore.comm.walk import Walk, check_block

Array = np.ndarray[Any, Any]


def execute(
    plan: BoxingPlan, transport: Transport, block: Array | None, meeting: Meeting | None = None
) -> Array | None:
    """The block of the target layout on this rank; None where it has none. Every rank of the plan must call it.

    Where nothing changes it is `block` itself, else a contiguous array that nobody may write to and nobody does.
    `meeting`: what the ranks of the plan meet on before any data moves, where they have not met already.
    """
    if plan.kind == "none":
        return block
    carry = getattr(transport, "carry", None)
    if carry is not None:
        return carry(plan, block, meeting)  # type: ignore[no-any-return]  # see `transport.Shares`
    if meeting is not None:
        transport.meet(*meeting)
    return exchanged(plan, transport, block)


def exchanged(plan: BoxingPlan, transport: Transport, block: Array | None) -> Array | None:
    """The target block by messages, or by one collective of the transport."""
    if plan.gathered is not None:
        gathered = collective(plan, transport, check_block(plan, transport.rank, block))
        if gathered is not None:
            return gathered
    walk = Walk(plan, transport.rank, block)
    for step in walk.mine.steps:
        sends, receives = walk.post(step)
        if sends or receives:
            transport.exchange(sends, receives)
        walk.finish(step)
        del sends, receives  # or the next step would be posted while the buffers of this one are still held
    return walk.result
