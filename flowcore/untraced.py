"""State that outlives a trace: work done at once even while tracing, and tensors changed in place, kept as objects.

A compiled function knows the tensors it reads and writes as objects: what replaces a value or a layout must keep them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flowcore.dispatch import to_global
from flowcore.grad import no_grad
from flowcore.placement.layout import Layout
from flowcore.tensor import Tensor
from flowcore.world import current


@contextmanager
def untraced() -> Iterator[None]:
    """Inside, operations run at once, on values, instead of becoming nodes of the graph being traced."""
    world = current()
    before, world.trace = world.trace, None
    try:
        yield
    finally:
        world.trace = before


def become(tensor: Tensor, new: Tensor) -> None:
    """Let `tensor` have the value, type and layout of `new`, and stay the same object."""
    tensor._value, tensor.block = new.value, new.block
    tensor.version += 1


def relay(tensor: Tensor, target: Layout) -> None:
    """Lay `tensor`, and its gradient if it has one, out as `target`, in place."""
    with untraced(), no_grad():
        grad = tensor._grad
        become(tensor, to_global(tensor, target.placement, target.sbp))
        if grad is not None:
            tensor._grad = to_global(grad, target.placement, target.sbp)
