"""Where the registers of a program lie in one block of memory, and how results leave it: a step allocates nothing.

Each register lives from the instruction that writes it to the last that reads it or anything that may share its
memory; what an operator needs besides its results lives while it runs. What leaves the program is copied out at its
end, into the memory of what it replaces or into memory that nobody holds any more.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import Any
from weakref import ref

import numpy as np

from flowcore.dtypes import uint8
from flowcore.graph import Graph, Node
from flowcore.jit.store import is_available
from flowcore.op import Array, Type
from flowcore.ownership import is_held_once, references
from flowcore.packing import Span, most_alive, packed

ALIGNMENT = 64
"""Bytes of a cache line, at which registers begin."""
KEPT = 2
"""Buffers that an output takes turns with: the caller holds one while the next is computed."""


class Pool:
    """Memory that the programs of a rank share: they run one at a time, and nothing in it outlives a run.

    It is as large as the largest program that has run needed, and goes with the last program that lies in it. Where it
    grows, programs that ran before keep what it was: so it grows to twice that, of which nobody touches what is not
    needed. `lock`: whoever runs in it holds it.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self._memory: Callable[[], Array | None] = ref(np.empty(0, np.uint8))

    def take(self, size: int) -> Array:
        """`size` bytes, the same ones for everyone."""
        memory = self._memory()
        held = 0 if memory is None else memory.size
        if memory is None or held < size:
            memory = np.empty(max(size, 2 * held), np.uint8)
            self._memory = ref(memory)
        return memory


class Arena:
    """One block of memory with the place and the type of every register that lies in it.

    bound: the most bytes of registers that live at once. scratch: per instruction the registers it needs besides.
    """

    def __init__(
        self,
        places: Mapping[int, tuple[int, Type]],
        size: int,
        bound: int = 0,
        scratch: Mapping[int, tuple[int, ...]] | None = None,
    ) -> None:
        self.places, self.size, self.bound, self.scratch = places, size, bound, scratch or {}
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


def arena(
    graph: Graph, nodes: Sequence[Node], roots: Mapping[int, frozenset[int]], elsewhere: Container[int] = ()
) -> Arena:
    """A place for every register of a rank's graph that an operator can write into, and for what it needs besides.

    roots: per value those whose memory it may share. elsewhere: the registers that lie in other memory.
    """
    last = {root: len(nodes) for number in graph.outputs for root in roots[number]}
    for position, node in enumerate(nodes):
        for number in (*node.inputs, *node.outputs):
            for root in roots[number]:
                last[root] = max(last.get(root, 0), position)
    spans: dict[int, Span] = {}
    types: dict[int, Type] = {}
    scratch: dict[int, tuple[int, ...]] = {}
    for position, node in enumerate(nodes):
        for number in node.op.new_results(node.outputs):
            if number not in elsewhere:
                types[number] = graph.values[number].type
                spans[number] = span(position, last[number], types[number])
        needed = _needed(node, graph)
        if needed:
            first = len(graph.values) + sum(map(len, scratch.values()))
            scratch[position] = tuple(range(first, first + len(needed)))
            for number, type in zip(scratch[position], needed, strict=True):
                types[number], spans[number] = type, span(position, position, type)
    places, size = packed(list(spans.values()))
    located = {number: (place, types[number]) for number, place in zip(spans, places, strict=True)}
    return Arena(located, size, most_alive(list(spans.values())), scratch)


def _needed(node: Node, graph: Graph) -> Sequence[Type]:
    """What a node needs besides its results: what its operator asks for, else what its compiled kernel does."""
    types = graph.types(node.inputs)
    asked = node.op.scratch(types)
    found = node.op.launch(types) if not asked and is_available() and not node.op.reaches_others else None
    if found is None:
        return asked
    kinds = found.kernel.kinds[len(found.kernel.kinds) - len(found.scratch) :]
    return [Type((size * int(kind[1:]),), uint8) for size, kind in zip(found.scratch, kinds, strict=True)]


def span(first: int, last: int, type: Type) -> Span:
    """A register of `type` that lives from instruction `first` to `last`."""
    return Span(first, last, -(-type.nbytes // ALIGNMENT) * ALIGNMENT)


def _copy_all(pairs: Sequence[tuple[Array | None, Array | None]]) -> None:
    """Write the second of each pair over the first: all or none, for copying twice gives what copying once gives."""
    try:
        for into, found in pairs:
            np.copyto(into, found)  # type: ignore[arg-type]  # neither is None where the pair was made
    except KeyboardInterrupt:
        _copy_all(pairs)
        raise


@dataclass(frozen=True)
class Leaving:
    """The results of a program that lie in its arena, by position, and the input (or -1) that each replaces."""

    results: tuple[tuple[int, int], ...]
    _buffers: dict[int, list[Array]] = field(default_factory=dict, compare=False)

    def leave(self, inputs: Sequence[Array | None], outputs: list[Array | None]) -> list[Array | None]:
        """`outputs` with those results in memory that outlives the next run; the inputs replaced are written over.

        That is the last a program does, so that an error in it leaves all inputs as they were; an interruption by the
        user is raised when all are written.
        """
        pairs = []
        for place, old in self.results:
            found = outputs[place]
            assert found is not None
            held = inputs[old] if old >= 0 and is_held_once(inputs, old) else None
            outputs[place] = self._free(place, found) if held is None else held
            pairs.append((outputs[place], found))
        _copy_all(pairs)
        return outputs

    def _free(self, place: int, like: Array) -> Array:
        """Memory for the result at `place` that nobody else holds: one of the last given out, or new."""
        buffers = self._buffers.setdefault(place, [])
        for number in range(len(buffers)):
            if references(buffers, number) == ALONE:
                return buffers[number]
        if len(buffers) == KEPT:
            del buffers[0]
        buffers.append(np.empty(like.shape, like.dtype))
        return buffers[-1]


ALONE = references([np.empty(1)], 0)
"""What `references` gives where nothing else holds the array."""


def leaving(
    arena: Arena,
    roots: Mapping[int, frozenset[int]],
    outputs: Sequence[int | None],
    replaced: Mapping[int, int],
) -> Leaving:
    """How the results in the registers `outputs` leave; `replaced`: per position of one that of the input."""
    in_arena = (
        place
        for place, number in enumerate(outputs)
        if number is not None and not roots[number].isdisjoint(arena.places)
    )
    return Leaving(tuple((place, replaced.get(place, -1)) for place in in_arena))
