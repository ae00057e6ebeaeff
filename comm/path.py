"""(shape, dtype, source, target, machine) → the changes of layout, one after the other, that together take least time.

One plan in one go receives the least bytes that any can (`boxing`), so within a host there is nothing to gain in bytes.
Between hosts there is: of equally many bytes, fewer may cross where ranks of a host first reduce what they hold, and
gather among themselves what came once. Such a way is a path through layouts: from the source, or a view of it on a mesh
that shows the hosts (`views`), one mesh axis at a time, across to the target's ranks where these are others, and to
the target. Dijkstra's algorithm finds the cheapest by `price`; the direct plan wins ties. No layout on the way takes
more memory on any rank than the larger of source and target does.

Partial values are reduced along the way of the path: which terms meet first, and so the rounding of floating-point
sums, depends on the path (never on time or arrival); maxima, minima and sums of integers do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from heapq import heappop, heappush
from math import inf
from typing import Any

import numpy as np

from flowcore.comm.boxing import BoxingPlan, plan_boxing
from flowcore.comm.price import across, seconds
from flowcore.comm.views import refined, views
from flowcore.placement.layout import Layout, Shape, block, box_size
from flowcore.placement.machine import Machine
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import SBP, Split, Window

BUDGET = 1 << 14
"""Plans that a search may price, times ranks: it then ends with the best path found so far."""


@dataclass(frozen=True, eq=False)
class Path:
    """Plans that follow each other; the source of each is the target of the one before, or a view of it."""

    legs: tuple[BoxingPlan, ...]
    machine: Machine
    priced: float | None = None

    @cached_property
    def seconds(self) -> float:
        """Predicted time."""
        return self.priced if self.priced is not None else sum(seconds(leg, self.machine) for leg in self.legs)

    @cached_property
    def between_hosts(self) -> int:
        """Bytes that cross from one host to another."""
        return sum(across(leg, self.machine) for leg in self.legs)

    @property
    def bytes_moved(self) -> int:
        """Bytes received, summed over ranks."""
        return sum(leg.bytes_moved for leg in self.legs)

    @property
    def messages(self) -> int:
        """Messages between different ranks."""
        return sum(leg.messages for leg in self.legs)

    @property
    def flops(self) -> int:
        """Reductions of one element, over all ranks."""
        return sum(leg.flops for leg in self.legs)

    @property
    def sent(self) -> dict[int, int]:
        """Bytes sent by every rank."""
        return {rank: sum(leg.sent.get(rank, 0) for leg in self.legs) for rank in self.ranks}

    @property
    def received(self) -> dict[int, int]:
        """Bytes received by every rank."""
        return {rank: sum(leg.received.get(rank, 0) for leg in self.legs) for rank in self.ranks}

    @property
    def peak_temporary(self) -> dict[int, int]:
        """The most bytes each rank needs at once beside source and target block: buffers, and blocks on the way."""
        peak = dict.fromkeys(self.ranks, 0)
        for number, leg in enumerate(self.legs):
            on_the_way = [leg.source] * (number > 0) + [leg.target] * (number < len(self.legs) - 1)
            for rank, needed in leg.peak_temporary.items():
                held = sum(box_size(way.box(leg.shape, rank)) for way in on_the_way if rank in way.placement)
                peak[rank] = max(peak[rank], needed + held * leg.dtype.itemsize)
        return peak

    @property
    def ranks(self) -> tuple[int, ...]:
        """Every rank that takes part, in order."""
        return tuple(sorted({rank for leg in self.legs for rank in leg.ranks}))

    def __str__(self) -> str:
        return " -> ".join(map(str, (self.legs[0].source, *(leg.target for leg in self.legs))))


def choose_path(shape: Shape, dtype: Any, source: Layout, target: Layout, machine: Machine) -> Path:
    """The path of least predicted time; of one leg where no other is cheaper."""
    return find_paths(shape, dtype, source, target, machine)[0]


def find_paths(
    shape: Shape, dtype: Any, source: Layout, target: Layout, machine: Machine, reach: float = 1.0
) -> tuple[Path, ...]:
    """The complete paths that the search met, cheapest first; the direct one is among them. Cached.

    Where all ranks live on one host only the direct one is considered: other ways could save messages, but never bytes.
    `reach`: above 1, other ways are followed until they take that many times the time of the best, on one host too.
    """
    return _find(tuple(shape), np.dtype(dtype), source.of(len(shape)), target.of(len(shape)), machine, reach)


@lru_cache(maxsize=4096)
def _find(
    shape: Shape, dtype: np.dtype[Any], source: Layout, target: Layout, machine: Machine, reach: float
) -> tuple[Path, ...]:
    hosts = machine.hosts_of((*source.placement.ranks, *target.placement.ranks))
    direct = Path((plan_boxing(shape, dtype, source, target, hosts),), machine)
    if not direct.bytes_moved or (not hosts and reach <= 1):
        return (direct,)
    return _Search(shape, dtype, source, target, machine, hosts).run(direct, reach)


class _Search:
    """Dijkstra's algorithm over layouts; an edge is a plan, its length the seconds it takes."""

    def __init__(
        self,
        shape: Shape,
        dtype: np.dtype[Any],
        source: Layout,
        target: Layout,
        machine: Machine,
        hosts: tuple[int, ...],
    ) -> None:
        self.shape, self.dtype, self.source, self.target = shape, dtype, source, target
        self.machine, self.hosts = machine, hosts
        self.ends = {end: str(end) for end in (target, *views(shape, target, hosts))}
        named = {part.axis for part in (*source.sbp, *target.sbp) if isinstance(part, Split)}
        self.dimensions = sorted(named | {_best_cut(shape, source.placement.size)}) if shape else []
        self.takers = set(target.placement.ranks)
        self.room = max(_largest(shape, source), _largest(shape, target))
        self.left = BUDGET // max(source.placement.size, target.placement.size)

    def run(self, direct: Path, reach: float) -> tuple[Path, ...]:
        """Complete paths, cheapest first; of equally cheap ones those of fewer legs, the direct one before all."""
        found, best = [direct], direct.seconds
        reached = dict.fromkeys((self.source, *views(self.shape, self.source, self.hosts)), 0.0)
        queue: list[tuple[float, int, str, Layout, tuple[BoxingPlan, ...]]] = []
        for layout in reached:
            heappush(queue, (0.0, 0, str(layout), layout, ()))
        while queue:
            cost, count, _, here, legs = heappop(queue)
            if cost > reached[here] or cost >= best * reach:
                continue
            for there in self._neighbours(here):
                if not legs and there in self.ends:
                    continue  # that is the direct path
                if there not in self.ends and (not there.is_kept or _largest(self.shape, there) > self.room):
                    continue
                length, leg = self._leg(here, there)
                whole = cost + length
                if leg is None or whole >= reached.get(there, inf):
                    continue
                if there in self.ends:
                    found.append(Path((*legs, leg), self.machine, whole))
                    best = min(best, whole)
                elif whole < best * reach:
                    reached[there] = whole
                    heappush(queue, (whole, count + 1, str(there), there, (*legs, leg)))
        return tuple(sorted(found, key=lambda path: (path.seconds, len(path.legs), str(path))))

    def _leg(self, here: Layout, there: Layout) -> tuple[float, BoxingPlan | None]:
        if self.left <= 0:
            return inf, None
        self.left -= 1
        leg = plan_boxing(self.shape, self.dtype, here, there, self.hosts)
        return seconds(leg, self.machine, self.hosts), leg

    def _neighbours(self, here: Layout) -> Iterator[Layout]:
        """Layouts that differ on one axis, as the target seen on this mesh is or so that more is split.

        Where the target is not seen on this mesh: the target itself, and whole splits on its ranks; where these are the
        same, only of dimensions that are split already: any other moves all the bytes once more.
        """
        seen = [end for end in self.ends if end.placement == here.placement]
        end = min(seen, key=self.ends.__getitem__, default=None)
        for axis, part in enumerate(here.sbp):
            # terms are reduced to slices, copies are cut; slices are kept until the target gathers or moves them
            splits: list[SBP] = [] if isinstance(part, Split | Window) else [Split(d) for d in self.dimensions]
            for other in dict.fromkeys((*splits, *([] if end is None else [end.sbp[axis]]))):
                if other != part:
                    yield Layout(here.placement, (*here.sbp[:axis], other, *here.sbp[axis + 1 :]))
        if end is None:
            yield self.target
            if not here.is_partial:
                cut = {part.axis for part in here.sbp if isinstance(part, Split)}
                again = bool(cut) and set(here.placement.ranks) == self.takers
                for placement in self._meshes(self.target.placement):
                    for d in self.dimensions if not again else sorted(cut):
                        yield Layout(placement, (Split(d),) * placement.ndim)

    def _meshes(self, placement: Placement) -> list[Placement]:
        return [placement, *(mesh for mesh, _ in refined(placement, self.hosts))]


def _best_cut(shape: Shape, parts: int) -> int:
    """The dimension to split where neither end names one: the first that divides well, else the longest."""
    long = [d for d, length in enumerate(shape) if length >= 8 * parts]
    return long[0] if long else max(range(len(shape)), key=lambda d: (shape[d], -d))


def _largest(shape: Shape, layout: Layout) -> int:
    """Elements of the largest block: that of the first coordinates, which take the remainders."""
    return box_size(block(shape, layout.placement.shape, layout.sbp, (0,) * layout.placement.ndim))
