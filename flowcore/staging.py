"""A function as a graph that transforms can rewrite, and a graph as operations again.

`stage` runs a function on symbols, inside whatever is being traced already: what it reads from outside becomes further
inputs, what it assigns further outputs. `replay` applies the operators of a graph to tensors, eagerly or into the trace
around it. Every transform is `stage`, a function graph → graph, `replay`; so transforms compose to any depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flowcore.dispatch import apply
from flowcore.errors import TraceError
from flowcore.graph import Graph, Value
from flowcore.op import Type, as_tuple
from flowcore.passes.dce import dce
from flowcore.placement.layout import Layout, Shape
from flowcore.tensor import Tensor
from flowcore.trace import Trace
from flowcore.tree import Rebuild, flatten
from flowcore.world import current


@dataclass(frozen=True)
class Staged:
    """What a function does to tensors.

    The graph's inputs are the function's arguments, then `captured`; its outputs are the `count` tensors of the result
    (`rebuild` makes the result of them), then the new values of `assigned`.
    """

    graph: Graph
    captured: tuple[Tensor, ...]
    assigned: tuple[Tensor, ...]
    rebuild: Rebuild
    count: int


@contextmanager
def tracing() -> Iterator[Trace]:
    """Inside, operations go into a new trace, within the one there is."""
    world = current()
    before = (world.trace, world.is_grad_enabled)
    trace = world.trace = Trace(world.trace)
    world.is_grad_enabled = True
    try:
        yield trace
    finally:
        world.trace, world.is_grad_enabled = before


def stage(f: Callable[..., Any], values: Sequence[Value], what: str) -> Staged:
    """`f`, called with one symbol for each of `values`, as a graph; `what` names the transform in errors."""
    with tracing() as trace:
        result = f(*(trace.input(value) for value in values))
        outputs, rebuild = flatten(result)
        graph, reads, writes = trace.finish(outputs)
    if any(write.is_grad for write in writes):
        raise TraceError(
            f"backward() or .grad = … inside {what} would store a gradient of a part: "
            f"use fc.grad inside, or call backward() on what {what} returns"
        )
    captured = []
    for read in reads:
        assert read.held is not None
        captured.append(read.held)
    return Staged(dce(graph), tuple(captured), tuple(write.tensor for write in writes), rebuild, len(outputs))


def as_read(tensors: Sequence[Tensor], assigned: Sequence[Tensor]) -> list[Tensor]:
    """`tensors`, those that are assigned to (and need no gradient) by the values they have now.

    So that the gradient of what reads them can be had after the assignment.
    """
    changed = {id(tensor) for tensor in assigned}
    return [x.detach() if id(x) in changed and not x.requires_grad else x for x in tensors]


def symbolic(tensor: Tensor, shape: Shape | None = None) -> Value:
    """A value such as `tensor`, or one of `shape`; its layout is left open unless every rank holds all of it."""
    value = tensor.value
    kept = value.sbp if value.sbp is not None and value.layout.is_broadcast else None
    return Value(Type(value.type.shape if shape is None else shape, value.type.dtype), value.placement, kept)


def replay(graph: Graph, arguments: Sequence[Tensor]) -> list[Tensor]:
    """The outputs of `graph` on `arguments`, its operators applied one by one."""
    known = dict(zip(graph.inputs, arguments, strict=True))
    for node in graph.nodes:
        value = graph.values[node.outputs[0]]
        layout = None if node.inputs else Layout(value.placement, "B" if value.sbp is None else value.sbp)
        results = as_tuple(apply(node.op, *(known[number] for number in node.inputs), layout=layout))
        known.update(zip(node.outputs, results, strict=True))
    return [known[number] for number in graph.outputs]


def assign_all(tensors: Sequence[Tensor], new: Sequence[Tensor]) -> None:
    """Store what a staged function assigned."""
    for tensor, value in zip(tensors, new, strict=True):
        tensor.assign(value)
