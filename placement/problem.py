"""The planner's problem as plain data: steps with candidate signatures, values they share, and what a change costs.

It knows no operators and no graph. A *value* is produced once, in the layout its producer's candidate gives it, and
read by steps each in the layout that step's candidate wants; every layout in which it is wanted and not produced
costs one change of layout, however many steps want it.

Costs are bytes received over all ranks, then predicted seconds: of changes of layout and of computing, on `machine`.

A value that lives from step to step, and whose layout is free, is given as it lies at first; the step that reads what
it becomes gives it anew, in the same layout. So that step stands behind others that read what it gives, and the search
chooses by it the layout of both ends.
"""

from __future__ import annotations

from dataclasses import dataclass

from flowcore.placement.layout import Shape
from flowcore.placement.machine import Machine
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import NdSbp, Partial


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run a step: the SBP of every input and result, and the operations its busiest rank computes."""

    inputs: tuple[NdSbp, ...]
    outputs: tuple[NdSbp, ...]
    work: int
    terms: tuple[tuple[int, int, Partial], ...] = ()
    """Where it reads terms rather than values: (position of the input, mesh axis, reduction)."""


@dataclass(frozen=True, slots=True)
class Item:
    """A value: what its layouts cost.

    gathered: where it replaces a value that all ranks hold, of which the ranks of a host keep one, and each writes its
    part: what an element counts, in bytes, when it is gathered within a host. Nothing moves then; it counts as much as
    an element of the terms that it comes from, so that reducing these whole moves as many bytes, and time decides.
    """

    shape: Shape
    itemsize: int
    placement: Placement
    gathered: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A step reads and produces values by number, on `placement`, in one of its candidates' layouts."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    placement: Placement
    candidates: tuple[Candidate, ...]


ORDINARY = Machine()


@dataclass(frozen=True, slots=True)
class Problem:
    """Values, those whose layout is given (at first), and the steps in order: each reads what is given or made before.

    machine: what changes and computing cost there.
    """

    items: tuple[Item, ...]
    given: dict[int, NdSbp]
    steps: tuple[Step, ...]
    machine: Machine = ORDINARY


@dataclass(frozen=True, slots=True)
class Compared:
    """Predicted seconds of all that follows from how the terms of a value are reduced: as chosen, and otherwise.

    is_sliced: whether they are reduced to slices, or whole.
    """

    is_sliced: bool
    chosen: float
    other: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The number of the chosen candidate of every step, and what was compared, by value."""

    numbers: tuple[int, ...]
    compared: dict[int, Compared]
