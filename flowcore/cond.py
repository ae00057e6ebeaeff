"""`cond`: one of two functions, chosen by a value when it runs.

Every rank that takes part knows the value (it is read replicated), so that all take the same branch. Both branches give
their results in the same layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from flowcore.batching import batch_graph
from flowcore.calls import Call
from flowcore.dispatch import apply, asarray
from flowcore.dtypes import is_float
from flowcore.errors import GraphError, ShapeError
from flowcore.grad import vjp_graph
from flowcore.graph import Graph, Value
from flowcore.loops import aligned, condition, distinct
from flowcore.op import FUNCTIONS, Op, Type, as_tuple, operator
from flowcore.passes.dce import dce
from flowcore.placement.layout import Layout, Shape
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import B
from flowcore.region import (
    Block,
    Physical,
    Region,
    Runner,
    Settled,
    argument_types,
    everyone_knows,
    forced,
    layouts_of,
    moved_bytes,
    output_places,
    output_sbps,
    pinned,
    used_inputs,
    with_unused,
)
from flowcore.staging import as_read, assign_all, stage, symbolic
from flowcore.tensor import Tensor
from flowcore.tree import flatten, replaced, structure

__all__ = ["cond"]


@operator
class Cond(Region):
    """The results of `then` on the inputs behind the first, a boolean; of `other` where it is False."""

    then: Graph
    other: Graph

    name: ClassVar[str] = "cond"
    bodies: ClassVar[tuple[str, ...]] = ("then", "other")

    def infer(self, predicate: Type, *types: Type) -> tuple[Type, ...]:
        argument_types(self, self.then, types)
        argument_types(self, self.other, types)
        return self.then.types(self.then.outputs)

    def placements(self) -> tuple[Placement, ...]:
        return output_places(self.then)

    # running

    @property
    def trips(self) -> tuple[tuple[int, str], ...]:
        return ((1, "where cond takes this branch"),) * 2

    def settled(self, given: Sequence[Value], physical: Physical) -> Settled:
        everyone_knows("cond", given[0].placement, self.graphs)
        sbps = [value.layout.sbp for value in given[1:]]
        first, second = (physical(pinned(body, sbps)) for body in self.graphs)
        if output_sbps(first) != output_sbps(second):
            tries = (output_sbps(first), output_sbps(second))
            pairs = [[physical(pinned(forced(body, out), sbps)) for body in self.graphs] for out in tries]
            first, second = min(pairs, key=lambda pair: sum(map(moved_bytes, pair)))
        reads = ((B,) * given[0].placement.ndim, *sbps)
        return Settled(Cond(first, second), reads, output_sbps(first))

    def verify(self, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> None:
        for body in self.graphs:
            if layouts_of(body, body.inputs) != list(inputs[1:]) or layouts_of(body, body.outputs) != list(outputs):
                raise GraphError("a branch of cond is planned for other layouts than cond has")
        if not inputs[0].is_broadcast:
            raise GraphError(f"cond reads its condition as {inputs[0]}: every rank must know it")

    def run(self, runners: Sequence[Runner], blocks: Sequence[Block], shapes: Sequence[Shape | None]) -> list[Block]:
        return runners[0 if blocks[0] else 1](blocks[1:])

    # transforms

    def pull(self, cotangents: Sequence[Any], inputs: Sequence[Any], results: Sequence[Any]) -> Any:
        wrt = tuple(place - 1 for place, x in enumerate(inputs) if place and x.requires_grad)
        given = tuple(p for p, dy in enumerate(cotangents) if dy is not None and is_float(dy.dtype))
        (then, more), (other, extras) = (vjp_graph(body, wrt, given) for body in self.graphs)
        dys = [cotangents[place] for place in given]
        found = _joined(then, other, more, extras, inputs[0], [*inputs[1:], *dys])
        gradients = dict(zip(wrt, found, strict=True))
        return (None, *(gradients.get(place) for place in range(len(inputs) - 1)))

    def mapped(self, inputs: Sequence[Any], flags: Sequence[bool], size: int) -> tuple[Any, Sequence[bool]]:
        kinds = [batch_graph(body, tuple(flags[1:]), size)[2] for body in self.graphs]
        wanted = tuple(flags[0] or one or two for one, two in zip(*kinds, strict=True))
        (then, more, _), (other, extras, _) = (
            batch_graph(body, tuple(flags[1:]), size, wanted) for body in self.graphs
        )
        if not flags[0]:
            return _joined(then, other, more, extras, inputs[0], inputs[1:]), wanted
        taken = as_tuple(apply(Call(then), *inputs[1:], *more))
        left = as_tuple(apply(Call(other), *inputs[1:], *extras))
        return tuple(select(inputs[0], a, b) for a, b in zip(taken, left, strict=True)), wanted

    def pruned(self, live: Sequence[bool]) -> tuple[Op, Sequence[int], Sequence[int]] | None:
        outputs = [place for place, alive in enumerate(live) if alive]
        bodies = [dce(replace(body, outputs=tuple(body.outputs[p] for p in outputs))) for body in self.graphs]
        used = [one or two for one, two in zip(*map(used_inputs, bodies), strict=True)]
        if all(live) and all(used):
            return None
        kept = [place for place, need in enumerate(used) if need]
        then, other = (replace(body, inputs=tuple(body.inputs[p] for p in kept)) for body in bodies)
        return Cond(then, other), [0, *(place + 1 for place in kept)], outputs


def select(flags: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a[i] where flags[i], b[i] elsewhere: (n,), (n, …), (n, …) → (n, …)."""
    aligned_flags = flags.reshape((*flags.shape, *(1,) * (a.ndim - 1)))
    return FUNCTIONS["where"](aligned_flags, a, b)  # type: ignore[no-any-return]


