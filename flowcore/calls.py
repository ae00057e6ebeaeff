"""Operators that stand for a graph until it is planned, and differ in how they are differentiated.

`call` is differentiated as its graph is. `checkpoint` keeps nothing for that but its inputs, and computes the rest
again: what it computes again begins at a `barrier`, so that the passes do not find that it is the same.
`custom_vjp` is differentiated by a graph of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import update_wrapper, wraps
from typing import Any, ClassVar

import numpy as np

from flowcore.batching import batch_graph, with_axis
from flowcore.dispatch import apply, asarray
from flowcore.dtypes import is_float
from flowcore.errors import GradError, ShapeError
from flowcore.grad import operands_add, vjp_graph, zeros_like
from flowcore.graph import Graph
from flowcore.op import OPS, Op, Type, as_tuple, operator
from flowcore.passes.dce import dce
from flowcore.placement.mesh import Placement
from flowcore.region import argument_types, output_places, used_inputs
from flowcore.staging import as_read, assign_all, replay, stage, symbolic
from flowcore.tensor import Tensor
from flowcore.tree import flatten, replaced

__all__ = ["checkpoint", "custom_vjp"]


@operator
class Call(Op):
    """The results of a graph."""

    body: Graph

    name: ClassVar[str] = "call"
    bodies: ClassVar[tuple[str, ...]] = ("body",)
    spans: ClassVar[bool] = True

    def infer(self, *types: Type) -> tuple[Type, ...]:
        argument_types(self, self.body, types)
        return self.body.types(self.body.outputs)

    def placements(self) -> tuple[Placement, ...]:
        return output_places(self.body)

    @property
    def expansion(self) -> Graph:
        return self.body

    def pull(self, cotangents: Sequence[Any], inputs: Sequence[Any], results: Sequence[Any]) -> Any:
        return pull_graph(self.body, cotangents, inputs)

    def mapped(self, inputs: Sequence[Any], flags: Sequence[bool], size: int) -> tuple[Any, Sequence[bool]] | None:
        graph, extras, made = batch_graph(self.body, tuple(flags), size)
        return as_tuple(apply(replace(self, body=graph), *inputs, *extras)), made

    def pruned(self, live: Sequence[bool]) -> tuple[Op, Sequence[int], Sequence[int]] | None:
        outputs = [place for place, alive in enumerate(live) if alive]
        body = dce(replace(self.body, outputs=tuple(self.body.outputs[place] for place in outputs)))
        used = used_inputs(body)
        if all(live) and all(used):
            return None
        inputs = [place for place, need in enumerate(used) if need]
        return replace(self, body=replace(body, inputs=tuple(body.inputs[p] for p in inputs))), inputs, outputs


def pull_graph(
    body: Graph, cotangents: Sequence[Any], inputs: Sequence[Any], wanted: Sequence[bool] | None = None
) -> tuple[Any, ...]:
    """Per input of `body` its gradient, as one call; None where none is `wanted`, by default where it needs none."""
    wanted = [x.requires_grad for x in inputs] if wanted is None else wanted
    wrt = tuple(place for place, is_wanted in enumerate(wanted) if is_wanted)
    types = body.types(body.outputs)
    given = tuple(p for p, dy in enumerate(cotangents) if dy is not None and is_float(types[p].dtype))
    graph, extras = vjp_graph(body, wrt, given)
    found = as_tuple(apply(Call(graph), *inputs, *(cotangents[place] for place in given), *extras))
    gradients = dict(zip(wrt, found, strict=True))
    return tuple(gradients.get(place) for place in range(len(inputs)))


@operator
class Checkpoint(Call):
    """The results of a graph, computed again for its gradient."""

    name: ClassVar[str] = "checkpoint"

    def pull(self, cotangents: Sequence[Any], inputs: Sequence[Any], results: Sequence[Any]) -> Any:
        again = [apply(OPS["barrier"](), x) for x in inputs]  # which need no gradient where none is recorded
        return pull_graph(self.body, cotangents, again, [x.requires_grad for x in inputs])


@operator
class CustomVjp(Op):
    """The results of `primal`; with `saves` those of `forward`, which gives what `backward` needs behind them."""

    arguments: int
    saves: bool
    primal: Graph
    forward: Graph
    backward: Graph

    name: ClassVar[str] = "custom_vjp"
    bodies: ClassVar[tuple[str, ...]] = ("primal", "forward", "backward")
    spans: ClassVar[bool] = True

    @property
    def expansion(self) -> Graph:
        return self.forward if self.saves else self.primal

    def infer(self, *types: Type) -> tuple[Type, ...]:
        argument_types(self, self.expansion, types)
        return self.expansion.types(self.expansion.outputs)

    def placements(self) -> tuple[Placement, ...]:
        return output_places(self.expansion)

    def saving(self, flags: Sequence[bool]) -> Op:
        return replace(self, saves=True)

    def pull(self, cotangents: Sequence[Any], inputs: Sequence[Any], results: Sequence[Any]) -> Any:
        if any(x.requires_grad for x in inputs[self.arguments :]):
            raise GradError(
                "a custom_vjp function reads a tensor that requires a gradient, for which its backward gives none: "
                "pass it as an argument, or detach() it"
            )
        count = len(self.primal.outputs)
        dys = [zeros_like(y) if dy is None else dy for dy, y in zip(cotangents[:count], results[:count], strict=True)]
        found = as_tuple(apply(Call(self.backward), *results[count:], *dys, *inputs))
        gradients = [g if x.requires_grad else None for g, x in zip(found, inputs, strict=False)]
        if any(dy is not None for dy in cotangents[count:]):  # what was saved depends on the arguments as it was made
            more = pull_graph(self.forward, [*(None for _ in dys), *cotangents[count:]], inputs)
            pairs = zip(gradients, more, strict=False)
            gradients = [g if g is None or m is None else operands_add(g, m) for g, m in pairs]
        return (*gradients, *(None for _ in inputs[self.arguments :]))

    def mapped(self, inputs: Sequence[Any], flags: Sequence[bool], size: int) -> tuple[Any, Sequence[bool]] | None:
        graphs = []
        for graph in self.graphs:
            every = (True,) * len(graph.inputs), size, (True,) * len(graph.outputs)
            made, extras, _ = batch_graph(graph, *every)
            if extras:
                raise GradError("vmap of this custom_vjp needs constants: give them to it as arguments")
            graphs.append(made)
        given = [with_axis(x, flag, size) for x, flag in zip(inputs, flags, strict=True)]
        results = as_tuple(apply(CustomVjp(self.arguments, self.saves, *graphs), *given))
        return results, (True,) * len(results)


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f`, of which only the arguments are kept for the gradient: the backward pass computes the rest again.

    Results, gradients and random numbers are those of `f`.
    """

    @wraps(f)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        leaves, rebuild = flatten(replaced((arguments, options), (np.ndarray,), asarray))

        def called(*symbols: Tensor) -> Any:
            positional, named = rebuild(symbols)
            return f(*positional, **named)

        staged = stage(called, [symbolic(x) for x in leaves], "checkpoint")
        found = as_tuple(apply(Checkpoint(staged.graph), *leaves, *as_read(staged.captured, staged.assigned)))
        assign_all(staged.assigned, found[staged.count :])
        return staged.rebuild(found[: staged.count])

    return wrapped


