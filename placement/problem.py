"""The planner's problem as plain data: steps with candidate signatures, values they share, and what a change costs.

It knows no operators and no graph. A *value* is produced once, in the layout its producer's candidate gives it, and
read by steps each in the layout that step's candidate wants; every layout in which it is wanted and not produced
costs one change of layout, however many steps want it. Costs are bytes received over all ranks, then changes of
layout, then elements computed by the busiest rank, compared in this order.
"""

from __future__ import annotations

from dataclasses import dataclass

from flowcore.placement.layout import Shape
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import NdSbp, Partial


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run a step: the SBP of every input and result, and the elements its busiest rank computes."""

    inputs: tuple[NdSbp, ...]
    outputs: tuple[NdSbp, ...]
    work: int
    terms: tuple[tuple[int, int, Partial], ...] = ()
    """Where it reads terms rather than values: (position of the input, mesh axis, reduction)."""


@dataclass(frozen=True, slots=True)
class Item:
    """A value: what its layouts cost."""

    shape: Shape
    itemsize: int
    placement: Placement


@dataclass(frozen=True, slots=True)
class Step:
    """A step reads and produces values by number, on `placement`, in one of its candidates' layouts."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    placement: Placement
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Values, those whose layout is given, and the steps in topological order."""

    items: tuple[Item, ...]
    given: dict[int, NdSbp]
    steps: tuple[Step, ...]
