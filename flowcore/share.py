"""Tensors whose blocks lie in memory that the ranks of a host share, so that moving them starts with no copy."""

from __future__ import annotations

from flowcore.comm.boxing import plan_boxing
from flowcore.comm.transport import Shares
from flowcore.tensor import Tensor
from flowcore.world import current

__all__ = ["share"]


def share(x: Tensor) -> Tensor:
    """`x`, its blocks moved into memory that the ranks of a host share; collective over its placement.

    Equal blocks are held once per host, and neighbouring slices side by side: changing such a tensor from split to
    broadcast copies nothing. Results of changes of layout lie there by themselves. Without shared memory, or inside a
    traced function, nothing happens.
    """
    world = current()
    transport = world.transport
    if world.trace is None and x.trace is None and x.block is not None and isinstance(transport, Shares):
        ranks = tuple(sorted(x.placement.ranks))
        world.agree(ranks, f"share of {x.value.type} on {x.layout}")
        x.block = transport.share(plan_boxing(x.shape, x.dtype, x.layout, x.layout), x.block)
    return x
