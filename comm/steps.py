"""One step of a change of layout: messages between ranks as a table, and what one rank does in it.

The planner prices a step and the runtime walks it: both read the same table. A row says that rank `source` gives a
part to rank `target`; where both are the same rank, the row is a local copy or the rank's own term. Rows are in the
same order for every rank, so the messages between a pair match in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from flowcore.comm.slices import Integers, Parts, as_boxes, cut_dimension, cut_range
from flowcore.placement.layout import Box

STAGING = 8 << 20
"""Bytes of temporary memory a rank may use for messages in flight; larger steps are done in rounds."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One message of a rank: the peer and the box of the logical tensor."""

    peer: int
    box: Box


@dataclass(frozen=True, slots=True)
class Reduction:
    """A box to reduce from terms in order: the index of a receive, or -1 for the rank's own block.

    `is_kept`: the box is part of the rank's target block.
    """

    box: Box
    terms: tuple[int, ...]
    is_kept: bool


@dataclass(frozen=True, slots=True)
class RankStep:
    """What one rank does in one step; `reads`: where it sends from."""

    kind: Literal["reduce", "move"]
    reads: Literal["source", "reduced"]
    sends: tuple[Transfer, ...]
    receives: tuple[Transfer, ...]
    copies: tuple[Box, ...]
    reductions: tuple[Reduction, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """Messages that move at once. `reduce`: terms to their reducer; `move`: values to those who need them."""

    kind: Literal["reduce", "move"]
    reads: Literal["source", "reduced"]
    parts: Parts
    source: Integers
    target: Integers
    part: Integers
    round: int = 0
    rounds: int = 1

    def bounds(self, rows: Any) -> tuple[Integers, Integers]:
        """(low, high) of the boxes of `rows`, each [dimension, row]."""
        return self.cut(*self.parts.bounds(self.part[rows]))

    def cut(self, low: Integers, high: Integers) -> tuple[Integers, Integers]:
        """The piece of boxes (low, high) that moves in this round."""
        if self.rounds > 1 and len(low):
            length = high - low
            dimension = cut_dimension(length, self.rounds)
            at = np.arange(len(dimension))
            start, stop = cut_range(length[dimension, at], self.rounds, self.round)
            origin = low[dimension, at].copy()
            low[dimension, at], high[dimension, at] = origin + start, origin + stop
        return low, high

    def sizes(self) -> Integers:
        """The elements of every row."""
        if self.rounds == 1:
            return self.parts.size[self.part]
        low, high = self.cut(*self.parts.bounds(slice(None)))
        return np.asarray((high - low).prod(0)[self.part])

    def traffic(self, world: int) -> tuple[Integers, Integers, int]:
        """(elements sent, elements received, messages) of every rank, without local rows; empty messages are none."""
        size = np.multiply(self.sizes(), self.source != self.target, dtype=np.float64)  # as bincount adds them
        sent = np.bincount(self.source, size, world).astype(np.int64)
        received = np.bincount(self.target, size, world).astype(np.int64)
        return sent, received, int(np.count_nonzero(size))

    def rows_of(self, rank: int) -> Integers:
        """The rows in which `rank` gives or takes."""
        return np.flatnonzero((self.source == rank) | (self.target == rank))

    def for_rank(self, rank: int, rows: Integers) -> RankStep:
        """What `rank` sends, receives, copies and reduces in its rows."""
        low, high = self.bounds(rows)
        full = (high > low).all(0)
        if not full.all():
            rows, low, high = rows[full], low[:, full], high[:, full]
        sends: list[Transfer] = []
        receives: list[Transfer] = []
        copies: list[Box] = []
        terms: dict[tuple[int, Box, bool], list[int]] = {}
        ends = self.source[rows].tolist(), self.target[rows].tolist()
        columns = (*ends, self.part[rows].tolist(), as_boxes(low, high), self._kept(rows, rank))
        for source, target, part, box, is_kept in zip(*columns, strict=True):
            if target != rank:
                sends.append(Transfer(target, box))
                continue
            if self.kind == "reduce":
                terms.setdefault((part, box, is_kept), []).append(-1 if source == rank else len(receives))
            elif source == rank:
                copies.append(box)
            if source != rank:
                receives.append(Transfer(source, box))
        reductions = tuple(Reduction(box, tuple(order), is_kept) for (_, box, is_kept), order in terms.items())
        return RankStep(self.kind, self.reads, tuple(sends), tuple(receives), tuple(copies), reductions)

    def _kept(self, rows: Integers, rank: int) -> list[bool]:
        """Whether the part of each row belongs to the target block of `rank`."""
        parts, part = self.parts, self.part[rows]
        target = parts.target
        mine = (parts.into[part] == target.group_of[rank]) & (parts.chosen[part] == target.term_of[rank])
        return list(mine.tolist())
