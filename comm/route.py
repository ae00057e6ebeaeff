"""A boxing plan and the ranks of one host → what each of them reads from the others' memory, and where it puts it.

The plan says which rank receives which box from whom. Where both see the same memory nothing is sent: the receiver
copies or reduces the very slice it needs from the giver's block. So a plan becomes *tasks*: a place in the reader's
target block, and the terms to reduce into it (one term is a copy).

A target block is needed once per host, however many ranks hold it: the ranks of a host that hold equal blocks share one
*slot*, each part of it is filled by one of them, and all read it. Blocks that are neighbouring ranges of the tensor
share a slot too (all of S(0) on one host), so that gathering them later costs nothing: where the slot to fill would be
equal, byte by byte, to what its sources already form in one slot, that slot is *adopted* instead.

Small blocks take the *flat* way: every rank copies its block where all can read it, and after one meeting everybody
reduces all it needs by itself. The order of the terms is that of the plan on either way, so results are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from flowcore.comm.boxing import BoxingPlan
from flowcore.comm.group import MOST, inbox_bytes
from flowcore.comm.slices import as_boxes
from flowcore.comm.steps import Step
from flowcore.placement.layout import Box, Shape, box_shape, box_size

Index = tuple[Any, ...]
"""Slices, and an ellipsis so that the result is always a view."""
Hosts = Sequence[int]
"""The host of every rank of the world."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a task reads: `index` of a block of rank `member` (its position in the group); -1: the reader's own source.

    `scratch`: that rank's reduced part at `start` bytes, of shape `shape`.
    """

    member: int
    block: Literal["source", "result", "scratch"]
    index: Index
    start: int = 0
    shape: Shape = ()


@dataclass(frozen=True, slots=True)
class Task:
    """Reduce `terms` in order into `index` of the target block; without one, into the scratch block at `start`."""

    index: Index
    terms: tuple[Read, ...]
    start: int
    shape: Shape


@dataclass(frozen=True, slots=True)
class Place:
    """Where a target block lies: `start` bytes into a slot of `size` bytes that rank `leader` of the group makes."""

    leader: int
    start: int
    size: int
    shape: Shape


@dataclass(frozen=True, slots=True)
class Route:
    """What one rank does. `sources`, `places`: the shape of every member's source block and the place of its target.

    `shown`: the indices of its source block that others read; `shows_all`: one of them is the whole block. `phases`:
    tasks, with a meeting between two phases; `ends_with_meeting`: others write what this host's ranks see. `adopted`:
    (member, bytes) such that the slot may be adopted if each member's source begins that many bytes after the slot's
    first; empty: it never can. `leader`: the member that makes that slot where it is not adopted.
    """

    ranks: tuple[int, ...]
    sources: tuple[Shape | None, ...]
    places: tuple[Place | None, ...]
    shown: tuple[Index, ...]
    shows_all: bool
    fills: tuple[tuple[Index, str], ...]
    phases: tuple[tuple[Task, ...], ...]
    scratch: int
    ends_with_meeting: bool
    adopted: tuple[tuple[int, int], ...]
    leader: int
    flat: tuple[Task, ...] | None


def route_of(plan: BoxingPlan, rank: int, hosts: Hosts, small: int = MOST, moves: bool = True) -> Route | None:
    """The route of `rank`; None where bytes cross hosts or none cross ranks. All ranks of a host agree on which.

    `small`: bytes of the largest block that takes the flat way, if it fits an inbox. `moves` False: also where no bytes
    cross ranks, unless the rank is alone on its host.
    """
    if moves and not plan.messages:
        return None
    if not moves and sum(hosts[rank] == hosts[other] for other in plan.ranks) < 2:
        return None
    if not within_hosts(plan, tuple(hosts)):
        return None
    return _Router(plan, rank, hosts, small).route()


@lru_cache(maxsize=4096)
def within_hosts(plan: BoxingPlan, hosts: tuple[int, ...]) -> bool:
    """Whether no byte crosses hosts."""
    where = np.array(hosts)
    return bool(hosts) and all((where[step.source] == where[step.target]).all() for step in plan.steps)


@dataclass(frozen=True, slots=True)
class Direct:
    """How a rank takes all it needs straight from the source blocks of its host's ranks.

    `sources`: the shape of every member's source block. `shown`: the members whose blocks others read. `tasks`: what
    becomes which part of the target block, of shape `shape` (None: the rank has none); `fills`: identities elsewhere.
    """

    ranks: tuple[int, ...]
    sources: tuple[Shape | None, ...]
    shown: frozenset[int]
    shape: Shape | None
    tasks: tuple[Task, ...]
    fills: tuple[tuple[Index, str], ...]


def direct_of(plan: BoxingPlan, rank: int, hosts: Hosts) -> Direct | None:
    """What `rank` reads if everybody reduces all it needs by itself; None where bytes cross hosts."""
    if not within_hosts(plan, tuple(hosts)):
        return None
    return _direct(plan, tuple(hosts), hosts[rank]).get(rank)


@lru_cache(maxsize=4096)
def _direct(plan: BoxingPlan, hosts: tuple[int, ...], host: int) -> dict[int, Direct]:
    """`direct_of` for every rank of a host."""
    ranks = [rank for rank in plan.ranks if hosts[rank] == host]
    routers = {rank: _Router(plan, rank, hosts, 0) for rank in ranks}
    tasks = {rank: router.direct() for rank, router in routers.items()}
    shown = frozenset(term.member for found in tasks.values() for task in found for term in task.terms) - {-1}
    return {rank: router.as_direct(tasks[rank], shown) for rank, router in routers.items()}


class _Router:
    """The choices that all ranks of a host make alike for a plan."""

    def __init__(self, plan: BoxingPlan, rank: int, hosts: Hosts, small: int) -> None:
        self.plan, self.rank = plan, rank
        self.ranks = tuple(r for r in plan.ranks if hosts[r] == hosts[rank])
        self.small = min(small, inbox_bytes(len(self.ranks)))
        self.member = {r: position for position, r in enumerate(self.ranks)}
        self.target, self.source = plan.parts.target, plan.parts.source
        self.held = {r: plan.source.box(plan.shape, r) for r in self.ranks if r in plan.source.placement}
        self.needed = {r: plan.target.box(plan.shape, r) for r in self.ranks if r in plan.target.placement}
        self.replicas: dict[tuple[int, ...], list[int]] = {}
        for r in self.needed:
            self.replicas.setdefault(self._key(r), []).append(r)
        self.places = self._places()
        self.shown: dict[int, set[Box]] = {}
        self.scratch: dict[int, dict[Box, int]] = {r: {} for r in self.ranks}

    def route(self) -> Route:
        """What the rank does."""
        first = [replace(step, round=0, rounds=1) for step in self.plan.steps if step.round == 0]
        phases = [self._reductions(step) if step.kind == "reduce" else self._moves(step) for step in first]
        while len(phases) > 1 and not any(phases[-1].values()):
            phases.pop()
        rank, itemsize = self.rank, self.plan.dtype.itemsize
        return Route(
            self.ranks,
            self._shapes(),
            tuple(self.places.get(r) for r in self.ranks),
            tuple(_index(box, self.held[rank]) for box in sorted(self.shown.get(rank, ()))),
            rank in self.held and self.held[rank] in self.shown.get(rank, ()),
            self._fills(),
            tuple(tuple(tasks[rank]) for tasks in phases),
            sum(box_size(box) for box in self.scratch[rank]) * itemsize,
            any(len(ranks) > 1 for ranks in self.replicas.values()),
            self._adopted(first),
            min((place.leader for place in self.places.values()), default=0),
            self._flat(),
        )

    def as_direct(self, tasks: tuple[Task, ...], shown: frozenset[int]) -> Direct:
        """What the rank does where it reads source blocks alone."""
        held, needed = self._shapes(), self.needed.get(self.rank)
        shape = None if needed is None else box_shape(needed)
        return Direct(self.ranks, held, shown, shape, tasks, self._fills())

    def _shapes(self) -> tuple[Shape | None, ...]:
        return tuple(box_shape(self.held[r]) if r in self.held else None for r in self.ranks)

    def _fills(self) -> tuple[tuple[Index, str], ...]:
        fills = self.plan.for_rank(self.rank).fills
        return tuple((_index(box, self.needed[self.rank]), op) for box, op in fills)

    def _key(self, rank: int) -> tuple[int, ...]:
        """Ranks of one key hold equal blocks; those of a partial target, which hold identities too, share none."""
        if self.target.ranks.shape[1] > 1:
            return (rank,)
        return int(self.target.group_of[rank]), 0

    def _places(self) -> dict[int, Place]:
        shape, itemsize = self.plan.shape, self.plan.dtype.itemsize
        starts = {key: range_of(shape, self.needed[ranks[0]]) for key, ranks in self.replicas.items()}
        sizes = {key: box_size(self.needed[ranks[0]]) for key, ranks in self.replicas.items()}
        is_plain = self.target.ranks.shape[1] == 1 and self.target.stays == 1
        if is_plain and len(starts) > 1 and None not in starts.values():
            order = sorted((start, sizes[key]) for key, start in starts.items() if start is not None)
            if all(a + size == b for (a, size), (b, _) in pairwise(order)):
                leader, total = self.member[min(self.needed)], sum(size for _, size in order)
                return {
                    r: Place(leader, (start - order[0][0]) * itemsize, total * itemsize, box_shape(self.needed[r]))
                    for key, start in starts.items() if start is not None
                    for r in self.replicas[key]
                }  # fmt: skip
        return {
            r: Place(self.member[ranks[0]], 0, sizes[key] * itemsize, box_shape(self.needed[r]))
            for key, ranks in self.replicas.items()
            for r in ranks
        }

    def _rows(self, step: Step) -> list[tuple[int, int, int, Box]]:
        """(giver, taker, part, box) of the rows on this host that carry anything."""
        low, high = step.bounds(slice(None))
        columns = step.source.tolist(), step.target.tolist(), step.part.tolist(), as_boxes(low, high)
        return [row for row in zip(*columns, strict=True) if row[1] in self.member and box_size(row[3])]

    def _reductions(self, step: Step) -> dict[int, list[Task]]:
        """The tasks that reduce each part, by reducer."""
        tasks: dict[int, list[Task]] = {r: [] for r in self.ranks}
        terms: dict[int, list[int]] = {}
        boxes: dict[int, Box] = {}
        for giver, taker, part, box in self._rows(step):
            terms.setdefault(part, []).append(giver)
            boxes[part] = box
            if giver != taker:
                self.shown.setdefault(giver, set()).add(box)
        parts = self.plan.parts
        for part, givers in terms.items():
            reducer, box = int(parts.reducer[part]), boxes[part]
            reads = tuple(self._read_source(giver, reducer, box) for giver in givers)
            if self._keeps(part):
                tasks[reducer].append(Task(_index(box, self.needed[reducer]), reads, 0, box_shape(box)))
            else:
                start = sum(box_size(other) for other in self.scratch[reducer]) * self.plan.dtype.itemsize
                self.scratch[reducer][box] = start
                tasks[reducer].append(Task((), reads, start, box_shape(box)))
        return tasks

    def _moves(self, step: Step) -> dict[int, list[Task]]:
        """The tasks that copy each part into each slot that needs it, by the rank that does it."""
        tasks: dict[int, list[Task]] = {r: [] for r in self.ranks}
        rows: dict[tuple[int, tuple[int, ...]], list[tuple[int, int]]] = {}
        boxes: dict[int, Box] = {}
        for giver, taker, part, box in self._rows(step):
            rows.setdefault((part, self._key(taker)), []).append((giver, taker))
            boxes[part] = box
        for count, ((part, key), pairs) in enumerate(rows.items()):
            box = boxes[part]
            if step.reads == "reduced":
                reducer = pairs[0][0]
                if self._keeps(part) and self._key(reducer) == key:
                    continue
                filler = pairs[count % len(pairs)][1]
                tasks[filler].append(Task(_index(box, self.needed[filler]), (self._read_reduced(part, box),), 0, ()))
                continue
            pairs = [pair for pair in pairs if pair[0] == pair[1]] or pairs
            giver, filler = pairs[count % len(pairs)]
            if giver != filler:
                self.shown.setdefault(giver, set()).add(box)
            tasks[filler].append(
                Task(_index(box, self.needed[filler]), (self._read_source(giver, filler, box),), 0, ())
            )
        return tasks

    def _keeps(self, part: int) -> bool:
        """Whether the reducer of a part needs it in its own target block."""
        parts = self.plan.parts
        reducer = parts.reducer[part]
        return bool(
            self.target.group_of[reducer] == parts.into[part] and self.target.term_of[reducer] == parts.chosen[part]
        )

    def _read_source(self, giver: int, reader: int, box: Box) -> Read:
        return Read(-1 if giver == reader else self.member[giver], "source", _index(box, self.held[giver]))

    def _read_reduced(self, part: int, box: Box) -> Read:
        reducer = int(self.plan.parts.reducer[part])
        if self._keeps(part):
            return Read(self.member[reducer], "result", _index(box, self.needed[reducer]))
        return Read(self.member[reducer], "scratch", (), self.scratch[reducer][box], box_shape(box))

    def _adopted(self, steps: list[Step]) -> tuple[tuple[int, int], ...]:
        """Where each source must begin, in bytes from the first of the only slot, for that slot to be there already."""
        if len({place.leader for place in self.places.values()}) != 1 or steps[0].kind == "reduce":
            return ()
        if self.target.ranks.shape[1] > 1:
            return ()
        shape, itemsize = self.plan.shape, self.plan.dtype.itemsize
        starts = [range_of(shape, box) for box in self.needed.values()]
        first = min((start for start in starts if start is not None), default=0)
        if None in starts:
            return ()
        wanted: dict[int, int] = {}
        for giver, _, _, box in self._rows(steps[0]):
            start, inside = range_of(shape, box), range_of(box_shape(self.held[giver]), _shift(box, self.held[giver]))
            if start is None or inside is None:
                return ()
            begin = (start - first - inside) * itemsize
            if wanted.setdefault(self.member[giver], begin) != begin:
                return ()
        return tuple(sorted(wanted.items()))

    def _flat(self) -> tuple[Task, ...] | None:
        """The tasks of the flat way; None where a block is too large for it."""
        boxes = [*self.held.values(), *self.needed.values()]  # memory of its own for a large result costs page faults
        if max(map(box_size, boxes), default=0) * self.plan.dtype.itemsize > self.small:
            return None
        return self.direct()

    def direct(self) -> tuple[Task, ...]:
        """The tasks of the rank if it takes all it needs from source blocks."""
        rank, parts = self.rank, self.plan.parts
        if rank not in self.needed:
            return ()
        mine = np.flatnonzero(parts.into == self.target.group_of[rank])
        low, high = parts.bounds(mine)
        if self.target.ranks.shape[1] > 1:
            keep = parts.chosen[mine] == self.target.term_of[rank]
            mine, low, high = mine[keep], low[:, keep], high[:, keep]
        else:
            _, first = np.unique(parts.group[mine], return_index=True)
            mine = mine[first]
            group, into = parts.group[mine], parts.into[mine]
            low = np.maximum(self.source.low[:, group], self.target.low[:, into])
            high = np.minimum(self.source.high[:, group], self.target.high[:, into])
        tasks = []
        for part, box in zip(mine.tolist(), as_boxes(low, high), strict=True):
            if box_size(box):
                holders = self.source.ranks[parts.group[part]].tolist()
                here = [[r for r in replicas if r in self.member] for replicas in holders]
                givers = [rank if rank in replicas else replicas[0] for replicas in here]
                reads = tuple(self._read_source(giver, rank, box) for giver in givers)
                tasks.append(Task(_index(box, self.needed[rank]), reads, 0, box_shape(box)))
        return tuple(tasks)


def _shift(box: Box, origin: Box) -> Box:
    return tuple((a - start, b - start) for (a, b), (start, _) in zip(box, origin, strict=True))


def _index(box: Box, origin: Box) -> Index:
    """The index of `box` in the block that covers `origin`."""
    return (*(slice(a, b) for a, b in _shift(box, origin)), ...)


def range_of(shape: Shape, box: Box) -> int | None:
    """Where `box` begins in a contiguous array of `shape`, in elements, if it is one range of it; else None."""
    start, stride, is_one = 0, 1, False
    for length, (a, b) in zip(reversed(shape), reversed(box), strict=True):
        if is_one and b - a != 1:
            return None
        is_one = is_one or b - a != length
        start += a * stride
        stride *= length
    return start


def is_contiguous(shape: Shape, index: Index) -> bool:
    """Whether `index` takes one range of a contiguous array of `shape`."""
    return range_of(shape, tuple((part.start, part.stop) for part in index[:-1])) is not None
