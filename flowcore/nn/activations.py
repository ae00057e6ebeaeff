"""Activation functions, as composites of operators.

Where numbers could overflow, the greatest element is subtracted first; it is taken as a constant, because the result
does not depend on it. Along a split axis the maximum and the sum are partial results, so that only these small values
cross ranks, never the elements.
"""

from __future__ import annotations

from math import inf, pi, sqrt

from flowcore.errors import FlowcoreError, ShapeError
from flowcore.nn.arrays import takes_arrays
from flowcore.ops.axes import axis_of
from flowcore.ops.erf import erf
from flowcore.ops.hyperbolic import tanh
from flowcore.ops.selection import where
from flowcore.ops.unary import exp, expm1, log, log1p
from flowcore.tensor import Tensor

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


@takes_arrays
def relu(x: Tensor) -> Tensor:
    """max(x, 0), with gradient 0 at 0; nan stays nan."""
    return where(x <= 0, 0, x)


@takes_arrays
def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(−x)) = (1 + tanh(x/2)) / 2, which overflows nowhere."""
    return tanh(x * 0.5) * 0.5 + 0.5


@takes_arrays
def silu(x: Tensor) -> Tensor:
    """x · sigmoid(x)."""
    return x * sigmoid(x)


@takes_arrays
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


@takes_arrays
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) / Σ exp(x) along `axis`."""
    powers = exp(_shifted(x, axis))
    return powers / powers.sum(axis=axis, keepdims=True)


@takes_arrays
def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """x − log Σ exp(x) along `axis`."""
    shifted = _shifted(x, axis)
    return shifted - log(exp(shifted).sum(axis=axis, keepdims=True))


def _shifted(x: Tensor, axis: int) -> Tensor:
    return x - x.detach().max(axis=axis, keepdims=True)


@takes_arrays
def relu6(x: Tensor) -> Tensor:
    """min(max(x, 0), 6)."""
    return hardtanh(x, 0.0, 6.0)


@takes_arrays
def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where it is positive, else negative_slope · x."""
    return where(x > 0, x, x * negative_slope)


@takes_arrays
def prelu(x: Tensor, weight: Tensor) -> Tensor:
    """`leaky_relu` with a slope for every channel, dimension 1. weight: (channels,), or (1,) for all."""
    if weight.shape not in ((1,), x.shape[1:2]):
        raise ShapeError(f"prelu of {x.shape} with weight {weight.shape}: it needs one element, or one per channel")
    slope = weight if weight.size == 1 else weight.reshape((-1, *(1,) * (x.ndim - 2)))
    return where(x > 0, x, x * slope)


@takes_arrays
def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x where it is positive, else alpha (exp(x) − 1) (arXiv:1511.07289)."""
    return where(x > 0, x, expm1(where(x > 0, 0, x)) * alpha)


@takes_arrays
def celu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x where it is positive, else alpha (exp(x/alpha) − 1) (arXiv:1704.07483)."""
    return where(x > 0, x, expm1(where(x > 0, 0, x) * (1 / alpha)) * alpha)


@takes_arrays
def selu(x: Tensor) -> Tensor:
    """`elu` scaled so that deep networks keep mean 0 and variance 1 (arXiv:1706.02515)."""
    return elu(x, SELU_ALPHA) * SELU_SCALE


@takes_arrays
def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta; x itself where beta x > threshold."""
    scaled = x * beta
    soft = (where(scaled > 0, scaled, 0) + log1p(exp(where(scaled > 0, -scaled, scaled)))) * (1 / beta)
    return where(scaled > threshold, x, soft)


@takes_arrays
def logsigmoid(x: Tensor) -> Tensor:
    """log sigmoid(x)."""
    return -softplus(-x, threshold=inf)


@takes_arrays
def softsign(x: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return x / (abs(x) + 1)


@takes_arrays
def tanhshrink(x: Tensor) -> Tensor:
    """x − tanh(x)."""
    return x - tanh(x)


@takes_arrays
def hardshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
    """0 where |x| <= lambd, else x."""
    return where(abs(x) <= lambd, 0, x)


@takes_arrays
def softshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by lambd, 0 where |x| <= lambd."""
    return where(x > lambd, x - lambd, where(x < -lambd, x + lambd, x * 0))


@takes_arrays
def hardtanh(x: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """x between min_val and max_val, with gradient 0 at both."""
    return where(x <= min_val, min_val, where(x >= max_val, max_val, x))


@takes_arrays
def hardsigmoid(x: Tensor) -> Tensor:
    """min(max(x + 3, 0), 6) / 6."""
    return relu6(x + 3) * (1 / 6)


@takes_arrays
def hardswish(x: Tensor) -> Tensor:
    """x · hardsigmoid(x) (arXiv:1905.02244)."""
    return x * hardsigmoid(x)


@takes_arrays
def mish(x: Tensor) -> Tensor:
    """x · tanh(softplus(x)) (arXiv:1908.08681)."""
    return x * tanh(softplus(x, threshold=inf))


@takes_arrays
def glu(x: Tensor, axis: int = -1) -> Tensor:
    """The first half of x along `axis`, times the sigmoid of the second (arXiv:1612.08083)."""
    along = axis_of(axis, x.ndim, "glu")
    if x.shape[along] % 2:
        raise ShapeError(f"glu of {x.shape} along axis {axis}: it cuts it in halves, so the length must be even")
    half, before = x.shape[along] // 2, (slice(None),) * along
    return x[(*before, slice(half))] * sigmoid(x[(*before, slice(half, None))])


@takes_arrays
def softmin(x: Tensor, axis: int = -1) -> Tensor:
    """softmax(−x)."""
    return softmax(-x, axis)
