"""Slots of shared memory, and the rule by which they are used again: when no rank can still read them.

Every rank allocates in its own region of the segment. A slot has one counter for each rank of the host, written by that
rank alone: how many *leases* it has on the slot. An array over a slot holds a lease and returns it when the last view
of it is gone. The owner uses the slot again when all counters are zero.

A rank that is to get a lease from a reader of a slot, not from its owner, takes it while that reader keeps its own:
what a rank has shown to a group it returns only when all the group has finished that meeting (`Shown`). So a counter
is never seen as zero between two leases.
"""

from __future__ import annotations

import ctypes
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from flowcore.comm.segment import HUGE, Segment

Array = np.ndarray[Any, Any]
LINE = 64
CONTROL = 256 << 20
"""Bytes at the start of a region for counters and flags."""
CHUNK, MOST = 4 << 20, 64 << 20
"""Bytes that are committed beyond what is needed: the least, and the most that are added to these."""
TRIES = 8
"""Slots of the right size that are looked at before a new one is made."""


class NoRoom(Exception):
    """The host has no memory left for a slot."""


class Shown(Protocol):
    """A group of ranks to which slots are shown, at numbered meetings."""

    meeting: int

    def is_over(self, meeting: int) -> bool:
        """Whether every rank of the group has finished `meeting`."""
        ...


@dataclass(eq=False, slots=True)
class Slot:
    """`size` bytes at `offset`; `counters`: the word where the ranks' counters begin.

    `is_free`: its owner has it among those to use again, once the other ranks' counters are zero too.
    """

    offset: int
    size: int
    counters: int
    is_free: bool = False


class Lease(ctypes.Array):  # type: ignore[type-arg]  # its elements are bytes; subclasses give the length
    """The memory of one array over a slot."""

    _type_ = ctypes.c_ubyte
    _length_ = 0
    gone: deque[tuple[int, dict[Shown, int]]]
    counters: int
    offset: int
    shown: dict[Shown, int]

    def show(self, group: Shown) -> None:
        """The memory is shown to `group`, at its present meeting or its next."""
        self.shown[group] = group.meeting

    def __del__(self) -> None:
        # it may run between any two steps of this thread, so it changes no counter
        self.gone.append((self.counters, self.shown))


class Arena:
    """The slots that rank `rank` of the host allocates, and the leases it holds on its own slots and on others'.

    NoRoom where there is no memory for its first flags.
    """

    def __init__(self, segment: Segment, rank: int) -> None:
        self.segment, self.rank, self.ranks = segment, rank, segment.ranks
        self.words = segment.words
        self.start = rank * segment.region
        self._control = self._control_end = self.start
        self._top = self._committed = self.start + CONTROL
        self._end = self.start + segment.region
        self._free: dict[int, deque[Slot]] = {}
        self._own: dict[int, Slot] = {}
        self._kinds: dict[int, type[Lease]] = {}
        self.gone: deque[tuple[int, dict[Shown, int]]] = deque()
        self.lines(1)

    def mark(self) -> None:
        """Let the host's ranks see that this one has said how its program ends."""
        self.words[self.start // 8] = 1

    def is_marked(self, rank: int) -> bool:
        """Whether `rank` of the host has said how its program ends."""
        return bool(self.words[rank * self.segment.region // 8])

    @property
    def bytes_made(self) -> int:
        """Bytes of all slots made so far."""
        return self._top - self.start - CONTROL

    def lines(self, count: int) -> int:
        """The offset of `count` fresh cache lines of zeros for flags; NoRoom where there are none."""
        size = count * LINE
        if self._control + size > self.start + CONTROL:
            raise NoRoom
        while self._control + size > self._control_end:
            self._commit(self._control_end, CHUNK // 16)
            self._control_end += CHUNK // 16
        found = self._control
        self._control += size
        return found

    def slot(self, size: int) -> Slot:
        """A slot of at least `size` bytes that nobody reads; NoRoom where memory is short."""
        if self.gone:
            self.sweep()
        step = 1 << max(6, size.bit_length() - 3)
        size = -(-max(size, 1) // step) * step
        free = self._free.get(size)
        if free is None:
            free = self._free[size] = deque()
        for _ in range(min(len(free), TRIES)):
            slot = free.pop()  # the last one used may still be in the cache
            if not any(self.words[slot.counters : slot.counters + self.ranks].tolist()):
                slot.is_free = False
                return slot
            free.appendleft(slot)
        return self._fresh(size)

    def lease(self, counters: int, offset: int, size: int) -> Lease:
        """A lease on `size` > 0 bytes at `offset` of the segment, which lie in the slot with these `counters`."""
        kind = self._kinds.get(size)
        if kind is None:
            kind = self._kinds[size] = type("Lease", (Lease,), {"_type_": ctypes.c_ubyte, "_length_": size})
        lease = kind.from_address(self.segment.address + offset)
        lease.gone, lease.counters, lease.offset, lease.shown = self.gone, counters, offset, {}
        self.words[counters + self.rank] += 1
        return lease

    def sweep(self) -> None:
        """Return the leases that are gone and whose readers have all finished."""
        for _ in range(len(self.gone)):
            counters, shown = self.gone.popleft()
            for group, meeting in shown.items():
                if not group.is_over(meeting):
                    self.gone.append((counters, shown))
                    break
            else:
                self._drop(counters)

    def _drop(self, counters: int) -> None:
        at = counters + self.rank
        left = self.words[at] - 1
        self.words[at] = left
        if not left:
            own = self._own.get(counters)
            if own is not None and not own.is_free:
                own.is_free = True
                self._free[own.size].append(own)

    def _fresh(self, size: int) -> Slot:
        align = HUGE if size >= HUGE else LINE
        offset = -(-self._top // align) * align
        counters = self.lines(-(-self.ranks // 8)) // 8
        if offset + size > self._committed:
            self._grow(offset + size)
        self._top = offset + size
        slot = self._own[counters] = Slot(offset, size, counters)
        return slot

    def _grow(self, end: int) -> None:
        """Commit up to `end` at least, and half as much again as there is, if that is not much: growing stays rare."""
        held = self._committed - self.start - CONTROL
        wanted = -(-max(end, self._committed + CHUNK + min(held // 2, MOST)) // HUGE) * HUGE
        for stop in (wanted, -(-end // HUGE) * HUGE):
            if stop > self._end:
                continue
            try:
                self._commit(self._committed, stop - self._committed)
            except NoRoom:
                continue
            self.segment.collapse(self._committed, stop - self._committed)
            self._committed = stop
            return
        raise NoRoom

    def _commit(self, offset: int, size: int) -> None:
        try:
            self.segment.commit(offset, size)
        except OSError as error:
            raise NoRoom from error
