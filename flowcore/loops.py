"""What the loops share: a carry whose type, placement and layout stay from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flowcore.dispatch import asarray, operands, to_global
from flowcore.errors import DTypeError, GraphError, PlacementError, ShapeError
from flowcore.graph import Graph, Value
from flowcore.placement.layout import Layout
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import NdSbp
from flowcore.region import Physical, Region, forced, moved_bytes, output_sbps, pinned
from flowcore.staging import Staged, as_read, replay, stage, symbolic
from flowcore.tensor import Tensor
from flowcore.trace import is_replica
from flowcore.tree import replaced

NUMBERS = (np.ndarray, np.generic, bool, int, float, complex)
ROUNDS = 4
"""So often a step is planned for the layout in which the step before gave the carry back."""


@dataclass(frozen=True)
class Loop(Region):
    """A region whose first inputs and results are carried: what one step gives, the next takes."""

    def fixed_point(
        self, body: Graph, carry: Sequence[Value], rest: Sequence[NdSbp], physical: Physical, times: int
    ) -> tuple[Graph, tuple[NdSbp, ...]]:
        """The planned body of a step, and the layouts of the carry, which it takes and gives alike."""
        count = len(carry)
        now = tuple(value.layout.sbp for value in carry)
        terms = _terms(body, count)
        if terms:  # a sum lies as what is added to it: terms of it are put together once, after the loop
            outputs = (terms.get(place, number) for place, number in enumerate(body.outputs))
            given = output_sbps(physical(pinned(replace(body, outputs=tuple(outputs)), [*now, *rest])))
            now = tuple(given[place] if place in terms else sbp for place, sbp in enumerate(now))
        met: list[tuple[NdSbp, ...]] = []
        while now not in met and len(met) < ROUNDS:
            planned = physical(pinned(body, [*now, *rest]))
            given = output_sbps(planned)[:count]
            if given == now:
                return planned, now
            met.append(now)
            now = given
        choices = [(physical(pinned(forced(body, sbps), [*sbps, *rest])), sbps) for sbps in dict.fromkeys([*met, now])]
        return min(choices, key=lambda choice: moved_bytes(choice[0]) * times)

    def same_carry(self, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> None:
        """GraphError where a step gives the carry in another layout than it takes it."""
        if list(inputs) != list(outputs):
            taken, given = (", ".join(map(str, side)) for side in (inputs, outputs))
            raise GraphError(f"a step of {self.name} takes its carry as {taken} and gives it as {given}")


def _terms(body: Graph, carries: int) -> dict[int, int]:
    """Which of the first outputs of `body` are the input of that place plus a value, and that value."""
    found = {}
    made = {number: node for node in body.nodes for number in node.outputs}
    for place, (taken, given) in enumerate(zip(body.inputs[:carries], body.outputs, strict=False)):
        node = made.get(given)
        reads = sum(node.inputs.count(taken) for node in body.nodes) + body.outputs.count(taken)
        if node is not None and node.op.name == "add" and taken in node.inputs and reads == 1:
            (other,) = (number for number in node.inputs if number != taken)
            if body.values[other].type == body.values[taken].type:
                found[place] = other
    return found


def as_tensors(tree: Any) -> Any:
    """`tree` with arrays and numbers as tensors."""
    return replaced(tree, NUMBERS, asarray)


def placed(carries: Sequence[Tensor], places: Sequence[Placement]) -> list[Tensor]:
    """The initial carries, replicas moved to where a step gives them."""
    return [
        to_global(x, place, "B")
        if x.placement != place and is_replica(x.value) and set(place.ranks) <= set(x.placement.ranks)
        else x
        for x, place in zip(carries, places, strict=False)
    ]


def same_form(what: str, before: Sequence[Value], after: Sequence[Value]) -> None:
    """DTypeError or PlacementError where a step would not give its carry as it takes it."""
    for place, (taken, given) in enumerate(zip(before, after, strict=True)):
        if taken.type != given.type:
            raise DTypeError(
                f"{what}: carry number {place} enters a step as {taken.type} and leaves it as {given.type}: "
                f"make the initial value as the step gives it, or cast and reshape in the step"
            )
        if taken.placement != given.placement:
            raise PlacementError(
                f"{what}: carry number {place} enters a step on {taken.placement} and leaves it on {given.placement}: "
                f"create the initial value there, or move it back with to_global(placement=…)"
            )


def with_state(staged: Staged, arguments: int, carries: int) -> tuple[Graph, list[Tensor], list[Tensor]]:
    """The graph of a step with what it assigns as further carries, these tensors, and the others it reads.

    The graph takes the first `carries` of its `arguments`, the state, the other arguments, the other tensors; it gives
    its first `carries` results, the state, the other results.
    """
    graph, places = staged.graph, [_place(staged, tensor) for tensor in staged.assigned]
    others = [place for place in range(len(staged.captured)) if place not in places]
    first, rest = graph.inputs[:carries], graph.inputs[carries:arguments]
    captured = graph.inputs[arguments:]
    inputs = (*first, *(captured[p] for p in places), *rest, *(captured[p] for p in others))
    outputs = (
        *graph.outputs[:carries], *graph.outputs[staged.count :], *graph.outputs[carries : staged.count]
    )  # fmt: skip
    return (
        replace(graph, inputs=inputs, outputs=outputs),
        as_read([staged.captured[place] for place in places], staged.assigned),
        [staged.captured[place] for place in others],
    )


def aligned(staged: Staged, arguments: int, tensors: Sequence[Tensor], assigned: Sequence[Tensor] = ()) -> Graph:
    """The graph of `staged` as one that takes its arguments and all of `tensors`, and gives `assigned` at the end."""
    place = {id(tensor): arguments + number for number, tensor in enumerate(tensors)}
    values = [staged.graph.values[number] for number in staged.graph.inputs[:arguments]]

    def called(*symbols: Tensor) -> list[Tensor]:
        found = replay(staged.graph, [*symbols[:arguments], *(symbols[place[id(x)]] for x in staged.captured)])
        new = {id(x): value for x, value in zip(staged.assigned, found[staged.count :], strict=True)}
        return [*found[: staged.count], *(new.get(id(x), symbols[place[id(x)]]) for x in assigned)]

    return stage(called, [*values, *map(symbolic, tensors)], "a branch").graph


def distinct(*groups: Sequence[Tensor]) -> list[Tensor]:
    """Every tensor of the groups, once."""
    return list({id(tensor): tensor for group in groups for tensor in group}.values())


def condition(predicate: Any, what: str) -> Tensor:
    """`predicate` as a boolean tensor without dimensions."""
    (found,) = operands(predicate)
    if found.shape != () or found.dtype.kind != "b":
        raise ShapeError(f"{what} is {found.value.type}: it is one boolean; use any, all, or a comparison")
    return found


def _place(staged: Staged, tensor: Tensor) -> int:
    return next(place for place, other in enumerate(staged.captured) if other is tensor)
