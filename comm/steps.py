"""One step of a change of layout: messages between ranks as a table, and what one rank does in it.

The planner prices a step and the runtime walks it: both read the same table. A row says that rank `source` gives a
part to rank `target`; where both are the same rank, the row is a local copy or the rank's own term. Rows are in the
same order for every rank, so the messages between a pair match in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
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


@dataclass(frozen=True, eq=False)
class Step:
    """Messages that move at once. `reduce`: terms to their reducer; `move`: values to those who need them.

    Every part has equally many rows, one after the other.
    """

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

    def part_sizes(self) -> Integers:
        """The elements of every part that move in this round."""
        if self.rounds == 1:
            return self.parts.size
        low, high = self.cut(*self.parts.bounds(slice(None)))
        return np.asarray((high - low).prod(0))

    def sizes(self) -> Integers:
        """The elements of every row."""
        return np.asarray(self._by_row(self.part_sizes()))

    @cached_property
    def traffic(self) -> tuple[Integers, Integers, int]:
        """(elements sent, elements received, messages) of every rank, without local rows; empty messages are none."""
        return self._traffic(self.part_sizes())

    def moved(self, chosen: Any) -> tuple[Integers, Integers]:
        """(elements sent, elements received) of every rank, counting the parts that the mask `chosen` holds."""
        return self.traffic[:2] if chosen.all() else self._traffic(self.part_sizes() * chosen)[:2]

    def _traffic(self, sizes: Integers) -> tuple[Integers, Integers, int]:
        world = len(self.parts.source.group_of)
        none = np.zeros(world, np.int64)
        if not sizes.any():
            return none, none, 0
        remote = self.source != self.target
        size = self._by_row(sizes.astype(np.float64))  # as bincount adds them
        size *= remote
        # one end of all rows of a part may be its reducer: a sum by parts then takes the place of one by rows
        by_part = remote.reshape(len(sizes), -1)
        at_reducer = self.kind == "reduce", self.reads == "reduced"
        reduced = np.bincount(self.parts.reducer, sizes * by_part.sum(1), world) if any(at_reducer) else none
        received = reduced if at_reducer[0] else np.bincount(self.target, size, world)
        sent = reduced if at_reducer[1] else np.bincount(self.source, size, world)
        return sent.astype(np.int64), received.astype(np.int64), int(np.count_nonzero(size))

    def _by_row(self, values: Any) -> Any:
        return np.repeat(values, len(self.part) // len(values)) if len(values) else values

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
