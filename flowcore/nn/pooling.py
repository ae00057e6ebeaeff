"""Pooling over one, two and three spatial dimensions; arguments as in PyTorch."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

import numpy as np

from flowcore.dispatch import asarray
from flowcore.errors import FlowcoreError, ShapeError
from flowcore.nn.arrays import takes_arrays
from flowcore.nn.spatial import Lengths, Padding, batched_input, paddings, per_dimension, rows_of
from flowcore.op import Array
from flowcore.ops.axes import letters
from flowcore.ops.call import apply
from flowcore.ops.cast import floating
from flowcore.ops.convolve import Convolve
from flowcore.ops.create import ones
from flowcore.ops.pool import WindowArgMax, WindowPick
from flowcore.tensor import Tensor


@takes_arrays
def max_pool(
    x: Tensor,
    kernel_size: Lengths,
    stride: Lengths | None = None,
    padding: Padding = 0,
    dilation: Lengths = 1,
    ceil_mode: bool = False,
    *,
    spatial: int,
) -> Tensor:
    """The greatest element of every window; its gradient goes to the first of several. stride: None, the kernel size.

    x: (n, channels, …) or without n. Padding is never greatest; it is at most half the kernel, so that no window is
    all padding. ceil_mode: a last window may reach beyond the padding.
    """
    taps = per_dimension(kernel_size, spatial, "kernel_size")
    x, is_single = batched_input(x, spatial, "max pooling")
    strides = taps if stride is None else per_dimension(stride, spatial, "stride")
    dilations = per_dimension(dilation, spatial, "dilation")
    pads = _pads(padding, taps, strides, dilations)
    rows = rows_of("max pooling", x.shape[2:], taps, strides, dilations, pads, ceil_mode)
    before = tuple(pad for pad, _ in pads)
    taken = apply(WindowArgMax(taps, rows, strides, dilations, before), x.detach())
    y = apply(WindowPick(taps, rows, strides, dilations, before), x, taken)
    return y.reshape(y.shape[1:]) if is_single else y


@takes_arrays
def avg_pool(
    x: Tensor,
    kernel_size: Lengths,
    stride: Lengths | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    spatial: int,
) -> Tensor:
    """The mean of every window. stride: None, the kernel size.

    x: (n, channels, …) or without n. The sum is divided by the elements of the window: those of x and, if
    count_include_pad, of the padding (never of what ceil_mode adds behind it); or by divisor_override.
    """
    taps = per_dimension(kernel_size, spatial, "kernel_size")
    (x,) = floating(x)
    x, is_single = batched_input(x, spatial, "average pooling")
    strides = taps if stride is None else per_dimension(stride, spatial, "stride")
    once = (1,) * spatial
    pads = _pads(padding, taps, strides, once)
    rows = rows_of("average pooling", x.shape[2:], taps, strides, once, pads, ceil_mode)
    if divisor_override == 0:
        raise FlowcoreError("divisor_override=0: a sum cannot be divided by it; give another, or None")
    lead = letters(x.ndim - spatial)
    op = Convolve(f"{lead},->{lead}", "xwy", rows, strides, once, tuple(pad for pad, _ in pads))
    sums = apply(op, x, ones(taps, dtype=x.dtype, placement=x.placement))
    counts = _counts(x.shape[2:], taps, strides, pads, rows, count_include_pad)
    if divisor_override is not None or (counts == prod(taps)).all():
        y = sums * (1 / (prod(taps) if divisor_override is None else divisor_override))
    else:
        y = sums / asarray(counts.astype(x.dtype), placement=x.placement)
    return y.reshape(y.shape[1:]) if is_single else y


def _pads(padding: Padding, taps: Any, strides: Any, dilations: Any) -> tuple[tuple[int, int], ...]:
    pads = paddings(padding, taps, strides, dilations)
    for (before, after), tap, dilation in zip(pads, taps, dilations, strict=True):
        if 2 * max(before, after) > dilation * (tap - 1) + 1:
            raise ShapeError(f"padding {padding!r} is more than half of {tap} taps: a window must not be all padding")
    return pads


def _counts(lengths: Any, taps: Any, strides: Any, pads: Any, rows: Any, is_padded: bool) -> Array:
    """How many elements every window has."""
    counts = np.ones((), np.int64)
    for length, tap, stride, (before, after), count in zip(lengths, taps, strides, pads, rows, strict=True):
        start = np.arange(count) * stride - before
        low, high = (-before, length + after) if is_padded else (0, length)
        own = np.minimum(start + tap, high) - np.maximum(start, low)
        counts = counts[..., None] * own
    return counts


max_pool1d, max_pool2d, max_pool3d = (partial(max_pool, spatial=spatial) for spatial in (1, 2, 3))
avg_pool1d, avg_pool2d, avg_pool3d = (partial(avg_pool, spatial=spatial) for spatial in (1, 2, 3))
