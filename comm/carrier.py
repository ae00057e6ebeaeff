"""One rank's part in a route through shared memory: it shows its block, meets, copies and reduces.

Everything that does not depend on the call is prepared once per route: a `Flat` way knows the views of all inboxes; a
`Slots` way keeps the views it made for slots at the same offsets, and slots are used again. Whatever of its own a rank
has shown to others it holds a lease on until all of them have finished (`arena`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from math import prod
from typing import Any

import numpy as np

from flowcore.comm.arena import Arena, Lease, NoRoom
from flowcore.comm.boxing import BoxingPlan
from flowcore.comm.group import FULL, NOTHING, RESULT, RESULT_SLOT, SCRATCH, SOURCE, SOURCE_SLOT, Group
from flowcore.comm.kernels import gains, reduce_fused
from flowcore.comm.reduction import UFUNCS, identity, is_narrow
from flowcore.comm.route import Place, Read, Route
from flowcore.comm.segment import Segment
from flowcore.comm.transport import Array
from flowcore.placement.layout import Shape

VIEWS = 64
"""Sets of slots whose views a way keeps."""
Agree = Callable[[Group, int], None]
"""Waits for a group, and raises where digests differ."""
Work = list[tuple[Array, list[Array], list[tuple[int, Any]], bool]]
"""Of each task: what it writes, what it reads, (position, index) of what it reads from the private source, and whether
one ufunc of two terms does it."""


class Carrier:
    """The memory of one rank of a host; `is_full`: it has found no room for a slot."""

    def __init__(self, segment: Segment, rank: int) -> None:
        self.segment, self.arena = segment, Arena(segment, rank)
        self.is_full = False

    def way(self, plan: BoxingPlan, route: Route, group: Group) -> Flat | Slots:
        """How this rank follows `route` every time."""
        return Slots(self, plan, route, group) if route.flat is None else Flat(self, plan, route, group)

    def view(self, offset: int, shape: Shape, dtype: np.dtype[Any]) -> Array:
        """The array at `offset` of the segment; it holds no lease."""
        return np.ndarray(shape, dtype, self.segment.buffer, offset)

    def slot(self, size: int) -> tuple[int, int]:
        """(offset, counters) of a slot; FULL where there is no room."""
        try:
            slot = self.arena.slot(size)
        except NoRoom:
            self.is_full = True
            return FULL, FULL
        return slot.offset, slot.counters


class Flat:
    """Every rank shows its small block in its inbox, and takes all it needs from the others' by itself."""

    def __init__(self, carrier: Carrier, plan: BoxingPlan, route: Route, group: Group) -> None:
        assert route.flat is not None
        self.route, self.group, self.levels, self.dtype = route, group, plan.levels, plan.dtype
        shape = route.sources[group.index]
        self.held = shape
        place = route.places[group.index]
        self.shape = None if place is None else place.shape
        self.own: list[Array | None] = []
        self.tasks: list[list[tuple[Any, list[Array]]]] = []
        for inboxes in group.inboxes:
            self.own.append(None if shape is None else carrier.view(inboxes[group.index], shape, plan.dtype))
            views = [
                None if held is None else carrier.view(inboxes[member], held, plan.dtype)
                for member, held in enumerate(route.sources)
            ]
            self.tasks.append(
                [(task.index, [_part(views, read, group.index) for read in task.terms]) for task in route.flat]
            )
        is_whole = len(route.flat) == 1 and not route.fills and route.flat[0].shape == self.shape != ()
        has_terms = is_whole and len(route.flat[0].terms) > 1 and len(plan.levels) == 1 and not is_narrow(plan.dtype)
        self.quietly = _quietly()
        self.simple = UFUNCS[plan.levels[0][1]] if has_terms else None

    def carry(self, block: Array | None, digest: int, agree: Agree) -> Array | None:
        """The target block, in memory of its own."""
        group = self.group
        parity = (group.meeting + 1) & 1
        own = self.own[parity]
        if own is not None:
            own[...] = block
        if not group.meet(digest):
            agree(group, digest)
        if self.shape is None:
            return None
        tasks = self.tasks[parity]
        if self.simple is not None:
            terms = tasks[0][1]
            out: Array = self.quietly(self.simple, terms[0], terms[1])
            for term in terms[2:]:
                self.quietly(self.simple, out, term, out=out)
        else:
            out = np.empty(self.shape, self.dtype)
            for index, op in self.route.fills:
                out[index] = identity(op, self.dtype)
            for index, terms in tasks:
                if len(terms) == 1:
                    out[index] = terms[0]
                else:
                    reduce_fused(terms, self.levels, out[index])
        return out


