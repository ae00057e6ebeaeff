"""Gradients no longer than a given norm."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from flowcore.errors import DTypeError, FlowcoreError
from flowcore.grad import no_grad
from flowcore.ops.arithmetic import power
from flowcore.ops.extrema import maximum, minimum
from flowcore.ops.unary import sqrt
from flowcore.tensor import Tensor
from flowcore.world import current


def clip_grad_norm(params: Iterable[Tensor], max_norm: float, norm_type: float = 2.0) -> Tensor:
    """Scale all gradients by min(1, max_norm / (norm + 1e-6)); returns the norm of all of them together, before.

    norm_type: the p of the p-norm; `math.inf` for the greatest absolute value.
    """
    if norm_type <= 0:
        raise FlowcoreError(f"norm_type={norm_type}: a norm has p > 0")
    params = list(params)
    strangers = [param for param in params if not isinstance(param, Tensor)]
    if strangers:
        raise DTypeError(f"clip_grad_norm of {strangers[0]!r}: pass parameters, as model.parameters() gives them")
    with_grads = [(param, param.grad) for param in params]
    active = [(param, grad) for param, grad in with_grads if grad is not None]
    if not active:
        raise FlowcoreError("no parameter has a gradient: call backward() before clip_grad_norm")
    with no_grad():
        norm = total_norm([grad for _, grad in active], norm_type)
        scale = minimum(max_norm / (norm + 1e-6), 1.0)
        for param, grad in active:
            param.grad = grad * scale.astype(grad.dtype)
    return norm


def total_norm(grads: list[Tensor], norm_type: float) -> Tensor:
    """The p-norm of all elements of all `grads`, a replicated scalar."""
    terms = [_term(grad, norm_type) for grad in grads]
    total = terms[0]
    for term in terms[1:]:
        total = maximum(total, term) if norm_type == inf else total + term
    if norm_type == inf:
        return total
    return sqrt(total) if norm_type == 2 else power(total, 1 / norm_type)


def _term(grad: Tensor, norm_type: float) -> Tensor:
    """What `grad` adds to the norm, on the whole world: gradients may lie on different placements."""
    if norm_type == 2:
        term = (grad * grad).sum()
    elif norm_type == inf:
        term = abs(grad).max()
    else:
        term = power(abs(grad), norm_type).sum()
    everyone = current().everyone
    return term if set(term.placement.ranks) == set(everyone.ranks) else term.to_global(everyone, "B")
