"""What moving, reducing and computing cost on a machine (α-β-γ model, per class of link), and the host of every rank.

A message of n bytes takes α + β·n seconds, reducing n bytes takes γ·n (Thakur et al. 2005). Links within a host belong
to each rank; the link of a host to others is shared by its ranks, and so is its memory, which is why figures of
copying, reducing and computing are those of ranks that all do it at once. They are measured by `comm.calibrate` or,
where nobody has measured, those of an ordinary server with 10 Gbit/s Ethernet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Link:
    """A class of links: seconds per message (α) and seconds per byte (β)."""

    latency: float
    seconds_per_byte: float


@dataclass(frozen=True, slots=True)
class Machine:
    """Costs in seconds, per byte where the name says so; `hosts`: the host of every rank, () where all share one."""

    within: Link = Link(2e-6, 1.5e-10)
    between: Link = Link(20e-6, 8e-10)
    reduce_per_byte: float = 1e-10
    copy_per_byte: float = 5e-11
    step: float = 10e-6
    """What a step costs beside its messages: a rank's own work on it, and waiting for the last."""
    per_flop: float = 2e-11
    """One arithmetic operation of a rank, where all of them compute."""
    hosts: tuple[int, ...] = ()

    def computing(self, flops: int, bytes_made: int) -> float:
        """Seconds in which a rank computes results of so many bytes: its arithmetic's or its memory's, the longer."""
        return max(flops * self.per_flop, bytes_made * self.copy_per_byte) if flops else 0.0

    def hosts_of(self, ranks: Iterable[int]) -> tuple[int, ...]:
        """The host of every rank up to the last of `ranks`; () where they all live on one.

        A rank beyond `hosts` lives with the last rank that `hosts` knows.
        """
        ranks = set(ranks)
        if not self.hosts:
            return ()
        found = tuple(self.hosts[min(rank, len(self.hosts) - 1)] for rank in range(max(ranks) + 1))
        return found if len({found[rank] for rank in ranks}) > 1 else ()
