"""Notes between MPI ranks, beside the data: who waits for whom, who ended, who failed.

A rank that has waited half a second asks the ranks its waiting depends on how they stand. Only ranks that wait answer;
one that computes does not, and counts as running. From the answers the asker sees whether it can still go on
(`waiting.hopeless`). It believes that it cannot only when a second round of answers, all given after the first round
had come in, shows everybody in the same wait: then there was a moment at which all of them stood still.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from flowcore.comm.waiting import Ended, Failed, State, Stop, Stops, Waiting, hopeless, verdict

PATIENCE = 0.5
"""Seconds of waiting before a rank asks, and between two rounds of asking."""
GRACE = 0.25
"""Seconds for what a rank sent before it ended to arrive after the note that it ended."""

Ranks = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """How a rank stands: `epoch` counts its waits; `meetings`: how often it came to each group; `stops`: its errors."""

    state: State
    epoch: int
    meetings: Mapping[Ranks, int]
    stops: tuple[Stop, ...] = ()


class Watch:
    """The notes that this rank sends and receives, and what it knows of the others."""

    def __init__(self, control: Any, mpi: Any) -> None:
        """`control`: an MPI communicator of the world for notes alone; `mpi`: the module mpi4py.MPI, which only
        `comm.mpi` imports."""
        self.control, self.mpi = control, mpi
        self.rank, self.size = control.rank, control.size
        self.settled: dict[int, Ended | Failed] = {}
        self.dead: dict[int, str] = {}
        self.on_settle: Callable[[], None] | None = None
        self.meetings: Counter[Ranks] = Counter()
        self.stops = Stops()
        self._said: dict[int, tuple[Stop, ...]] = {}
        self._came: dict[int, Mapping[Ranks, int]] = {self.rank: self.meetings}
        self._announced: set[tuple[int, Ranks]] = set()
        self._waiting: Callable[[], Waiting] | None = None
        self._epoch = 0
        self._asked: set[int] = set()
        self._reports: dict[int, Report] = {}
        self._suspicion: dict[int, int] | None = None
        self._lost_since: float | None = None
        self._next = 0.0
        self._outbox: list[Any] = []

    def arrive(self, ranks: Ranks) -> None:
        """This rank comes to a meeting of `ranks`."""
        self.meetings[ranks] += 1

    def announce(self, ranks: Ranks) -> None:
        """Tell `ranks` that this rank is ready to make their communicator."""
        for peer in ranks:
            if peer != self.rank:
                self._send(peer, "announce", ranks)

    def all_announced(self, ranks: Ranks) -> bool:
        """Whether all of `ranks` are ready to make their communicator."""
        self.answer()
        return all(peer == self.rank or (peer, ranks) in self._announced for peer in ranks)

    def missing(self, ranks: Ranks) -> frozenset[int]:
        """The ranks not known to have come to the present meeting of `ranks`."""
        return self._missing(self.rank, ranks)

    def settle(self, state: Ended | Failed) -> None:
        """Tell all that this rank's program ended or failed."""
        if self.rank not in self.settled:
            self.settled[self.rank] = state
            if self.on_settle is not None:
                self.on_settle()
            for peer in range(self.size):
                if peer != self.rank:
                    self._send(peer, "settled", self._report())

    def died(self, rank: int) -> None:
        """The process of `rank` is seen to have ended; that is a failure where it has not said that it ends."""
        if rank not in self.settled:
            self.dead[rank] = "its process ended without a word, as one that is killed does"
            self.settled[rank] = Failed(self.dead[rank])

    def all_settled(self) -> bool:
        """Whether every rank has ended or failed."""
        return bool(len(self.settled) == self.size)

    @contextmanager
    def waiting(self, what: Callable[[], Waiting]) -> Iterator[None]:
        """While this lasts, the rank answers that it waits for `what`."""
        self._epoch += 1
        self._waiting, self._suspicion, self._lost_since, self._next = what, None, None, PATIENCE
        self._reports.clear()
        try:
            yield
        finally:
            self._waiting = None

    def answer(self) -> None:
        """Take in all notes that have come; answer those that ask."""
        status = self.mpi.Status()
        while self.control.Iprobe(self.mpi.ANY_SOURCE, self.mpi.ANY_TAG, status):
            peer = status.Get_source()
            kind, content = self.control.recv(source=peer, tag=status.Get_tag())
            match kind:
                case "ask":
                    self._send(peer, "report", self._report())
                case "announce":
                    self._announced.add((peer, content))
                case "report" | "settled":
                    self._came[peer], self._said[peer] = content.meetings, content.stops
                    if kind == "settled":
                        self.settled[peer] = content.state
                    else:
                        self._asked.discard(peer)
                        self._reports[peer] = content
        self._outbox = [request for request in self._outbox if not request.Test()]

    def inquire(self, waited: float) -> None:
        """Ask how the others stand, when it is time; raises where this rank can never go on."""
        if self.settled:
            self._raise_if_left()
        if waited < self._next:
            return
        self._next = waited + PATIENCE
        self._raise_if_stuck()
        for peer in self._concerned():
            if peer not in self._asked:
                self._asked.add(peer)
                self._reports.pop(peer, None)
                self._send(peer, "ask", None)

    def _raise_if_left(self) -> None:
        """Raise where this rank itself waits for one that ended or failed."""
        states = self._states()
        state = states[self.rank]
        if not isinstance(state, Waiting) or not state.peers & self.settled.keys():
            self._lost_since = None
        elif self._lost_since is None:
            self._lost_since = time.monotonic()
        elif time.monotonic() - self._lost_since > GRACE:
            raise verdict(self.rank, states, self._said, self.stops)

    def _raise_if_stuck(self) -> None:
        """Raise where two rounds of reports agree that this rank can never go on."""
        states = self._states()
        if self.rank not in hopeless(states):
            self._suspicion = None
            return
        epochs = {peer: report.epoch for peer, report in self._reports.items()}
        if self._suspicion == epochs:
            raise verdict(self.rank, states, self._said, self.stops)
        self._suspicion = epochs

    def _states(self) -> dict[int, State]:
        """How every rank stands, by what is known here; the others run."""
        states: dict[int, State] = dict.fromkeys(range(self.size))
        states[self.rank] = self._report().state
        for peer, report in self._reports.items():
            state = report.state
            if isinstance(state, Waiting) and state.group:
                state = replace(state, peers=self._missing(peer, state.group))
            states[peer] = state
        return {**states, **self.settled}

    def _missing(self, rank: int, ranks: Ranks) -> frozenset[int]:
        """The ranks that have come to `ranks` less often than `rank` has."""
        count = self._came[rank].get(ranks, 0)
        return frozenset(peer for peer in ranks if self._came.get(peer, {}).get(ranks, 0) < count)

    def _concerned(self) -> list[int]:
        """The ranks that this one depends on, directly or through others, and that may answer."""
        states = self._states()
        found: set[int] = set()
        queue = [self.rank]
        while queue:
            state = states[queue.pop()]
            if isinstance(state, Waiting):
                queue += state.peers - found
                found |= state.peers
        return sorted(found - self.settled.keys() - {self.rank})

    def _report(self) -> Report:
        state: State = self.settled.get(self.rank)
        if state is None and self._waiting is not None:
            state = self._waiting()
        return Report(state, self._epoch, dict(self.meetings), tuple(self.stops.met.values()))

    def _send(self, peer: int, kind: str, content: Any) -> None:
        self._outbox.append(self.control.isend((kind, content), peer))
