"""Ranks of one host that meet through flags in shared memory: each writes its own cache line and reads the others'.

Meetings are numbered. At meeting k a rank *posts*: it fills line k mod 2 and writes k into it last; it *waits* until
all lines of that parity say k. Nobody posts k + 2 before all have posted k + 1, and nobody posts k + 1 before it has
read all lines of k: so two sets of lines are enough and nothing is read while it changes. A post early and a wait late
are two calls, and what stands in a line (a digest, offsets of blocks) travels with the meeting.

The order of the stores is the order of the program only on processors with total store order (x86); elsewhere ranks do
not share memory (`shared.join`).
"""

from __future__ import annotations

import os
from collections.abc import Callable

from flowcore.comm.arena import LINE

WORDS = LINE // 8
EPOCH, DIGEST, SOURCE, SOURCE_SLOT, RESULT, RESULT_SLOT, SCRATCH, DONE = range(WORDS)
"""What the words of a line say; DONE, in line 0 alone: the last meeting that this rank has finished."""
YIELDS = 1000
"""How often a wait lets other processes run before it naps."""
NOTHING, FULL = -1, -2
"""In place of an offset: there is no such block; there was no room for it."""
LEAST, MOST = 4096, 32 << 10
"""Bytes of an inbox, in a large group and in the smallest."""


def inbox_bytes(size: int) -> int:
    """Bytes of the *inbox* that every rank of a group of `size` ranks has at either parity."""
    return max(LEAST, 2 * MOST // size // LINE * LINE)


def lines_of(size: int) -> int:
    """Cache lines that a group of `size` ranks needs: its lines, and its inboxes."""
    return 2 * size * (1 + inbox_bytes(size) // LINE)


class Group:
    """`ranks` that meet by their lines; `wait_long` polls until a condition holds, and raises where it never will.

    `spins`: looks at the flags before a wait lets other processes run.
    """

    def __init__(
        self,
        ranks: tuple[int, ...],
        rank: int,
        words: memoryview,
        offset: int,
        wait_long: Callable[[Callable[[], bool], Callable[[], frozenset[int]]], None],
        spins: int,
    ) -> None:
        self.ranks, self.index, self.size = ranks, ranks.index(rank), len(ranks)
        self.words, self.meeting = words, 0
        self._wait_long, self._spins = wait_long, spins
        start = offset // 8
        self.lines = tuple(
            tuple(start + (parity * self.size + index) * WORDS for index in range(self.size)) for parity in (0, 1)
        )
        self._others = tuple(
            tuple((line + EPOCH, peer) for line, peer in zip(lines, ranks, strict=True) if peer != rank)
            for lines in self.lines
        )
        first = offset + 2 * self.size * LINE
        length = inbox_bytes(self.size)
        self.inboxes = tuple(
            tuple(first + (parity * self.size + index) * length for index in range(self.size)) for parity in (0, 1)
        )
        self._done = tuple(line + DONE for line in self.lines[0])

    @property
    def current(self) -> tuple[int, ...]:
        """The word at which each rank's line of the present meeting begins."""
        return self.lines[self.meeting & 1]

    def post(
        self, digest: int = 0, source: int = NOTHING, source_slot: int = NOTHING, result: int = NOTHING,
        result_slot: int = NOTHING, scratch: int = NOTHING,
    ) -> None:  # fmt: skip
        """Come to the next meeting with this line."""
        words = self.words
        self.meeting += 1
        at = self.lines[self.meeting & 1][self.index]
        words[at + DIGEST], words[at + SOURCE], words[at + SOURCE_SLOT] = digest, source, source_slot
        words[at + RESULT], words[at + RESULT_SLOT], words[at + SCRATCH] = result, result_slot, scratch
        words[at + EPOCH] = self.meeting

    def come(self, digest: int) -> None:
        """Come to the next meeting with a digest alone."""
        words = self.words
        self.meeting = meeting = self.meeting + 1
        at = self.lines[meeting & 1][self.index]
        words[at + DIGEST] = digest
        words[at + EPOCH] = meeting

    def meet(self, digest: int) -> bool:
        """`come`; whether all came before a wait gets long, with the same digest."""
        self.come(digest)
        return self.came(digest)

    def came(self, digest: int) -> bool:
        """Whether all come to the present meeting before a wait gets long, with this digest."""
        words, meeting = self.words, self.meeting
        others = self._others[meeting & 1]
        for _ in range(self._spins):
            for at, _ in others:
                if words[at] != meeting:
                    break
            else:
                for at, _ in others:  # noqa: SIM110  # a generator costs more than all the rest
                    if words[at + DIGEST - EPOCH] != digest:
                        return False
                return True
        return False

    def told(self, *which: int) -> list[int]:
        """What every rank wrote into these words of its line, word by word."""
        words, lines = self.words, self.lines[self.meeting & 1]
        return [words[line + word] for word in which for line in lines]

    def step(self) -> None:
        """Come to the next meeting with nothing to say."""
        self.meeting += 1
        self.words[self.lines[self.meeting & 1][self.index] + EPOCH] = self.meeting

    def wait(self) -> None:
        """Return when all have come to the meeting to which this rank has come."""
        words, meeting = self.words, self.meeting
        others = self._others[meeting & 1]
        for _ in range(self._spins):
            for at, _ in others:
                if words[at] != meeting:
                    break
            else:
                return
        for _ in range(YIELDS):
            os.sched_yield()
            for at, _ in others:
                if words[at] != meeting:
                    break
            else:
                return
        self._wait_long(lambda: all(words[at] == meeting for at, _ in others), self.missing)

    def missing(self) -> frozenset[int]:
        """The ranks that have not come yet."""
        words, meeting = self.words, self.meeting
        return frozenset(peer for at, peer in self._others[meeting & 1] if words[at] != meeting)

    def agree(self, digest: int) -> bool:
        """Whether all came to this meeting with `digest`."""
        words = self.words
        for at, _ in self._others[self.meeting & 1]:  # noqa: SIM110  # a generator costs more than all the rest
            if words[at + DIGEST - EPOCH] != digest:
                return False
        return True

    def finish(self) -> None:
        """Say that this rank will read nothing any more of what was shown at meetings so far."""
        self.words[self._done[self.index]] = self.meeting

    def is_over(self, meeting: int) -> bool:
        """Whether every rank has finished `meeting`."""
        words = self.words
        for at in self._done:  # noqa: SIM110  # a generator costs more than all the rest
            if words[at] < meeting:
                return False
        return True
