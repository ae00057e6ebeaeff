"""Everything over mpi4py: ranks as MPI processes.

Data goes over one communicator per group of ranks, cached; notes between ranks go over another. A meeting is one
non-blocking all-reduce of the digest and its complement. A rank that has waited for long asks the others how they
stand (`watch`) and learns whether they can still come. All waiting is polling, which spins, then yields, then sleeps,
so that ranks that outnumber the cores do not burn them.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from flowcore.comm.errors import CommError, DivergenceError
from flowcore.comm.transport import Array, Begun, Buffers, Log
from flowcore.comm.waiting import REMEDY, TAIL, Ended, Failed, Waiting, first_difference, hang, ranks_text
from flowcore.comm.watch import Watch
from flowcore.placement.errors import FlowcoreError

if TYPE_CHECKING:
    from mpi4py import MPI

SETTINGS = {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "^ofi,uct", "OMPI_MCA_osc": "^ucx"}
"""Open MPI components that start fast and suit one host; a user's own settings win."""

LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK", "MV2_COMM_WORLD_SIZE", "MPI_LOCALNRANKS")
CHUNK = 1 << 30
"""Bytes of the longest single message."""

GATHER, BARRIER = -1, -2
"""Digests of meetings that are not about an operation."""


def under_mpi(environ: Mapping[str, str]) -> bool:
    """Whether an MPI launcher started this process."""
    return any(name in environ for name in LAUNCHERS)