@dataclass
class Custom:
    """What `custom_vjp` returns; `forward` and `backward` are set by `defvjp`."""

    f: Callable[..., Any]
    forward: Callable[..., Any] | None = None
    backward: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        update_wrapper(self, self.f, updated=())  # the attributes of a function that is an object are its own

    def defvjp(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> Custom:
        """forward(*arguments) → (result, saved); backward(saved, dy) → the gradient of each argument (None: none)."""
        self.forward, self.backward = forward, backward
        return self

    def __call__(self, *arguments: Any) -> Any:
        if self.forward is None or self.backward is None:
            raise GradError("a custom_vjp function without its rule: call f.defvjp(forward, backward) first")
        arguments = replaced(arguments, (np.ndarray,), asarray)
        leaves, rebuild = flatten(arguments)
        values = [symbolic(x) for x in leaves]
        primal = stage(lambda *symbols: self.f(*rebuild(symbols)), values, "custom_vjp")
        forward = stage(lambda *symbols: _pair(self.forward, rebuild(symbols)), values, "custom_vjp")
        if primal.assigned or forward.assigned:
            raise GradError("a custom_vjp function assigns to a tensor or draws random numbers: do it outside")
        graph, count = forward.graph, primal.count
        if graph.types(graph.outputs[:count]) != primal.graph.types(primal.graph.outputs):
            raise ShapeError("forward of a custom_vjp function gives a result of other types: return (result, saved)")
        saved = [graph.values[number] for number in graph.outputs[count:]]
        dys = [graph.values[number] for number in graph.outputs[:count]]

        def pull(*symbols: Tensor) -> list[Tensor]:
            _, kept = forward.rebuild([*symbols[len(saved) : len(saved) + count], *symbols[: len(saved)]])
            dy = primal.rebuild(symbols[len(saved) : len(saved) + count])
            return _gradients(self.backward, kept, dy, arguments, symbols[len(saved) + count :])

        backward = stage(pull, [*saved, *dys, *values], "custom_vjp")
        inputs = [*leaves, *primal.captured, *forward.captured, *backward.captured]
        op = CustomVjp(len(leaves), False, *_alike(len(leaves), len(saved) + count, primal, forward, backward, inputs))
        return primal.rebuild(as_tuple(apply(op, *inputs)))


def _pair(forward: Any, arguments: Any) -> Any:
    found = forward(*arguments)
    if not isinstance(found, tuple) or len(found) != 2:
        raise ShapeError(f"forward of a custom_vjp function returns (result, saved), not a {type(found).__name__}")
    return found


def _gradients(
    backward: Any, saved: Any, dy: Any, arguments: tuple[Any, ...], leaves: Sequence[Tensor]
) -> list[Tensor]:
    """The gradient of every tensor among the arguments, 0 where `backward` gives none."""
    found = backward(saved, dy)
    given = found if isinstance(found, tuple) else (found,)
    if len(given) != len(arguments):
        raise GradError(
            f"backward of a custom_vjp function gives {len(given)} gradients for {len(arguments)} arguments"
        )
    result, rest = list[Tensor](), list(leaves)
    for gradient, argument in zip(given, arguments, strict=True):
        count = len(flatten(argument)[0])
        mine, rest = rest[:count], rest[count:]
        parts = [zeros_like(x) for x in mine] if gradient is None else flatten(gradient)[0]
        if [part.shape for part in parts] != [x.shape for x in mine]:
            raise GradError(
                f"backward of a custom_vjp function gives gradients of shapes {[part.shape for part in parts]} "
                f"for an argument of {[x.shape for x in mine]}: they must be equal"
            )
        result.extend(parts)
    return result


def _alike(count: int, before: int, primal: Any, forward: Any, backward: Any, inputs: Sequence[Tensor]) -> list[Graph]:
    """The three graphs with the same inputs: all that any of them takes; those of `backward` follow what is pulled."""
    ends = [count + len(primal.captured), count + len(primal.captured) + len(forward.captured)]
    given = [symbolic(x) for x in inputs]
    pulled = [backward.graph.values[number] for number in backward.graph.inputs[:before]]
    return [
        stage(lambda *s: replay(primal.graph, s[: ends[0]]), given, "custom_vjp").graph,
        stage(lambda *s: replay(forward.graph, [*s[:count], *s[ends[0] : ends[1]]]), given, "custom_vjp").graph,
        stage(
            lambda *s: replay(backward.graph, [*s[: before + count], *s[before + ends[1] :]]),
            [*pulled, *given],
            "custom_vjp",
        ).graph,
    ]


def custom_vjp(f: Callable[..., Any]) -> Custom:
    """`f` with a gradient of its own: `f.defvjp(forward, backward)`; see `Custom.defvjp`.

    Forward mode follows from `backward`, which is linear in dy. `f` takes positional arguments, trees of tensors.
    """
    return Custom(f)
