"""`scan`: a loop of known length over the leading axis, that carries values from step to step.

The carry keeps one layout. It begins as the initial values lie; as long as a step gives it back in another, the step is
planned anew for that one, until it stays. Where it does not stay within a few rounds, of the layouts that were met the
one that moves the fewest bytes is kept, by moving the carry at the end of every step.

Reverse mode runs the scan backwards: its carry is the gradient of the carry, and of what the step reads from outside,
summed; the carries of the forward pass that it needs are given out by that pass, stacked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from flowcore.batching import batch_graph, with_axis
from flowcore.dispatch import apply
from flowcore.dtypes import is_float
from flowcore.errors import ShapeError
from flowcore.grad import operands_add, vjp_graph, zeros_like
from flowcore.graph import Graph
from flowcore.loops import Loop, as_tensors, placed, same_form, with_state
from flowcore.op import Op, Type, as_tuple, operator
from flowcore.ops.axes import whole_number
from flowcore.ops.shape import permute_dims
from flowcore.passes.dce import dce
from flowcore.placement.layout import Layout, Shape
from flowcore.placement.mesh import Placement
from flowcore.region import (
    Block,
    Physical,
    Runner,
    Settled,
    argument_types,
    layouts_of,
    output_places,
    output_sbps,
    shifted,
    used_inputs,
)
from flowcore.staging import Staged, assign_all, replay, stage, symbolic
from flowcore.tensor import Tensor
from flowcore.tree import Rebuild, flatten, structure

__all__ = ["scan"]


@operator
class Scan(Loop):
    """(carry_n, ys) with carry_t+1, y_t = body(carry_t, x_t, constants), t from 0, or from n - 1 down if `reverse`.

    Inputs are `carries` carries, `slices` tensors x of length n along axis 0, and constants; x_t is x[t], y_t is
    ys[t]. The last results are the stacked carries number `saved`.
    """

    carries: int
    slices: int
    length: int
    reverse: bool
    saved: tuple[int, ...]
    body: Graph

    name: ClassVar[str] = "scan"
    bodies: ClassVar[tuple[str, ...]] = ("body",)

    def infer(self, *types: Type) -> tuple[Type, ...]:
        end = self.carries + self.slices
        each = [Type(type.shape[1:], type.dtype) for type in types[self.carries : end]]
        argument_types(self, self.body, [*types[: self.carries], *each, *types[end:]])
        results = self.body.types(self.body.outputs)
        stacked = (Type((self.length, *type.shape), type.dtype) for type in results[self.carries :])
        return (*results[: self.carries], *stacked)

    def placements(self) -> tuple[Placement, ...]:
        return output_places(self.body)

    # running

    @property
    def trips(self) -> tuple[tuple[int, str], ...]:
        return ((self.length, f"in each of {self.length} steps of scan"),)

    def settled(self, given: Sequence[Any], physical: Physical) -> Settled:
        sbps = [value.layout.sbp for value in given]
        end = self.carries + self.slices
        rest = [*(shifted(sbp, -1) for sbp in sbps[self.carries : end]), *sbps[end:]]
        body, carry = self.fixed_point(self.body, given[: self.carries], rest, physical, self.length)
        slices = [shifted(sbp, 1) for sbp in rest[: self.slices]]
        results = (*carry, *(shifted(sbp, 1) for sbp in output_sbps(body)[self.carries :]))
        return Settled(replace(self, body=body), (*carry, *slices, *rest[self.slices :]), results)

    def interface(self) -> tuple[list[Layout], list[Layout]]:
        inputs, outputs = layouts_of(self.body, self.body.inputs), layouts_of(self.body, self.body.outputs)
        end = self.carries + self.slices
        inputs[self.carries : end] = [_stacked(layout) for layout in inputs[self.carries : end]]
        self.same_carry(inputs[: self.carries], outputs[: self.carries])
        return inputs, [*outputs[: self.carries], *map(_stacked, outputs[self.carries :])]

    def run(self, runners: Sequence[Runner], blocks: Sequence[Block], shapes: Sequence[Shape | None]) -> list[Block]:
        end = self.carries + self.slices
        carry, slices, constants = list(blocks[: self.carries]), blocks[self.carries : end], blocks[end:]
        types = self.body.types(self.body.outputs)[self.carries :]
        stacks = [
            None if shape is None else np.empty(shape, type.dtype)
            for shape, type in zip(shapes[self.carries :], types, strict=True)
        ]
        for step in range(self.length - 1, -1, -1) if self.reverse else range(self.length):
            given = [None if block is None else block[step, ...] for block in slices]
            found = runners[0]([*carry, *given, *constants])
            carry = found[: self.carries]
            for stack, block in zip(stacks, found[self.carries :], strict=True):
                if stack is not None:
                    stack[step] = block
        return [*carry, *stacks]

    # transforms

    def mapped(self, inputs: Sequence[Any], flags: Sequence[bool], size: int) -> tuple[Any, Sequence[bool]]:
        end = self.carries + self.slices
        carry = list(flags[: self.carries])
        while True:
            graph, extras, made = batch_graph(self.body, (*carry, *flags[self.carries :]), size)
            if all(have or not gets for have, gets in zip(carry, made, strict=False)):
                break
            carry = [have or gets for have, gets in zip(carry, made, strict=False)]
        wanted = (*carry, *(False for _ in made[self.carries :]))
        graph, extras, made = batch_graph(self.body, (*carry, *flags[self.carries :]), size, wanted)
        given = [
            with_axis(x, has, size) if wants else x
            for x, has, wants in zip(inputs[: self.carries], flags, carry, strict=False)
        ]
        along = zip(inputs[self.carries : end], flags[self.carries : end], strict=True)
        slices = [swap(x) if flag else x for x, flag in along]
        results = as_tuple(apply(replace(self, body=graph), *given, *slices, *inputs[end:], *extras))
        n = self.carries
        stacked = [swap(y) if flag else y for y, flag in zip(results[n:], made[n:], strict=True)]
        return (*results[:n], *stacked), made

    def pruned(self, live: Sequence[bool]) -> tuple[Op, Sequence[int], Sequence[int]] | None:
        kept = list(live[: self.carries])
        while True:  # a carry is alive where a live result of some step needs it
            outputs = [place for place, alive in enumerate([*kept, *live[self.carries :]]) if alive]
            body = dce(replace(self.body, outputs=tuple(self.body.outputs[place] for place in outputs)))
            used = used_inputs(body)
            if all(have or not need for have, need in zip(kept, used, strict=False)):
                break
            kept = [have or need for have, need in zip(kept, used, strict=False)]
        inputs = [place for place, need in enumerate([*kept, *used[self.carries :]]) if need]
        if len(inputs) == len(used) and len(outputs) == len(live):
            return None
        body = replace(body, inputs=tuple(body.inputs[place] for place in inputs))
        first = len(live) - len(self.saved)
        number = {old: new for new, old in enumerate(place for place, have in enumerate(kept) if have)}
        saved = tuple(number[old] for place, old in enumerate(self.saved) if live[first + place])
        slices = sum(self.carries <= place < self.carries + self.slices for place in inputs)
        return replace(self, carries=sum(kept), slices=slices, saved=saved, body=body), inputs, outputs

    def saving(self, flags: Sequence[bool]) -> Op:
        given = self.floats(self.body.outputs)
        graph, _ = vjp_graph(self.body, self.wrt(flags), given)
        needed = [place for place in range(self.carries) if used_inputs(graph)[place] and place not in self.saved]
        outputs = (*self.body.outputs, *(self.body.inputs[place] for place in needed))
        return replace(self, saved=(*self.saved, *needed), body=replace(self.body, outputs=outputs)) if needed else self

    def wrt(self, flags: Sequence[bool]) -> tuple[int, ...]:
        """The inputs of the body with respect to which a step is differentiated: carries, and what is flagged."""
        places = self.floats(self.body.inputs)
        return tuple(place for place in places if place < self.carries or flags[place])

    def floats(self, numbers: Sequence[int]) -> tuple[int, ...]:
        """Which of these values of the body have a gradient."""
        return tuple(place for place, type in enumerate(self.body.types(numbers)) if is_float(type.dtype))

    def pull(self, cotangents: Sequence[Any], inputs: Sequence[Any], results: Sequence[Any]) -> Any:
        n, end = self.carries, self.carries + self.slices
        wrt = self.wrt([tensor.requires_grad for tensor in inputs])
        given = tuple(p for p in self.floats(self.body.outputs) if p < n or cotangents[p] is not None)
        graph, extras = vjp_graph(self.body, wrt, given)
        carried, slopes = [p for p in given if p < n], [p for p in given if p >= n]
        summed = [p for p in wrt if p >= end]

        def step(*symbols: Tensor) -> list[Tensor]:
            parts = iter(symbols)
            counts = (carried, summed, self.saved, inputs[n:end], slopes, inputs[end:], extras)
            carry, totals, saved, slices, slope, constants, more = (list(islice(parts, len(c))) for c in counts)
            entering = dict(zip(self.saved, saved, strict=True))
            # a carry that was not saved is one that the graph does not read
            taken: list[Any] = [*map(entering.get, range(n)), *slices, *constants, *carry, *slope, *more]
            found = dict(zip(wrt, replay(graph, taken), strict=True))
            sums = [operands_add(total, found[p]) for total, p in zip(totals, summed, strict=True)]
            return [*(found[p] for p in carried), *sums, *(found[p] for p in wrt if n <= p < end)]

        stacked = results[len(results) - len(self.saved) :]
        start = [zeros_like(results[p]) if cotangents[p] is None else cotangents[p] for p in carried]
        start += [zeros_like(inputs[p]) for p in summed]
        slices = [*stacked, *inputs[n:end], *(cotangents[p] for p in slopes)]
        constants = [*inputs[end:], *extras]
        values = [*map(symbolic, start), *(symbolic(x, x.shape[1:]) for x in slices), *map(symbolic, constants)]
        staged = stage(step, values, "the gradient of scan")
        op = Scan(len(start), len(slices), self.length, not self.reverse, (), staged.graph)
        found = as_tuple(apply(op, *start, *slices, *constants, *staged.captured))
        order = [*carried, *summed, *(p for p in wrt if n <= p < end)]
        gradients = dict(zip(order, found, strict=True))
        return tuple(gradients.get(place) for place in range(len(inputs)))


def _stacked(layout: Layout) -> Layout:
    return Layout(layout.placement, shifted(layout.sbp, 1))


def swap(x: Tensor) -> Tensor:
    """The first two dimensions swapped."""
    return permute_dims(x, (1, 0, *range(2, x.ndim)))


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any = None, length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """(the last carry, ys), where step t is (carry, ys[t]) = f(carry, xs[t]), from carry = init.

    init, xs, carries and ys are trees of tensors; xs and ys are stacked along axis 0. xs may be None with a `length`:
    f is then given None. reverse: from the last step to the first. The carry keeps its types.
    """
    init, xs = as_tensors(init), as_tensors(xs)
    (carries, build_carry), (slices, build_slice) = flatten(init), flatten(xs)
    steps = _steps(slices, length)
    staged, carries = _staged(f, carries, build_carry, slices, build_slice)
    graph, state, others = with_state(staged, len(carries) + len(slices), len(carries))
    op = Scan(len(carries) + len(state), len(slices), steps, reverse, (), graph)
    found = as_tuple(apply(op, *carries, *state, *slices, *others))
    last, now, ys = found[: len(carries)], found[len(carries) :][: len(state)], found[len(carries) + len(state) :]
    assign_all(staged.assigned, now)
    result: tuple[Any, Any] = staged.rebuild([*last, *ys])
    return result


def _staged(
    f: Callable[[Any, Any], tuple[Any, Any]], carries: list[Tensor], build_carry: Rebuild,
    slices: list[Tensor], build_slice: Rebuild,
) -> tuple[Staged, list[Tensor]]:  # fmt: skip
    """A step, and the initial carry where the step gives it."""
    form = structure(build_carry(carries))

    def step(*symbols: Tensor) -> tuple[Any, Any]:
        given = f(build_carry(symbols[: len(carries)]), build_slice(symbols[len(carries) :]))
        if not isinstance(given, tuple) or len(given) != 2:
            raise ShapeError(f"the step of scan returns (carry, y), not a {type(given).__name__}: y may be None")
        carry, y = as_tensors(given[0]), as_tensors(given[1])
        if structure(carry) != form:
            raise ShapeError(f"scan carries the tree {form}, but the step returns {structure(carry)}: return one alike")
        return carry, y

    values = [*map(symbolic, carries), *(symbolic(x, x.shape[1:]) for x in slices)]
    staged = stage(step, values, "scan")
    there = placed(carries, output_places(staged.graph))
    if any(new is not old for new, old in zip(there, carries, strict=True)):
        return _staged(f, there, build_carry, slices, build_slice)
    after = [staged.graph.values[number] for number in staged.graph.outputs[: len(carries)]]
    same_form("scan", values[: len(carries)], after)
    return staged, carries


def _steps(slices: Sequence[Tensor], length: int | None) -> int:
    given = set() if length is None else {whole_number(length, "scan with length")}
    lengths = {x.shape[0] if x.ndim else None for x in slices} | given
    if not lengths:
        raise ShapeError("scan without xs: give a length")
    if len(lengths) > 1 or None in lengths:
        shown = ", ".join(str(x.shape) for x in slices)
        raise ShapeError(f"scan over {shown} with length {length}: they must have one length along axis 0")
    (steps,) = lengths
    assert steps is not None
    return steps
