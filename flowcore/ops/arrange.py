"""Elements in other places: axes moved, elements rolled, repeated and tiled, a dimension taken apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import numpy as np

from flowcore.dispatch import asarray, operands
from flowcore.errors import DTypeError, ShapeError
from flowcore.op import Array, function
from flowcore.ops.alias import fresh
from flowcore.ops.axes import axis_of, whole_numbers
from flowcore.ops.call import apply
from flowcore.ops.gather import take
from flowcore.ops.join import concat
from flowcore.ops.shape import broadcast_to, permute_dims, reshape, squeeze
from flowcore.ops.slices import Slice
from flowcore.tensor import Tensor, TensorLike

__all__ = ["moveaxis", "ravel", "repeat", "roll", "swapaxes", "tile", "unstack"]


def part(x: Tensor, axis: int, start: int, stop: int) -> Tensor:
    """x's elements start..stop along `axis`."""
    starts = tuple(start if place == axis else 0 for place in range(x.ndim))
    lengths = tuple(stop - start if place == axis else length for place, length in enumerate(x.shape))
    return apply(Slice(starts, lengths, (1,) * x.ndim), x)


@function
def moveaxis(x: TensorLike, source: int | Sequence[int], destination: int | Sequence[int], /) -> Tensor:
    """x with the dimensions `source` at the places `destination`, the others in their order."""
    (tensor,) = operands(x)
    given, wanted = (whole_numbers(axes, "moveaxis along axis") for axes in (source, destination))
    moved = [axis_of(axis, tensor.ndim, "moveaxis") for axis in given]
    places = [axis_of(axis, tensor.ndim, "moveaxis") for axis in wanted]
    if len(moved) != len(places) or len(set(moved)) != len(moved) or len(set(places)) != len(places):
        raise ShapeError(f"moveaxis from {source} to {destination}: name as many places as axes, each once")
    at = dict(zip(places, moved, strict=True))
    rest = iter([axis for axis in range(tensor.ndim) if axis not in moved])
    return permute_dims(tensor, [at[place] if place in at else next(rest) for place in range(tensor.ndim)])


@function
def swapaxes(x: TensorLike, axis1: int, axis2: int, /) -> Tensor:
    """x with two dimensions exchanged."""
    (tensor,) = operands(x)
    first, second = (axis_of(axis, tensor.ndim, "swapaxes") for axis in (axis1, axis2))
    swapped = {first: second, second: first}
    return permute_dims(tensor, [swapped.get(axis, axis) for axis in range(tensor.ndim)])


@function
def ravel(x: TensorLike, /) -> Tensor:
    """x's elements in row-major order, in one dimension."""
    return reshape(x, (-1,)) if operands(x)[0].size else reshape(x, (0,))


@function
def roll(x: TensorLike, /, shift: int | Sequence[int], *, axis: int | Sequence[int] | None = None) -> Tensor:
    """x with every element `shift` places further along `axis` (None: in row-major order), the last ones first."""
    (tensor,) = operands(x)
    if axis is None:
        if isinstance(shift, Iterable):
            raise ShapeError(f"roll by {shift} without axis: give one shift, or as many axes")
        return reshape(roll(ravel(tensor), shift, axis=0), tensor.shape)
    shifts, axes = whole_numbers(shift, "roll by"), whole_numbers(axis, "roll along axis")
    try:
        pairs = [(int(by), int(along)) for by, along in np.broadcast(np.array(shifts, object), axes)]
    except ValueError:
        raise ShapeError(f"roll by {shift} along {axis}: give one shift per axis") from None
    rolled = tensor
    for by, along in pairs:
        place = axis_of(along, tensor.ndim, "roll")
        length = tensor.shape[place]
        cut = -by % length if length else 0
        if cut:
            rolled = concat([part(rolled, place, cut, length), part(rolled, place, 0, cut)], axis=place)
    return fresh(tensor) if rolled is tensor else rolled


@function
def repeat(x: TensorLike, repeats: int | TensorLike, /, *, axis: int | None = None) -> Tensor:
    """Every element along `axis` (None: of x in one dimension) as often as `repeats`, one number or one for each."""
    (tensor,) = operands(x)
    if axis is None:
        return repeat(ravel(tensor), repeats, axis=0)
    place = axis_of(axis, tensor.ndim, "repeat")
    length = tensor.shape[place]
    counts = _counts(repeats, length)
    if counts.ndim:
        places = np.repeat(np.arange(length), counts)
        return take(tensor, asarray(places, placement=tensor.placement), axis=place)
    before, after = tensor.shape[:place], tensor.shape[place + 1 :]
    spread = broadcast_to(reshape(tensor, (*before, length, 1, *after)), (*before, length, int(counts), *after))
    return reshape(spread, (*before, length * int(counts), *after))


def _counts(repeats: Any, length: int) -> Array:
    """How often each of `length` elements is repeated; without dimensions where all are alike."""
    counts = repeats.numpy() if isinstance(repeats, Tensor) else np.asarray(repeats)
    if counts.size and counts.dtype.kind not in "iu":
        raise DTypeError(f"repeat by {counts.dtype}: give integers")
    counts = counts.astype(np.int64).reshape(()) if counts.size == 1 else counts.astype(np.int64)
    if counts.ndim > 1 or (counts.ndim == 1 and counts.size != length):
        raise ShapeError(f"repeat of {length} elements by counts of shape {counts.shape}: give one, or one for each")
    if counts.size and counts.min() < 0:
        raise ShapeError(f"repeat {counts.min()} times: counts must not be negative")
    return counts


@function
def tile(x: TensorLike, repetitions: int | Sequence[int], /) -> Tensor:
    """x as often as `repetitions` says along each dimension; missing ones, on either side, are 1."""
    (tensor,) = operands(x)
    times = whole_numbers(repetitions, "tile by")
    if any(count < 0 for count in times):
        raise ShapeError(f"tile by {repetitions}: repetitions must not be negative")
    ndim = max(len(times), tensor.ndim)
    times = (1,) * (ndim - len(times)) + times
    lengths = (1,) * (ndim - tensor.ndim) + tensor.shape
    if prod(times) == 1:
        return fresh(reshape(tensor, lengths))
    pairs = list(zip(times, lengths, strict=True))
    apart = reshape(tensor, tuple(length for _, one in pairs for length in (1, one)))
    spread = broadcast_to(apart, tuple(length for pair in pairs for length in pair))
    return reshape(spread, tuple(count * length for count, length in pairs))


@function
def unstack(x: TensorLike, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of x along `axis`, without that dimension."""
    (tensor,) = operands(x)
    place = axis_of(axis, tensor.ndim, "unstack")
    return tuple(squeeze(part(tensor, place, at, at + 1), place) for at in range(tensor.shape[place]))
