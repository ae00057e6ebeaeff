"""Normalizations: centred and scaled to variance one over some dimensions, then weighted.

The statistics are those of the whole tensor: where it is split, sums cross ranks, never the elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from flowcore.dtypes import is_float, limits
from flowcore.errors import DTypeError, ShapeError
from flowcore.nn.arrays import takes_arrays
from flowcore.ops.unary import sqrt
from flowcore.tensor import Tensor


def normalized(x: Tensor, axes: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """((x − mean) / sqrt(variance + eps), mean, variance) over `axes`, which are kept; divided by the count."""
    mean = x.mean(axis=axes, keepdims=True)
    centred = x - mean
    variance = (centred * centred).mean(axis=axes, keepdims=True)
    return centred / sqrt(variance + eps), mean, variance


@takes_arrays
def layer_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """(x − mean) / sqrt(var + eps) · weight + bias over the last dimensions, which have lengths `shape`.

    Ba, Kiros and Hinton, arXiv:1607.06450; the variance divides by the number of elements.
    """
    y, _, _ = normalized(x, _last(x, shape, "layer_norm"), eps)
    return _weighted(y, weight, bias)


@takes_arrays
def rms_norm(x: Tensor, shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """x / sqrt(mean(x²) + eps) · weight over the last dimensions, which have lengths `shape` (arXiv:1910.07467).

    eps: None, the least that makes a difference to 1 in the dtype of x.
    """
    if not is_float(x.dtype):
        raise DTypeError(f"rms_norm of {x.dtype}: takes floating dtypes; cast with astype")
    eps = float(limits(x.dtype).eps) if eps is None else eps
    y = x / sqrt((x * x).mean(axis=_last(x, shape, "rms_norm"), keepdims=True) + eps)
    return _weighted(y, weight, None)


@takes_arrays
def group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """x (n, channels, …) normalized over each of `groups` equal groups of channels of each sample (arXiv:1803.08494).

    weight, bias: (channels,).
    """
    if x.ndim < 2 or groups < 1 or x.shape[1] % groups:
        raise ShapeError(f"group_norm of {x.shape} in {groups} groups: they must divide the channels, dimension 1")
    parts = x.reshape((x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
    y, _, _ = normalized(parts, tuple(range(2, parts.ndim)), eps)
    return _weighted(y.reshape(x.shape), _by_channel(weight, x), _by_channel(bias, x))


@takes_arrays
def instance_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """x (n, channels, …) normalized over the spatial dimensions of each channel of each sample (arXiv:1607.08022)."""
    if x.ndim < 3 or prod(x.shape[2:]) < 2:
        raise ShapeError(f"instance_norm of {x.shape}: every channel needs at least 2 spatial elements")
    y, _, _ = normalized(x, tuple(range(2, x.ndim)), eps)
    return _weighted(y, _by_channel(weight, x), _by_channel(bias, x))


@takes_arrays
def batch_norm(
    x: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """x (n, channels, …) with these statistics of every channel; None: those of x, over all but the channels.

    Ioffe and Szegedy, arXiv:1502.03167. mean, variance, weight, bias: (channels,).
    """
    if mean is None or variance is None:
        return batch_statistics(x, weight, bias, eps)[0]
    y = (x - mean.reshape(_channels(x))) / sqrt(variance.reshape(_channels(x)) + eps)
    return _weighted(y, _by_channel(weight, x), _by_channel(bias, x))


def batch_statistics(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(`batch_norm` with x's own statistics, its mean, its variance divided by the count less one); of each channel."""
    axes = (0, *range(2, x.ndim))
    count = prod(x.shape[axis] for axis in axes if axis < x.ndim)
    if x.ndim < 2 or count < 2:
        raise ShapeError(f"the statistics of a batch of shape {x.shape}: every channel needs at least 2 elements")
    y, mean, variance = normalized(x, axes, eps)
    y = _weighted(y, _by_channel(weight, x), _by_channel(bias, x))
    channels = x.shape[1:2]
    return y, mean.reshape(channels), variance.reshape(channels) * (count / (count - 1))


def _last(x: Tensor, shape: Sequence[int], name: str) -> tuple[int, ...]:
    """The axes of the last dimensions, which must have lengths `shape`."""
    last = tuple(shape)
    if not last or x.shape[-len(last) :] != last:
        raise ShapeError(f"{name} over the last dimensions {last} does not fit shape {x.shape}")
    return tuple(range(x.ndim - len(last), x.ndim))


def _channels(x: Tensor) -> tuple[int, ...]:
    return (x.shape[1], *(1,) * (x.ndim - 2))


def _by_channel(weight: Tensor | None, x: Tensor) -> Tensor | None:
    if weight is None:
        return None
    if weight.shape != x.shape[1:2]:
        raise ShapeError(f"a weight of shape {weight.shape} for {x.shape}: it needs one element per channel")
    return weight.reshape(_channels(x))


def _weighted(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias
