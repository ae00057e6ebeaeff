"""A graph over examples: what a graph does to one example, done to many along a new leading axis.

Values either have the new axis or are the same for every example; an operator none of whose inputs has it is applied
once. What an operator does with the axis it says itself: `Op.batched`, or `Op.mapped` where one operator is not enough.
"""

from __future__ import annotations

from collections.abc import Sequence

from flowcore.dispatch import apply
from flowcore.errors import TraceError
from flowcore.graph import Graph, Value
from flowcore.op import Op, Type, as_tuple
from flowcore.ops.elementwise import Elementwise
from flowcore.ops.shape import broadcast_to, reshape
from flowcore.placement.layout import Layout
from flowcore.staging import stage
from flowcore.tensor import Tensor
from flowcore.world import current

Flags = tuple[bool, ...]


def map_graph(
    graph: Graph, arguments: Sequence[Tensor], flags: Sequence[bool], size: int
) -> tuple[list[Tensor], list[bool]]:
    """The outputs of `graph` for each of `size` examples, and which of them have the new leading axis."""
    known = dict(zip(graph.inputs, zip(arguments, flags, strict=True), strict=True))
    for node in graph.nodes:
        inputs, has_axis = [known[n][0] for n in node.inputs], [known[n][1] for n in node.inputs]
        if any(has_axis):
            results, flagged = map_operator(node.op, inputs, has_axis, size)
        else:
            value = graph.values[node.outputs[0]]
            layout = None if inputs else Layout(value.placement, "B" if value.sbp is None else value.sbp)
            results = as_tuple(apply(node.op, *inputs, layout=layout))
            flagged = (False,) * len(results)
        known.update(zip(node.outputs, zip(results, flagged, strict=True), strict=True))
    return [known[n][0] for n in graph.outputs], [known[n][1] for n in graph.outputs]


def map_operator(
    op: Op, inputs: Sequence[Tensor], flags: Sequence[bool], size: int
) -> tuple[tuple[Tensor, ...], Sequence[bool]]:
    """The results of `op` for each example, and which of them have the new leading axis."""
    found = op.mapped(inputs, flags, size)
    if found is not None:
        return found
    each = [Type(x.shape[1:] if flag else x.shape, x.dtype) for x, flag in zip(inputs, flags, strict=True)]
    if isinstance(op, Elementwise):
        inputs = _aligned(inputs, flags, max(type.ndim for type in each))
    try:
        batched = op.batched(tuple(flags), size, each)
        if batched is None:
            inputs = [with_axis(x, flag, size) for x, flag in zip(inputs, flags, strict=True)]
            batched = op.batched((True,) * len(inputs), size, each)
    except NotImplementedError:
        batched = None
    if batched is None:
        raise TraceError(f"{op.name} has no batching rule: give it `batched`, or call it outside vmap")
    results = as_tuple(apply(batched, *inputs))
    return results, (True,) * len(results)


def _aligned(inputs: Sequence[Tensor], flags: Sequence[bool], ndim: int) -> list[Tensor]:
    """Operands that broadcast against each other behind the new axis: dimensions of length 1 follow it."""
    return [
        reshape(x, (x.shape[0], *(1,) * (ndim + 1 - x.ndim), *x.shape[1:])) if flag and x.ndim <= ndim else x
        for x, flag in zip(inputs, flags, strict=True)
    ]


def with_axis(x: Tensor, flag: bool, size: int) -> Tensor:
    """`x` with the new leading axis, repeated along it if it did not have it."""
    return x if flag else broadcast_to(x, (size, *x.shape))


def batch_graph(
    graph: Graph, flags: Flags, size: int, wanted: Flags | None = None
) -> tuple[Graph, tuple[Tensor, ...], Flags]:
    """`graph` for each of `size` examples, the constants it takes behind its inputs, and which outputs have the axis.

    wanted: outputs that have it in any case.
    """
    world, key = current(), (batch_graph, graph, flags, size, wanted)
    if key not in world.programs:
        flagged: list[bool] = []

        def mapped(*symbols: Tensor) -> list[Tensor]:
            outputs, has_axis = map_graph(graph, symbols, flags, size)
            forced = (False,) * len(outputs) if wanted is None else wanted
            flagged.extend(has or want for has, want in zip(has_axis, forced, strict=True))
            each = zip(outputs, has_axis, flagged, strict=True)
            return [with_axis(x, has, size) if now else x for x, has, now in each]

        values = [_with_length(graph.values[n], size, f) for n, f in zip(graph.inputs, flags, strict=True)]
        made = stage(mapped, values, "vmap")
        world.programs[key] = made.graph, made.captured, tuple(flagged)
    found: tuple[Graph, tuple[Tensor, ...], Flags] = world.programs[key]
    return found


def _with_length(value: Value, size: int, flag: bool) -> Value:
    if not flag:
        return value
    return Value(Type((size, *value.type.shape), value.type.dtype), value.placement)
