"""Results whose shape depends on values: computed from the whole value at once, never inside a traced function.

Every rank of the placement gathers the value and computes the same; the result is replicated.
"""

from __future__ import annotations

import numpy as np

from flowcore.dispatch import asarray, operands
from flowcore.errors import ShapeError, TraceError
from flowcore.op import Array, function
from flowcore.ops.comparison import not_equal
from flowcore.placement.sbp import B
from flowcore.tensor import Tensor, TensorLike
from flowcore.world import current

__all__ = ["nonzero"]


def whole(x: Tensor, what: str, remedy: str) -> Array:
    """The whole value of `x`; TraceError where a traced function has none: `what` would have an unknown shape."""
    if x.trace is not None or current().trace is not None:
        raise TraceError(f"the shape of {what} depends on values, which a traced function does not have: {remedy}")
    return x.numpy()


def replicated(array: Array, like: Tensor) -> Tensor:
    """`array`, which every rank has computed, as a tensor on the placement of `like`."""
    return asarray(array, placement=like.placement, sbp=B)


def places_of(mask: Tensor) -> Tensor:
    """Where the flattened `mask` is true, in order."""
    remedy = "use fc.where(mask, x, 0), which keeps the shape, or index outside the compiled function"
    return replicated(np.flatnonzero(whole(mask, "a tensor indexed by a boolean mask", remedy)), mask)


@function
def nonzero(x: TensorLike, /) -> tuple[Tensor, ...]:
    """Per dimension the indices of the elements that are not zero, in row-major order; not inside fc.compile."""
    (tensor,) = operands(x)
    if tensor.ndim == 0:
        raise ShapeError("nonzero of a tensor without dimensions: give it one with reshape((1,))")
    remedy = "use fc.where or fc.count_nonzero, or call it outside the compiled function"
    mask = tensor if tensor.dtype.kind == "b" else not_equal(tensor, 0)
    return tuple(replicated(places, tensor) for places in np.nonzero(whole(mask, "nonzero", remedy)))
