"""`explain_boxing`: what changing the layout of a tensor would move, in this world or far beyond it; nothing runs."""

from __future__ import annotations

from typing import Any

from flowcore.comm.explain import BoxingExplanation, explain
from flowcore.dtypes import as_dtype
from flowcore.placement.layout import Layout, Shape
from flowcore.placement.machine import Machine
from flowcore.world import current

__all__ = ["BoxingExplanation", "explain_boxing"]


def explain_boxing(
    shape: Shape, dtype: Any, source: Layout, target: Layout, machine: Machine | None = None
) -> BoxingExplanation:
    """How a tensor gets from layout `source` to layout `target`: steps, messages, bytes, bound, time, other ways.

    The ranks need not exist. `machine`: whose costs to reckon with; by default this world's. PlacementError where a
    layout does not fit the tensor.
    """
    return explain(shape, as_dtype(dtype), source, target, current().machine if machine is None else machine)
