"""Activation functions, as composites of operators.

Where numbers could overflow, the greatest element is subtracted first; it is taken as a constant, because the result
does not depend on it. Along a split axis the maximum and the sum are partial results, so that only these small values
cross ranks, never the elements.
"""

from __future__ import annotations

from math import pi, sqrt

from flowcore.errors import FlowcoreError
from flowcore.ops.erf import erf
from flowcore.ops.hyperbolic import tanh
from flowcore.ops.selection import where
from flowcore.ops.unary import exp, log
from flowcore.tensor import Tensor


def relu(x: Tensor) -> Tensor:
    """max(x, 0), with gradient 0 at 0; nan stays nan."""
    return where(x <= 0, 0, x)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(−x)) = (1 + tanh(x/2)) / 2, which overflows nowhere."""
    return tanh(x * 0.5) * 0.5 + 0.5


def silu(x: Tensor) -> Tensor:
    """x · sigmoid(x)."""
    return x * sigmoid(x)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x · Φ(x), Φ the normal distribution function.

    approximate: "none" (exact, by erf) or "tanh" (Hendrycks and Gimpel, arXiv:1606.08415).
    """
    match approximate:
        case "none":
            return x * 0.5 * (erf(x * sqrt(0.5)) + 1)
        case "tanh":
            return x * 0.5 * (tanh((x + x * x * x * 0.044715) * sqrt(2 / pi)) + 1)
    raise FlowcoreError(f"gelu has no approximation {approximate!r}: choose 'none' or 'tanh'")


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) / Σ exp(x) along `axis`."""
    powers = exp(_shifted(x, axis))
    return powers / powers.sum(axis=axis, keepdims=True)


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """x − log Σ exp(x) along `axis`."""
    shifted = _shifted(x, axis)
    return shifted - log(exp(shifted).sum(axis=axis, keepdims=True))


def _shifted(x: Tensor, axis: int) -> Tensor:
    return x - x.detach().max(axis=axis, keepdims=True)
