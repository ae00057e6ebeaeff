"""What users write about spatial dimensions (an int for all or one for each, padding by name) → one value for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index
from typing import Literal, SupportsIndex

from flowcore.declared import Length, Sizes
from flowcore.errors import FlowcoreError, ShapeError
from flowcore.tensor import Tensor

Lengths = int | Sequence[int]
Padding = Literal["valid", "same"] | Sizes | Sequence[tuple[Length, Length]]


def per_dimension(value: Lengths, spatial: int, what: str, least: int = 1) -> tuple[int, ...]:
    """`value` for each of `spatial` dimensions; ShapeError unless there are so many, each an int >= `least`."""
    try:
        given = tuple(index(item) for item in (value if isinstance(value, Iterable) else (value,) * spatial))
    except TypeError:
        given = ()
    if len(given) != spatial or min(given, default=least) < least:
        raise ShapeError(f"{what} {value!r}: give an int >= {least}, or one for each of {spatial} dimensions")
    return given


def paddings(
    padding: Padding, taps: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """(before, after) for every spatial dimension.

    padding: ints, pairs (before, after), "valid" (none), or "same" (as many rows come out as go in; stride 1 only).
    """
    spatial = len(taps)
    match padding:
        case "valid":
            return ((0, 0),) * spatial
        case "same":
            if any(stride != 1 for stride in strides):
                raise FlowcoreError(f"padding 'same' with stride {strides}: it is defined for stride 1; give numbers")
            totals = [dilation * (tap - 1) for tap, dilation in zip(taps, dilations, strict=True)]
            return tuple((total // 2, total - total // 2) for total in totals)
        case str():
            raise FlowcoreError(f"unknown padding {padding!r}: choose 'same', 'valid', ints or pairs")
        case SupportsIndex():
            return ((per_dimension(padding, 1, "padding", 0)[0],) * 2,) * spatial
    pairs = tuple((side, side) if isinstance(side, SupportsIndex) else tuple(side) for side in padding)
    if len(pairs) != spatial or any(len(pair) != 2 or min(pair) < 0 for pair in pairs):
        raise ShapeError(f"padding {padding!r}: give an int >= 0 or a pair of them for each of {spatial} dimensions")
    return tuple((before, after) for before, after in pairs)


def rows_of(
    name: str,
    lengths: Sequence[int],
    taps: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    pads: tuple[tuple[int, int], ...],
    is_ceil: bool = False,
) -> tuple[int, ...]:
    """How many rows come out of every spatial dimension; ShapeError where the kernel is longer than what it slides on.

    is_ceil: a last window may begin inside and end outside (it never begins behind the input and its padding before).
    """
    found = []
    for length, tap, stride, dilation, (before, after) in zip(lengths, taps, strides, dilations, pads, strict=True):
        room = length + before + after - dilation * (tap - 1) - 1
        if room < 0:
            raise ShapeError(
                f"{name} of spatial shape {tuple(lengths)}: {tap} taps at distance {dilation} do not fit "
                f"{length} + {before} + {after} rows; pad more"
            )
        rows = -(-room // stride) + 1 if is_ceil else room // stride + 1
        found.append(rows - 1 if is_ceil and (rows - 1) * stride >= length + before else rows)
    return tuple(found)


def batched_input(x: Tensor, spatial: int, name: str) -> tuple[Tensor, bool]:
    """x as (n, channels, …), and whether it came without n."""
    if x.ndim not in (spatial + 1, spatial + 2):
        raise ShapeError(
            f"{name} of shape {x.shape}: takes (n, channels, …) or (channels, …), … of {spatial} dimensions"
        )
    return (x, False) if x.ndim == spatial + 2 else (x.reshape((1, *x.shape)), True)
