"""What a transport must offer: how the ranks of a world meet, exchange arrays and learn of each other's failures.

A transport moves contiguous arrays between ranks, in order between any pair. Before data moves, the ranks that take
part *meet*: each brings the digest of what it is about to do, and nobody passes unless all brought the same. That is
what turns a program that differs between ranks into an error instead of a hang or a wrong number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from flowcore.placement.errors import FlowcoreError

if TYPE_CHECKING:
    from flowcore.comm.boxing import BoxingPlan

Array = np.ndarray[Any, Any]
Buffers = Sequence[tuple[int, Array]]
Begun = Any
"""Messages under way, as `Transport.start` gives them."""
Log = Callable[[], Sequence[str]]
Meeting = tuple[tuple[int, ...], int, Log]
"""The arguments of `Transport.meet`."""
TOLD = -3
"""With what a rank comes to a meeting that brings an error."""


@runtime_checkable
class Transport(Protocol):
    """The ranks 0..size-1 of a world as this rank sees them; used by one thread of the rank at a time."""

    @property
    def rank(self) -> int:
        """This rank."""
        ...

    @property
    def size(self) -> int:
        """The number of ranks of the world."""
        ...

    def exchange(self, sends: Buffers, receives: Buffers) -> None:
        """`finish(start(sends, receives))`."""
        ...

    def start(self, sends: Buffers, receives: Buffers) -> Begun:
        """Begin to send and receive contiguous arrays, given as (peer, array), without waiting for any peer.

        Messages between a pair match in the order in which they were started, and have the same number of bytes on
        both sides. Until they are finished, nobody may write to what is sent or read what is received.
        """
        ...

    def finish(self, begun: Begun) -> None:
        """Return when all that was started so is done; several may be finished in any order.

        Raises CommError or DivergenceError where a peer failed, or can never do its part.
        """
        ...

    def drop(self, begun: Begun) -> None:
        """Wait no more for what was started so, of which a part cannot be done: nothing more is received into it."""
        ...

    def nudge(self) -> None:
        """Let what is under way move on, where that needs a processor; waits for nothing."""
        ...

    def meet(self, ranks: tuple[int, ...], digest: int, log: Log) -> None:
        """Return when all of `ranks` are here with the same `digest` (a signed 64-bit int).

        Raises DivergenceError on each of them where digests differ, naming the first line at which their logs differ
        and which ranks say what, or where a peer can never arrive because it ended or waits elsewhere; CommError where
        a peer failed, with its exception; HangError after the timeout of the transport.
        """
        ...

    def gather_objects(self, ranks: tuple[int, ...], value: Any) -> list[Any]:
        """What every rank of `ranks` gave as `value`, in their order, on each of them. A control path, not for data."""
        ...

    def barrier(self, ranks: tuple[int, ...]) -> None:
        """Return when all of `ranks` are here."""
        ...

    def stop(self, ranks: tuple[int, ...], mark: int, error: FlowcoreError) -> None:
        """This rank raises `error` in something that `ranks` do together, for all of which that is `mark`.

        Where it met the error itself, those of them that it keeps from going on raise the same (`errors.told`), caused
        by the DivergenceError that says why, instead of that.
        """
        ...

    def fail(self, exception: BaseException) -> None:
        """Tell the other ranks that this one failed with `exception`."""
        ...

    def close(self) -> None:
        """End this rank's program: ranks that still wait for it learn so, instead of hanging."""
        ...


@runtime_checkable
class Shares(Protocol):
    """A transport whose ranks share memory where they can, and carry out plans by themselves."""

    def carry(self, plan: BoxingPlan, block: Array | None, meeting: Meeting | None = None) -> Array | None:
        """The target block of this rank, read-only where others see it; None where it has none.

        `meeting`: what the ranks of the plan meet on first, where they have not met already.
        """
        ...

    def share(self, plan: BoxingPlan, block: Array | None) -> Array | None:
        """The same block, in memory that the ranks of its host share; `plan` changes nothing."""
        ...


@runtime_checkable
class Opens(Protocol):
    """A transport whose ranks on one host can see memory of each other, and meet without a message.

    `hosts`: of every rank of the world.
    """

    hosts: tuple[int, ...]

    def windows(self, ranks: tuple[int, ...], size: int) -> list[Any] | None:
        """The memory that each of `ranks` shows to the others, `size` bytes of it this rank's; None: there is no room.

        All of `ranks`, which share a host, call it. What is given are buffers of bytes; memory stays as long as one of
        them does, on any rank. Who writes and reads when is theirs to settle, with meetings.
        """
        ...

    def is_alone(self, window: Any) -> bool:
        """Whether nothing on this rank sees the memory of `window` but what holds that very buffer."""
        ...

    def post(self, ranks: tuple[int, ...], digest: int) -> None:
        """Come to the next meeting of `ranks`, of one host, without waiting for it: what was written before is seen."""
        ...

    def wait(self, ranks: tuple[int, ...], digest: int) -> None:
        """Return when all came to the meeting to which this rank came; raises as `Transport.meet` does."""
        ...

    def tell(self, ranks: tuple[int, ...], error: FlowcoreError) -> None:
        """Come to the next meeting of `ranks` with an error, which all others of them raise there (`errors.told`)."""
        ...
