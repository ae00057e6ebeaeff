"""Reverse-mode differentiation: from the records of how a result came about to the operations that give its gradient.

The gradient of each operator is written in flowcore's own functions, so what `pull_back` does is apply operators: under
a trace it extends the graph, eagerly it computes, and where recording is on its results can be differentiated again.
On graphs this makes differentiation a function graph → graph (`gradient_graph`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from heapq import heappop, heappush
from operator import index
from typing import Any

import numpy as np

from flowcore.dispatch import apply, asarray, filled, operands, to_global
from flowcore.dtypes import is_float
from flowcore.errors import GradError, ShapeError
from flowcore.graph import Graph, Value
from flowcore.op import FUNCTIONS, OPS, as_tuple, function
from flowcore.placement.layout import Layout
from flowcore.staging import replay, stage, tracing
from flowcore.tensor import Record, Tensor
from flowcore.tree import flatten, replaced
from flowcore.world import current

__all__ = ["grad", "gradient_graph", "no_grad", "value_and_grad", "vjp"]

NUMBERS = (np.ndarray, np.floating, np.complexfloating, float, complex)
"""What may stand for a tensor among the arguments to differentiate by."""


def adopted(tree: Any) -> Any:
    """`tree` with tensors for the arrays and floats in it."""
    return replaced(tree, NUMBERS, asarray)


@contextmanager
def grad_enabled(wanted: bool) -> Iterator[None]:
    """Record operations for differentiation, or not, inside the block."""
    world = current()
    before, world.is_grad_enabled = world.is_grad_enabled, wanted
    try:
        yield
    finally:
        world.is_grad_enabled = before


def no_grad() -> Any:
    """A context (or decorator) in which nothing is recorded for differentiation."""
    return grad_enabled(False)


def ones_like(x: Tensor) -> Tensor:
    """A replicated tensor of ones with the shape, dtype and placement of `x`."""
    return filled(x.shape, 1, x.dtype, Layout(x.placement, "B"))


def zeros_like(x: Tensor) -> Tensor:
    """A replicated tensor of zeros with the shape, dtype and placement of `x`."""
    return filled(x.shape, 0, x.dtype, Layout(x.placement, "B"))


def pull_back(
    outputs: Sequence[Tensor], cotangents: Sequence[Tensor], since: int = 0
) -> dict[int, tuple[Tensor, Tensor]]:
    """The gradient with respect to every tensor at which the records made after number `since` end, by id."""
    found: dict[int, tuple[Tensor, Tensor]] = {}
    heap: list[tuple[int, Record]] = []
    queued: set[int] = set()

    def accumulate(tensor: Tensor, gradient: Tensor) -> None:
        before = found.get(id(tensor))
        found[id(tensor)] = (tensor, gradient if before is None else operands_add(before[1], gradient))
        record = tensor.record
        if record is not None and record.sequence > since and id(record) not in queued:
            queued.add(id(record))
            heappush(heap, (-record.sequence, record))

    for output, cotangent in zip(outputs, cotangents, strict=True):
        if output.requires_grad:
            accumulate(output, cotangent)
    while heap:
        _, record = heappop(heap)
        for tensor, gradient in _through(record, found):
            accumulate(tensor, gradient)
    return found


def operands_add(a: Tensor, b: Tensor) -> Tensor:
    """a + b, known by its rows where both are."""
    total: Tensor = apply(OPS["add"](), *operands(a, b))
    if a.scattered is not None and b.scattered is not None:
        total.scattered = joined(a.scattered, b.scattered)
    return total


def joined(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The indices and rows of both, one after the other."""
    flat = []
    for indices, rows in (first, second):
        flat.append((indices.reshape((indices.size,)), rows.reshape((indices.size, *rows.shape[indices.ndim :]))))
    (i, r), (j, s) = flat
    join = FUNCTIONS["concatenate"]
    return join((i, j), axis=0), join((r, s), axis=0)


