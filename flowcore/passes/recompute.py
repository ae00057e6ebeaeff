"""Values computed again where they are read, instead of written by one kernel and read by another.

What a kernel reads of another's elementwise results it can compute itself from what these were computed from. That is
done where the bytes then read in addition are fewer than those no longer written and read, or as many and none read in
addition: the derivative of an activation, for example, reads its argument only, and none of the intermediate values.
What others read as well is written in any case: the derivative of a normalisation reads what was normalised, as the
next layer does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from flowcore.graph import Graph, Node, Value

FAST = frozenset({"exp", "expm1", "log", "log1p", "tanh", "erf", "sqrt", "abs"})
"""The functions that loops compute many elements at once; no others are computed twice."""
CALL = re.compile(r"\b([a-z]\w*)\(")
MOST = 24
"""Operators that a kernel computes again."""


class Recomputer:
    """Kernels as lists of nodes, and how each is when it computes again what it otherwise reads."""

    def __init__(
        self, graph: Graph, kernels: Sequence[Sequence[Node]], rest: Sequence[Node], literals: Collection[int]
    ) -> None:
        self.literals = literals
        self.values: list[Value] = list(graph.values)
        self.made = {number: node for nodes in kernels for node in nodes for number in node.outputs}
        self.shared = {*graph.outputs, *(number for node in rest for number in node.inputs)}
        """What is written in any case."""
        self.readers: dict[int, set[int]] = {}
        """Per value the kernels that read it and do not make it, by the first value that each makes."""
        for nodes in kernels:
            for number in _read(nodes):
                self.readers.setdefault(number, set()).add(nodes[0].outputs[0])

    def extended(self, kernel: Sequence[Node]) -> list[Node]:
        """`kernel`, perhaps with more nodes in front; they define new values.

        Values are replaced by what they are computed from, the last first, down to where nothing can be; the best of
        the states on the way is taken.
        """
        size = max(self._size(number) for node in kernel for number in (*node.inputs, *node.outputs))
        read, me = {n for n in _read(kernel) if self._size(n) == size}, kernel[0].outputs[0]
        leaves = {number for number in read if self._is_cheap(number)}
        paid = read - leaves
        again: list[int] = []
        least, chosen = self._costs(leaves, [], me), 0
        while cheap := [number for number in leaves if self._is_cheap(number)]:
            number = max(cheap)
            again.append(number)
            leaves.remove(number)
            sources = {n for n in self.made[number].inputs if self._size(n) == size and n not in self.literals}
            leaves |= sources - paid
            cost = self._costs(leaves, again, me)
            if cost <= least and len(again) <= MOST:
                least, chosen = cost, len(again)
        return self._renamed(kernel, {n: self.made[n] for n in reversed(again[:chosen])}) if chosen else list(kernel)

    def _renamed(self, kernel: Sequence[Node], again: dict[int, Node]) -> list[Node]:
        new: dict[int, int] = {}
        found = []
        for number, node in again.items():
            new[number] = len(self.values)
            self.values.append(self.values[number])
            inputs = tuple(new.get(source, source) for source in node.inputs)
            found.append(replace(node, inputs=inputs, outputs=(new[number],)))
        found.extend(replace(node, inputs=tuple(new.get(n, n) for n in node.inputs)) for node in kernel)
        return found

    def _is_cheap(self, number: int) -> bool:
        """Whether a kernel computes the value element by element, at little cost, and nothing else needs it written."""
        node = self.made.get(number)
        if node is None or number in self.shared:
            return False
        return node.op.loop == "same" or (node.op.loop == "map" and FAST.issuperset(CALL.findall(node.op.scalar)))

    def _costs(self, leaves: Collection[int], again: Sequence[int], reader: int) -> tuple[int, int]:
        """Bytes written, read and computed for a kernel that reads `leaves`; and those read alone."""
        written = sum(self._cost(number, reader) for number in leaves) + sum(map(self._work, again))
        return written, sum(map(self._bytes, leaves))

    def _cost(self, number: int, reader: int) -> int:
        """Bytes read for a large value, and written first where that is done for this kernel only."""
        is_written = not self._is_cheap(number) or self.readers.get(number, set()) - {reader}
        return self._bytes(number) * (1 if is_written else 2)

    def _work(self, number: int) -> int:
        """The bytes that could be moved in the time of computing a value."""
        calls = len(CALL.findall(self.made[number].op.scalar))
        return self._bytes(number) * 2 * calls

    def _size(self, number: int) -> int:
        return self.values[number].type.size

    def _bytes(self, number: int) -> int:
        return self.values[number].type.nbytes


def _read(kernel: Sequence[Node]) -> set[int]:
    """What the nodes of a kernel read and do not make."""
    return {number for node in kernel for number in node.inputs}.difference(n for node in kernel for n in node.outputs)
