"""The logarithm of a sum of exponentials, without overflow."""

from __future__ import annotations

from collections.abc import Sequence

from flowcore.dtypes import complex64, complex128
from flowcore.errors import DTypeError
from flowcore.op import function
from flowcore.ops.axes import axes_of
from flowcore.ops.cast import floating
from flowcore.ops.comparison import equal, isfinite
from flowcore.ops.reduce import max, sum
from flowcore.ops.selection import where
from flowcore.ops.shape import squeeze
from flowcore.ops.unary import exp, log
from flowcore.tensor import Tensor, TensorLike

__all__ = ["logsumexp"]


@function
def logsumexp(x: TensorLike, /, *, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
    """log Σ e^x over `axis` (None: all); -inf, with gradient 0, where all elements are -inf."""
    (tensor,) = floating(x)
    if tensor.dtype in (complex64, complex128):
        raise DTypeError(f"logsumexp of {tensor.dtype}: takes real numbers; use log of a sum of exp")
    axes = axes_of(axis, tensor.ndim, "logsumexp")
    # the greatest element is a constant: what is taken out is put back, so it has no part in the gradient
    greatest = max(tensor.detach(), axis=axes, keepdims=True)
    level = where(isfinite(greatest), greatest, 0)
    total = sum(exp(tensor - level), axis=axes, keepdims=True)
    is_none = equal(total, 0)
    found = where(is_none, float("-inf"), log(where(is_none, 1, total)) + level)
    return found if keepdims else squeeze(found, axis=axes)
