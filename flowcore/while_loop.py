"""`while_loop`: a loop that ends when a value says so.

How many steps there are is not known before, so what reverse mode needs of them cannot be kept: it is an error. Forward
mode carries the derivative along. Since forward mode is the transpose of reverse mode (`derivatives`), the gradient is
an operator whose own transpose is that loop, and which cannot run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from flowcore.batching import batch_graph, with_axis
from flowcore.cond import select
from flowcore.derivatives import jvp
from flowcore.dispatch import apply
from flowcore.dtypes import is_float
from flowcore.errors import GradError, ShapeError, TraceError
from flowcore.grad import zeros_like
from flowcore.graph import Graph, Value
from flowcore.loops import Loop, aligned, as_tensors, condition, distinct, placed, same_form
from flowcore.op import FUNCTIONS, Type, as_tuple, operator
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
    output_places,
    pinned,
)
from flowcore.staging import as_read, assign_all, replay, stage, symbolic
from flowcore.tensor import Tensor
from flowcore.tree import flatten, structure

__all__ = ["while_loop"]


@operator
class WhileLoop(Loop):
    """The last carry, where while test(carry, constants): carry = body(carry, constants); the first are `carries`."""

    carries: int
    test: Graph
    body: Graph

    name: ClassVar[str] = "while_loop"
    bodies: ClassVar[tuple[str, ...]] = ("test", "body")

    def infer(self, *types: Type) -> tuple[Type, ...]:
        argument_types(self, self.test, types)
        argument_types(self, self.body, types)
        return self.body.types(self.body.outputs)

    def placements(self) -> tuple[Placement, ...]:
        return output_places(self.body)

    @property
    def trips(self) -> tuple[tuple[int, str], ...]:
        return ((1, "in each test of while_loop"), (1, "in each step of while_loop"))

    def settled(self, given: Sequence[Value], physical: Physical) -> Settled:
        (decides,) = output_places(self.test)
        everyone_knows("while_loop", decides, self.graphs)
        rest = [value.layout.sbp for value in given[self.carries :]]
        body, carry = self.fixed_point(self.body, given[: self.carries], rest, physical, 1)
        known = [(B,) * decides.ndim]
        test = physical(pinned(forced(self.test, known), [*carry, *rest]))
        return Settled(WhileLoop(self.carries, test, body), (*carry, *rest), carry)

    def interface(self) -> tuple[list[Layout], list[Layout]]:
        inputs, outputs = layouts_of(self.body, self.body.inputs), layouts_of(self.body, self.body.outputs)
        self.same_carry(inputs[: self.carries], outputs)
        self.same_carry(layouts_of(self.test, self.test.inputs), inputs)
        return inputs, outputs

    def run(self, runners: Sequence[Runner], blocks: Sequence[Block], shapes: Sequence[Shape | None]) -> list[Block]:
        carry, constants = list(blocks[: self.carries]), blocks[self.carries :]
        while runners[0]([*carry, *constants])[0]:
            carry = runners[1]([*carry, *constants])
        return carry

    def mapped(self, inputs: Sequence[Any], flags: Sequence[bool], size: int) -> tuple[Any, Sequence[bool]]:
        n, carry = self.carries, list(flags[: self.carries])
        while True:
            every = (*carry, *flags[n:])
            differs, gets = batch_graph(self.test, every, size)[2][0], batch_graph(self.body, every, size)[2]
            new = [have or get or differs for have, get in zip(carry, gets, strict=True)]
            if new == carry:
                break
            carry = new
        test, more, _ = batch_graph(self.test, every, size)
        body, extras, _ = batch_graph(self.body, every, size, tuple(carry))
        given = [
            with_axis(x, has, size) if wants else x for x, has, wants in zip(inputs[:n], flags, carry, strict=False)
        ]
        arguments = [*given, *inputs[n:], *more, *extras]
        end, last = len(inputs), len(inputs) + len(more)

        def tested(*symbols: Tensor) -> list[Tensor]:
            found = replay(test, symbols[:last])
            return [FUNCTIONS["any"](found[0])] if differs else found

        def stepped(*symbols: Tensor) -> list[Tensor]:
            found = replay(body, [*symbols[:end], *symbols[last:]])
            if not differs:
                return found
            (goes_on,) = replay(test, symbols[:last])
            return [select(goes_on, new, old) for new, old in zip(found, symbols, strict=False)]

        values = [symbolic(x) for x in arguments]
        graphs = (stage(f, values, "vmap").graph for f in (tested, stepped))
        return as_tuple(apply(WhileLoop(n, *graphs), *arguments)), carry

    def pull(self, cotangents: Sequence[Any], inputs: Sequence[Any], results: Sequence[Any]) -> Any:
        wrt = tuple(place for place, x in enumerate(inputs) if x.requires_grad)
        given = tuple(p for p, dy in enumerate(cotangents) if dy is not None and is_float(dy.dtype))
        op = WhileTransposed(self.carries, wrt, given, self.test, self.body)
        found = as_tuple(apply(op, *inputs, *(cotangents[place] for place in given)))
        gradients = dict(zip(wrt, found, strict=True))
        return tuple(gradients.get(place) for place in range(len(inputs)))


REVERSED = (
    "reverse mode through while_loop would have to keep every step, of which there may be any number: "
    "use fc.scan with a fixed length, or forward mode (fc.jvp, fc.jacobian with mode='forward')"
)


@operator
class WhileTransposed(Region):
    """What reverse mode makes of `while_loop`: from its inputs and gradients of its results `given`, those of `wrt`."""

    carries: int
    wrt: tuple[int, ...]
    given: tuple[int, ...]
    test: Graph
    body: Graph

    name: ClassVar[str] = "while_transposed"
    bodies: ClassVar[tuple[str, ...]] = ("test", "body")

    def infer(self, *types: Type) -> tuple[Type, ...]:
        return tuple(types[place] for place in self.wrt)

    def placements(self) -> tuple[Placement, ...]:
        known = [self.body.values[number].placement for number in self.body.inputs]
        return tuple(known[place] if place < len(known) else known[0] for place in self.wrt)

    def settled(self, given: Sequence[Value], physical: Physical) -> Settled:
        raise GradError(REVERSED)

    def mapped(self, inputs: Sequence[Any], flags: Sequence[bool], size: int) -> tuple[Any, Sequence[bool]] | None:
        raise GradError(REVERSED)

    def pull(self, cotangents: Sequence[Any], inputs: Sequence[Any], results: Sequence[Any]) -> Any:
        """The loop of rates for the gradients it was given; of its other inputs nobody may need a gradient.

        These are stood for by an operator that, like this one, is an error unless it is found to be of no use.
        """
        n, count = self.carries, len(self.body.inputs)
        own = inputs[:count] if self.given else inputs
        refused = tuple(place for place, x in enumerate(own) if x.requires_grad)
        second: dict[int, Any] = {}
        if refused:
            turned = [dy for dy in cotangents if dy is not None]
            op = replace(self, wrt=refused, given=())
            second = dict(zip(refused, as_tuple(apply(op, *inputs, *turned)), strict=True))
        if not self.given:
            return tuple(second.get(place) for place in range(len(inputs)))
        along = dict(zip(self.wrt, cotangents, strict=True))
        floats = [place for place, x in enumerate(inputs[:count]) if is_float(x.dtype)]
        moving = [place for place in floats if place < n or along.get(place) is not None]
        carried, fixed = [p for p in moving if p < n], [p for p in moving if p >= n]

        def arrange(symbols: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
            """The inputs of a step, and the rates of those in `moving`."""
            carry, rates, rest = symbols[:n], symbols[n : n + len(carried)], symbols[n + len(carried) :]
            return [*carry, *rest[: count - n]], [*rates, *rest[count - n :]]

        def tested(*symbols: Tensor) -> list[Tensor]:
            return replay(self.test, arrange(symbols)[0])

        def stepped(*symbols: Tensor) -> list[Tensor]:
            given, rates = arrange(symbols)

            def step(*free: Tensor) -> list[Tensor]:
                known = dict(zip(moving, free, strict=True))
                return replay(self.body, [known.get(place, x) for place, x in enumerate(given)])

            found, turned = jvp(step, [given[place] for place in moving], rates)
            return [*found, *(turned[place] for place in carried)]

        def rate(place: int) -> Tensor:
            found = along.get(place)
            return zeros_like(inputs[place]) if found is None else found

        start = [*inputs[:n], *map(rate, carried)]
        arguments = [*start, *inputs[n:count], *map(rate, fixed)]
        values = [symbolic(x) for x in arguments]
        graphs = (stage(f, values, "jvp").graph for f in (tested, stepped))
        found = as_tuple(apply(WhileLoop(len(start), *graphs), *arguments))
        rates = dict(zip(carried, found[n:], strict=True))
        return (*(second.get(place) for place in range(count)), *(rates[place] for place in self.given))


def while_loop(test: Callable[[Any], Any], body: Callable[[Any], Any], init: Any) -> Any:
    """carry = init; while test(carry): carry = body(carry). The last carry, a tree of tensors that keeps its types.

    test gives a boolean tensor without dimensions. Differentiable in forward mode; in reverse mode it is a GradError.
    Under `vmap` it runs until the last example has ended, and the others stay as they are.
    """
    leaves, rebuild = flatten(as_tensors(init))
    form = structure(rebuild(leaves))

    def step(*symbols: Tensor) -> Any:
        carry = as_tensors(body(rebuild(symbols)))
        if structure(carry) != form:
            raise ShapeError(
                f"while_loop carries the tree {form}, but a step gives {structure(carry)}: return one alike"
            )
        return carry

    values = [symbolic(x) for x in leaves]
    stepped = stage(step, values, "while_loop")
    leaves = placed(leaves, output_places(stepped.graph))
    if [x.placement for x in leaves] != [value.placement for value in values]:
        return while_loop(test, body, rebuild(leaves))
    same_form("while_loop", values, [stepped.graph.values[n] for n in stepped.graph.outputs[: len(leaves)]])
    tested = stage(lambda *s: condition(test(rebuild(s)), "the test of while_loop"), values, "while_loop")
    if tested.assigned:
        raise TraceError("the test of while_loop assigns to a tensor or draws random numbers: do it in the body")
    state = list(stepped.assigned)
    others = [x for x in distinct(stepped.captured, tested.captured) if all(x is not s for s in state)]
    read = [*state, *others]
    graphs = (aligned(tested, len(leaves), read), aligned(stepped, len(leaves), read, state))
    op = WhileLoop(len(leaves) + len(state), *graphs)
    found = as_tuple(apply(op, *leaves, *as_read(read, state)))
    assign_all(state, found[len(leaves) :])
    return stepped.rebuild(found[: len(leaves)])
