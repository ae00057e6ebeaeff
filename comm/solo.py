"""A world of one rank: every meeting is with oneself, and nothing moves."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowcore.comm.errors import CommError
from flowcore.comm.transport import Begun, Buffers, Log
from flowcore.placement.errors import FlowcoreError


class SoloTransport:
    """The transport of a program that runs on one rank without MPI."""

    rank = 0
    size = 1

    def exchange(self, sends: Buffers, receives: Buffers) -> None:
        """Copy what the rank sends itself."""
        for peer, _ in (*sends, *receives):
            if peer != 0:
                raise CommError(f"rank 0 exchanges with rank {peer}: this world has one rank; launch more")
        for (_, given), (_, into) in zip(sends, receives, strict=True):
            into[...] = np.reshape(given, into.shape)

    def start(self, sends: Buffers, receives: Buffers) -> Begun:
        """`exchange`."""
        self.exchange(sends, receives)

    def finish(self, begun: Begun) -> None:
        """All is done."""

    def drop(self, begun: Begun) -> None:
        """All is done."""

    def nudge(self) -> None:
        """Nothing is under way."""

    def meet(self, ranks: tuple[int, ...], digest: int, log: Log) -> None:
        """Return at once; CommError where `ranks` names another rank."""
        self.barrier(ranks)

    def gather_objects(self, ranks: tuple[int, ...], value: Any) -> list[Any]:
        """`[value]`."""
        self.barrier(ranks)
        return [value]

    def barrier(self, ranks: tuple[int, ...]) -> None:
        """Return at once; CommError where `ranks` names another rank."""
        if tuple(ranks) != (0,):
            raise CommError(f"ranks {ranks} meet in a world of one rank: launch more ranks")

    def stop(self, ranks: tuple[int, ...], mark: int, error: FlowcoreError) -> None:
        """There is nobody to tell."""

    def fail(self, exception: BaseException) -> None:
        """There is nobody to tell."""

    def close(self) -> None:
        """Nothing is open."""