def _through(record: Record, found: dict[int, tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """(input, gradient) for every input of a record that requires one; forgets the gradients of its outputs."""
    for tensor, version in zip(record.inputs, record.versions, strict=True):
        if tensor.version != version:
            raise GradError(
                f"a tensor of {tensor.value.type} was assigned to after {record.op.name} read it: "
                f"call backward() before the update, or detach() it"
            )
    cotangents = [found.pop(id(output), (None, None))[1] for output in record.outputs]
    gradients = as_tuple(record.op.pull(cotangents, record.inputs, record.outputs))
    if len(gradients) != len(record.inputs):
        raise GradError(f"the vjp of {record.op.name} gives {len(gradients)} gradients for {len(record.inputs)} inputs")
    for tensor, gradient in zip(record.inputs, gradients, strict=True):
        if gradient is None or not tensor.requires_grad:
            continue
        if gradient.shape != tensor.shape:
            raise ShapeError(
                f"the vjp of {record.op.name} gives a gradient of shape {gradient.shape} for an input of {tensor.shape}"
            )
        yield tensor, gradient


@function
def backward(loss: Tensor, gradient: Tensor | None = None) -> None:
    """Accumulate gradients into the leaves of `loss`; see `Tensor.backward`."""
    if not loss.requires_grad:
        raise GradError(
            "backward() of a tensor that depends on none with requires_grad: set it on a parameter; where a compiled "
            "function gave it that itself calls backward or updates parameters, call backward inside that function, "
            "or use fc.value_and_grad there"
        )
    if gradient is None and loss.size != 1:
        raise GradError(f"backward() of shape {loss.shape}: pass the gradient, or reduce to one element first")
    if gradient is None and loss.dtype.kind == "c":
        raise GradError(f"backward() of {loss.dtype}: pass the gradient, or take real, imag or abs first")
    with grad_enabled(False):
        trace = current().trace
        treatment = None if trace is None else trace.treatment
        seed = ones_like(loss) if gradient is None else gradient
        leaves = pull_back([loss], [seed if treatment is None else treatment.seed(seed)])
        for leaf, found in leaves.values():
            if leaf.record is not None:
                continue
            if treatment is not None:
                found = treatment.gradient(leaf, found)
            total = found if leaf.grad is None else operands_add(leaf.grad, found)
            # eagerly a gradient is stored as its leaf lies; while tracing the planner still decides
            kept = total if trace is not None else to_global(total, leaf.placement, leaf.sbp).detach()
            kept.scattered = total.scattered
            leaf.grad = kept


def vjp(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """(f(*primals), the function from a cotangent of it to the gradients with respect to `primals`).

    Primals, results and cotangents are any trees of tensors. has_aux: f returns (result, more), and so does this.
    """
    arguments, leaves, rebuild = variables(primals, range(len(primals)))
    since = current().sequence
    with grad_enabled(True):
        result = f(*arguments)
    value, *more = result if has_aux else (result,)
    outputs, _ = flatten(value)

    def pull(*cotangents: Any) -> tuple[Any, ...]:
        given = [cotangent for item in cotangents for cotangent in flatten(adopted(item))[0]]
        if [x.shape for x in given] != [x.shape for x in outputs]:
            raise GradError(
                f"cotangents of shapes {[x.shape for x in given]} for results of {[x.shape for x in outputs]}: "
                f"pass one for each result, shaped as it"
            )
        return rebuild(gradients(outputs, given, leaves, since))

    return (value, pull, *more)


def as_leaf(x: Any) -> Tensor:
    """A new variable with the value of `x`; what is computed from it still depends on `x`, for outer gradients."""
    (tensor,) = operands(x)
    if not is_float(tensor.dtype):
        raise GradError(f"a gradient with respect to {tensor.value.type} does not exist: cast it to a floating dtype")
    leaf: Tensor = apply(OPS["alias"](), tensor)
    leaf._requires_grad = True
    return leaf


def gradients(
    outputs: Sequence[Tensor], cotangents: Sequence[Tensor], wrt: Sequence[Tensor], since: int
) -> list[Tensor]:
    """Gradients of `outputs` with respect to `wrt`, through the records made after number `since`."""
    if any(tensor.version for tensor in wrt):
        raise GradError("an argument was assigned to inside the function to differentiate: assign to a copy, x + 0")
    trace = current().trace
    if trace is not None and trace.treatment is not None:
        trace.treatment.bypass()
    with grad_enabled(True):
        found = pull_back(outputs, cotangents, since)
    return [found[id(tensor)][1] if id(tensor) in found else zeros_like(tensor) for tensor in wrt]


def value_and_grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function giving (f(…), gradients of its scalar result with respect to arguments `argnums`).

    An argument may be any tree of tensors; its gradient is a tree of the same form. has_aux: f returns (scalar, more).
    """
    numbers = argument_numbers(argnums)

    @wraps(f)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        arguments, leaves, rebuild = variables(arguments, numbers)
        since = current().sequence
        with grad_enabled(True):
            result = f(*arguments, **options)
        value = result[0] if has_aux else result
        if not isinstance(value, Tensor) or value.size != 1:
            shape = value.shape if isinstance(value, Tensor) else type(value).__name__
            raise GradError(f"grad needs a function with one scalar result, got {shape}: sum it, or use fc.vjp")
        if value.dtype.kind == "c":
            raise GradError(f"grad needs a real result, got {value.dtype}: take real, imag or abs, or use fc.vjp")
        found = gradients([value], [ones_like(value)], leaves, since)
        return result, rebuild(found) if isinstance(argnums, Iterable) else rebuild(found)[0]

    return wrapped


def argument_numbers(argnums: Any) -> tuple[int, ...]:
    """The numbers of arguments that `argnums`, one integer or several, names."""
    try:
        return tuple(index(number) for number in (argnums if isinstance(argnums, Iterable) else (argnums,)))
    except TypeError:
        raise GradError(f"argnums {argnums!r}: give the number of an argument, or a sequence of them") from None


def places_of(numbers: Sequence[int], count: int) -> tuple[int, ...]:
    """`numbers` counted from 0, of `count` arguments; GradError where one does not exist or stands twice."""
    for number in numbers:
        if not -count <= number < count:
            raise GradError(f"argnums {number} but the function was called with {count} arguments")
    places = tuple(number % count for number in numbers)
    if len(set(places)) != len(places):
        raise GradError(f"argnums {tuple(numbers)} of {count} arguments: one stands twice; name each once")
    return places


def variables(
    arguments: tuple[Any, ...], numbers: Sequence[int]
) -> tuple[tuple[Any, ...], list[Tensor], Callable[[Sequence[Tensor]], tuple[Any, ...]]]:
    """The arguments with those in `numbers` made variables; these; and what lays their gradients out alike."""
    changed, leaves, forms = list(arguments), [], []
    for number in places_of(numbers, len(arguments)):
        parts, build = flatten(adopted(arguments[number]))
        if not parts:
            raise GradError(f"argument {number} has no tensor to differentiate by: pass tensors, arrays or floats")
        mine = [as_leaf(part) for part in parts]
        changed[number] = build(mine)
        leaves.extend(mine)
        forms.append((len(mine), build))

    def rebuild(found: Sequence[Tensor]) -> tuple[Any, ...]:
        result, start = [], 0
        for count, build in forms:
            result.append(build(found[start : start + count]))
            start += count
        return tuple(result)

    return tuple(changed), leaves, rebuild


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function giving the gradients of f's scalar result; see `value_and_grad`."""
    both = value_and_grad(f, argnums, has_aux)

    @wraps(f)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        result, found = both(*arguments, **options)
        return (found, result[1]) if has_aux else found

    return wrapped


def vjp_graph(graph: Graph, wrt: tuple[int, ...], given: tuple[int, ...]) -> tuple[Graph, tuple[Tensor, ...]]:
    """From the inputs of `graph` and cotangents of its outputs number `given`: the gradients for inputs number `wrt`.

    Also the constants that the gradients of its operators are made with; the graph takes them behind the others.
    """
    world, key = current(), (vjp_graph, graph, wrt, given)
    if key not in world.programs:

        def pull(*symbols: Tensor) -> list[Tensor]:
            arguments, cotangents = symbols[: len(graph.inputs)], symbols[len(graph.inputs) :]
            for position in wrt:
                arguments[position].requires_grad = True
            since = world.sequence
            outputs = replay(graph, arguments)
            return gradients([outputs[n] for n in given], cotangents, [arguments[n] for n in wrt], since)

        values = [graph.values[number] for number in graph.inputs]
        made = stage(pull, [*values, *(symbolic_of(graph, number) for number in given)], "a gradient")
        world.programs[key] = made.graph, made.captured
    found: tuple[Graph, tuple[Tensor, ...]] = world.programs[key]
    return found


def symbolic_of(graph: Graph, output: int) -> Value:
    """A value of the type of output number `output`, laid out as the planner likes."""
    value = graph.values[graph.outputs[output]]
    return Value(value.type, value.placement)


def gradient_graph(graph: Graph, wrt: Sequence[int]) -> Graph:
    """The graph of (outputs, gradients of the first output with respect to inputs number `wrt`)."""
    with tracing() as trace:
        arguments = [trace.input(graph.values[number]) for number in graph.inputs]
        for position in wrt:
            arguments[position].requires_grad = True
        since = current().sequence
        outputs = replay(graph, arguments)
        leaves = [arguments[position] for position in wrt]
        return trace.finish([*outputs, *gradients(outputs[:1], [ones_like(outputs[0])], leaves, since)])[0]