def _joined(
    then: Graph, other: Graph, more: Sequence[Tensor], extras: Sequence[Tensor], predicate: Any, inputs: Sequence[Any]
) -> tuple[Tensor, ...]:
    """The cond of two graphs that take `inputs`, and behind them each its own constants."""
    end = len(inputs)
    then = with_unused(then, end + len(more), [symbolic(x) for x in extras])
    other = with_unused(other, end, [symbolic(x) for x in more])
    return as_tuple(apply(Cond(then, other), predicate, *inputs, *more, *extras))


def cond(predicate: Any, then: Callable[..., Any], other: Callable[..., Any], *arguments: Any) -> Any:
    """then(*arguments) where `predicate`, a boolean tensor without dimensions, is True; other(*arguments) elsewhere.

    The results are trees of tensors of equal types. A Python bool chooses at once. Differentiable in every mode; under
    `vmap` with a predicate that differs between examples both are computed, and selected from.
    """
    arguments = replaced(arguments, (np.ndarray,), asarray)
    if isinstance(predicate, bool):
        return (then if predicate else other)(*arguments)
    decides = condition(predicate, "the predicate of cond")
    leaves, rebuild = flatten(arguments)
    values = [symbolic(x) for x in leaves]
    branches = [stage(lambda *s, f=f: f(*rebuild(s)), values, "cond") for f in (then, other)]
    forms, types = [], []
    for branch in branches:
        outputs = [branch.graph.values[number] for number in branch.graph.outputs[: branch.count]]
        forms.append(structure(branch.rebuild([Tensor(value, None) for value in outputs])))
        types.append([(value.type, value.placement) for value in outputs])
    if forms[0] != forms[1] or types[0] != types[1]:
        shown = " and ".join(", ".join(f"{type} on {place}" for type, place in one) or "nothing" for one in types)
        raise ShapeError(f"the branches of cond give {shown} in trees {forms[0]} and {forms[1]}: they must be alike")
    read, assigned = (distinct(*(getattr(b, name) for b in branches)) for name in ("captured", "assigned"))
    graphs = [aligned(branch, len(leaves), read, assigned) for branch in branches]
    found = as_tuple(apply(Cond(*graphs), decides, *leaves, *as_read(read, assigned)))
    count = branches[0].count
    assign_all(assigned, found[count:])
    return branches[0].rebuild(found[:count])
