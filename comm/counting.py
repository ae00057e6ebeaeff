"""A transport around another that counts what passes: bytes and messages, as a check on what plans predict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowcore.comm.collectives import AllGathers
from flowcore.comm.transport import Array, Begun, Buffers, Log, Transport
from flowcore.placement.errors import FlowcoreError


class CountingTransport:
    """Counts the bytes and messages this rank exchanges with others; all else is the inner transport's."""

    all_gather_v: Callable[[tuple[int, ...], Array, Array, tuple[int, ...]], None]
    """Only where the inner transport has one."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.reset()
        if isinstance(inner, AllGathers):
            self.all_gather_v = self._all_gather_v

    def reset(self) -> None:
        """Start counting from zero."""
        self.bytes_sent = self.bytes_received = self.messages_sent = self.messages_received = 0

    @property
    def rank(self) -> int:
        """This rank."""
        return self.inner.rank

    @property
    def size(self) -> int:
        """The number of ranks of the world."""
        return self.inner.size

    def exchange(self, sends: Buffers, receives: Buffers) -> None:
        """Exchange and count."""
        self.finish(self.start(sends, receives))

    def start(self, sends: Buffers, receives: Buffers) -> Begun:
        """Begin to exchange, and count."""
        sent = [array.nbytes for peer, array in sends if peer != self.rank]
        received = [array.nbytes for peer, array in receives if peer != self.rank]
        self.bytes_sent += sum(sent)
        self.messages_sent += len(sent)
        self.bytes_received += sum(received)
        self.messages_received += len(received)
        return self.inner.start(sends, receives)

    def finish(self, begun: Begun) -> None:
        """As the inner transport."""
        self.inner.finish(begun)

    def drop(self, begun: Begun) -> None:
        """As the inner transport."""
        self.inner.drop(begun)

    def nudge(self) -> None:
        """As the inner transport."""
        self.inner.nudge()

    def _all_gather_v(self, ranks: tuple[int, ...], block: Array, out: Array, counts: tuple[int, ...]) -> None:
        """Gather, and count each block that another rank gets as one message."""
        self.bytes_sent += block.nbytes * (len(ranks) - 1)
        self.bytes_received += out.nbytes - block.nbytes
        self.messages_sent += (len(ranks) - 1) * (block.nbytes > 0)
        self.messages_received += sum(count > 0 for count in counts) - (block.nbytes > 0)
        assert isinstance(self.inner, AllGathers)
        self.inner.all_gather_v(ranks, block, out, counts)

    def meet(self, ranks: tuple[int, ...], digest: int, log: Log) -> None:
        """As the inner transport; not counted."""
        self.inner.meet(ranks, digest, log)

    def gather_objects(self, ranks: tuple[int, ...], value: Any) -> list[Any]:
        """As the inner transport; not counted."""
        return self.inner.gather_objects(ranks, value)

    def barrier(self, ranks: tuple[int, ...]) -> None:
        """As the inner transport; not counted."""
        self.inner.barrier(ranks)

    def stop(self, ranks: tuple[int, ...], mark: int, error: FlowcoreError) -> None:
        """As the inner transport."""
        self.inner.stop(ranks, mark, error)

    def fail(self, exception: BaseException) -> None:
        """As the inner transport."""
        self.inner.fail(exception)

    def close(self) -> None:
        """As the inner transport."""
        self.inner.close()
