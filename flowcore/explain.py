"""`explain_boxing`: what changing the layout of a tensor would move, in this world or far beyond it; nothing runs."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

from flowcore.comm.explain import BoxingExplanation, explain
from flowcore.dtypes import as_dtype
from flowcore.errors import PlacementError, ShapeError
from flowcore.placement.layout import Layout
from flowcore.placement.machine import Machine
from flowcore.world import current

__all__ = ["BoxingExplanation", "explain_boxing"]


def explain_boxing(
    shape: int | Sequence[int], dtype: Any, source: Layout, target: Layout, machine: Machine | None = None
) -> BoxingExplanation:
    """How a tensor gets from layout `source` to layout `target`: steps, messages, bytes, bound, time, other ways.

    The ranks need not exist. `machine`: whose costs to reckon with; by default this world's. ShapeError for what is no
    shape, PlacementError where a layout does not fit the tensor.
    """
    try:
        lengths = tuple(index(length) for length in (shape if isinstance(shape, Sequence) else (shape,)))
    except TypeError:
        lengths = (-1,)
    if any(length < 0 for length in lengths):
        raise ShapeError(f"shape {shape!r} is not a list of lengths: give integers from 0, as (1024, 64)")
    for layout in (source, target):
        if not isinstance(layout, Layout):
            raise PlacementError(f"{layout!r} is not a layout: give fc.Layout(placement, sbp)")
    return explain(lengths, as_dtype(dtype), source, target, current().machine if machine is None else machine)
