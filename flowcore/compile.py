"""Compiles a function on tensors: traced once per kind of arguments, planned whole, then run as one graph.

The parameters, optimizer state and gradients that the function reads and writes are lifted into the graph, so that
forward, backward and update are planned together. A compiled call looks its program up by the form of its arguments
and by what the trace took for granted (guards), runs it, and stores what the function assigned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, update_wrapper
from numbers import Integral
from typing import Any, Generic, ParamSpec, TypeVar, overload
from weakref import WeakKeyDictionary

import numpy as np

from flowcore.agreed import bound
from flowcore.boxing_op import Carry
from flowcore.called import call_text, numbered, traceable
from flowcore.calls import Call
from flowcore.comm.transport import Opens
from flowcore.compression import Compression, as_compression
from flowcore.dispatch import asarray, record
from flowcore.errors import DTypeError, PlanError
from flowcore.garbage import none_searched
from flowcore.graph import Graph, Value
from flowcore.mixed import Precision, as_precision
from flowcore.op import Array
from flowcore.ownership import held_by_others
from flowcore.passes.donate import Update
from flowcore.passes.precision import lowered
from flowcore.pipeline import Program, physical
from flowcore.placement.layout import Layout
from flowcore.planned import Plan
from flowcore.staging import as_read
from flowcore.tensor import Tensor
from flowcore.trace import Guard, Read, Trace, Write
from flowcore.treatment import Treatment
from flowcore.tree import Rebuild, flatten, opened, replaced
from flowcore.untraced import relay
from flowcore.world import World, current, user_line

P = ParamSpec("P")
R = TypeVar("R")
PLANS = DEFAULT_PLAN, _ = "greedy", "strict"
ASKED = "asked for", "compress="
"""How the reasons begin of transfers that the user asked for."""


@dataclass(frozen=True)
class Compiled:
    """One traced and planned variant of a function."""

    guards: tuple[Guard, ...]
    without_grad: tuple[Tensor, ...]
    """What had no gradient when traced."""
    logical: Graph
    plan: Plan
    program: Program
    lifted: tuple[Read, ...]
    writes: tuple[Write, ...]
    rebuild: Rebuild
    results: int
    free: tuple[tuple[Tensor, Value, Layout], ...]
    """Tensors whose layout the plan has chosen, how, and how they lay before."""
    is_differentiable: bool
    """Whether a result depends on a tensor that requires a gradient, which the function does not itself use up.

    A function that calls backward, or assigns to such a tensor, has done the differentiating.
    """

    @property
    def assigned(self) -> list[Tensor]:
        """The tensors whose values or gradients the function replaces."""
        return [write.tensor for write in self.writes]

    @cached_property
    def call(self) -> Call:
        """The function as one operator."""
        return Call(replace(self.logical, outputs=self.logical.outputs[: self.results]))

    def read(self) -> list[Tensor] | None:
        """The tensors it reads besides its arguments; None where what the trace took for granted no longer holds."""
        found = []
        for read in self.lifted:
            now = read.tensor._grad if read.is_grad else read.tensor
            if now is None or now._requires_grad is not read.requires_grad:
                return None
            if now._value is not read.value and now._value != read.value and not self._may_lie(now, read.value):
                return None
            found.append(now)
        for tensor in self.without_grad:
            if tensor._grad is not None:
                return None
        return found if all(guard() for guard in self.guards) else None

    def _may_lie(self, tensor: Tensor, value: Value) -> bool:
        """Whether `tensor` is to be laid out by this plan as `value`, and may be."""
        is_chosen = any(tensor is free and value == chosen for free, chosen, _ in self.free)
        return is_chosen and tensor.is_free and tensor._value == replace(value, sbp=tensor.sbp)

    def lay_out(self) -> None:
        """Lay the tensors whose layout the plan has chosen out so; from then on they are not free."""
        for tensor, value, _ in self.free:
            if tensor._value is not value:
                if tensor._value != value:
                    relay(tensor, value.layout)
                tensor._value, tensor.is_free = value, False

    def release(self) -> None:
        """Lay the tensors whose layout this plan has chosen out as before, and let the next one choose anew."""
        for tensor, _, layout in self.free:
            relay(tensor, layout)
            tensor.is_free = True

    @cached_property
    def stores(self) -> list[tuple[Tensor, int]]:
        """The tensors that get a new block, and the outputs that are these."""
        return [(w.tensor, w.index) for w in self.writes if not w.is_grad and w.index is not None]

    @cached_property
    def grads(self) -> list[tuple[Tensor, int | None]]:
        """The tensors that get a new gradient, and the outputs that are these; None: they lose theirs."""
        return [(write.tensor, write.index) for write in self.writes if write.is_grad]


Variants = dict[Any, list[Compiled]]
"""By the kinds of arguments what a function was compiled to."""


class CompiledFunction(Generic[P, R]):
    """What `fc.compile` returns: called like the function itself."""

    def __init__(
        self,
        function: Callable[P, R],
        plan: str,
        precision: Precision | None = None,
        compression: Compression | None = None,
        memory_limit: int | None = None,
    ) -> None:
        self.function = function
        self.mode = plan
        self.precision, self.compression = precision, compression
        self.memory_limit = memory_limit
        self._variants: WeakKeyDictionary[World, Variants] = WeakKeyDictionary()
        self._treatments: WeakKeyDictionary[World, Treatment] = WeakKeyDictionary()
        self.__name__ = "function"
        update_wrapper(self, function, updated=())  # the attributes of a function that is an object are its own

    def __reduce__(self) -> tuple[Any, ...]:
        return CompiledFunction, (self.function, self.mode, self.precision, self.compression, self.memory_limit)

    def __call__(self, *arguments: P.args, **options: P.kwargs) -> R:
        world = current()
        if world.trace is not None:
            self._check_within(world.trace)
            return self.function(*arguments, **options)
        compiled, read = self._compiled(world, (arguments, options))
        compiled.lay_out()
        held = as_read(read, compiled.assigned) if compiled.is_differentiable else []
        blocks = compiled.program.run(world, _taken(compiled.program, read))
        values = compiled.program.results
        results = [Tensor(value, block) for value, block in zip(values[: compiled.results], blocks, strict=False)]
        if compiled.is_differentiable:
            # the caller may differentiate through this call: its gradient is that of its graph, compiled in turn
            record(world, compiled.call, tuple(held), tuple(results))
        _store(compiled, blocks)
        if self.compression is not None and self._treatment(world).ran():  # type: ignore[union-attr]  # one that compresses
            compiled.release()
        return compiled.rebuild(results)  # type: ignore[no-any-return]

    @property
    def options(self) -> dict[str, Any]:
        """Those that were given, by name."""
        asked = {"precision": self.precision, "compress": self.compression, "memory_limit": self.memory_limit}
        plan = {} if self.mode == DEFAULT_PLAN else {"plan": self.mode}
        return plan | {name: value for name, value in asked.items() if value is not None}

    def _check_within(self, trace: Trace) -> None:
        """PlanError where this function, a part of what `trace` is of, asks for what that does not do."""
        outer = {} if trace.options is None else trace.options
        for name, value in self.options.items():
            if outer.get(name) != value:
                raise PlanError(
                    f"{name}={value!r} of {self.__name__}, called while another function is traced: the options of the "
                    f"outermost hold, and it has {name}={outer.get(name)!r}: give {name} to that fc.compile"
                )

    def plan(self, *arguments: P.args, **options: P.kwargs) -> Plan:
        """The plan for these arguments; nothing runs, nothing is stored."""
        return self._compiled(current(), (arguments, options))[0].plan

    @property
    def loss_scale(self) -> float:
        """What `backward` in the function multiplies the loss by at the next step; 1 where it is not scaled."""
        treatment = self._treatment(current())
        return 1.0 if treatment is None or treatment.scaling is None else float(treatment.scaling.scale.item())

    def _treatment(self, world: World) -> Treatment | None:
        """What becomes of the gradients in this world; its state outlives a trace."""
        if self.precision is None and self.compression is None:
            return None
        if world not in self._treatments:
            self._treatments[world] = Treatment(self.precision, self.compression)
        return self._treatments[world]

    def variants(self, world: World) -> list[Compiled]:
        """What it has been compiled to in `world`, in the order of the kinds of arguments, then of time.

        The function alone holds this: with it go the programs, their memory and the states that nobody else holds.
        """
        return [variant for variants in self._variants.get(world, {}).values() for variant in variants]

    def graph(self, *arguments: P.args, **options: P.kwargs) -> Graph:
        """The logical graph for these arguments, before planning."""
        return self._compiled(current(), (arguments, options))[0].logical

    def _compiled(self, world: World, given: Any) -> tuple[Compiled, list[Tensor]]:
        """What to run for these arguments, and all tensors that it reads."""
        tensors: list[Tensor] = []
        form = opened(given, tensors, asarray)
        kinds = tuple([(tensor._value, tensor._requires_grad) for tensor in tensors])
        kept = self._variants.get(world)
        if kept is None:
            kept = self._variants[world] = {}
            world.compiled.add(self)
        try:
            variants = kept.setdefault((form, world.is_grad_enabled, kinds), [])
        except TypeError:
            raise DTypeError(
                f"an argument of {self.__name__} is neither a tensor nor hashable: pass tensors, numbers or strings"
            ) from None
        for compiled in variants:
            read = compiled.read()
            if read is not None:
                return compiled, tensors + read
        called = call_text(self.function, self.__name__, *given)
        compiled = self._trace(world, called, *flatten(replaced(given, (np.ndarray,), asarray)))
        variants.append(compiled)
        read = compiled.read()
        if read is None:  # the function itself changed what its trace took for granted
            read = [each.held for each in compiled.lifted if each.held is not None]
        return compiled, tensors + read

    @none_searched()
    def _trace(self, world: World, called: str, tensors: Sequence[Tensor], rebuild: Rebuild) -> Compiled:
        trace = Trace()
        trace.options, trace.treatment = self.options, self._treatment(world)
        symbols = [trace.input(tensor.value) for tensor in tensors]
        for symbol, tensor in zip(symbols, tensors, strict=True):
            symbol.requires_grad = tensor.requires_grad
        arguments, options = rebuild(symbols)
        world.trace = trace
        try:
            if trace.treatment is not None:
                trace.treatment.open()
            result = self.function(*arguments, **options)
            outputs, build = flatten(result)
            if trace.treatment is not None:
                trace.treatment.close()
            logical, lifted, writes = trace.finish(outputs)
            guards, without_grad = tuple(trace.guards), tuple(trace.without_grad)
        finally:
            world.trace = None
            trace.forget()
        if self.precision is not None:
            logical = lowered(logical, self.precision.narrow)
        plan = self._planned(world, called, logical, _updates(len(tensors), lifted, writes))
        carried = {node.inputs[1] for node in logical.nodes if isinstance(node.op, Carry)}
        chosen = [plan.graph.values[number] for number in plan.graph.inputs[len(tensors) :]]
        is_free = [number in carried for number in logical.inputs[len(tensors) :]]
        before = [read.value.layout for read in lifted]
        lifted = tuple(
            replace(read, value=value) if free else read
            for read, value, free in zip(lifted, chosen, is_free, strict=True)
        )
        program = bound(world, plan.graph, plan.updates, [0] * len(tensors) + [id(read.tensor) for read in lifted])
        program = replace(program, called=called)
        uses_up = any(write.is_grad or write.tensor.requires_grad for write in writes)
        is_differentiable = not uses_up and any(output.requires_grad for output in outputs)
        count = len(outputs)
        held = zip(lifted, before, is_free, strict=True)
        free = tuple((read.tensor, read.value, layout) for read, layout, may_choose in held if may_choose)
        return Compiled(
            guards, without_grad, logical, plan, program, lifted, writes, build, count, free, is_differentiable
        )

    def _planned(self, world: World, called: str, logical: Graph, updates: tuple[Update, ...]) -> Plan:
        graph = physical(logical, world.machine)
        hosts = world.transport.hosts if isinstance(world.transport, Opens) else ()
        plan = Plan(graph, world.machine, updates, hosts)
        if self.memory_limit is not None:
            plan = plan.within(self.memory_limit)
            graph = plan.graph
        if world.rank in graph.ranks and len(graph.ranks) > 1:
            # before anything moves, all ranks prove that they compiled the same graph
            done, line = world.chain(graph.ranks).lines, f"{called} {':'.join(map(str, user_line()))}"
            world.transport.meet(graph.ranks, graph.digest, lambda: numbered(done(), line, plan))
        if self.mode == "strict":
            implicit = [transfer for transfer in plan.transfers if not transfer.reason.startswith(ASKED)]
            if implicit:
                raise PlanError(f"plan='strict' allows no implicit transfer, but needs: {implicit[0]}; add a to_global")
        if self.memory_limit is not None:
            plan.check_memory(self.memory_limit)
        return plan


def _taken(program: Program, tensors: Sequence[Tensor]) -> list[Array | None]:
    """The blocks of `tensors`; those to be written over are copied where anybody else may see them."""
    blocks = [tensor.block for tensor in tensors]
    for place in held_by_others(blocks, program.overwritten):
        blocks[place] = np.array(blocks[place], order="C")
    return blocks


def _updates(arguments: int, lifted: Sequence[Read], writes: Sequence[Write]) -> tuple[Update, ...]:
    """Pairs (input, output) of the tensors that the function both reads and replaces."""
    read = {id(read.tensor): place for place, read in enumerate(lifted, arguments) if not read.is_grad}
    return tuple(
        (read[id(write.tensor)], write.index)
        for write in writes
        if write.index is not None and not write.is_grad and id(write.tensor) in read
    )


def _store(compiled: Compiled, blocks: Sequence[Array | None]) -> None:
    """Write what the function assigned to the tensors it assigned it to."""
    values = compiled.program.results
    for tensor, index in compiled.stores:
        tensor.block = blocks[index]
        tensor.version += 1
    for tensor, place in compiled.grads:
        tensor._grad = None if place is None else Tensor(values[place], blocks[place])


@overload
def compile(
    function: Callable[P, R],
    *,
    plan: str = ...,
    precision: str | Precision | None = ...,
    compress: str | Compression | None = ...,
    memory_limit: int | None = ...,
) -> CompiledFunction[P, R]: ...
@overload
def compile(
    function: None = ...,
    *,
    plan: str = ...,
    precision: str | Precision | None = ...,
    compress: str | Compression | None = ...,
    memory_limit: int | None = ...,
) -> Callable[[Callable[P, R]], CompiledFunction[P, R]]: ...
def compile(
    function: Callable[P, R] | None = None,
    *,
    plan: str = "greedy",
    precision: str | Precision | None = None,
    compress: str | Compression | None = None,
    memory_limit: int | None = None,
) -> Any:
    """`function` as one planned graph per kind of arguments; also a decorator, with or without options.

    plan: "greedy", or "strict" (PlanError where a transfer is needed that no `to_global` asks for).
    precision: "bf16" or "fp16" (see `fc.Precision`): sums of products are computed so, from float32 parameters.
    compress: "bf16" or "1bit" (see `fc.Compression`): how the gradients of `backward` cross ranks.
    memory_limit: MemoryLimitError, on every rank, where some rank would hold more bytes than this.
    Inside another compiled function it is a part of that one, whose options hold; options of its own are a PlanError.
    Arrays of numpy are tensors, made with `asarray` at every call.
    All else is read once, when traced: numbers, strings, which tensor or module a name or attribute stands for, but
    for `training` of modules. Assign to a tensor (`load_state_dict`, optimizers) or compile anew to change that.
    """
    if not isinstance(plan, str) or plan not in PLANS:
        raise PlanError(f"unknown plan {plan!r}: this version has {', '.join(PLANS)}")
    is_number = isinstance(memory_limit, Integral) and not isinstance(memory_limit, bool)
    if memory_limit is not None and (not is_number or memory_limit <= 0):
        raise PlanError(f"memory_limit={memory_limit!r}: give the bytes that a rank may hold, as in 2 * 1024**3")
    options = plan, as_precision(precision), as_compression(compress), memory_limit
    if function is None:
        return lambda f: CompiledFunction(traceable(f), *options)
    return CompiledFunction(traceable(function), *options)