def load_mpi() -> Any:
    """The module mpi4py.MPI, imported with settings that suit us; CommError where it cannot be."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        from mpi4py import MPI  # late: importing it starts MPI, which only a program under a launcher wants
    except (ImportError, RuntimeError) as error:
        raise CommError(f"MPI does not load ({error}): install an MPI library, or flowcore's extra 'mpi'") from error
    return MPI


class MpiTransport:
    """This process as a rank of MPI's world; making one is collective over the world.

    `timeout`: seconds that this rank waits for peers that still run.
    """

    def __init__(self, timeout: float = 600) -> None:
        self.mpi = load_mpi()
        self.timeout = timeout
        self.data: MPI.Intracomm = self.mpi.COMM_WORLD.Dup()
        self.rank, self.size = self.data.rank, self.data.size
        self.watch = Watch(self.mpi.COMM_WORLD.Dup(), self.mpi)
        self._world = tuple(range(self.size))
        self._groups: dict[tuple[int, ...], MPI.Intracomm] = {self._world: self.data}
        self._digests = np.empty(2, np.int64), np.empty(2, np.int64)
        self._given_up: dict[tuple[int, ...], MPI.Request] = {}
        self._crowded = self.size > (os.cpu_count() or 1)

    def exchange(self, sends: Buffers, receives: Buffers) -> None:
        """Send and receive; returns when all is done."""
        self.finish(self.start(sends, receives))

    def start(self, sends: Buffers, receives: Buffers) -> Begun:
        """Post all receives, then all sends: (peer, request, whether it receives) of each."""
        requests: list[tuple[int, Any, bool]] = []
        for peer, array in receives:
            if peer != self.rank:
                requests += [(peer, self.data.Irecv([piece, self.mpi.BYTE], peer), True) for piece in _chunks(array)]
        for peer, array in sends:
            if peer != self.rank:
                requests += [(peer, self.data.Isend([piece, self.mpi.BYTE], peer), False) for piece in _chunks(array)]
        own = [array for peer, array in sends if peer == self.rank]
        for (_, into), given in zip([pair for pair in receives if pair[0] == self.rank], own, strict=True):
            into[...] = given.reshape(into.shape)
        return requests

    def finish(self, begun: Begun) -> None:
        """Wait for what was started."""
        requests: list[tuple[int, Any, bool]] = begun
        test, left = self.mpi.Request.Testall, [request for _, request, _ in requests]

        def waiting() -> Waiting:
            # a peer whose part is done is waited for no more: two that wait for a slow third are no circle
            return Waiting("an exchange", frozenset(peer for peer, request, _ in requests if not request.Test()))

        self.wait(lambda: bool(test(left)), waiting, sleeps=False)

    def drop(self, begun: Begun) -> None:
        """Take back the receives that nothing has come for; what is sent may arrive at any time, or never."""
        requests: list[tuple[int, Any, bool]] = begun
        for _, request, receives in requests:
            if receives and not request.Test():
                request.Cancel()
                request.Test()

    def nudge(self) -> None:
        """Let MPI look at its messages: most libraries move long ones on only while they are called."""
        self.data.Iprobe(self.mpi.ANY_SOURCE, self.mpi.ANY_TAG)

    def all_gather_v(self, ranks: tuple[int, ...], block: Array, out: Array, counts: tuple[int, ...]) -> None:
        """Fill `out` with the blocks of `ranks` in their order."""

        if len(ranks) == 1:
            out.reshape(-1)[...] = block.reshape(-1)
            return
        log = _constant("all_gather")
        self._arrive(ranks)
        group = self._group(ranks, log)
        into = [out.reshape(-1).view(np.uint8), counts, None, self.mpi.BYTE]
        request = group.Iallgatherv([block.reshape(-1).view(np.uint8), self.mpi.BYTE], into)
        self._complete(request, ranks, log, sleeps=False)

    def meet(self, ranks: tuple[int, ...], digest: int, log: Log) -> None:
        """Return when all of `ranks` are here with the same digest."""
        ranks = tuple(ranks)
        if ranks == (self.rank,):
            return
        self._arrive(ranks)
        group = self._group(ranks, log)
        mine, most = self._digests
        mine[0], mine[1] = digest, ~digest
        request = group.Iallreduce(mine, most, self.mpi.MAX)
        self._complete(request, ranks, log)
        if most[0] != ~most[1]:
            stops = self.watch.stops
            said = self._all(ranks, (tuple(log()), tuple(stops.met.values())), log)
            found = first_difference({rank: each for rank, (each, _) in zip(ranks, said, strict=True)})
            raise stops.tell(self.rank, {rank: each for rank, (_, each) in zip(ranks, said, strict=True)}, found)

    def gather_objects(self, ranks: tuple[int, ...], value: Any) -> list[Any]:
        """What every rank gave; pickled."""
        ranks = tuple(ranks)
        if ranks == (self.rank,):
            return [value]
        log = _constant("gather_objects")
        self.meet(ranks, GATHER, log)
        return self._all(ranks, value, log)

    def barrier(self, ranks: tuple[int, ...]) -> None:
        """Return when all of `ranks` are here."""
        self.meet(ranks, BARRIER, _constant("barrier"))

    def stop(self, ranks: tuple[int, ...], mark: int, error: FlowcoreError) -> None:
        """Let peers that can then not go on raise what stopped this rank."""
        self.watch.stops.add(self.rank, ranks, mark, error)

    def fail(self, exception: BaseException) -> None:
        """Tell the other ranks that this one failed."""
        self.watch.settle(Failed.by(exception))

    def close(self) -> None:
        """Answer ranks that still wait, until all have ended."""
        if self.mpi.Is_finalized() or isinstance(self.watch.settled.get(self.rank), Failed):
            return
        self.watch.settle(Ended())
        deadline = time.monotonic() + self.timeout
        pause = 1e-5
        while not self.watch.all_settled() and time.monotonic() < deadline:
            self.watch.answer()
            time.sleep(pause)
            pause = min(2 * pause, 0.01)

    def abort_on_exception(self) -> None:
        """Let an uncaught exception end all ranks, with one traceback and a non-zero exit code of the launcher."""
        sys.excepthook = self._end_all

    def _end_all(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        said = Failed.by(error)
        self.watch.settle(said)
        failed = getattr(error, "failed_rank", None)
        is_echo = failed is not None and failed not in self.watch.dead
        deadline = time.monotonic() + (3 if is_echo else 0.5 if self.rank else 0)
        while time.monotonic() < deadline:
            self.watch.answer()
            if any(self.watch.settled.get(rank) == said for rank in range(self.rank)):
                time.sleep(2)
            time.sleep(0.005)
        lines = traceback.format_exception(kind, error, trace)
        sys.stdout.flush()
        sys.stderr.write(f"rank {self.rank} of {self.size} failed:\n{''.join(lines)}")
        sys.stderr.flush()
        self.mpi.COMM_WORLD.Abort(1)

    def _arrive(self, ranks: tuple[int, ...]) -> None:
        """Come to a meeting of `ranks`; DivergenceError where what this rank gave up may be taken for it."""
        if ranks in self._given_up:
            text = f"{ranks_text(ranks)} meet no more, for rank {self.rank} gave up a meeting of theirs"
            raise DivergenceError(f"{text}: {REMEDY}")
        self.watch.arrive(ranks)

    def _complete(self, request: MPI.Request, ranks: tuple[int, ...], log: Log, sleeps: bool = True) -> None:
        """Wait for a collective of `ranks`."""
        try:
            self.wait(request.Test, lambda: self._meeting(ranks, log), sleeps)
        except BaseException:
            self._given_up[ranks] = request  # which holds the memory that MPI may yet write to
            self._digests = np.empty(2, np.int64), np.empty(2, np.int64)
            raise

    def _meeting(self, ranks: tuple[int, ...], log: Log) -> Waiting:
        missing = self.watch.missing(ranks)
        return Waiting(f"a meeting of {ranks_text(ranks)}", missing, tuple(log()[-TAIL:]), ranks)

    def _group(self, ranks: tuple[int, ...], log: Log) -> MPI.Intracomm:
        """The communicator of `ranks`; made when all are known to be here, for making it may not hang."""
        group = self._groups.get(ranks)
        if group is None:
            self.watch.announce(ranks)
            self.wait(lambda: self.watch.all_announced(ranks), lambda: self._meeting(ranks, log))
            group = self.data.Create_group(self.data.group.Incl(ranks), 0)
            self._groups[ranks] = group
        return group

    def _all(self, ranks: tuple[int, ...], value: Any, log: Log) -> list[Any]:
        """`value` of every one of `ranks`, which have met."""
        self._arrive(ranks)
        group, pickle = self._groups[ranks], self.mpi.pickle
        given = np.frombuffer(pickle.dumps(value), np.uint8)
        counts = np.empty(group.size, np.int64)
        request = group.Iallgather(np.array([given.size], np.int64), counts)
        self._complete(request, ranks, log)
        taken = np.empty(int(counts.sum()), np.uint8)
        request = group.Iallgatherv(given, [taken, counts.tolist()])
        self._complete(request, ranks, log)
        ends = np.cumsum(counts)
        return [pickle.loads(taken[end - count : end].tobytes()) for end, count in zip(ends, counts, strict=True)]

    def wait(self, is_done: Callable[[], bool], waiting: Callable[[], Waiting], sleeps: bool = True) -> None:
        """Poll until `is_done`: spin, yield, then (`sleeps`) nap; ask how the others stand when it takes long."""
        for _ in range(20 if self._crowded else 200):
            if is_done():
                return
        start = now = time.monotonic()
        pause = 2e-5
        with self.watch.waiting(waiting):
            while not is_done():
                now = time.monotonic()
                if now - start < (0.002 if sleeps else 0.2):
                    os.sched_yield()
                    continue
                self.watch.answer()
                self.watch.inquire(now - start)
                if now - start > self.timeout:
                    state = waiting()
                    raise hang(self.rank, self.timeout, state)
                time.sleep(pause)
                pause = min(1.5 * pause, 0.002)


def _chunks(array: Array) -> list[Array]:
    """`array` as pieces of bytes that one message may carry."""
    flat = array.reshape(-1).view(np.uint8)
    return [flat[start : start + CHUNK] for start in range(0, flat.size, CHUNK)]


def _constant(line: str) -> Log:
    return lambda: (line,)