class Slots:
    """Blocks are read where they are, or in a slot where their owner copies them once; results are in slots."""

    def __init__(self, carrier: Carrier, plan: BoxingPlan, route: Route, group: Group) -> None:
        self.carrier, self.arena, self.plan, self.route, self.group = carrier, carrier.arena, plan, route, group
        self.held = route.sources[group.index]
        self.place = route.places[group.index]
        self.views: dict[tuple[int, ...], list[Work]] = {}
        self.is_leader = self.place is not None and self.place.leader == group.index and self.place.size > 0
        self.is_needed = any(place is not None and place.size for place in route.places)
        # the lease that the leader takes when it makes the slot is then that of its target block
        self.reuses = self.is_leader and not route.scratch and _size(self.place, plan.dtype) == self.place.size  # type: ignore[union-attr]  # a leader has one
        self.ufunc = UFUNCS[plan.levels[0][1]] if len(plan.levels) == 1 else None
        self.quietly = _quietly()

    def carry(self, block: Array | None, digest: int, agree: Agree) -> Array | None:
        """The target block, read-only; NoRoom on every rank of the group, with nothing moved, where one has no memory.

        Post what others may read, meet, do the tasks of every phase, and finish.
        """
        group, route, place = self.group, self.route, self.place
        if self.arena.gone:
            self.arena.sweep()
        held: list[Lease] = []
        source, source_slot, is_shared = self._source(block, held)
        result = result_slot = scratch = NOTHING
        if self.is_leader and not (is_shared and route.adopted):
            result, result_slot = self._make(self.place.size, held)  # type: ignore[union-attr]  # a leader has one
        if route.scratch:
            scratch, _ = self._make(route.scratch, held)
        group.post(digest, source, source_slot, result, result_slot, scratch)
        for lease in held:
            lease.shown[group] = group.meeting
        if not group.came(digest):
            agree(group, digest)
        told = group.told(SOURCE, RESULT, SCRATCH)
        if FULL in told:
            self._give_up()
        if route.adopted:
            start, counters = self._adopted()
            if start != NOTHING:
                out = None if place is None else self._block(start + place.start, counters, place.shape)
                group.finish()
                return out
        slots, count = group.told(RESULT_SLOT), group.size
        if route.adopted and told[count + route.leader] == NOTHING and self.is_needed:
            told, slots = self._late(told, held)
        out = None
        if place is not None:
            start, made = told[count + place.leader] + place.start, held[-1] if self.reuses and result >= 0 else None
            out = self._block(start, slots[place.leader], place.shape, made)
        self._work(tuple(told), block, out)
        group.finish()
        return out

    def _late(self, told: list[int], held: list[Lease]) -> tuple[list[int], list[int]]:
        """A second meeting, for the leader expected that the slot would be adopted, and makes it only now."""
        group, count = self.group, self.group.size
        result = self._make(self.place.size, held) if self.is_leader and self.place else (NOTHING, NOTHING)
        group.post(0, NOTHING, NOTHING, *result)
        for lease in held:
            lease.shown[group] = group.meeting
        group.wait()
        told = [*told[:count], *group.told(RESULT), *told[2 * count :]]
        if FULL in told:
            self._give_up()
        return told, group.told(RESULT_SLOT)

    def _source(self, block: Array | None, held: list[Lease]) -> tuple[int, int, bool]:
        """(offset, counters) of the source block in the segment, and whether it was there before.

        The counters are NOTHING where the segment has a part of it only.
        """
        if block is None or not block.size:
            return NOTHING, NOTHING, False
        lease = lease_of(block)
        if lease is not None and block.flags.c_contiguous:
            held.append(lease)
            if block.nbytes == len(lease):
                return lease.offset, lease.counters, True
            address: int = block.__array_interface__["data"][0]
            return address - self.arena.segment.address, lease.counters, True
        if not self.route.shown:
            return NOTHING, NOTHING, False
        offset, counters = self._make(block.nbytes, held)
        if offset >= 0:
            into = self.carrier.view(offset, block.shape, block.dtype)
            for index in self.route.shown:
                into[index] = block[index]
        # a copy of some of the block cannot be adopted as the whole of it
        return offset, counters if self.route.shows_all else NOTHING, False

    def _make(self, size: int, held: list[Lease]) -> tuple[int, int]:
        """(offset, counters) of a slot, on which this rank holds a lease until the others have finished."""
        offset, counters = self.carrier.slot(size)
        if offset >= 0:
            held.append(self.arena.lease(counters, offset, size))
        return offset, counters

    def _give_up(self) -> None:
        self.group.finish()
        raise NoRoom

    def _adopted(self) -> tuple[int, int]:
        """(offset, counters) of the slot that the sources form already; NOTHING where they do not."""
        words, lines = self.group.words, self.group.current
        found: tuple[int, int] | None = None
        for member, begin in self.route.adopted:
            line = lines[member]
            offset, slot = words[line + SOURCE], words[line + SOURCE_SLOT]
            if slot == NOTHING:
                return NOTHING, NOTHING
            here = offset - begin, slot
            if found is None:
                found = here
            elif found != here:
                return NOTHING, NOTHING
        return found or (NOTHING, NOTHING)

    def _block(self, offset: int, counters: int, shape: Shape, lease: Lease | None = None) -> Array:
        dtype = self.plan.dtype
        if lease is None:
            size = prod(shape) * dtype.itemsize
            if not size:
                return np.empty(shape, dtype)
            lease = self.arena.lease(counters, offset, size)
            lease.shown[self.group] = self.group.meeting
        out: Array = np.ndarray(shape, dtype, lease)  # type: ignore[arg-type]  # the stubs miss that ctypes give buffers
        out.setflags(write=False)
        return out

    def _work(self, told: tuple[int, ...], block: Array | None, out: Array | None) -> None:
        """The tasks of every phase, with meetings between them."""
        group = self.group
        key = (*told, -1 if out is None else 0)
        phases = self.views.get(key)
        if phases is None:
            if len(self.views) >= VIEWS:
                self.views.clear()
            phases = self.views[key] = self._prepared(told)
        if self.route.fills:
            target = self._target(told, group.index)
            for index, op in self.route.fills:
                target[index] = identity(op, self.plan.dtype)
        levels, ufunc, quietly = self.plan.levels, self.ufunc, self.quietly
        for number, tasks in enumerate(phases):
            if number:
                group.step()
                group.wait()
            for into, terms, private, is_simple in tasks:
                for position, index in private:
                    terms[position] = block[index]  # type: ignore[index]  # who reads its own block has one
                if len(terms) == 1:
                    into[...] = terms[0]
                elif is_simple and ufunc is not None:
                    quietly(ufunc, terms[0], terms[1], out=into)
                else:
                    reduce_fused(terms, levels, into)
                for position, _ in private:
                    terms[position] = into
        if self.route.ends_with_meeting:
            group.step()
            group.wait()

    def _prepared(self, told: tuple[int, ...]) -> list[Work]:
        """The views of all tasks, for blocks at the offsets `told`."""
        scratch = told[2 * self.group.size + self.group.index]
        phases = []
        for tasks in self.route.phases:
            work: Work = []
            for task in tasks:
                if task.index:
                    into = self._target(told, self.group.index)[task.index]
                else:
                    into = self.carrier.view(scratch + task.start, task.shape, self.plan.dtype)
                private = [(at, read.index) for at, read in enumerate(task.terms) if read.member < 0]
                terms = [into if read.member < 0 else self._read(told, read) for read in task.terms]
                work.append((into, terms, private, self._is_simple(len(terms), into.nbytes)))
            phases.append(work)
        return phases

    def _is_simple(self, terms: int, size: int) -> bool:
        return terms == 2 and self.ufunc is not None and not gains(terms, size) and not is_narrow(self.plan.dtype)

    def _target(self, told: tuple[int, ...], member: int) -> Array:
        """The target block of `member`, to write or to read."""
        place = self.route.places[member]
        assert place is not None
        if not place.size:
            return np.empty(place.shape, self.plan.dtype)
        return self.carrier.view(told[self.group.size + place.leader] + place.start, place.shape, self.plan.dtype)

    def _read(self, told: tuple[int, ...], read: Read) -> Array:
        view, dtype, count = self.carrier.view, self.plan.dtype, self.group.size
        match read.block:
            case "scratch":
                return view(told[2 * count + read.member] + read.start, read.shape, dtype)
            case "source":
                return view(told[read.member], self.route.sources[read.member] or (), dtype)[read.index]
            case "result":
                return self._target(told, read.member)[read.index]


def lease_of(block: Array) -> Lease | None:
    """The lease that `block`, an array or a view of one, holds; None where its memory is private."""
    base = block.base
    if type(base) is np.ndarray:
        base = base.base
    return base if isinstance(base, Lease) else None


def _size(place: Place | None, dtype: np.dtype[Any]) -> int:
    return 0 if place is None else prod(place.shape) * dtype.itemsize


def _quietly() -> Callable[..., Any]:
    """Calls a function without warnings of numpy, in a third of the time of `np.errstate`: that lies in the context."""
    with np.errstate(all="ignore"):
        return copy_context().run


def _part(views: list[Array | None], read: Read, own: int) -> Array:
    view = views[own if read.member < 0 else read.member]
    assert view is not None
    return view[read.index]
