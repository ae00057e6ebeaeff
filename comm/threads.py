"""Ranks as threads of one process: a world with real concurrency, without MPI, in which a deadlock is seen at once.

Messages are copied when sent, so sending never waits. One lock guards everything: what is in flight, and what every
rank waits for. Whenever a rank begins to wait, ends or fails, the ranks that can no longer go on are told (`waiting`).

Ranks may pretend to live on several hosts: these share no windows, and what crosses them may take time, as over a link
that carries one message of a host after the other, without the help of a processor.
"""

from __future__ import annotations

import ctypes
import threading
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from flowcore.comm.errors import CommError, DivergenceError, told
from flowcore.comm.transport import TOLD, Array, Begun, Buffers, Log
from flowcore.comm.waiting import (
    TAIL,
    Ended,
    Failed,
    State,
    Stop,
    Stops,
    Waiting,
    first_difference,
    hang,
    hopeless,
    ranks_text,
    verdict,
)
from flowcore.placement.errors import FlowcoreError
from flowcore.placement.machine import Link

Pair = tuple[int, int]
"""Who sends, and to whom."""
AT_ONCE = Link(0.0, 0.0)


@dataclass
class _Meeting:
    """Ranks that gather: who has come, with which digest, log and value."""

    arrived: dict[int, tuple[int, Log, Any]] = field(default_factory=dict)
    outcome: FlowcoreError | list[Any] | None = None


