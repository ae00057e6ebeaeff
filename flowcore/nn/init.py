"""How parameters begin: each function fills a tensor in place and returns it. Names and formulas are PyTorch's.

Random values of 16 bits are those of float32, rounded. They are drawn when the old value is gone, so that of a large
table there are never two; where the draw fails, zeros are left.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod, sqrt

import numpy as np

from flowcore import random
from flowcore.dtypes import NARROW, DType, float32
from flowcore.errors import FlowcoreError, ShapeError
from flowcore.grad import no_grad
from flowcore.ops.create import full
from flowcore.tensor import Tensor
from flowcore.world import current

GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": sqrt(2)}


def calculate_gain(nonlinearity: str, a: float = 0.0) -> float:
    """By what a nonlinearity shrinks the standard deviation; `a`: the negative slope of "leaky_relu"."""
    if nonlinearity == "leaky_relu":
        return sqrt(2 / (1 + a * a))
    if nonlinearity not in GAINS:
        raise FlowcoreError(f"no gain is known for {nonlinearity!r}: choose one of {', '.join((*GAINS, 'leaky_relu'))}")
    return GAINS[nonlinearity]


def fans(x: Tensor) -> tuple[int, int]:
    """(inputs, outputs) that meet in one element of a weight (outputs, inputs, …)."""
    if x.ndim < 2:
        raise ShapeError(f"a weight of shape {x.shape} has no fan: it needs at least 2 dimensions")
    field = prod(x.shape[2:])
    return x.shape[1] * field, x.shape[0] * field


def uniform_(x: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """U(a, b)."""
    return _filled(x, lambda: random.uniform(a, b, x.shape, dtype=_drawn(x), placement=x.placement, sbp=x.sbp))


def normal_(x: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """N(mean, std²)."""
    return _filled(x, lambda: random.normal(mean, std, x.shape, dtype=_drawn(x), placement=x.placement, sbp=x.sbp))


def constant_(x: Tensor, value: float) -> Tensor:
    """`value` everywhere."""
    return _filled(x, lambda: full(x.shape, value, dtype=x.dtype, placement=x.placement))


def zeros_(x: Tensor) -> Tensor:
    """0 everywhere."""
    return constant_(x, 0)


def ones_(x: Tensor) -> Tensor:
    """1 everywhere."""
    return constant_(x, 1)


def xavier_uniform_(x: Tensor, gain: float = 1.0) -> Tensor:
    """U(−b, b) with b = gain · sqrt(6 / (inputs + outputs)) (Glorot and Bengio, 2010)."""
    bound = gain * sqrt(6 / sum(fans(x)))
    return uniform_(x, -bound, bound)


def xavier_normal_(x: Tensor, gain: float = 1.0) -> Tensor:
    """N(0, s²) with s = gain · sqrt(2 / (inputs + outputs)) (Glorot and Bengio, 2010)."""
    return normal_(x, 0.0, gain * sqrt(2 / sum(fans(x))))


def kaiming_uniform_(x: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """U(−b, b) with b = gain · sqrt(3 / fan) (He et al., arXiv:1502.01852)."""
    bound = sqrt(3) * _kaiming_std(x, a, mode, nonlinearity)
    return uniform_(x, -bound, bound)


def kaiming_normal_(x: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """N(0, s²) with s = gain / sqrt(fan) (He et al., arXiv:1502.01852)."""
    return normal_(x, 0.0, _kaiming_std(x, a, mode, nonlinearity))


def _kaiming_std(x: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise FlowcoreError(f"unknown mode {mode!r}: choose 'fan_in' or 'fan_out'")
    fan = fans(x)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / sqrt(max(fan, 1))


def _drawn(x: Tensor) -> DType:
    """The dtype in which values for `x` are drawn."""
    return float32 if x.dtype in NARROW else x.dtype


def _filled(x: Tensor, values: Callable[[], Tensor]) -> Tensor:
    if x.block is not None and current().trace is None:
        x.block = np.zeros(x.block.shape, x.block.dtype)  # pages that nobody touches take no memory
    with no_grad():
        x.assign(values().astype(x.dtype))
    return x
