"""The functions behind the layers: parameters are arguments."""

from __future__ import annotations

from flowcore import random
from flowcore.errors import DTypeError, FlowcoreError, ShapeError
from flowcore.nn.arrays import takes_arrays
from flowcore.ops.gather import take
from flowcore.ops.selection import where
from flowcore.tensor import Tensor


@takes_arrays
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x · weightᵀ + bias. x: (…, n), weight: (m, n), bias: (m,); y: (…, m)."""
    if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        raise ShapeError(f"linear with weight {weight.shape} takes (…, n) by (m, n), not {x.shape}")
    y = x @ weight.mT
    return y if bias is None else y + bias


@takes_arrays
def embedding(indices: Tensor, weight: Tensor) -> Tensor:
    """The rows of `weight` at `indices`. indices: (…) integers, weight: (n, m); result: (…, m)."""
    if indices.dtype.kind not in "iu":
        raise DTypeError(f"embedding of {indices.dtype}: pass row numbers as integers")
    return take(weight, indices, axis=0)


@takes_arrays
def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """x with each element set to 0 with probability `p`, the others divided by 1 − p; x itself unless `training`.

    Which elements depends on the random state and their index only, never on the layout.
    """
    if not 0 <= p <= 1:
        raise FlowcoreError(f"dropout with p={p}: a probability lies between 0 and 1")
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0
    kept = random.bernoulli(1 - p, x.shape, placement=x.placement)
    return where(kept, x * (1 / (1 - p)), 0)
