"""A boxing plan and a rank's source block → its target block, over any transport."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowcore.comm.boxing import BoxingPlan
from flowcore.comm.collectives import collective
from flowcore.comm.transport import Transport
from flowcore.comm.walk import Walk, check_block

Array = np.ndarray[Any, Any]


def execute(plan: BoxingPlan, transport: Transport, block: Array | None) -> Array | None:
    """The block of the target layout on this rank; None where it has none. Every rank of the plan must call it.

    Where nothing changes it is `block` itself, else a new contiguous array that shares no memory with `block`.
    """
    if plan.kind == "none":
        return block
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
