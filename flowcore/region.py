"""Operators that run graphs: loops and branches, planned for the layouts in which their inputs reach them.

A body is planned, boxed and verified like any graph, with the layouts of its inputs given; what it moves counts in the
plan. `settle` does this to the operators of a graph in order: the layouts of an operator's inputs follow from what
stands before it, those of its results from its bodies. Terms (P) are put together before they enter, unless the
operator says otherwise, since a body may read them many times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from flowcore.boxing_op import Boxing, Relayout
from flowcore.errors import GraphError, PlanError
from flowcore.graph import Builder, Graph, Node, Value
from flowcore.op import Array, Op, Type
from flowcore.placement.layout import Layout, Shape, sbp_text
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import B, NdSbp, Partial, Split, Window

Block = Array | None
Runner = Callable[[Sequence[Block]], list[Block]]
Physical = Callable[[Graph], Graph]


@dataclass(frozen=True)
class Settled:
    """A region with planned bodies, the SBP in which it reads each input and gives each result."""

    op: Region
    reads: tuple[NdSbp, ...]
    results: tuple[NdSbp, ...]


@dataclass(frozen=True)
class Region(Op):
    """An operator whose attributes named by `bodies` are graphs that it runs."""

    spans: ClassVar[bool] = True

    @property
    def trips(self) -> tuple[tuple[int, str], ...]:
        """Per body: how often it runs, as far as the plan knows, and how often in words."""
        raise NotImplementedError

    def settled(self, given: Sequence[Value], physical: Physical) -> Settled:
        """The operator with its bodies planned for inputs laid out as `given`."""
        raise NotImplementedError

    def interface(self) -> tuple[list[Layout], list[Layout]]:
        """The layouts of inputs and results that the planned bodies imply; GraphError where they contradict."""
        raise NotImplementedError

    def run(self, runners: Sequence[Runner], blocks: Sequence[Block], shapes: Sequence[Shape | None]) -> list[Block]:
        """The blocks of the results, of these shapes (None: this rank holds none), given what runs each body."""
        raise NotImplementedError

    def verify(self, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> None:
        """GraphError where the bodies are planned for other layouts than the inputs and results have."""
        if self.interface() != (list(inputs), list(outputs)):
            stated = " → ".join(", ".join(map(str, side)) for side in (inputs, outputs))
            raise GraphError(f"{self.name} runs as {stated}, but its bodies are planned for other layouts")


def settle(graph: Graph, layouts: Physical, physical: Physical) -> Graph:
    """`graph` with the bodies of its operators planned; `layouts` chooses the SBP of every value of a graph."""
    values, nodes = list(graph.values), list[Node]()
    for node in graph.nodes:
        if isinstance(node.op, Region) and node.reads is None:
            before = layouts(Graph(tuple(values), graph.inputs, tuple(nodes), node.inputs))
            done = node.op.settled([_whole(before.values[number]) for number in node.inputs], physical)
            node = replace(node, op=done.op, reads=done.reads)
            for number, sbp in zip(node.outputs, done.results, strict=True):
                values[number] = replace(values[number], sbp=sbp)
        nodes.append(node)
    return Graph(tuple(values), graph.inputs, tuple(nodes), graph.outputs)


def _whole(value: Value) -> Value:
    return replace(value, sbp=tuple(B if isinstance(part, Partial) else part for part in value.layout.sbp))


def pinned(body: Graph, inputs: Sequence[NdSbp]) -> Graph:
    """`body` with its inputs laid out so."""
    values = list(body.values)
    for number, sbp in zip(body.inputs, inputs, strict=True):
        values[number] = replace(values[number], sbp=sbp)
    return replace(body, values=tuple(values))


def forced(body: Graph, outputs: Sequence[NdSbp | None]) -> Graph:
    """`body` with its first outputs asked for in these layouts."""
    builder = Builder(body)
    builder.nodes = list(body.nodes)
    numbers = list(body.outputs)
    for place, sbp in enumerate(outputs):
        value = body.values[numbers[place]]
        if sbp is not None:
            result = replace(value, sbp=sbp)
            op = Relayout(str(value.placement), sbp_text(sbp))
            (numbers[place],) = builder.node(op, [numbers[place]], [result], "", "")
    return builder.graph(numbers)


def output_sbps(body: Graph) -> tuple[NdSbp, ...]:
    """The SBP of every output of a planned body."""
    return tuple(body.values[number].layout.sbp for number in body.outputs)


def layouts_of(body: Graph, numbers: Sequence[int]) -> list[Layout]:
    """The layouts of these values of a planned body."""
    return [body.values[number].layout for number in numbers]


def output_places(body: Graph) -> tuple[Placement, ...]:
    """Where the outputs of a body lie."""
    return tuple(body.values[number].placement for number in body.outputs)


def shifted(sbp: NdSbp, by: int) -> NdSbp:
    """The layout of a value with a leading axis more (by = 1) or less (-1), which is not split."""
    moved = (replace(part, axis=part.axis + by) if isinstance(part, Split | Window) else part for part in sbp)
    return tuple(B if isinstance(part, Split) and part.axis < 0 else part for part in moved)


def used_inputs(graph: Graph) -> list[bool]:
    """Which inputs of `graph` something reads."""
    read = {number for node in graph.nodes for number in node.inputs}.union(graph.outputs)
    return [number in read for number in graph.inputs]


def moved_bytes(graph: Graph) -> int:
    """Bytes received over all ranks by one run of a physical graph."""
    total = 0
    for node in graph.nodes:
        if isinstance(node.op, Boxing):
            total += node.op.plan(graph.values[node.inputs[0]].type).bytes_moved
        elif isinstance(node.op, Region):
            total += sum(
                moved_bytes(body) * times for body, (times, _) in zip(node.op.graphs, node.op.trips, strict=True)
            )
    return total


def with_unused(body: Graph, place: int, values: Sequence[Value]) -> Graph:
    """`body` with further inputs from number `place` on, which it does not read."""
    builder = Builder(body)
    more = [builder.value(value) for value in values]
    return replace(body, values=tuple(builder.values), inputs=(*body.inputs[:place], *more, *body.inputs[place:]))


def everyone_knows(name: str, decides: Placement, bodies: Sequence[Graph]) -> None:
    """PlanError where a rank takes part in a body but does not know the value that decides whether it runs."""
    outside = sorted({rank for body in bodies for rank in body.ranks}.difference(decides.ranks))
    if outside:
        raise PlanError(
            f"{name}: the condition lies on {decides}, but ranks {outside} take part in what it decides: "
            f"move the condition to all ranks with to_global(placement=…, sbp='B')"
        )


def argument_types(op: Op, body: Graph, given: Sequence[Type]) -> None:
    """GraphError where a region is given other types than its body takes."""
    wanted = body.types(body.inputs)
    if tuple(given) != tuple(wanted):
        raise GraphError(f"{op.name} of {', '.join(map(str, given))}, but its body takes {', '.join(map(str, wanted))}")
