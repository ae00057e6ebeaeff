"""x[key] = value: the tensor `written` gives, under the name and in the layout that x has.

Values never change; the object does: it stands for the new value from there on, and what was computed from it before
keeps the old one. For differentiation the old value gets a name of its own, to which the record of how it came about
is handed over; whatever read x before and is differentiated through afterwards is a GradError, as after `assign`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flowcore.dispatch import to_global
from flowcore.errors import GradError, TraceError
from flowcore.op import function
from flowcore.ops.alias import Alias
from flowcore.ops.indexing import written
from flowcore.tensor import Tensor, TensorLike
from flowcore.world import current

__all__: list[str] = []


@function
def setitem(x: Tensor, key: Any, value: TensorLike) -> None:
    """Let x[key] be `value`, in place; GradError for a leaf that requires a gradient, but inside fc.no_grad()."""
    world = current()
    if x.requires_grad and x.is_leaf and world.is_grad_enabled:
        raise GradError("x[…] = v of a leaf that requires a gradient: do it inside fc.no_grad(), or on a copy, x + 0")
    if world.trace is not None and x.trace is not world.trace:
        _write_outside(x, key, value)
        return
    if x.trace is not None and x.number in x.trace.builder.inputs:
        raise TraceError("x[…] = v of an argument of a traced function: write to a copy, x + 0, and return that")
    keeps = x.requires_grad and x.is_leaf
    old = Tensor(x.value, x.block, x.trace, x.number)
    old.version, old._requires_grad = x.version, x.requires_grad
    hand_over(x, old)
    new = written(old, key, value)
    if new is value:
        new = new.apply(Alias())
    if x.value.sbp is not None and x.trace is None:
        new = to_global(new, x.placement, x.sbp)
    x._value, x.block, x.number = new.value, new.block, new.number
    x.record, x._requires_grad = None, keeps or new.requires_grad
    hand_over(new, x)
    x.version += 1


def _write_outside(x: Tensor, key: Any, value: TensorLike) -> None:
    """Inside a traced function, to a tensor that exists outside of it: stored after every run."""
    new = written(x, key, value)
    if new.requires_grad:
        raise GradError(
            "x[…] = v inside a traced function, to a tensor from outside, of a value that requires a gradient: "
            "detach() the value, or write to a tensor made inside the function"
        )
    x.assign(new)


def hand_over(source: Tensor, target: Tensor) -> None:
    """Let `target` be what the record of `source` says came about, in place of `source`."""
    record = source.record
    if record is None:
        return
    outputs = tuple(target if output is source else output for output in record.outputs)
    changed = replace(record, outputs=outputs)
    source.record = None
    target.record = changed
    for output in outputs:
        if output.record is record:
            output.record = changed
