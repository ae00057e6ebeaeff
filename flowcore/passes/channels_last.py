"""Convolutions, and all that stands between them, with channels last in memory: one rank's graph → the same.

In that order the channels of a pixel lie side by side: convolutions are products of large matrices, and statistics of
channels are sums down the columns of one. A value (n, c, *spatial) has a *twin* (n, *spatial, c); the operators that
convolve make and read twins, and so does every elementwise operator, broadcast and reduction of a twin. Where anything
else reads such a value, and where it leaves, the order is changed back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from flowcore.convolved import Convolved, is_available
from flowcore.graph import Graph, Node, Value
from flowcore.op import OPS, Op, Type
from flowcore.passes.dce import dce
from flowcore.placement.layout import Shape

LEADS = {"x": ("nc", "ngc"), "w": ("oc", "goc"), "y": ("no", "ngo")}
"""The letters of the dimensions that are not spatial, for convolutions and those in groups."""


def channels_last(graph: Graph) -> Graph:
    """`graph` with twins; unchanged where nothing convolves, or where kernels cannot be compiled."""
    if not is_available() or not any(_convolution(graph, node) for node in graph.nodes):
        return graph
    return dce(_Turner(graph).run())


def order(dimensions: int, channels: int) -> tuple[int, ...]:
    """Which dimension of a value with so many `channels` dimensions stands where in its twin."""
    return (0, *range(1 + channels, dimensions), *range(1, 1 + channels))


def _convolution(graph: Graph, node: Node) -> Convolved | None:
    """The compiled convolution that `node` is."""
    if node.op.name != "convolve" or str(graph.values[node.outputs[0]].type.dtype) not in ("float32", "float64"):
        return None
    op: Any = node.op
    terms: dict[str, str] = op.terms
    given = dict(zip(op.roles, graph.types(node.inputs), strict=False))
    for is_grouped in (False, True):
        # letters are names: two forms are one if the same letters are the same
        wanted = {role: LEADS[role][is_grouped] for role in "xyw"}
        names = dict(zip("".join(wanted[role] for role in "xyw"), "".join(terms[role] for role in "xyw"), strict=False))
        is_one = all("".join(names.get(letter, "") for letter in wanted[role]) == terms[role] for role in "xyw")
        if is_one and len(set(names.values())) == len(names) and all(type.size for type in given.values()):
            return Convolved(op.roles[2], is_grouped, op.lengths, op.strides, op.dilations, op.before)
    return None


class _Turner:
    """Writes the graph anew; `twins`: by value and its number of channel dimensions, the twin."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: list[Value] = list(graph.values)
        self.nodes: list[Node] = []
        self.made = {number: node for node in graph.nodes for number in node.outputs}
        self.twins: dict[tuple[int, int], int] = {}
        self.plain = set(graph.inputs)
        """The values that are there in their own order."""

    def run(self) -> Graph:
        """The graph, with nodes that nobody needs."""
        for node in self.graph.nodes:
            if not self._turned(node):
                for number in node.inputs:
                    self._restore(number)
                self.nodes.append(node)
                self.plain.update(node.outputs)
        for number in self.graph.outputs:
            self._restore(number)
        return replace(self.graph, values=tuple(self.values), nodes=tuple(self.nodes))

    def _turned(self, node: Node) -> bool:
        """Write what makes the twin of the result instead of `node`, where that is better."""
        convolution = _convolution(self.graph, node)
        if convolution is not None:
            self._convolve(node, convolution)
            return True
        if len(node.outputs) != 1:
            return False
        channels = next((c for n in node.inputs for c in (1, 2) if (n, c) in self.twins), None)
        if channels is None:
            return False
        if node.op.loop in ("sum", "max"):
            return self._reduce(node, channels)
        if node.op.loop == "map" or node.op.name in ("alias", "reshape"):
            return self._map(node, channels)
        return False

    def _convolve(self, node: Node, op: Convolved) -> None:
        roles: str = node.op.roles  # type: ignore[attr-defined]  # a convolution's
        channels = 1 + op.is_grouped
        given = dict(zip(roles, node.inputs, strict=False))
        read = [self._own(given[r]) if r == "w" else self._twin(given[r], channels) for r in "xyw" if r in given]
        if op.result == "w":
            self.nodes.append(replace(node, op=op, inputs=tuple(read)))
            self.plain.update(node.outputs)
        else:
            self._add(node, op, read, channels)

    def _map(self, node: Node, channels: int) -> bool:
        """An elementwise operator, or a reshape that cuts channels into groups or joins them."""
        (result,) = self.graph.types(node.outputs)
        if node.op.name != "reshape":
            if result.ndim < 2 + channels:
                return False
            if not any((n, channels) in self.twins and self._shape(n) == result.shape for n in node.inputs):
                return False
            self._add(node, node.op, [self._twin(n, channels, result.ndim) for n in node.inputs], channels)
            return True
        shape, count = self._shape(node.inputs[0]), len(self._shape(node.inputs[0])) - 1 - channels
        now = result.ndim - 1 - count
        if now not in (1, 2) or result.shape[:1] != shape[:1] or result.shape[1 + now :] != shape[1 + channels :]:
            return False
        turned = _taken(result.shape, order(result.ndim, now))
        self._add(node, _made("reshape", turned), [self._twin(node.inputs[0], channels)], now)
        return True

    def _reduce(self, node: Node, channels: int) -> bool:
        """A reduction of a twin whose kept dimensions stand in the order they had."""
        axes: Sequence[int] = node.op.axes  # type: ignore[attr-defined]  # a reduction's
        places = order(len(self._shape(node.inputs[0])), channels)
        kept = [axis for axis in places if axis not in axes]
        if kept != sorted(kept):
            return False
        op = replace(node.op, axes=tuple(sorted(places.index(axis) for axis in axes)))  # type: ignore[call-arg]
        self.nodes.append(replace(node, op=op, inputs=(self._twin(node.inputs[0], channels),)))
        self.plain.update(node.outputs)
        return True

    def _add(self, node: Node, op: Op, inputs: Sequence[int], channels: int) -> None:
        """A node that gives the twin of what `node` gives."""
        (number,) = node.outputs
        self.twins[number, channels] = self._new(op, inputs, self._turned_type(number, channels), node)

    def _turned_type(self, number: int, channels: int) -> Type:
        type = self.values[number].type
        return replace(type, shape=_taken(type.shape, order(type.ndim, channels)))

    def _new(self, op: Op, inputs: Sequence[int], type: Type, like: Node | None = None) -> int:
        self.values.append(replace(self.values[inputs[0]], type=type))
        number = len(self.values) - 1
        self.nodes.append(Node(op, tuple(inputs), (number,), "" if like is None else like.where))
        return number

    def _twin(self, number: int, channels: int, dimensions: int | None = None) -> int:
        """The twin of a value, made where there is none; of one that is broadcast to `dimensions`, a shape for that."""
        if (number, channels) in self.twins:
            return self.twins[number, channels]
        type = self.values[number].type
        if type.size == 1 and dimensions is not None:
            return self._own(number)
        shape = (1,) * ((dimensions or type.ndim) - type.ndim) + type.shape
        places = order(len(shape), channels)
        made = self.made.get(number)
        turned = _taken(shape, places)
        if made is not None and made.op.name == "broadcast_to" and len(shape) == type.ndim:
            source = self._twin(made.inputs[0], channels)
            twin = self._new(_made("broadcast_to", turned), [source], replace(type, shape=turned), made)
        elif sum(length != 1 for length in shape) <= 1:
            twin = self._new(_made("reshape", turned), [self._own(number)], replace(type, shape=turned), made)
        else:
            own = self._own(number)
            if len(shape) > type.ndim:
                own = self._new(_made("reshape", shape), [own], replace(type, shape=shape), made)
            twin = self._new(_made("permute", places), [own], replace(type, shape=turned), made)
        if len(shape) == type.ndim:
            self.twins[number, channels] = twin
        return twin

    def _own(self, number: int) -> int:
        """The value in its own order."""
        self._restore(number)
        return number

    def _restore(self, number: int) -> None:
        """Make the value from its twin, where it is not there."""
        if number in self.plain:
            return
        channels = next(c for c in (1, 2) if (number, c) in self.twins)
        places = order(self.values[number].type.ndim, channels)
        back = tuple(places.index(axis) for axis in range(len(places)))
        self.nodes.append(Node(_made("permute", back), (self.twins[number, channels],), (number,)))
        self.plain.add(number)

    def _shape(self, number: int) -> Shape:
        return self.values[number].type.shape


def _taken(shape: Shape, places: Sequence[int]) -> Shape:
    return tuple(shape[place] for place in places)


def _made(name: str, attribute: tuple[int, ...]) -> Op:
    make: Callable[..., Op] = OPS[name]
    return make(attribute)
