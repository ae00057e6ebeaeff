"""The transport of ranks of which several share a host: what stays within a host goes through shared memory.

It wraps the MPI transport, over which everything else goes: bytes that cross hosts, objects, failures. Within a host
the reader copies or reduces the very slice it needs from its peer's block (`route`): a block that lies in the shared
segment already is read where it is, another is first copied there once by its owner. The blocks it gives are
read-only, for several ranks may see the same memory.
"""

from __future__ import annotations

import os
import platform
import select
import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

from flowcore.comm.arena import Lease, NoRoom
from flowcore.comm.boxing import BoxingPlan
from flowcore.comm.carrier import Carrier, Flat, Slots
from flowcore.comm.errors import CommError, told
from flowcore.comm.execute import exchanged
from flowcore.comm.group import FULL, MOST, NOTHING, Group, lines_of
from flowcore.comm.mpi import BARRIER, MpiTransport
from flowcore.comm.route import route_of
from flowcore.comm.segment import Segment
from flowcore.comm.transport import TOLD, Array, Log, Meeting, Transport
from flowcore.comm.waiting import TAIL, Waiting, first_difference, ranks_text
from flowcore.comm.walk import check_block
from flowcore.placement.errors import FlowcoreError

POLLS = 64
"""Polls of a long wait between two looks at whether the peers live."""
WAYS = 8192


def join(inner: MpiTransport, hosts: Sequence[int] | None = None, small: int = MOST) -> Transport:
    """A transport that uses shared memory within each host; `inner` itself where no two ranks can. Collective.

    `hosts`: pretended hosts, one number for each rank: ranks of different numbers do not share memory. `small`: see
    `route_of`.
    """
    world = tuple(range(inner.size))
    mine = (_machine(), hosts[inner.rank] if hosts is not None else 0)
    machines = inner.gather_objects(world, mine)
    number = {machine: index for index, machine in enumerate(dict.fromkeys(machines))}
    placed = [number[machine] for machine in machines]
    peers = [rank for rank in world if placed[rank] == placed[inner.rank]]
    count, index = len(peers), peers.index(inner.rank)
    carrier, problem = None, "" if mine[0] else "this system has no shared memory that flowcore can use"
    if not problem and index == 0 and count > 1:
        carrier, problem = _attempt(lambda: Carrier(Segment.create(count), 0))
    told = inner.gather_objects(world, (os.getpid(), carrier.segment.descriptor if carrier else -1))
    pid, descriptor = told[peers[0]]
    if not problem and carrier is None and descriptor >= 0:
        carrier, problem = _attempt(lambda: Carrier(Segment.join(pid, descriptor, count), index))
    shares, problems = zip(*inner.gather_objects(world, (carrier is not None, problem)), strict=True)
    if inner.rank == peers[0] and any(problems[rank] for rank in peers):
        warnings.warn(f"plain MPI within this host: {max(problems[rank] for rank in peers)}", stacklevel=2)
    together = {placed[rank] for rank in world if all(shares[peer] for peer in world if placed[peer] == placed[rank])}
    if not together:
        return inner
    if placed[inner.rank] not in together:
        carrier = None
    alone = [placed[rank] if placed[rank] in together else len(machines) + rank for rank in world]
    return SharedTransport(inner, carrier, tuple(alone), [pid for pid, _ in told], small)


def _machine() -> str:
    """What ranks that can share memory have in common; empty where they never can."""
    has_calls = all(hasattr(os, name) for name in ("memfd_create", "pidfd_open", "posix_fallocate"))
    if platform.machine() not in ("x86_64", "AMD64") or not has_calls:
        return ""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _attempt(make: Callable[[], Carrier]) -> tuple[Carrier | None, str]:
    try:
        return make(), ""
    except OSError as error:
        return None, str(error)
    except NoRoom:
        return None, "no memory for a shared segment"


def _transfer() -> tuple[str, ...]:
    return ("a transfer",)


