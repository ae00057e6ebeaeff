"""One rank's part in a route through shared memory: it shows its block, meets, copies and reduces.

Whatever of its own a rank has shown to others it holds a lease on until all of them have finished (`arena`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from flowcore.comm.arena import Arena, Lease, NoRoom, Slot
from flowcore.comm.boxing import BoxingPlan
from flowcore.comm.group import FULL, NOTHING, RESULT, RESULT_SLOT, SCRATCH, SOURCE, SOURCE_SLOT, Group
from flowcore.comm.kernels import reduce_blocked
from flowcore.comm.reduction import identity
from flowcore.comm.route import Read, Route
from flowcore.comm.segment import Segment
from flowcore.comm.transport import Array
from flowcore.placement.layout import Shape

VIEWS = 8192
Agree = Callable[[Group, int], None]
"""Waits for a group, and raises where digests differ."""


class Carrier:
    """What rank `rank` of the host keeps between transfers; `is_full`: it has found no memory for a slot."""

    def __init__(self, segment: Segment, rank: int) -> None:
        self.segment, self.arena = segment, Arena(segment, rank)
        self.is_full = False
        self._views: dict[tuple[int, Shape, np.dtype[Any]], Array] = {}

    def carry(
        self, plan: BoxingPlan, route: Route, group: Group, block: Array | None, digest: int, agree: Agree
    ) -> Array | None:
        """The target block; NoRoom on every rank of the group, with nothing moved, where one has no memory."""
        if route.flat is not None:
            return self._flat(plan, route, group, block, digest, agree)
        self.arena.sweep()
        return _Transfer(self, plan, route, group, block).run(digest, agree)

    def view(self, offset: int, shape: Shape, dtype: np.dtype[Any]) -> Array:
        """The array at `offset` of the segment; it holds no lease."""
        key = offset, shape, dtype
        found = self._views.get(key)
        if found is None:
            if len(self._views) >= VIEWS:
                self._views.clear()
            found = self._views[key] = np.ndarray(shape, dtype, self.segment.buffer, offset)
        return found

    def slot(self, size: int) -> Slot | None:
        """A slot; None where there is no room."""
        try:
            return self.arena.slot(size)
        except NoRoom:
            self.is_full = True
            return None

    def _flat(
        self, plan: BoxingPlan, route: Route, group: Group, block: Array | None, digest: int, agree: Agree
    ) -> Array | None:
        """Every rank shows its small block, and takes all it needs by itself."""
        assert route.flat is not None
        inboxes = group.inboxes[(group.meeting + 1) & 1]
        if block is not None:
            self.view(inboxes[group.index], block.shape, plan.dtype)[...] = block
        group.post(digest)
        agree(group, digest)
        place = route.places[group.index]
        if place is None:
            return None
        out = np.empty(place.shape, plan.dtype)
        for index, op in route.fills:
            out[index] = identity(op, plan.dtype)
        for task in route.flat:
            terms = []
            for read in task.terms:
                shape = route.sources[read.member]
                given = block if read.member < 0 else self.view(inboxes[read.member], shape or (), plan.dtype)
                assert given is not None
                terms.append(given[read.index])
            reduce_blocked(terms, plan.levels, out[task.index])
        out.flags.writeable = False
        return out


class _Transfer:
    """One transfer of one rank."""

    def __init__(self, carrier: Carrier, plan: BoxingPlan, route: Route, group: Group, block: Array | None) -> None:
        self.carrier, self.arena = carrier, carrier.arena
        self.plan, self.route, self.group, self.block = plan, route, group, block
        self.place = route.places[group.index]
        self.held: list[Lease] = []
        self.sources: Sequence[int] = ()
        self.results: Sequence[int] = ()
        self.scratches: Sequence[int] = ()

    def run(self, digest: int, agree: Agree) -> Array | None:
        """Post what others may read, meet, do the tasks of every phase, and finish."""
        group, route, place = self.group, self.route, self.place
        source, source_slot, is_shared = self._source()
        may_adopt = is_shared and bool(route.adopted)
        result, result_slot = self._result() if not may_adopt else (NOTHING, NOTHING)
        scratch = self._make(route.scratch)[0] if route.scratch else NOTHING
        group.post(digest, source, source_slot, result, result_slot, scratch)
        for lease in self.held:
            lease.show(group)
        agree(group, digest)
        self.sources, self.results, self.scratches = self._told(SOURCE), self._told(RESULT), self._told(SCRATCH)
        slots = self._told(RESULT_SLOT)
        self._check_room()
        start, counters = self._adopted()
        is_adopted = start != NOTHING
        if route.adopted and not is_adopted and self.results[route.leader] == NOTHING:
            group.post(0, NOTHING, NOTHING, *self._result())
            group.wait()
            self.results, slots = self._told(RESULT), self._told(RESULT_SLOT)
            self._check_room()
        out = None
        if place is not None:
            if not is_adopted:
                start, counters = self.results[place.leader], slots[place.leader]
            out = self._block(start + place.start, counters, place.shape)
        if not is_adopted:
            self._work(out)
        group.finish()
        if out is not None:
            out.flags.writeable = False
        return out

    def _source(self) -> tuple[int, int, bool]:
        """(offset, counters) of the source block in the segment, and whether it was there before."""
        block = self.block
        if block is None or not block.size:
            return NOTHING, NOTHING, False
        lease = lease_of(block)
        if lease is not None and block.flags.c_contiguous:
            self.held.append(lease)
            address: int = block.__array_interface__["data"][0]
            return address - self.arena.segment.address, lease.counters, True
        if not self.route.shown:
            return NOTHING, NOTHING, False
        offset, counters = self._make(block.nbytes)
        if offset >= 0:
            into = self.carrier.view(offset, block.shape, block.dtype)
            for index in self.route.shown:
                into[index] = block[index]
        return offset, counters, False

    def _result(self) -> tuple[int, int]:
        """(offset, counters) of the slot for target blocks that this rank is to make."""
        if self.place is None or self.place.leader != self.group.index or not self.place.size:
            return NOTHING, NOTHING
        return self._make(self.place.size)

    def _make(self, size: int) -> tuple[int, int]:
        """(offset, counters) of a slot, on which this rank holds a lease until the others have finished."""
        slot = self.carrier.slot(size)
        if slot is None:
            return FULL, FULL
        lease = self.arena.lease(slot.counters, slot.offset, size)
        self.held.append(lease)
        if self.group.meeting:
            lease.show(self.group)
        return slot.offset, slot.counters

    def _told(self, word: int) -> list[int]:
        """What every member wrote into `word` of its line."""
        words = self.group.words
        return [words[line + word] for line in self.group.current]

    def _check_room(self) -> None:
        if FULL in self.sources or FULL in self.results or FULL in self.scratches:
            self.group.finish()
            raise NoRoom

    def _adopted(self) -> tuple[int, int]:
        """(offset, counters) of the slot that the sources form already; NOTHING where they do not."""
        slots = self._told(SOURCE_SLOT)
        found = {(self.sources[member] - begin, slots[member]) for member, begin in self.route.adopted}
        if len(found) != 1 or any(self.sources[member] == NOTHING for member, _ in self.route.adopted):
            return NOTHING, NOTHING
        return found.pop()

    def _block(self, offset: int, counters: int, shape: Shape) -> Array:
        dtype = self.plan.dtype
        size = prod(shape) * dtype.itemsize
        if not size:
            return np.empty(shape, dtype)
        lease = self.arena.lease(counters, offset, size)
        lease.show(self.group)
        return np.ndarray(shape, dtype, lease)  # type: ignore[arg-type]  # the stubs miss that ctypes give buffers

    def _work(self, out: Array | None) -> None:
        """The tasks of every phase, with meetings between them."""
        group, route, plan = self.group, self.route, self.plan
        for index, op in route.fills:
            assert out is not None
            out[index] = identity(op, plan.dtype)
        for number, tasks in enumerate(route.phases):
            if number:
                group.step()
                group.wait()
            for task in tasks:
                if not task.index:
                    into = self.carrier.view(self.scratches[group.index] + task.start, task.shape, plan.dtype)
                else:
                    assert out is not None
                    into = out[task.index]
                reduce_blocked([self._read(read) for read in task.terms], plan.levels, into)
        if route.ends_with_meeting:
            group.step()
            group.wait()

    def _read(self, read: Read) -> Array:
        view, dtype = self.carrier.view, self.plan.dtype
        if read.member < 0:
            given = self.block
        elif read.block == "scratch":
            return view(self.scratches[read.member] + read.start, read.shape, dtype)
        elif read.block == "source":
            given = view(self.sources[read.member], self.route.sources[read.member] or (), dtype)
        else:
            place = self.route.places[read.member]
            assert place is not None
            given = view(self.results[place.leader] + place.start, place.shape, dtype)
        assert given is not None
        return given[read.index]


def lease_of(block: Array) -> Lease | None:
    """The lease that `block`, an array or a view of one, holds; None where its memory is private."""
    base = block.base
    if type(base) is np.ndarray:
        base = base.base
    return base if isinstance(base, Lease) else None
