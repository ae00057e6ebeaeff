"""Turns the running of a Python function into a graph: every operation on tensors becomes a node.

Tensors that exist outside the function (parameters, optimizer state, gradients) are lifted: read, they become inputs
of the graph; written (`assign`, `.grad = …`), the new value becomes an output and is stored after every run. What the
trace took for granted is kept, in what it read and in guards, so that a compiled function is retraced when it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flowcore.boxing_op import Carry, Relayout
from flowcore.errors import PlacementError, ShapeError, TraceError
from flowcore.graph import Builder, Graph, Value
from flowcore.op import OPS, Op
from flowcore.placement.layout import Layout, sbp_text
from flowcore.placement.mesh import Placement
from flowcore.tensor import Tensor
from flowcore.world import current, where

if TYPE_CHECKING:
    from flowcore.treatment import Treatment

Guard = Callable[[], bool]


@dataclass(frozen=True)
class Write:
    """After a run, output `index` becomes the block of `tensor`, or its gradient; index None clears the gradient."""

    tensor: Tensor
    index: int | None
    is_grad: bool
    value: Value | None = None


@dataclass(frozen=True, eq=False)
class Read:
    """Before a run, an input takes the block of `tensor`, or of the gradient it has then.

    value, requires_grad: those of what was read when it was traced.
    """

    tensor: Tensor
    is_grad: bool
    value: Value
    requires_grad: bool

    @property
    def held(self) -> Tensor | None:
        """The tensor that is read; None where there is no gradient."""
        return self.tensor._grad if self.is_grad else self.tensor


class Trace:
    """A function being traced; `parent`: the function, itself being traced, that traces this one.

    What was computed where nothing is recorded (`no_grad`) reaches the rest of the graph through `stop_gradient`, so
    that differentiating the graph gives what differentiating the function gives.
    """

    def __init__(self, parent: Trace | None = None) -> None:
        self.parent = parent
        self.builder = Builder()
        self.unrecorded: set[int] = set()
        self.stops: dict[int, Tensor] = {}
        self.captured: dict[tuple[int, bool], tuple[Read, Tensor]] = {}
        self.bound: dict[int, tuple[Tensor, Tensor]] = {}
        self.given: dict[int, Tensor] = {}
        """What was last assigned to each tensor in `bound`, not yet laid out as that is."""
        self.grads: dict[int, tuple[Tensor, Tensor | None]] = {}
        self.guards: list[Guard] = [] if parent is None else parent.guards
        self.without_grad: list[Tensor] = []
        self.treatment: Treatment | None = None
        self.options: dict[str, object] | None = None if parent is None else parent.options
        """Those of the compiled function that is traced."""

    def input(self, value: Value) -> Tensor:
        """A new symbolic argument."""
        return self.symbol(self.builder.input(value), value)

    def symbol(self, number: int, value: Value) -> Tensor:
        """The symbolic tensor of a value of the graph."""
        return Tensor(value, None, self, number)

    def lift(self, tensor: Tensor) -> Tensor:
        """The symbol that stands for `tensor` at this point of the function."""
        if tensor.trace is self:
            return tensor
        if tensor.trace is not None and not self._is_within(tensor.trace):
            raise TraceError("a tensor of one traced function is used in another: pass it as an argument")
        if id(tensor) in self.bound:
            return self.bound[id(tensor)][1]
        return self._captured(tensor, False, tensor)

    def _is_within(self, other: Trace) -> bool:
        return self.parent is not None and (self.parent is other or self.parent._is_within(other))

    def _captured(self, tensor: Tensor, is_grad: bool, held: Tensor) -> Tensor:
        key = (id(tensor), is_grad)
        if key not in self.captured:
            read = Read(tensor, is_grad, held.value, held.requires_grad)
            self.captured[key] = (read, self.input(held.value))
        return self.captured[key][1]

    def emit(self, op: Op, inputs: Sequence[Tensor], layout: Layout | None) -> tuple[Tensor, ...]:
        """Apply `op` in the graph; the symbols of its results."""
        symbols = [self._recorded(self.lift(tensor)) for tensor in inputs]
        line = where()
        if not op.spans:
            target = common_placement([symbol.value for symbol in symbols], op, line)
            symbols = [self._moved(symbol, target, line) for symbol in symbols]
        results = result_values(op, [symbol.value for symbol in symbols], layout)
        numbers = self.builder.node(op, [symbol.number for symbol in symbols], results, line)
        if not current().is_grad_enabled:
            self.unrecorded.update(numbers)
        return tuple(self.symbol(number, value) for number, value in zip(numbers, results, strict=True))

    def _recorded(self, symbol: Tensor) -> Tensor:
        """`symbol`, or where it was computed unrecorded and now is read by what is recorded, its value alone."""
        is_stopped = symbol.number in self.unrecorded and current().is_grad_enabled
        return self.stopped(symbol) if is_stopped else symbol

    def stopped(self, tensor: Tensor) -> Tensor:
        """The value of `tensor`, through which no gradient flows."""
        symbol = self.lift(tensor)
        if symbol.number not in self.stops:
            (number,) = self.builder.node(OPS["stop_gradient"](), [symbol.number], [symbol.value], where())
            self.stops[symbol.number] = self.symbol(number, symbol.value)
        return self.stops[symbol.number]

    def _moved(self, symbol: Tensor, target: Placement | None, line: str) -> Tensor:
        if target is None or symbol.placement == target:
            return symbol
        op = replica_move(symbol.placement, target)
        results = result_values(op, [symbol.value], None)
        (number,) = self.builder.node(op, [symbol.number], results, line)
        return self.symbol(number, results[0])

    # state

    def assign(self, tensor: Tensor, new: Tensor) -> None:
        """`tensor` holds `new` from here on; its layout stays, unless it is free."""
        self.lift(tensor)
        if self._chooses(tensor) and new.placement == tensor.placement:
            symbol = self._recorded(self.lift(new))
        else:
            kept = Relayout(str(tensor.placement), sbp_text(tensor.sbp))
            (symbol,) = self.emit(kept, [new], None)
        self.bound[id(tensor)], self.given[id(tensor)] = (tensor, symbol), new

    def _chooses(self, tensor: Tensor) -> bool:
        """Whether the plan of what is traced here chooses how `tensor` lies."""
        return tensor.is_free and self.parent is None

    def original(self, tensor: Tensor) -> Tensor:
        """What `tensor` held when the function began."""
        return self._captured(tensor, False, tensor)

    def read_grad(self, tensor: Tensor) -> Tensor | None:
        """The gradient `tensor` has at this point of the function."""
        if id(tensor) in self.grads:
            return self.grads[id(tensor)][1]
        if self.parent is not None:
            return self.parent.read_grad(tensor)
        if tensor._grad is not None:
            # every run stores a new gradient: what is read is the one the tensor has then, not this object
            return self._captured(tensor, True, tensor._grad)
        self.without_grad.append(tensor)
        return None

    def found_grad(self, tensor: Tensor) -> Tensor | None:
        """The gradient `tensor` had when the function began, where that was read."""
        found = self.captured.get((id(tensor), True))
        return None if found is None else found[1]

    def write_grad(self, tensor: Tensor, grad: Tensor | None) -> None:
        """`tensor` has gradient `grad` from here on."""
        self.grads[id(tensor)] = (tensor, grad)

    def finish(self, results: Sequence[Tensor]) -> tuple[Graph, tuple[Read, ...], tuple[Write, ...]]:
        """The graph, what it reads as inputs behind its arguments, and what to store after a run."""
        outputs = [self._recorded(self.lift(result)).number for result in results]
        writes = []
        for tensor, symbol in self.bound.values():
            if self._chooses(tensor):
                symbol = self._carried(tensor, symbol)
            writes.append(Write(tensor, len(outputs), is_grad=False, value=tensor.value))
            outputs.append(symbol.number)
        for tensor, grad in self.grads.values():
            writes.append(Write(tensor, None if grad is None else len(outputs), is_grad=True))
            if grad is not None:
                outputs.append(self._stored_grad(tensor, grad).number)
        return self.builder.graph(outputs), tuple(read for read, _ in self.captured.values()), tuple(writes)

    def forget(self) -> None:
        """Let go of all tensors: symbols know their trace, so that it would keep these until garbage is collected."""
        for held in (self.captured, self.bound, self.given, self.grads, self.stops):
            held.clear()
        self.without_grad = []

    def _carried(self, tensor: Tensor, new: Tensor) -> Tensor:
        """What `tensor` becomes, laid out as it is at first."""
        old = self.captured[id(tensor), False][1]
        value = replace(old.value, sbp=None)
        (number,) = self.builder.node(Carry(), [new.number, old.number], [value], where())
        return self.symbol(number, value)

    def _stored_grad(self, tensor: Tensor, grad: Tensor) -> Tensor:
        kept = Relayout(str(tensor.placement), sbp_text(tensor.sbp))
        return self.emit(kept, [grad], None)[0]


def result_values(op: Op, inputs: Sequence[Value], layout: Layout | None) -> tuple[Value, ...]:
    """The values `op` gives: types inferred, placement as its inputs', SBP where the request fixes it."""
    types = op.infer(*(value.type for value in inputs))
    if isinstance(op, Relayout):
        placement, sbp = op.target
        return tuple(Value(type, placement, sbp) for type in types)
    if op.spans:
        return tuple(Value(type, place) for type, place in zip(types, op.placements(), strict=True))
    if not inputs:
        if layout is None:
            raise ShapeError(f"{op.name} has no inputs: it needs a placement")
        return tuple(Value(type, layout.placement, layout.sbp) for type in types)
    return tuple(Value(type, inputs[0].placement) for type in types)


def common_placement(values: Sequence[Value], op: Op, line: str) -> Placement | None:
    """Where `op` runs: the one placement of its inputs, but for replicas that every rank there already holds."""
    placements = list(dict.fromkeys(value.placement for value in values))
    if len(placements) < 2:
        return placements[0] if placements else None
    fixed = [p for p in placements if not all(is_replica(v) for v in values if v.placement == p)] or placements[:1]
    target = fixed[0]
    for value in values:
        if value.placement != target and not (is_replica(value) and set(target.ranks) <= set(value.placement.ranks)):
            raise PlacementError(
                f"{op.name} at {line} mixes tensors on {target} and {value.placement}: "
                f"move one with to_global(placement=…), or make what comes from numpy within fc.use(mesh)"
            )
    return target


def is_replica(value: Value) -> bool:
    return value.sbp is not None and value.layout.is_broadcast


def replica_move(source: Placement, target: Placement) -> Relayout:
    """The request that a replicated value be seen as one on `target`, and its gradient as one on `source`."""
    return Relayout(str(target), sbp_text(Layout(target, "B").sbp), str(source), sbp_text(Layout(source, "B").sbp))
