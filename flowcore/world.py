"""The world a rank runs in: its transport, and what its program keeps between operations.

There is one world per process (a rank of an MPI launch, or a single rank), made at first use; ranks simulated as
threads each activate their own. Every other module asks `current()`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, MutableSet
from functools import partial
from types import CodeType
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, WeakValueDictionary

from flowcore.comm.calibrate import agree, cache_file, load
from flowcore.comm.errors import is_torn
from flowcore.comm.solo import SoloTransport
from flowcore.comm.transport import Transport
from flowcore.errors import CommError, FlowcoreError, PlacementError
from flowcore.graph import digest_of
from flowcore.memory import Pool
from flowcore.placement.layout import Layout
from flowcore.placement.machine import Machine
from flowcore.placement.mesh import Placement, set_world_size

if TYPE_CHECKING:
    from flowcore.trace import Trace

MASK = (1 << 63) - 1
LOG_LENGTH = 512


class Chain:
    """What a group of ranks has done together so far: a hash, and the last operations with their lines.

    Ranks whose programs agree have equal chains, so that comparing two numbers when they meet finds any difference.
    due: what must be done before the next operation is recorded.
    """

    __slots__ = ("count", "digest", "due", "entries")

    def __init__(self) -> None:
        self.digest = 0
        self.count = 0
        self.due: list[Callable[[], None]] = []
        self.entries: deque[tuple[int, Any, CodeType, int]] = deque(maxlen=LOG_LENGTH)

    def add(self, digest: int, what: Any) -> int:
        """Record an operation of the user's line by its digest and anything that prints as its text; the new hash."""
        while self.due:
            self.due[0]()
            del self.due[0]  # what failed is due again
        frame = sys._getframe(1)
        while _INSIDE[frame.f_code.co_filename] and frame.f_back is not None:
            frame = frame.f_back
        self.entries.append((self.count, what, frame.f_code, frame.f_lasti))
        self.count += 1
        self.digest = made = hash((self.digest, digest)) & MASK
        return made

    def lines(self) -> list[str]:
        """The last operations, oldest first."""
        return [
            f"{position} {what} {code.co_filename}:{_line(code, instruction)}"
            for position, what, code, instruction in self.entries
        ]


class Recent(dict[Any, Any]):
    """What was made before and is likely to be asked for again; forgets all when it is full.

    A program that never repeats itself (another constant in every step, another index) must not fill the memory.
    """

    MOST = 1 << 13

    def keep(self, key: Any, made: Any) -> Any:
        """`made`, kept under `key`."""
        if len(self) >= self.MOST:
            self.clear()
        self[key] = made
        return made


class Windows(dict[int, Any]):
    """What each of some ranks shows to the others; kept while a program uses it. number: how many were before."""

    number = 0


class World:
    """One rank's world; `machine`: what moving bytes costs on it, the same on every rank."""

    def __init__(self, transport: Transport, machine: Machine = Machine()) -> None:  # noqa: B008  # it is a frozen value
        self.transport = transport
        self.machine = machine
        self.rank = transport.rank
        self.size = transport.size
        self.everyone = Placement(transport.size)
        self.defaults: list[Layout] = [Layout(self.everyone, "B")]
        self.trace: Trace | None = None
        self.is_grad_enabled = True
        self.programs: dict[Any, Any] = {}
        self.compiled: MutableSet[Any] = WeakSet()
        self.eager = Recent()
        self.constants = Recent()
        self.relayouts = Recent()
        self.chains: dict[tuple[int, ...], Chain] = {}
        self.lost: list[tuple[tuple[int, ...], str]] = []
        self.memory = Pool()
        self.windows: WeakValueDictionary[tuple[int, ...], Windows] = WeakValueDictionary()
        self.made: Counter[tuple[int, ...]] = Counter()
        self.kept: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self.store: dict[str, Any] = {}
        self.sequence = 0

    def chain(self, ranks: tuple[int, ...]) -> Chain:
        """What these ranks (this one among them) have done together."""
        found = self.chains.get(ranks)
        if found is None:
            found = self.chains[ranks] = Chain()
            for among, what in self.lost:
                self._note(ranks, found, among, what)
        return found

    def stop(self, ranks: tuple[int, ...], error: FlowcoreError) -> None:
        """An error is raised in what these ranks do; those whom that keeps from going on are to raise the same."""
        if len(ranks) > 1 and self.rank in ranks and not is_torn(error):
            self.transport.stop(ranks, self.chain(ranks).digest, error)

    def lose(self, among: tuple[int, ...], what: str) -> None:
        """Note an error after which messages `among` ranks may never be taken; where not all note it, none meet."""
        self.lost.append((among, what))
        for ranks, chain in tuple(self.chains.items()):
            self._note(ranks, chain, among, what)

    def _note(self, ranks: tuple[int, ...], chain: Chain, among: tuple[int, ...], what: str) -> None:
        """Let `ranks` do nothing together before those of them that are `among` the others have noted the same.

        Ranks of a larger group know nothing of it; those that do meet first, and cannot where one of them did not.
        """
        both = tuple(rank for rank in ranks if rank in among)
        if both == ranks:
            chain.add(digest_of(what), what)
        elif len(both) > 1:
            chain.due.append(partial(self.agree, both, f"after {what}"))

    def record(self, ranks: tuple[int, ...], digest: int, what: Any) -> Chain | None:
        """Note an operation of these ranks; None where this rank is alone or takes no part."""
        if len(ranks) < 2 or self.rank not in ranks:
            return None
        chain = self.chain(ranks)
        chain.add(digest, what)
        return chain

    def agree(self, ranks: tuple[int, ...], what: str) -> None:
        """Meet the other ranks; DivergenceError on all of them where their programs differ so far."""
        chain = self.record(ranks, digest_of(what), what)
        if chain is not None:
            self.transport.meet(ranks, chain.digest, chain.lines)

    def gather(self, ranks: tuple[int, ...], value: Any, what: str) -> list[Any]:
        """Every rank's `value` (a small picklable object), in the order of `ranks`."""
        if len(ranks) == 1:
            return [value]
        self.agree(ranks, what)
        return self.transport.gather_objects(ranks, value)

    def check(self, placement: Placement) -> None:
        """PlacementError where `placement` names a rank the world does not have."""
        if not isinstance(placement, Placement):
            raise PlacementError(f"a placement {placement!r}: pass a Placement, as in Placement([0, 1])")
        for rank in placement.ranks:
            if rank >= self.size:
                raise PlacementError(
                    f"{placement} has rank {rank} but the world has ranks 0..{self.size - 1}: "
                    f"launch at least {rank + 1} ranks, or name ranks that exist"
                )


