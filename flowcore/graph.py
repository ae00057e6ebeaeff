"""The immutable typed SSA graph that every stage takes and returns.

A value has a type, a placement and, once the planner has chosen it (or the user fixed it), an SBP. A node applies an
operator to values and defines new ones. Nodes stand in topological order; every value is defined once, as an input or
by a node. In a *logical* graph the inputs of a node are values, whatever their layout; after planning a node also
says in which SBP it reads each input (`reads`); in a *physical* graph every input already lies so, because each
change of layout is a `box` node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b

from flowcore.errors import GraphError
from flowcore.op import Op, Type
from flowcore.placement.layout import Layout
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import NdSbp


@dataclass(frozen=True)
class Value:
    """What flows along an edge. `sbp` None: not chosen yet."""

    type: Type
    placement: Placement
    sbp: NdSbp | None = None

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.type, self.placement, self.sbp))

    @cached_property
    def layout(self) -> Layout:
        """Placement and SBP; GraphError where the SBP is not chosen yet."""
        if self.sbp is None:
            raise GraphError(f"{self.type} has no sbp yet: plan the graph first")
        return Layout(self.placement, self.sbp)


@dataclass(frozen=True)
class Node:
    """One application of an operator. `where`: the user's file:line. `reason`: why a transfer is there."""

    op: Op
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    where: str = ""
    reads: tuple[NdSbp, ...] | None = None
    reason: str = ""


@dataclass(frozen=True)
class Graph:
    """Values by number, the numbers of the inputs, the nodes in order, the numbers of the outputs."""

    values: tuple[Value, ...]
    inputs: tuple[int, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]

    def __hash__(self) -> int:
        # kept without `cached_property`, whose lock and that of the operators' hash would wait for each other
        found = self.__dict__.get("_hash")
        if found is None:
            found = hash((self.values, self.inputs, self.nodes, self.outputs))
            object.__setattr__(self, "_hash", found)
        return int(found)

    def types(self, numbers: Iterable[int]) -> tuple[Type, ...]:
        """The types of the values with these numbers."""
        return tuple(self.values[number].type for number in numbers)

    @cached_property
    def ranks(self) -> tuple[int, ...]:
        """Every rank on which some value of the graph lies, in order."""
        own = {rank for placement in self.placements for rank in placement.ranks}
        return tuple(sorted(own.union(*(body.ranks for node in self.nodes for body in node.op.graphs))))

    @cached_property
    def placements(self) -> tuple[Placement, ...]:
        """Every placement in use, in order of first appearance."""
        used = (*self.inputs, *(number for node in self.nodes for number in node.outputs))
        return tuple(dict.fromkeys(self.values[number].placement for number in used))

    @cached_property
    def digest(self) -> int:
        """A signed 64-bit number equal on two ranks exactly where the graphs are (file:line included)."""
        return digest_of(repr((self.values, self.inputs, self.nodes, self.outputs)))


def digest_of(text: str) -> int:
    """A signed 64-bit number from text, the same in every process."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


class Builder:
    """A graph under construction; `graph` freezes it."""

    def __init__(self, source: Graph | None = None) -> None:
        self.values: list[Value] = list(source.values) if source else []
        self.inputs: list[int] = list(source.inputs) if source else []
        self.nodes: list[Node] = []

    def value(self, value: Value) -> int:
        """A new value's number."""
        self.values.append(value)
        return len(self.values) - 1

    def input(self, value: Value) -> int:
        """A new input's number."""
        number = self.value(value)
        self.inputs.append(number)
        return number

    def node(
        self, op: Op, inputs: Sequence[int], results: Sequence[Value], where: str = "", reason: str = ""
    ) -> tuple[int, ...]:
        """Apply `op`; the numbers of its results."""
        outputs = tuple(self.value(result) for result in results)
        self.nodes.append(Node(op, tuple(inputs), outputs, where, None, reason))
        return outputs

    def graph(self, outputs: Iterable[int]) -> Graph:
        """The finished graph."""
        return Graph(tuple(self.values), tuple(self.inputs), tuple(self.nodes), tuple(outputs))


def renumber(graph: Graph) -> Graph:
    """The same graph with values numbered in order of definition and unused numbers dropped."""
    order = [*graph.inputs, *(number for node in graph.nodes for number in node.outputs)]
    new = {number: position for position, number in enumerate(order)}
    nodes = (
        replace(node, inputs=tuple(new[i] for i in node.inputs), outputs=tuple(new[o] for o in node.outputs))
        for node in graph.nodes
    )
    return Graph(
        tuple(graph.values[number] for number in order),
        tuple(new[number] for number in graph.inputs),
        tuple(nodes),
        tuple(new[number] for number in graph.outputs),
    )