class ThreadWorld:
    """`size` ranks that live as threads; `timeout`: seconds that a rank waits for peers that are still running.

    hosts: of every rank, where they pretend to live on several; link: what messages between these take.
    """

    def __init__(self, size: int, timeout: float = 60, hosts: Sequence[int] = (), link: Link = AT_ONCE) -> None:
        self.size, self.timeout, self.link = size, timeout, link
        self.hosts = tuple(hosts) or (0,) * size
        self._lock = threading.Lock()
        self._wake = [threading.Condition(self._lock) for _ in range(size)]
        self._states: dict[int, State] = dict.fromkeys(range(size))
        self._lost: dict[int, Callable[[], FlowcoreError]] = {}
        """What gives the errors of ranks that can never go on; a rank is told in the moment it raises."""
        self._stops = [Stops() for _ in range(size)]
        self._mail: dict[tuple[Pair, int], tuple[Array, int, float]] = {}
        """Messages that nobody has taken yet, numbered per pair, their bytes, and when they are there."""
        self._wanted: dict[int, tuple[Pair, int]] = {}
        """The message that a rank waits for."""
        self._spare: list[Array] = []
        """Memory of messages that were taken, the smallest first; as many as were on their way at once."""
        self._sent: Counter[Pair] = Counter()
        self._expected: Counter[Pair] = Counter()
        self._free: dict[int, float] = {}
        """Per host when its link has carried all it was given."""
        self._meetings: dict[tuple[int, ...], _Meeting] = {}

    def transport(self, rank: int) -> ThreadTransport:
        """The world as `rank` sees it."""
        return ThreadTransport(self, rank)

    def fail(self, rank: int, exception: BaseException) -> None:
        """`rank` failed: ranks that need it raise CommError with its exception."""
        self._settle(rank, Failed.by(exception))

    def end(self, rank: int) -> None:
        """`rank` ended its program: ranks that need it raise DivergenceError."""
        self._settle(rank, Ended())

    def stop(self, rank: int, ranks: tuple[int, ...], mark: int, error: FlowcoreError) -> None:
        """`rank` raises `error` in what `ranks` do: those that need it then raise the same."""
        with self._lock:
            self._stops[rank].add(rank, ranks, mark, error)

    def send(self, rank: int, peer: int, array: Array) -> None:
        """Put a copy of `array` on its way."""
        with self._lock:
            key = (rank, peer), self._sent[rank, peer]
            self._mail[key] = self._copy(array), array.nbytes, self._arrival(rank, peer, array)
            self._sent[rank, peer] += 1
            if self._wanted.get(peer) == key:
                self._go(peer)

    def _copy(self, array: Array) -> Array:
        """The bytes of `array`, in the smallest spare memory that holds them; the largest is given up for new."""
        spare = self._spare
        place = next((place for place, memory in enumerate(spare) if memory.size >= array.nbytes), -1)
        memory = spare.pop(place) if spare else np.empty(0, np.uint8)
        if memory.size < array.nbytes:
            memory = np.empty(array.nbytes, np.uint8)
        memory[: array.nbytes].view(array.dtype).reshape(array.shape)[...] = array
        return memory

    def _arrival(self, rank: int, peer: int, array: Array) -> float:
        """When a message is there that is sent now."""
        host = self.hosts[rank]
        if host == self.hosts[peer] or self.link is AT_ONCE:
            return 0.0
        begin = max(time.monotonic(), self._free.get(host, 0.0))
        self._free[host] = begin + array.nbytes * self.link.seconds_per_byte
        return self._free[host] + self.link.latency

    def expect(self, rank: int, peer: int) -> int:
        """The number of the next message of `peer` to `rank` that is not expected yet."""
        with self._lock:
            self._expected[peer, rank] += 1
            return self._expected[peer, rank] - 1

    def receive(self, rank: int, peer: int, number: int, into: Array) -> None:
        """Wait for a message of `peer`, by its number, and copy it into `into`."""
        with self._lock:
            key = (peer, rank), number
            self._wanted[rank] = key
            try:
                self._wait(rank, lambda: key in self._mail, lambda: Waiting("a receive", frozenset((peer,))))
            finally:
                del self._wanted[rank]
            given, size, arrival = self._mail.pop(key)
        if arrival:
            time.sleep(max(0.0, arrival - time.monotonic()))
        if size != into.nbytes:
            raise CommError(f"rank {rank} expected {into.nbytes} bytes from rank {peer}, which sent {size}")
        into[...] = given[:size].view(into.dtype).reshape(into.shape)
        with self._lock:
            insort(self._spare, given, key=len)

    def gather(self, rank: int, ranks: tuple[int, ...], digest: int, log: Log, value: Any = None) -> list[Any]:
        """Wait until all of `ranks` are here with one digest; what each brought, in their order."""
        return self.wait(rank, ranks, log, self.post(rank, ranks, digest, log, value))

    def post(self, rank: int, ranks: tuple[int, ...], digest: int, log: Log, value: Any = None) -> _Meeting:
        """Come to the next meeting of `ranks`, without waiting for it."""
        with self._lock:
            meeting = self._meetings.setdefault(ranks, _Meeting())
            meeting.arrived[rank] = (digest, log, value)
            if len(meeting.arrived) == len(ranks):
                del self._meetings[ranks]
                meeting.outcome = _outcome(ranks, meeting)
                for other in ranks:
                    self._go(other)
            return meeting

    def wait(self, rank: int, ranks: tuple[int, ...], log: Log, meeting: _Meeting) -> list[Any]:
        """Wait until all of `ranks` have come to `meeting` with one digest; what each brought, in their order."""
        with self._lock:

            def waiting() -> Waiting:
                missing = frozenset(ranks) - frozenset(meeting.arrived)
                return Waiting(f"a meeting of {ranks_text(ranks)}", missing, tuple(log()[-TAIL:]), ranks)

            self._wait(rank, lambda: meeting.outcome is not None, waiting)
            if isinstance(meeting.outcome, DivergenceError):
                raise self._stops[rank].tell(rank, self._said(ranks), copy(meeting.outcome))
        if isinstance(meeting.outcome, FlowcoreError):
            raise copy(meeting.outcome)
        assert meeting.outcome is not None
        return meeting.outcome

    def _wait(self, rank: int, is_done: Callable[[], bool], waiting: Callable[[], Waiting]) -> None:
        """Wait, with the lock held, until `is_done`; raises where that can never be."""
        if is_done():
            return
        self._states[rank] = waiting()
        self._find_lost()
        while not is_done():
            if rank in self._lost:
                raise self._lost.pop(rank)()
            if not self._wake[rank].wait(self.timeout) and not is_done() and rank not in self._lost:
                state = waiting()
                self._states[rank] = None
                raise hang(rank, self.timeout, state)
            if not is_done() and rank not in self._lost:
                self._states[rank] = waiting()
        self._go(rank)

    def _go(self, rank: int) -> None:
        """`rank` has what it waited for: it runs."""
        if isinstance(self._states[rank], Waiting):
            self._states[rank] = None
        self._lost.pop(rank, None)
        self._wake[rank].notify()

    def _settle(self, rank: int, state: State) -> None:
        with self._lock:
            if not isinstance(self._states[rank], Failed):
                self._states[rank] = state
            self._find_lost()

    def _find_lost(self) -> None:
        """Tell the ranks that can never go on why."""
        states = {rank: self._current(rank, state) for rank, state in self._states.items()}
        lost = sorted(hopeless(states))
        for rank in lost:
            if rank not in self._lost:
                said = self._said(range(self.size))
                self._lost[rank] = partial(verdict, rank, states, said, self._stops[rank])
                self._wake[rank].notify()

    def _said(self, ranks: Iterable[int]) -> dict[int, tuple[Stop, ...]]:
        """What stopped these ranks."""
        return {rank: tuple(self._stops[rank].met.values()) for rank in ranks}

    def _current(self, rank: int, state: State) -> State:
        """A waiting rank with the peers that are missing now, not when it began to wait."""
        if isinstance(state, Waiting) and state.group in self._meetings:
            arrived = self._meetings[state.group].arrived
            return Waiting(state.what, state.peers - frozenset(arrived), state.tail, state.group)
        return state


