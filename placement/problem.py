"""The planner's problem as plain data: steps with candidate signatures, values they share, and what a change costs.

It knows no operators and no graph. A *value* is produced once, in the layout its producer's candidate gives it, and
read by steps each in the layout that step's candidate wants; every layout in which it is wanted and not produced
costs one change of layout, however many steps want it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from flowcore.placement.cost import received_bytes
from flowcore.placement.layout import Layout, Shape
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import NdSbp, Partial

Cost = tuple[int, int, int]
"""Bytes received over all ranks; changes of layout; elements computed by the busiest rank: compared in this order."""

FREE: Cost = (0, 0, 0)


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


@dataclass(slots=True)
class Prices:
    """What each change of layout of each value costs; remembers what it was asked."""

    items: tuple[Item, ...]
    known: dict[tuple[int, NdSbp, Placement, NdSbp], Cost] = field(default_factory=dict)

    def change(self, number: int, source: NdSbp, placement: Placement, target: NdSbp) -> Cost:
        """The cost of having value `number`, produced as `source`, also as `target` on `placement`."""
        item = self.items[number]
        if source == target and item.placement == placement:
            return FREE
        key = (number, source, placement, target)
        cost = self.known.get(key)
        if cost is None:
            moved = received_bytes(item.shape, item.itemsize, Layout(item.placement, source), Layout(placement, target))
            cost = self.known[key] = (moved, 1, 0)
        return cost


def add(a: Cost, b: Cost) -> Cost:
    """The sum of two costs."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]
