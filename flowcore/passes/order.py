"""What frees more memory than it takes runs as soon as it can: one rank's graph → the same in another order.

In a backward pass, for example, the gradient of a layer's weights, which is the last to read the layer's input, runs
before the gradient goes on to the layer below. Nodes only move forward, and never past one that reaches other ranks:
what ranks do between two meetings is theirs alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

from flowcore.graph import Graph, Node
from flowcore.passes.donate import roots


def free_early(graph: Graph) -> Graph:
    """`graph` in an order in which less lives at once."""
    return Graph(graph.values, graph.inputs, tuple(_Order(graph).run()), graph.outputs)


class _Order:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.roots = graph, roots(graph)
        self.maker = {number: place for place, node in enumerate(graph.nodes) for number in node.outputs}
        self.readers: dict[int, set[int]] = {}
        for place, node in enumerate(graph.nodes):
            for root in self._read(node):
                self.readers.setdefault(root, set()).add(place)
        kept = (root for number in graph.outputs for root in self.roots[number])
        self.kept = {*graph.inputs, *kept}
        """What lives to the end."""
        self.segment = list(accumulate(node.op.reaches_others for node in graph.nodes))
        self.done: set[int] = set()

    def run(self) -> Iterable[Node]:
        """The nodes: each as it stands, and behind it those that now free memory."""
        for place in range(len(self.graph.nodes)):
            waiting = [place]
            while waiting:
                place = waiting.pop()
                if place not in self.done:
                    yield self.graph.nodes[place]
                    waiting.extend(self._freeing(place))

    def _freeing(self, place: int) -> list[int]:
        """Note that a node has run; the nodes of its segment that free more than they take and can run now."""
        self.done.add(place)
        found = []
        for root in self._read(self.graph.nodes[place]):
            left = self.readers[root]
            left.discard(place)
            if len(left) == 1:
                (last,) = left
                if self.segment[last] == self.segment[place] and self._is_ready(last) and self._gain(last) > 0:
                    found.append(last)
        return found

    def _is_ready(self, place: int) -> bool:
        node = self.graph.nodes[place]
        makers = (self.maker.get(number) for number in node.inputs)
        return not node.op.reaches_others and all(maker is None or maker in self.done for maker in makers)

    def _gain(self, place: int) -> int:
        """The bytes that the node frees, less those it takes."""
        node = self.graph.nodes[place]
        freed = (root for root in self._read(node) if self.readers[root] == {place} and root not in self.kept)
        return sum(map(self._size, freed)) - sum(map(self._size, node.op.new_results(node.outputs)))

    def _read(self, node: Node) -> set[int]:
        return {root for number in node.inputs for root in self.roots[number] if len(self.roots[root]) == 1}

    def _size(self, number: int) -> int:
        return self.graph.values[number].type.nbytes
