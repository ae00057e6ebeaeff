"""How a value lies in the matrix of a fused kernel: its space, from its shape, the kernel's shape and the split.

The kernel's shape is split into leading dimensions (rows) and trailing ones (columns). A value that an operator
broadcasts along some of them varies along the rest; not every pattern is one that a loop over rows and columns reads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import NamedTuple

from flowcore.dtypes import NARROW, float32, is_real
from flowcore.graph import Graph, Node
from flowcore.jit.source import NAMES, Step, is_written
from flowcore.op import Type
from flowcore.placement.layout import Shape


class Reading(NamedTuple):
    """How an input is read: its space, and (repeat, period) of its rows."""

    space: str
    repeat: int = 1
    period: int = 1


def reading(shape: Shape, kernel: Shape, split: int) -> Reading | None:
    """How a kernel reads a value of `shape` that is broadcast to its own shape; None where its loop cannot."""
    padded = (1,) * (len(kernel) - len(shape)) + shape
    if len(padded) != len(kernel) or any(n not in (1, whole) for n, whole in zip(padded, kernel, strict=True)):
        return None
    if shape == kernel:
        return Reading("rc")
    varies = [n != 1 for n in padded]
    columns = {vary for vary, whole in zip(varies[split:], kernel[split:], strict=True) if whole != 1}
    if len(columns) > 1:
        return None
    column = "c" if columns == {True} else ""
    rows = [axis for axis in range(split) if kernel[axis] != 1]
    places = [index for index, axis in enumerate(rows) if varies[axis]]
    if not places:
        return Reading(column)
    if len(places) == len(rows):
        return Reading("r" + column)
    if places[-1] - places[0] + 1 != len(places):
        return None
    repeat = prod(kernel[axis] for axis in rows[places[-1] + 1 :])
    return Reading("p" + column, repeat, prod(kernel[rows[place]] for place in places))


@dataclass
class Spaces:
    """The spaces of the values that a kernel computes, and how it reads its inputs."""

    own: dict[int, str]
    reads: dict[int, Reading]

    def read(self, number: int, given: Reading | None) -> bool:
        """Whether value `number` can be read as `given`: it is computed so, or everywhere read so."""
        if given is None:
            return False
        if number in self.own:
            return self.own[number] in ("", given.space)
        return self.reads.setdefault(number, given) == given


def spaces(
    graph: Graph, nodes: Sequence[Node], literals: Mapping[int, str], kernel: Shape, split: int
) -> Spaces | None:
    """The space of every value that `nodes` define, as one kernel; None where they cannot be one.

    literals: the spaces of values that are the same number everywhere (""), or the numbers of columns ("c").
    """
    found = Spaces(dict(literals), {})
    for node in nodes:
        space = _space(graph, node, found, kernel, split)
        if space is None:
            return None
        found.own[node.outputs[0]] = space
    return found


TERMINAL = ("column", "total")


def _space(graph: Graph, node: Node, known: Spaces, kernel: Shape, split: int) -> str | None:
    values = graph.values
    for number in node.inputs:
        if known.own.get(number) in TERMINAL:
            return None
    if node.op.loop in ("sum", "max"):
        return _reduced(node, values[node.inputs[0]].type, known, kernel, split)
    shapes = tuple([values[number].type.shape for number in node.inputs])
    own, given = _elementwise(values[node.outputs[0]].type.shape, shapes, kernel, split, node.op.loop == "same")
    if own is None:
        return None
    for number, how in zip(node.inputs, given, strict=True):
        if not known.read(number, how):
            return None
    return own


@lru_cache(maxsize=2**14)
def _elementwise(
    result: Shape, inputs: tuple[Shape, ...], kernel: Shape, split: int, is_same: bool
) -> tuple[str | None, tuple[Reading | None, ...]]:
    """The space of what an operator gives, and how it reads its inputs then; is_same: it gives the very elements."""
    own = _own(result, kernel, split)
    if own is None:
        return None, ()
    size = prod(result)
    if is_same and size == prod(inputs[0]):
        return own, (Reading(own) if own == _own(inputs[0], kernel, split) else None,)
    if own == "rc":
        return own, tuple(reading(shape, kernel, split) for shape in inputs)
    # one per row, or one in all: no broadcasting but of one number
    counts = map(prod, inputs)
    return own, tuple(Reading("") if count == 1 else Reading(own) if count == size else None for count in counts)


def _own(shape: Shape, kernel: Shape, split: int) -> str | None:
    """The space of a computed value of `shape`: all of the kernel, one per row, or one in all."""
    if shape == kernel:
        return "rc"
    if prod(shape) == 1:
        return ""
    return "r" if _long(shape) == _long(kernel[:split]) else None


def _long(shape: Shape) -> Shape:
    return tuple(length for length in shape if length != 1)


def _reduced(node: Node, x: Type, known: Spaces, kernel: Shape, split: int) -> str | None:
    axes: Collection[int] = node.op.axes  # type: ignore[attr-defined]  # a reduction's
    held = known.own.get(node.inputs[0])
    if not is_real(x.dtype) or not axes:
        return None
    everything = len(axes) == x.ndim
    if x.shape == kernel and known.read(node.inputs[0], Reading("rc")) and held != "":
        if tuple(axes) == tuple(range(split, x.ndim)) and split > 0:
            return "r"
        if node.op.loop == "max":
            return None
        if everything:
            return "total"
        return "column" if tuple(axes) == tuple(range(split)) else None
    if everything and node.op.loop == "sum" and held == "r" and _own(x.shape, kernel, split) == "r":
        return "total"
    return None


def is_fusable(graph: Graph, node: Node) -> bool:
    """Whether a loop can compute `node`, in some kernel."""
    if len(node.outputs) != 1:
        return False
    types = graph.types((*node.inputs, *node.outputs))
    if any(str(type.dtype) not in NAMES or type.size == 0 for type in types):
        return False
    kinds = [type.dtype.kind for type in types]
    if any(type.dtype in NARROW for type in types) and node.op.loop not in ("same", "literal"):
        # narrow numbers are loaded and stored, never computed with
        return node.op.name == "cast" and any(type.dtype == float32 for type in types)
    match node.op.loop:
        case "map" if node.op.name == "cast":
            # a float as an integer or a bool is not what compiled code makes of it
            return kinds[1] == "f" or (kinds[0] != "f" and kinds[1] == "i")
        case "map":
            return node.op.scalar != "" and is_written(node.op.scalar, str(types[len(node.inputs) - 1].dtype))
        case "sum" | "max":
            return kinds == ["f", "f"]
        case "index":
            return kinds == ["i"]
        case loop:
            return loop != ""


def as_step(graph: Graph, node: Node, own: Mapping[int, str], place: Mapping[int, int]) -> Step:
    """`node` as a step of a body whose values are numbered by `place`."""
    (result,) = node.outputs
    inputs = tuple(place[number] for number in node.inputs)
    space, dtype = own[result], str(graph.values[result].type.dtype)
    match node.op.loop:
        case "literal":
            return Step("literal", node.op, (), dtype, "")
        case "index":
            return Step("index", node.op, (), dtype, "c")
        case "sum" | "max":
            reads = own.get(node.inputs[0], "rc")
            kind = {"r": "row", "column": "column", "total": "total"}[space]
            return Step(kind, node.op, inputs, dtype, {"row": "r", "column": "c", "total": ""}[kind], reads)
        case "same":
            return Step("same", node.op, inputs, dtype, space)
    return Step("map", node.op, inputs, dtype, space)
