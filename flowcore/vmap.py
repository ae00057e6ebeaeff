"""`vmap`: a function of one example as a function of many at once.

The function is staged for one example, and its graph done for all along a new leading axis (`batching`). What it reads
from outside is the same for every example. A tensor split along the axis of examples stays split along it.

Random numbers: the draws are those of a loop over the examples, in order. If a call of the function makes k draws,
example i starts at the counter i·k after the present one; afterwards the counter has advanced by size·k.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from operator import index
from typing import Any, SupportsIndex

import numpy as np

from flowcore.batching import map_graph, with_axis
from flowcore.dispatch import asarray
from flowcore.errors import ShapeError, TraceError
from flowcore.graph import Graph
from flowcore.ops.axes import axis_of
from flowcore.ops.create import arange
from flowcore.ops.shape import permute_dims
from flowcore.passes.dce import dce
from flowcore.placement.layout import Shape
from flowcore.random import KEY
from flowcore.staging import Staged, assign_all, replay, stage, symbolic
from flowcore.tensor import Tensor
from flowcore.tree import flatten, replaced
from flowcore.world import current

Axes = Any
"""An axis, None (not mapped), or a tree of these that is a prefix of the tree of tensors."""
RANDOMNESS = ("different", "same")


def vmap(
    f: Callable[..., Any], in_axes: Axes = 0, out_axes: Axes = 0, *, randomness: str = "different"
) -> Callable[..., Any]:
    """`f` applied to every example along an axis of its arguments, its results stacked along `out_axes`.

    in_axes: the axis of examples of each positional argument, None for one that is the same for all; an int for all
    arguments alike, or a tuple of one entry per argument, which for an argument that is a tree may be such a tree.
    Keyword arguments are the same for all. randomness: "different" draws as a loop over the examples does; "same"
    draws once for all.
    """
    if randomness not in RANDOMNESS:
        raise ShapeError(f"vmap with randomness={randomness!r}: it is one of {', '.join(RANDOMNESS)}")

    @wraps(f)
    def mapped(*arguments: Any, **options: Any) -> Any:
        arguments = replaced(arguments, (np.ndarray,), asarray)
        axes = in_axes if isinstance(in_axes, tuple | list) else (in_axes,) * len(arguments)
        if len(axes) != len(arguments):
            raise ShapeError(f"vmap with {len(axes)} in_axes of a call with {len(arguments)} arguments: give one each")
        leaves, rebuild = flatten(arguments)
        along = [axis for one, argument in zip(axes, arguments, strict=True) for axis in spread(one, argument)]
        along = [None if a is None else axis_of(a, x.ndim, "vmap") for a, x in zip(along, leaves, strict=True)]
        size = _size(leaves, along)
        shapes = [x.shape if a is None else x.shape[:a] + x.shape[a + 1 :] for a, x in zip(along, leaves, strict=True)]
        values = [
            symbolic(x, shape) if a is not None else symbolic(x)
            for x, shape, a in zip(leaves, shapes, along, strict=True)
        ]
        staged = stage(lambda *symbols: f(*rebuild(symbols), **options), values, "vmap")
        given = [x if a is None else to_front(x, a) for x, a in zip(leaves, along, strict=True)]
        results, flags = _run(staged, given, [a is not None for a in along], size, randomness == "different")
        return _laid_out(staged, results, flags, size, out_axes)

    return mapped


def _run(
    staged: Staged, given: list[Tensor], mapped: list[bool], size: int, differ: bool
) -> tuple[list[Tensor], list[bool]]:
    """The results for every example; stores what the function assigned."""
    captured, flags = list(staged.captured), [*mapped, *(False for _ in staged.captured)]
    key, after = current().store.get(KEY), None
    if differ and key is not None and any(tensor is key for tensor in staged.assigned):
        place = next(place for place, tensor in enumerate(captured) if tensor is key)
        captured[place], after = _keys(staged, given, mapped, size, key)
        flags[len(given) + place] = True
    outputs, has_axis = map_graph(staged.graph, [*given, *captured], flags, size)
    new = list(outputs[staged.count :])
    for place, tensor in enumerate(staged.assigned):
        if after is not None and tensor is key:
            new[place] = after
        elif has_axis[staged.count + place]:
            raise TraceError(
                f"inside vmap a tensor of {tensor.value.type} from outside is assigned a value that differs between "
                f"examples: return the values instead, and assign what they come to together"
            )
    assign_all(staged.assigned, new)
    return outputs[: staged.count], has_axis[: staged.count]


def _keys(staged: Staged, given: list[Tensor], mapped: list[bool], size: int, key: Tensor) -> tuple[Tensor, Tensor]:
    """The keys with which the examples begin, (size, 2), and the key after all of them."""
    place = next(place for place, tensor in enumerate(staged.assigned) if tensor is key)
    graph = staged.graph
    alone = dce(Graph(graph.values, graph.inputs, graph.nodes, (graph.outputs[staged.count + place],)))
    read = {number for node in alone.nodes for number in node.inputs}
    if any(number in read for number, flag in zip(graph.inputs, mapped, strict=False) if flag):
        raise TraceError(
            "inside vmap how many random draws are made depends on the example: draw them before, and pass them in"
        )
    (last,) = replay(alone, [*given, *staged.captured])
    draws = last - key
    steps = arange(size, dtype=key.dtype, placement=key.placement)
    return key + steps.reshape(size, 1) * draws, key + draws * size


def _laid_out(staged: Staged, results: list[Tensor], flags: list[bool], size: int, out_axes: Axes) -> Any:
    """The function's result, the new axis of every tensor where `out_axes` wants it."""
    along, placed = spread(out_axes, staged.rebuild(results)), []
    for result, flag, axis in zip(results, flags, along, strict=True):
        if axis is None and flag:
            raise ShapeError("vmap with out_axes None for a result that differs between examples: give it an axis")
        if axis is None:
            placed.append(result)
            continue
        whole = with_axis(result, flag, size)
        to = axis_of(axis, whole.ndim, "vmap")
        placed.append(permute_dims(whole, (*range(1, to + 1), 0, *range(to + 1, whole.ndim))))
    return staged.rebuild(placed)


def to_front(x: Tensor, axis: int) -> Tensor:
    """`x` with dimension `axis` first."""
    return permute_dims(x, (axis, *(other for other in range(x.ndim) if other != axis)))


def _without(shape: Shape, axis: int | None) -> Shape:
    return shape if axis is None else shape[:axis] + shape[axis + 1 :]


def spread(axes: Axes, tree: Any) -> list[int | None]:
    """The axis of every tensor of `tree`."""
    match axes, tree:
        case None | SupportsIndex(), _:
            return [None if axes is None else index(axes)] * len(flatten(tree)[0])
        case ((tuple() | list()), (tuple() | list())) if len(axes) == len(tree):
            return [axis for one, part in zip(axes, tree, strict=True) for axis in spread(one, part)]
        case dict(), dict() if set(axes) == set(tree):
            return [axis for name, part in tree.items() for axis in spread(axes[name], part)]
    raise ShapeError(f"vmap with axes {axes!r} for a {type(tree).__name__}: give one axis for all, or a tree alike")


def _size(leaves: Sequence[Tensor], along: Sequence[int | None]) -> int:
    lengths = [x.shape[axis] for x, axis in zip(leaves, along, strict=True) if axis is not None]
    if not lengths:
        raise ShapeError("vmap of a call in which no tensor is mapped: pass a tensor with an axis of examples")
    if len(set(lengths)) > 1:
        raise ShapeError(f"vmap over axes of lengths {lengths}: they must be equal; slice, or map one at a time")
    return lengths[0]
