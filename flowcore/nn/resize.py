"""Spatial dimensions brought to other lengths: adaptive pooling, over windows that divide them, and interpolation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import floor
from typing import SupportsIndex

import numpy as np

from flowcore.dispatch import asarray
from flowcore.errors import FlowcoreError, ShapeError
from flowcore.nn.arrays import takes_arrays
from flowcore.nn.pooling import avg_pool, max_pool
from flowcore.nn.spatial import Lengths, batched_input
from flowcore.op import Array
from flowcore.ops.argument import argmax
from flowcore.ops.cast import floating
from flowcore.ops.gather import take, take_along_axis
from flowcore.ops.selection import where
from flowcore.tensor import Tensor

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@takes_arrays
def adaptive_avg_pool(x: Tensor, output_size: int | Sequence[int | None], *, spatial: int) -> Tensor:
    """Row p of n is the mean of the rows floor(p·length/n) … ceil((p+1)·length/n) − 1 of x; None keeps a length."""
    (x,) = floating(x)
    return _adaptive(x, output_size, spatial, avg_pool, _means)


@takes_arrays
def adaptive_max_pool(x: Tensor, output_size: int | Sequence[int | None], *, spatial: int) -> Tensor:
    """Row p of n is the greatest of the rows floor(p·length/n) … ceil((p+1)·length/n) − 1 of x; None keeps a length."""
    return _adaptive(x, output_size, spatial, max_pool, _greatest)


def _adaptive(
    x: Tensor,
    output_size: int | Sequence[int | None],
    spatial: int,
    regular: Callable[..., Tensor],
    along: Callable[[Tensor, int, Array, Array], Tensor],
) -> Tensor:
    """Windows of equal lengths are ordinary pooling; the others are gathered, one dimension after the other."""
    x, is_single = batched_input(x, spatial, "adaptive pooling")
    given = (output_size,) * spatial if isinstance(output_size, SupportsIndex) else tuple(output_size)
    if len(given) != spatial or any(size is not None and size < 1 for size in given) or 0 in x.shape[2:]:
        raise ShapeError(f"adaptive pooling of {x.shape} to {output_size!r}: give {spatial} lengths >= 1 (or None)")
    sizes = [length if size is None else size for size, length in zip(given, x.shape[2:], strict=True)]
    if all(length % size == 0 for size, length in zip(sizes, x.shape[2:], strict=True)):
        taps = tuple(length // size for size, length in zip(sizes, x.shape[2:], strict=True))
        x = regular(x, taps, spatial=spatial)
    else:
        for axis, size in enumerate(sizes, 2):
            start = np.arange(size) * x.shape[axis] // size
            count = -(-(np.arange(size) + 1) * x.shape[axis] // size) - start
            x = along(x, axis, start, count)
    return x.reshape(x.shape[1:]) if is_single else x


def _windows(x: Tensor, axis: int, start: Array, count: Array) -> Tensor:
    """x with `axis` as (windows, rows of a window); a shorter window repeats its last row."""
    offset = np.minimum(np.arange(count.max()), count[:, None] - 1)
    rows = take(x, asarray((start[:, None] + offset).reshape(-1), placement=x.placement), axis=axis)
    return rows.reshape((*x.shape[:axis], *offset.shape, *x.shape[axis + 1 :]))


def _means(x: Tensor, axis: int, start: Array, count: Array) -> Tensor:
    rows, inner = _windows(x, axis, start, count), (1,) * (x.ndim - axis - 1)
    own = (np.arange(count.max()) < count[:, None]).reshape(*rows.shape[axis : axis + 2], *inner)
    sums = where(asarray(own, placement=x.placement), rows, 0).sum(axis=axis + 1)
    return sums / asarray(count.astype(x.dtype).reshape(-1, *inner), placement=x.placement)


def _greatest(x: Tensor, axis: int, start: Array, count: Array) -> Tensor:
    rows = _windows(x, axis, start, count)
    first = argmax(rows.detach(), axis=axis + 1, keepdims=True)
    picked = take_along_axis(rows, first, axis=axis + 1)
    return picked.reshape((*picked.shape[: axis + 1], *picked.shape[axis + 2 :]))


@takes_arrays
def interpolate(
    x: Tensor,
    size: Lengths | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool = False,
) -> Tensor:
    """x (n, channels, …) with spatial dimensions of lengths `size`, or `scale_factor` times as long, rounded down.

    mode: "nearest"; "linear", "bilinear", "trilinear" (for 1, 2, 3 dimensions); "bicubic" (2; Keys, 1981, a = −0.75);
    "area" (the mean). align_corners: the outermost rows, else the outermost edges, of both coincide.
    """
    spatial = x.ndim - 2
    if spatial not in LINEAR or (size is None) == (scale_factor is None):
        raise ShapeError(f"interpolate of shape {x.shape}: it takes (n, channels, …), and either size or scale_factor")
    if mode not in ("nearest", "area", "bicubic", *LINEAR.values()):
        raise FlowcoreError(f"unknown mode {mode!r}: choose 'nearest', 'area', 'bicubic', or {LINEAR[spatial]!r}")
    if (mode in LINEAR.values() and mode != LINEAR[spatial]) or (mode == "bicubic" and spatial != 2):
        raise FlowcoreError(f"mode {mode!r} of {spatial} spatial dimensions: choose {LINEAR[spatial]!r} or 'nearest'")
    if align_corners and mode in ("nearest", "area"):
        raise FlowcoreError(f"align_corners with mode {mode!r}: it speaks of linear and cubic interpolation only")
    lengths, scales = _targets(x.shape[2:], size, scale_factor)
    if mode == "area":
        return adaptive_avg_pool(x, lengths, spatial=spatial)
    if mode != "nearest":
        (x,) = floating(x)
    taps = {"nearest": _nearest, "bicubic": _cubic}.get(mode, _linear)
    for axis, (length, scale) in enumerate(zip(lengths, scales, strict=True), 2):
        old = x.shape[axis]
        ratio = ((old - 1) / (length - 1) if length > 1 else 0.0) if align_corners else scale
        source = np.arange(length) * ratio if align_corners else (np.arange(length) + 0.5) * ratio - 0.5
        if mode == "nearest":
            source = np.arange(length) * ratio
        if length != old or align_corners or scale != 1:
            x = _mixed(x, axis, taps(source, old))
    return x


def _targets(
    old: Sequence[int], size: Lengths | None, factor: float | Sequence[float] | None
) -> tuple[list[int], list[float]]:
    """(lengths, old rows per new row)."""
    given = size if size is not None else factor
    every = list(given) if isinstance(given, Sequence) else [given] * len(old)
    if len(every) != len(old) or any(item is None or item <= 0 for item in every):
        raise ShapeError(f"interpolate to {given!r}: give a positive number, or one for each of {len(old)} dimensions")
    if size is not None:
        lengths = [int(length) for length in every if length is not None]
        return lengths, [before / after for before, after in zip(old, lengths, strict=True)]
    factors = [float(item) for item in every if item is not None]
    lengths = [floor(before * item) for before, item in zip(old, factors, strict=True)]
    if min(lengths) < 1:
        raise ShapeError(f"interpolate of {tuple(old)} by {given!r}: no row is left; give a larger factor")
    return lengths, [1 / item for item in factors]


def _nearest(source: Array, length: int) -> list[tuple[Array, Array | None]]:
    return [(np.minimum(np.floor(source), length - 1).astype(np.int64), None)]


def _linear(source: Array, length: int) -> list[tuple[Array, Array | None]]:
    """(rows, weights) of the two neighbours of every place."""
    source = np.maximum(source, 0)
    low = np.minimum(np.floor(source), length - 1).astype(np.int64)
    share = source - low
    return [(low, 1 - share), (np.minimum(low + 1, length - 1), share)]


def _cubic(source: Array, length: int) -> list[tuple[Array, Array | None]]:
    """(rows, weights) of the four neighbours of every place."""
    low, a = np.floor(source), -0.75
    taps: list[tuple[Array, Array | None]] = []
    for offset in (-1, 0, 1, 2):
        d = np.abs(source - low - offset)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        rows = np.clip(low + offset, 0, length - 1).astype(np.int64)
        taps.append((rows, np.where(d <= 1, near, far)))
    return taps


def _mixed(x: Tensor, axis: int, taps: list[tuple[Array, Array | None]]) -> Tensor:
    """Σ over taps of the rows of x along `axis`, weighted."""
    total: Tensor | None = None
    for rows, weights in taps:
        part = take(x, asarray(rows, placement=x.placement), axis=axis)
        if weights is not None:
            shaped = weights.astype(x.dtype).reshape(-1, *(1,) * (x.ndim - axis - 1))
            part = part * asarray(shaped, placement=x.placement)
        total = part if total is None else total + part
    assert total is not None
    return total


adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = (
    partial(adaptive_avg_pool, spatial=spatial) for spatial in (1, 2, 3)
)
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = (
    partial(adaptive_max_pool, spatial=spatial) for spatial in (1, 2, 3)
)