class SharedTransport:
    """A rank that shares memory with its host's ranks through `carrier` (None: with nobody); `hosts`: of every rank."""

    def __init__(
        self, inner: MpiTransport, carrier: Carrier | None, hosts: tuple[int, ...], pids: Sequence[int], small: int
    ) -> None:
        self.inner, self.hosts, self.small, self._carrier = inner, hosts, small, carrier
        self.rank, self.size = inner.rank, inner.size
        self.exchange, self.all_gather_v = inner.exchange, inner.all_gather_v
        self.start, self.finish, self.nudge = inner.start, inner.finish, inner.nudge
        self.drop, self.stop = inner.drop, inner.stop
        self.gather_objects, self.fail = inner.gather_objects, inner.fail
        self.peers = tuple(rank for rank in range(self.size) if hosts[rank] == hosts[self.rank])
        self._pids: dict[int, int] = {}
        for rank in self.peers if carrier else ():
            if rank != self.rank:
                with suppress(OSError):  # some sandboxes forbid it; then only the launcher notices a death
                    self._pids[rank] = os.pidfd_open(pids[rank])
        self._groups: dict[tuple[int, ...], Group | None] = {}
        # ranks that share a core wait for each other to run; others come soon, and a yield may cost a time slice
        self._spins = 2 if len(self.peers) > (os.cpu_count() or 1) else 150
        self._ways: dict[BoxingPlan, Flat | Slots | None] = {}
        self._warned = False
        self._log: Log = _transfer
        self._told: FlowcoreError | None = None
        if carrier is not None:
            inner.watch.on_settle = carrier.arena.mark

    def carry(self, plan: BoxingPlan, block: Array | None, meeting: Meeting | None = None) -> Array | None:
        """The target block of this rank; None where it has none. `meeting`: what the ranks of `plan` meet on first."""
        try:
            way = self._ways[plan]
        except KeyError:
            way = self._way(plan)
        if way is None:
            if meeting is not None:
                self.meet(*meeting)
            return exchanged(plan, self.inner, block)
        if way.held is None or block is None or block.shape != way.held or block.dtype != plan.dtype:
            block = check_block(plan, self.rank, block)
        digest, self._log = 0, _transfer
        if meeting is not None:
            if meeting[0] == way.group.ranks:
                _, digest, self._log = meeting
            else:
                self.meet(*meeting)
        try:
            return way.carry(block, digest, self._agree)
        except NoRoom:
            self._warn()
            return exchanged(plan, self.inner, block)

    def share(self, plan: BoxingPlan, block: Array | None) -> Array | None:
        """The same block in shared memory; the very block where there is no room, or no peer."""
        way = self._ways[plan] if plan in self._ways else self._way(plan, moves=False)
        if way is None:
            return block
        try:
            return way.carry(check_block(plan, self.rank, block), 0, self._agree)
        except NoRoom:
            self._warn()
            return block

    def _way(self, plan: BoxingPlan, moves: bool = True) -> Flat | Slots | None:
        """How this rank takes part in `plan` through shared memory; None where it goes over MPI."""
        if len(self._ways) >= WAYS:
            self._ways.clear()
        small = self.small if moves else -1
        route = None if self._carrier is None else route_of(plan, self.rank, self.hosts, small, moves)
        group = None if route is None else self._group(route.ranks)
        if route is None or group is None or self._carrier is None:
            self._ways[plan] = None
        else:
            self._ways[plan] = self._carrier.way(plan, route, group)
        return self._ways[plan]

    def _warn(self) -> None:
        if not self._warned and self._carrier is not None and self._carrier.is_full:
            self._warned = True
            warnings.warn(
                f"rank {self.rank} finds no more shared memory on its host: what does not fit goes through plain MPI",
                stacklevel=2,
            )

    def meet(self, ranks: tuple[int, ...], digest: int, log: Log) -> None:
        """Return when all of `ranks` are here with the same digest."""
        ranks = tuple(ranks)
        group = self._groups.get(ranks)
        if group is None:
            if ranks == (self.rank,):
                return
            self.inner.meet(ranks, digest, log)
            if self._carrier is not None and all(self.hosts[rank] == self.hosts[self.rank] for rank in ranks):
                self._group(ranks)
            return
        self._log = log
        if not group.meet(digest):
            self._agree(group, digest)

    def windows(self, ranks: tuple[int, ...], size: int) -> list[Any] | None:
        """The memory of every one of `ranks`, all of this host; see `transport.Opens`."""
        assert self._carrier is not None
        arena, group = self._carrier.arena, self._group(ranks)
        offset, counters = self._carrier.slot(size) if group is not None and size else (NOTHING, NOTHING)
        own = None if offset < 0 else arena.lease(counters, offset, size)
        told = self.inner.gather_objects(ranks, (FULL if group is None else offset, counters, size))
        if any(offset == FULL for offset, _, _ in told):
            self._warn()
            return None
        seen = [arena.lease(counters, offset, size) if size else bytearray() for offset, counters, size in told]
        if own is not None:
            seen[ranks.index(self.rank)] = own
            arena.sweep()
        self.inner.gather_objects(ranks, None)  # nobody lets go of its own before all hold it
        return seen

    def is_alone(self, window: Any) -> bool:
        """Whether nothing on this rank sees the memory of `window` but what holds that very buffer."""
        assert self._carrier is not None
        arena = self._carrier.arena
        if arena.gone:
            arena.sweep()
        return not isinstance(window, Lease) or arena.words[window.counters + arena.rank] == 1

    def post(self, ranks: tuple[int, ...], digest: int) -> None:
        """Come to the next meeting of `ranks` without waiting for it."""
        group = self._groups[ranks]
        assert group is not None
        group.come(digest)

    def wait(self, ranks: tuple[int, ...], digest: int) -> None:
        """Return when all came to the meeting to which this rank came."""
        group = self._groups[ranks]
        assert group is not None
        if not group.came(digest):
            self._agree(group, digest)

    def tell(self, ranks: tuple[int, ...], error: FlowcoreError) -> None:
        """Come to the next meeting of `ranks` with an error."""
        self._told = error
        try:
            self.post(ranks, TOLD)
            self.wait(ranks, TOLD)
        except FlowcoreError:
            pass  # they know it now, or nobody can come
        finally:
            self._told = None

    def barrier(self, ranks: tuple[int, ...]) -> None:
        """Return when all of `ranks` are here."""
        self.meet(ranks, BARRIER, lambda: ("barrier",))

    def explain_termination(self) -> None:
        """Let SIGTERM, with which launchers end the others when a rank dies, raise an error that names that rank."""
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._terminated)

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        self.look_for_dead()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if not self.inner.watch.dead or self.rank in self.inner.watch.settled:
            os.kill(os.getpid(), signal.SIGTERM)
            return
        rank = min(self.inner.watch.dead)
        text = self.inner.watch.dead[rank]
        error = CommError(f"rank {rank} failed: {text}; the launcher ends rank {self.rank} too")
        error.failed_rank, error.failed_text = rank, text
        raise error

    def close(self) -> None:
        """End this rank's program."""
        self.inner.close()
        for descriptor in self._pids.values():
            os.close(descriptor)
        self._pids.clear()

    # meeting

    def _group(self, ranks: tuple[int, ...]) -> Group | None:
        """The group of `ranks`, all of this host; made with a message to each of them. None: there is no memory."""
        if ranks in self._groups:
            return self._groups[ranks]
        assert self._carrier is not None
        at = -1
        if self.rank == ranks[0]:
            with suppress(NoRoom):
                at = self._carrier.arena.lines(lines_of(len(ranks)))
        at = self.inner.gather_objects(ranks, at)[0]
        words = self._carrier.segment.words
        group = None if at < 0 else Group(ranks, self.rank, words, at, self._wait_long, self._spins)
        self._groups[ranks] = group
        return group

    def _agree(self, group: Group, digest: int) -> None:
        """Wait for all of the group; DivergenceError where they came for different things."""
        group.wait()
        if not group.agree(digest):
            stops = self.inner.watch.stops
            mine = tuple(self._log()), self._told, tuple(stops.met.values())
            said = dict(zip(group.ranks, self.inner.gather_objects(group.ranks, mine), strict=True))
            for rank, (_, error, _) in said.items():
                if error is not None:
                    raise told(error, rank)
            found = first_difference({rank: log for rank, (log, _, _) in said.items()})
            raise stops.tell(self.rank, {rank: each for rank, (_, _, each) in said.items()}, found)

    def _wait_long(self, is_done: Callable[[], bool], missing: Callable[[], frozenset[int]]) -> None:
        """Poll until `is_done`; raises where peers failed, ended, died or do something else."""
        polls = 0

        def poll() -> bool:
            nonlocal polls
            polls += 1
            if polls % POLLS == 0:
                self.look_for_dead()
            return is_done()

        def waiting() -> Waiting:
            peers = missing()
            return Waiting(f"a meeting of {ranks_text(self.peers)}", peers, tuple(self._log()[-TAIL:]))

        self.inner.wait(poll, waiting)

    def look_for_dead(self) -> None:
        """Note the peers of this host whose processes have ended without a word."""
        poll = select.poll()
        for descriptor in self._pids.values():
            poll.register(descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(0)}
        for rank, descriptor in list(self._pids.items()):
            if descriptor in ready and self._carrier and not self._carrier.arena.is_marked(self.peers.index(rank)):
                self.inner.watch.died(rank)
