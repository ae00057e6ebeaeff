"""Where the registers of a program lie in one block of memory, so that a step allocates none for them.

Each register lives from the instruction that writes it to the last that reads it or anything that may share its
memory. Registers that live at the same time lie apart. Packing is greedy, the largest first, each at the lowest place
that is free while it lives; no packing needs less than what lives at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import Any

import numpy as np

from flowcore.graph import Graph, Node
from flowcore.op import Array, Type

ALIGNMENT = 64
"""Bytes of a cache line, at which registers begin."""


@dataclass(frozen=True, slots=True)
class Span:
    """`size` bytes that live from instruction `first` to instruction `last`, both included."""

    first: int
    last: int
    size: int


def packed(spans: Sequence[Span]) -> tuple[list[int], int]:
    """A place for each span, and the bytes of all."""
    places, done = [0] * len(spans), list[int]()
    for index in sorted(range(len(spans)), key=lambda index: (-spans[index].size, index)):
        span, place = spans[index], 0
        for other in sorted(done, key=lambda other: places[other]):
            if spans[other].first <= span.last and span.first <= spans[other].last:
                if places[other] - place >= span.size:
                    break
                place = max(place, places[other] + spans[other].size)
        places[index] = place
        done.append(index)
    return places, max((place + span.size for place, span in zip(places, spans, strict=True)), default=0)


def most_alive(spans: Sequence[Span]) -> int:
    """The most bytes that live at once: no packing needs less."""
    return max((sum(s.size for s in spans if s.first <= span.first <= s.last) for span in spans), default=0)


class Pool:
    """Memory that the programs of a rank share: they run one at a time, and nothing in it outlives a run.

    It is as large as the largest program that has run needed. `lock`: whoever runs in it holds it.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self._memory: Array = np.empty(0, np.uint8)

    def take(self, size: int) -> Array:
        """`size` bytes, the same ones for everyone."""
        if self._memory.size < size:
            self._memory = np.empty(size, np.uint8)
        return self._memory


class Arena:
    """One block of memory with the place and the type of every register that lies in it."""

    def __init__(self, places: Mapping[int, tuple[int, Type]], size: int) -> None:
        self.places, self.size = places, size
        self._registers: dict[int, Array] = {}

    @property
    def registers(self) -> Mapping[int, Array]:
        """The registers by number; in memory of their own where none was claimed before."""
        self.claim(Pool())
        return self._registers

    def claim(self, pool: Pool) -> None:
        """Lie in the memory of `pool`, unless the registers lie somewhere already."""
        if self._registers or not self.places:
            return
        memory: Any = pool.take(self.size + ALIGNMENT)
        shift = -memory.ctypes.data % ALIGNMENT
        self._registers = {
            number: memory[shift + place : shift + place + type.nbytes].view(type.dtype).reshape(type.shape)
            for number, (place, type) in self.places.items()
        }


def arena(graph: Graph, nodes: Sequence[Node], roots: Mapping[int, frozenset[int]]) -> Arena:
    """A place for every register of a rank's graph that an operator can write into.

    roots: per value those whose memory it may share. What leaves the program, or may share memory with it, has none.
    """
    escaped = {root for number in graph.outputs for root in roots[number]}
    last: dict[int, int] = {}
    for position, node in enumerate(nodes):
        for number in (*node.inputs, *node.outputs):
            last.update((root, position) for root in roots[number])
    spans = {}
    for position, node in enumerate(nodes):
        for number in node.op.new_results(node.outputs):
            size = -(-graph.values[number].type.nbytes // ALIGNMENT) * ALIGNMENT
            if number not in escaped:
                spans[number] = Span(position, last[number], size)
    places, size = packed(list(spans.values()))
    return Arena({n: (place, graph.values[n].type) for n, place in zip(spans, places, strict=True)}, size)
