"""What all optimizers share: groups of parameters, a learning rate and counts that are tensors, and state.

Everything a step reads and writes is a tensor: compiled, the update is part of the graph, and a schedule changes the
learning rate without a new trace. All other options are numbers; changing one makes a compiled step trace again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any, NamedTuple

import numpy as np

from flowcore.dispatch import asarray, to_global
from flowcore.dtypes import DType
from flowcore.errors import CheckpointError, FlowcoreError, PlacementError, TraceError
from flowcore.grad import no_grad
from flowcore.ops.create import full
from flowcore.placement.layout import Layout
from flowcore.placement.sbp import Broadcast, SbpLike, Split, stated
from flowcore.tensor import Tensor
from flowcore.untraced import relay, untraced
from flowcore.world import current

State = dict[str, Tensor]
ParamsLike = Iterable[Tensor] | Iterable[Mapping[str, Any]]


def replicated(value: Any) -> Tensor:
    """`value` in float64 on every rank of the world."""
    with untraced():
        return asarray(value, dtype="float64", placement=current().everyone, sbp="B")


class ParamGroup:
    """Parameters with common options, a learning rate, and how many steps each parameter has taken."""

    def __init__(self, params: Sequence[Tensor], lr: float, options: Mapping[str, Any]) -> None:
        self.params = list(params)
        self.options = dict(options)
        if isinstance(lr, int | float) and not 0 <= lr < inf:
            raise FlowcoreError(f"lr={lr}: a learning rate is a number from 0")
        self.rate = replicated(lr)
        self.counts = replicated(np.zeros(len(self.params)))

    @property
    def lr(self) -> float:
        """The learning rate; the tensor `rate` holds it."""
        assert self.rate.block is not None
        return float(self.rate.block)

    @lr.setter
    def lr(self, value: float) -> None:
        if current().trace is not None:
            raise TraceError("the learning rate is set once per step, outside the compiled function: move it out")
        self.rate.assign(replicated(value))

    def advance(self, active: Sequence[int]) -> None:
        """One more step for the parameters number `active`."""
        taken = np.zeros(len(self.params))
        taken[list(active)] = 1
        self.counts.assign(self.counts + (1.0 if taken.all() else replicated(taken)))


class PerDType:
    """A replicated tensor, cast at most once to every dtype."""

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self.cast: dict[DType, Tensor] = {}

    def like(self, param: Tensor, index: int | None = None) -> Tensor:
        """The values (only that at `index`, if given) in the dtype of `param`."""
        if param.dtype not in self.cast:
            self.cast[param.dtype] = self.values.astype(param.dtype)
        found = self.cast[param.dtype]
        return found if index is None else found[index]


class Active(NamedTuple):
    """A parameter that has a gradient, and its number in its group."""

    number: int
    param: Tensor
    grad: Tensor


class Optimizer:
    """Changes parameters by their gradients; subclasses define `update`.

    lr: the learning rate. params: tensors, or mappings {"params": tensors, …options}, one per group.
    state_sbp: the layout of the state; by default each state lies as its parameter, until a compiled function, whose
    plan then chooses the layout, updates it. shard_states: the name of a mesh axis along which the state of a
    replicated parameter is split instead (Rajbhandari et al., arXiv:1910.02054).
    """

    def __init__(
        self,
        params: ParamsLike,
        lr: float,
        options: Mapping[str, Any],
        state_sbp: SbpLike | None = None,
        shard_states: str | None = None,
    ) -> None:
        if state_sbp is not None and shard_states is not None:
            raise FlowcoreError("state_sbp and shard_states both say how the state lies: give one of them")
        if state_sbp is not None:
            stated(state_sbp)
        self.state_sbp, self.shard_states = state_sbp, shard_states
        self.param_groups = [_group(item, lr, options) for item in _as_groups(params)]
        self.state: dict[int, State] = {}
        """By the id of the parameter; created at its first step."""
        self.beside: dict[int, Layout] = {}
        """How the parameter lay when its state was laid out."""
        _check_unique(self.params)

    @property
    def params(self) -> list[Tensor]:
        """The parameters of all groups, in order."""
        return [param for group in self.param_groups for param in group.params]

    @property
    def lr(self) -> float:
        """The learning rate of the first group; setting it sets that of all groups."""
        return self.param_groups[0].lr

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.param_groups:
            group.lr = value

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        with no_grad():
            for group in self.param_groups:
                self._guard(group)
                grads = [(index, param, param.grad) for index, param in enumerate(group.params)]
                active = [Active(index, param, grad) for index, param, grad in grads if grad is not None]
                for item in active:  # before anything changes
                    self._check_rows(item, group.options)
                    self.state_layout(item.param)
                if active:
                    group.advance([item.number for item in active])
                for placement in dict.fromkeys(item.param.placement for item in active):
                    rate, counts = (to_global(value, placement, "B") for value in (group.rate, group.counts))
                    here = [item for item in active if item.param.placement == placement]
                    self.update(here, rate, counts, group.options)

    def update(self, active: Sequence[Active], rate: Tensor, counts: Tensor, options: Mapping[str, Any]) -> None:
        """Update the parameters in `active`, which lie on one placement, as do `rate` () and `counts` (parameters)."""
        raise NotImplementedError

    def keeps_rows(self, options: Mapping[str, Any]) -> bool:
        """Whether a row without gradient stays as it is, and so does its state."""
        return False

    def _check_rows(self, item: Active, options: Mapping[str, Any]) -> None:
        if getattr(item.param, "is_sparse", False) and not self.keeps_rows(options):
            raise FlowcoreError(
                f"{type(self).__name__} with {dict(options)} changes all rows of a sparse parameter of shape "
                f"{item.param.shape}: take SGD without momentum, Adagrad or SparseAdam, none with weight_decay, for it"
            )

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for param in self.params:
            param.grad = None

    def state_of(self, param: Tensor, *names: str, fill: float = 0.0) -> list[Tensor]:
        """The state tensors of `param` called `names`, full of `fill` at first, laid out beside it."""
        state = self.state.setdefault(id(param), {})
        if self.beside.get(id(param)) != param.layout:  # the parameter is new, or was placed anew
            self.beside[id(param)] = param.layout
            for held in state.values():
                relay(held, self.state_layout(param))
                held.is_free = self.is_free
        for name in names:
            if name not in state:
                layout = self.state_layout(param)
                with untraced():
                    state[name] = full(param.shape, fill, dtype=param.dtype, placement=layout.placement, sbp=layout.sbp)
                state[name].is_free = self.is_free
        return [state[name] for name in names]

    @property
    def is_free(self) -> bool:
        """Whether nobody has said how the state lies."""
        return self.state_sbp is None and self.shard_states is None

    def state_layout(self, param: Tensor) -> Layout:
        """Where the state of `param` lies, and how."""
        if self.state_sbp is not None:
            return Layout(param.placement, self.state_sbp).of(param.ndim)
        if self.shard_states is None:
            return param.layout
        if self.shard_states not in param.placement.axes:
            raise PlacementError(
                f"{type(self).__name__} with shard_states={self.shard_states!r}: a parameter of shape {param.shape} "
                f"lies on a mesh with axes {param.placement.axes}: name one of them"
            )
        axis = param.placement.axis(self.shard_states)
        taken = {part.axis for part in param.sbp if isinstance(part, Split)}
        free = [dimension for dimension in range(param.ndim) if dimension not in taken] or list(taken)
        if not free or not isinstance(param.sbp[axis], Broadcast):
            return param.layout
        return Layout(param.placement, (*param.sbp[:axis], Split(free[0]), *param.sbp[axis + 1 :]))

    def _guard(self, group: ParamGroup) -> None:
        """A trace that reads the options of `group` holds as long as they are the same."""
        trace, seen = current().trace, dict(group.options)
        if trace is not None:
            trace.guards.append(lambda: group.options == seen)

    # saving

    def state_dict(self) -> dict[str, Any]:
        """Learning rates, options, counts and state as they are now; parameters by their number."""
        number = {id(param): index for index, param in enumerate(self.params)}
        groups = [
            {"lr": g.lr, **g.options, "counts": g.counts.detach(), "params": [number[id(param)] for param in g.params]}
            for g in self.param_groups
        ]
        state = {
            number[key]: {name: tensor.detach() for name, tensor in entries.items()}
            for key, entries in self.state.items()
        }
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave; CheckpointError where groups or shapes differ."""
        if current().trace is not None:
            raise TraceError("an optimizer cannot be loaded inside a compiled function: do it before")
        if not isinstance(saved, Mapping) or not {"state", "param_groups"} <= {*saved}:
            raise CheckpointError(f"the state of an optimizer has state and param_groups, not {list(saved)}")
        params, groups = self.params, saved["param_groups"]
        _check_fits(self.param_groups, groups, params, saved["state"])
        for group, given in zip(self.param_groups, groups, strict=True):
            group.lr = given["lr"]
            group.options = {name: given[name] for name in group.options}
            group.counts.assign(replicated(np.asarray(given["counts"])))
        for number, entries in saved["state"].items():
            param = params[int(number)]
            for value, held in zip(entries.values(), self.state_of(param, *entries), strict=True):
                source = None if isinstance(value, Tensor) else param.placement
                held.assign(asarray(value, dtype=held.dtype, placement=source))


