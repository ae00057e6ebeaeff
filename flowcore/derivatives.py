"""Derivatives in every direction, all from reverse mode: forward mode, Jacobians, Hessians.

The gradient of f at x for a cotangent dy is linear in dy. The transpose of that linear map is the derivative of f, so
forward mode is the gradient, with respect to dy, of the gradient: no operator needs a rule for it. The linear map is
staged as a graph, and what its transpose does not need (its value at dy) is dropped before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flowcore.errors import GradError
from flowcore.grad import as_leaf, grad_enabled, gradients, variables, zeros_like
from flowcore.staging import replay, stage, symbolic
from flowcore.tensor import Tensor
from flowcore.tree import flatten
from flowcore.world import current

__all__ = ["jvp"]


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """(f(*primals), its derivative at `primals` along `tangents`), both laid out as f's result.

    Primals and tangents are equal trees of tensors. has_aux: f returns (result, more), and this returns more as well.
    """
    arguments, leaves, _ = variables(tuple(primals), range(len(primals)))
    directions, _ = flatten(tuple(tangents))
    if [x.shape for x in directions] != [x.shape for x in leaves]:
        raise GradError(
            f"jvp with tangents of shapes {[x.shape for x in directions]} for primals of {[x.shape for x in leaves]}: "
            f"pass one for each primal, shaped as it"
        )
    since = current().sequence
    with grad_enabled(True):
        result = f(*arguments)
    value, *more = result if has_aux else (result,)
    outputs, rebuild = flatten(value)
    return value, rebuild(_forward(outputs, leaves, directions, since)), *more


def _forward(outputs: list[Tensor], leaves: list[Tensor], directions: list[Tensor], since: int) -> list[Tensor]:
    """The derivatives of `outputs` along `directions` of `leaves`; integers have none, which counts as 0."""
    free = [output for output in outputs if output.requires_grad]

    def transposed(*symbols: Tensor) -> list[Tensor]:
        cotangents = [as_leaf(symbol) for symbol in symbols]
        now = current().sequence
        found = gradients(free, cotangents, leaves, since)
        return gradients(found, directions, cotangents, now)

    staged = stage(transposed, [symbolic(output) for output in free], "jvp")
    # the cotangents matter to nothing that is left, but the graph has inputs for them
    rates = iter(replay(staged.graph, [*map(zeros_like, free), *staged.captured]))
    return [next(rates) if output.requires_grad else zeros_like(output) for output in outputs]