def _outcome(ranks: tuple[int, ...], meeting: _Meeting) -> FlowcoreError | list[Any]:
    """The values that all brought, or the error that one brought, or that of ranks whose digests differ."""
    for rank in ranks:
        digest, _, error = meeting.arrived[rank]
        if digest == TOLD and isinstance(error, FlowcoreError):
            return told(error, rank)
    if len({digest for digest, _, _ in meeting.arrived.values()}) > 1:
        return first_difference({rank: tuple(meeting.arrived[rank][1]()) for rank in ranks})
    return [meeting.arrived[rank][2] for rank in ranks]


class ThreadTransport:
    """One rank of a ThreadWorld."""

    def __init__(self, world: ThreadWorld, rank: int) -> None:
        self.world, self.rank, self.size = world, rank, world.size
        self.hosts = world.hosts
        self._log: Log = tuple
        self._posted: dict[tuple[int, ...], _Meeting] = {}

    def exchange(self, sends: Buffers, receives: Buffers) -> None:
        """Send copies, then wait for what is to be received."""
        self.finish(self.start(sends, receives))

    def start(self, sends: Buffers, receives: Buffers) -> Begun:
        """Send copies: (peer, number, array) of what is to be received."""
        for peer, array in sends:
            self.world.send(self.rank, peer, array)
        return [(peer, self.world.expect(self.rank, peer), array) for peer, array in receives]

    def finish(self, begun: Begun) -> None:
        """Wait for what is to be received; called again after an interruption it goes on."""
        while begun:
            peer, number, array = begun[0]
            self.world.receive(self.rank, peer, number, array)
            del begun[0]

    def drop(self, begun: Begun) -> None:
        """Nothing is received before it is waited for, and nobody else will take it."""

    def nudge(self) -> None:
        """Messages need nobody."""

    def meet(self, ranks: tuple[int, ...], digest: int, log: Log) -> None:
        """Return when all of `ranks` are here with the same digest."""
        self._log = log
        self.world.gather(self.rank, tuple(ranks), digest, log)

    def windows(self, ranks: tuple[int, ...], size: int) -> list[Any]:
        """The memory of every one of `ranks`; see `transport.Opens`."""
        return self.gather_objects(ranks, (ctypes.c_ubyte * size)())

    def is_alone(self, window: Any) -> bool:
        """Whether only what holds that very buffer sees it: messages are copies."""
        return True

    def post(self, ranks: tuple[int, ...], digest: int) -> None:
        """Come to the next meeting of `ranks` without waiting for it."""
        self._posted[ranks] = self.world.post(self.rank, ranks, digest, self._log)

    def wait(self, ranks: tuple[int, ...], digest: int) -> None:
        """Return when all came to the meeting to which this rank came."""
        self.world.wait(self.rank, ranks, self._log, self._posted.pop(ranks))

    def tell(self, ranks: tuple[int, ...], error: FlowcoreError) -> None:
        """Come to the next meeting of `ranks` with an error."""
        with suppress(FlowcoreError):  # they know it now, or nobody can come
            self.world.wait(self.rank, ranks, self._log, self.world.post(self.rank, ranks, TOLD, self._log, error))

    def gather_objects(self, ranks: tuple[int, ...], value: Any) -> list[Any]:
        """What every rank gave."""
        return self.world.gather(self.rank, tuple(ranks), -1, lambda: ("gather_objects",), value)

    def barrier(self, ranks: tuple[int, ...]) -> None:
        """Return when all of `ranks` are here."""
        self.world.gather(self.rank, tuple(ranks), -2, lambda: ("barrier",))

    def stop(self, ranks: tuple[int, ...], mark: int, error: FlowcoreError) -> None:
        """Let peers that can then not go on raise what stopped this rank."""
        self.world.stop(self.rank, ranks, mark, error)

    def fail(self, exception: BaseException) -> None:
        """Tell the other ranks that this one failed."""
        self.world.fail(self.rank, exception)

    def close(self) -> None:
        """End this rank's program."""
        self.world.end(self.rank)
