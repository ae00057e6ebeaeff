"""The plans that one collective of a transport carries out with exactly the same bytes, and how.

A transport may offer collectives (`AllGathers`); where it does not, or no row of the table fits, a plan's own messages
are exchanged. Reductions are never left to a collective: their order is the plan's, so that results are the same on
every rank, in every run, over every transport.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from flowcore.comm.transport import Transport
from flowcore.placement.layout import box_shape, box_size, whole

if TYPE_CHECKING:
    from flowcore.comm.boxing import BoxingPlan

Array = np.ndarray[Any, Any]
LONGEST = (1 << 31) - 1
"""Bytes that MPI counts hold everywhere."""


@runtime_checkable
class AllGathers(Protocol):
    """A transport with an all-gather of blocks of any sizes."""

    def all_gather_v(self, ranks: tuple[int, ...], block: Array, out: Array, counts: tuple[int, ...]) -> None:
        """Fill `out` with the contiguous `block` of every rank of `ranks`, in their order; `counts` in bytes."""
        ...


def gathered_counts(plan: BoxingPlan) -> tuple[int, ...] | None:
    """Bytes of every source rank's block, where the blocks laid end to end are the target block of all; else None.

    That is: the same ranks, slices along dimension 0 in the order of ranks, and the whole tensor on each. Of two ranks
    each sends one message, and a collective, which must be non-blocking to be watched, was measured slower.
    """
    ranks = plan.source.placement.ranks
    if (
        plan.kind != "all_gather"
        or len(ranks) < 3
        or not plan.target.is_broadcast
        or set(ranks) != set(plan.target.placement.ranks)
    ):
        return None
    boxes = list(plan.source.boxes(plan.shape).values())
    at = 0
    for box in boxes:
        if box[0][0] != at or box[1:] != whole(plan.shape)[1:]:
            return None
        at = box[0][1]
    counts = tuple(box_size(box) * plan.dtype.itemsize for box in boxes)
    return counts if at == plan.shape[0] and sum(counts) <= LONGEST else None


def collective(
    plan: BoxingPlan, transport: Transport, block: Array | None, out: Array | None = None
) -> Array | None:
    """The target block by one collective, where `transport` has one that does exactly what `plan` does; else None.

    out: its memory.
    """
    counts = plan.gathered
    if counts is None or block is None or not isinstance(transport, AllGathers):
        return None
    out = np.empty(box_shape(whole(plan.shape)), plan.dtype) if out is None else out
    transport.all_gather_v(plan.source.placement.ranks, np.ascontiguousarray(block), out, counts)
    return out