def _as_groups(params: ParamsLike) -> list[Mapping[str, Any]]:
    items: list[Any] = list(params)
    if not items:
        raise FlowcoreError("an optimizer got no parameters: pass module.parameters()")
    if all(isinstance(item, Mapping) for item in items):
        return items
    return [{"params": items}]


def _group(item: Mapping[str, Any], lr: float, options: Mapping[str, Any]) -> ParamGroup:
    unknown = [name for name in item if name not in ("params", "lr", *options)]
    if unknown:
        raise FlowcoreError(f"unknown options {unknown} of a group: there are lr, {', '.join(options)}")
    params = list(item["params"])
    for param in params:
        if not isinstance(param, Tensor) or not param.is_leaf:
            raise FlowcoreError(f"an optimizer changes parameters, not {param!r}: pass module.parameters()")
    own = {name: item.get(name, default) for name, default in options.items()}
    return ParamGroup(params, item.get("lr", lr), own)


def _check_unique(params: Sequence[Tensor]) -> None:
    if len({id(param) for param in params}) != len(params):
        raise FlowcoreError("a parameter stands in the optimizer twice: give each once")


def _check_fits(
    groups: Sequence[ParamGroup], given: Sequence[Mapping[str, Any]], params: Sequence[Tensor], state: Mapping[Any, Any]
) -> None:
    here, there = [len(group.params) for group in groups], [len(group["params"]) for group in given]
    if here != there:
        raise CheckpointError(
            f"the state is of groups of {there} parameters, but there are {here}: load the same model's"
        )
    for number, entries in state.items():
        for name, value in entries.items():
            if tuple(value.shape) != params[int(number)].shape:
                raise CheckpointError(
                    f"{name} of parameter {number} has shape {tuple(value.shape)}, but the parameter has "
                    f"{params[int(number)].shape}: load the same model's state"
                )