_local = threading.local()
_root: list[World] = []
_lock = threading.Lock()


def current() -> World:
    """The world of the calling rank."""
    try:
        world: World = _local.world
    except AttributeError:
        world = _local.world = _process_world()
    return world


@contextlib.contextmanager
def activate(world: World) -> Iterator[World]:
    """Make `world` the calling thread's."""
    before = getattr(_local, "world", None)
    _local.world = world
    try:
        yield world
    finally:
        if before is None:
            del _local.world
        else:
            _local.world = before


def _process_world() -> World:
    with _lock:
        if not _root:
            transport = _process_transport()
            _root.append(World(transport, agree(transport, load(cache_file(os.environ)))))
    return _root[0]


def _process_transport() -> Transport:
    # An MPI library is loaded only where a launcher started this process: importing it costs more than all the rest.
    from flowcore.comm import mpi

    if not mpi.under_mpi(os.environ):
        return SoloTransport()
    inner = mpi.MpiTransport()
    inner.abort_on_exception()
    transport: Transport = inner
    wanted = os.environ.get("FLOWCORE_TRANSPORT", "shared")
    if wanted not in ("shared", "mpi"):
        raise CommError(f"FLOWCORE_TRANSPORT is {wanted!r}: set it to 'shared' or 'mpi', or leave it out")
    if wanted == "shared":
        from flowcore.comm import shared

        transport = shared.join(inner, _pretended_hosts(inner.size))
        if isinstance(transport, shared.SharedTransport):
            transport.explain_termination()
    atexit.register(transport.close)
    return transport


def _pretended_hosts(size: int) -> list[int] | None:
    """The host of every rank where FLOWCORE_HOSTS says into how many groups of neighbours to divide the ranks."""
    wanted = os.environ.get("FLOWCORE_HOSTS", "")
    if not wanted:
        return None
    if not wanted.isdigit() or not 1 <= int(wanted) <= size:
        raise CommError(f"FLOWCORE_HOSTS is {wanted!r}: {size} ranks can pretend to be on 1 to {size} hosts")
    return [rank * int(wanted) // size for rank in range(size)]


def rank() -> int:
    """This process's rank in the world."""
    return current().rank


def world_size() -> int:
    """The number of ranks in the world."""
    return current().size


_PACKAGE = __file__.rpartition("/")[0]


class _Inside(dict[str, bool]):
    """Whether a file belongs to flowcore, or is what decorates functions of it, kept by its name."""

    BEGINNINGS = (_PACKAGE + "/", _PACKAGE.rpartition("/")[0] + "/comm/", contextlib.__file__, "<frozen", "<string")

    def __missing__(self, file: str) -> bool:
        found = self[file] = file.startswith(self.BEGINNINGS)
        return found


_INSIDE = _Inside()


def user_line() -> tuple[str, int]:
    """File and line of the innermost caller outside flowcore."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _INSIDE[frame.f_code.co_filename]:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def _line(code: CodeType, instruction: int) -> int:
    """The line of an instruction, given by its offset as in `frame.f_lasti`."""
    lines = (line for start, stop, line in code.co_lines() if start <= instruction < stop)
    return next(lines, None) or code.co_firstlineno


def where() -> str:
    """The user's file:line, the file without its folders."""
    file, line = user_line()
    return f"{os.path.basename(file)}:{line}"


set_world_size(world_size)
