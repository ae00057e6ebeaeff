"""Where new tensors go: default placements, and global tensors made of the blocks that ranks already hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from flowcore.dispatch import checksum, default_layout, to_numpy
from flowcore.dtypes import as_dtype
from flowcore.errors import DTypeError, PlacementError, ShapeError, TraceError
from flowcore.graph import Value
from flowcore.op import Type
from flowcore.placement.layout import Layout, Shape, box_shape
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import Broadcast, SbpLike, Split
from flowcore.tensor import Tensor
from flowcore.world import current


@contextmanager
def use(placement: Placement, sbp: SbpLike = "B") -> Iterator[None]:
    """Inside, tensors are created on `placement` and laid out as `sbp` unless they say otherwise."""
    world = current()
    world.check(placement)
    world.defaults.append(Layout(placement, sbp))
    try:
        yield
    finally:
        world.defaults.pop()


def from_local(
    block: Any,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
    shape: Sequence[int] | None = None,
    dtype: Any = None,
) -> Tensor:
    """The tensor whose block on this rank is `block`; collective over the placement.

    `shape`: that of the whole value; by default it follows from the blocks, which must be the balanced blocks of one
    tensor, of one dtype, and equal where the sbp says they are. Ranks outside the placement pass None, `shape` and
    `dtype`.
    """
    world = current()
    if world.trace is not None:
        raise TraceError("from_local communicates: call it outside the compiled function and pass the tensor")
    layout = default_layout(placement, sbp)
    ranks = layout.placement.ranks
    if world.rank not in layout.placement:
        return _handle(layout, shape, dtype, block)
    array = None if block is None else np.array(to_numpy(block, dtype), order="C")
    mine = None if array is None else (array.shape, str(array.dtype), checksum(array))
    stated = None if shape is None else tuple(shape)
    told = world.gather(tuple(sorted(ranks)), (mine, stated), f"from_local of {layout}")
    held = dict(zip(sorted(ranks), told, strict=True))
    value = _agreed(layout, held)
    assert array is not None
    return Tensor(value, array)


def _handle(layout: Layout, shape: Sequence[int] | None, dtype: Any, block: Any) -> Tensor:
    if block is not None or shape is None or dtype is None:
        raise PlacementError(
            f"from_local on rank {current().rank}, which is not in {layout.placement}: "
            f"call it on the ranks of the placement only, or pass block=None, shape and dtype"
        )
    return Tensor(Value(Type(tuple(shape), as_dtype(dtype)), layout.placement, layout.of(len(shape)).sbp), None)


Held = dict[int, tuple[tuple[Shape, str, int] | None, Shape | None]]


def _agreed(layout: Layout, held: Held) -> Value:
    """The value whose blocks these are; the same error on every rank where they contradict each other."""
    missing = [rank for rank, (mine, _) in held.items() if mine is None]
    if missing:
        raise PlacementError(f"ranks {missing} of {layout.placement} gave no block: every rank there must pass its own")
    blocks = {rank: mine for rank, (mine, _) in held.items() if mine is not None}
    _same({rank: mine[1] for rank, mine in blocks.items()}, "dtypes", DTypeError)
    _same({rank: len(mine[0]) for rank, mine in blocks.items()}, "numbers of dimensions", ShapeError)
    _same({rank: stated for rank, (_, stated) in held.items()}, "shapes of the whole tensor", ShapeError)
    rank, (shape, dtype, _) = next(iter(blocks.items()))
    layout = layout.of(len(shape))
    stated = held[rank][1]
    whole = _whole_shape(layout, {r: mine[0] for r, mine in blocks.items()}) if stated is None else stated
    for rank, box in layout.boxes(whole).items():
        if blocks[rank][0] != box_shape(box):
            raise ShapeError(
                f"rank {rank} gave a block of shape {blocks[rank][0]}, but of a tensor of shape {whole} laid out as "
                f"{layout} it holds {box_shape(box)} (the first ranks take the remainder): pass balanced blocks"
            )
    _equal_replicas(layout, {r: mine[2] for r, mine in blocks.items()})
    return Value(Type(whole, np.dtype(dtype)), layout.placement, layout.sbp)


def _same(said: dict[int, Any], what: str, error: type[Exception]) -> None:
    if len(set(said.values())) > 1:
        listed = ", ".join(f"rank {rank}: {value}" for rank, value in said.items())
        raise error(f"the blocks given to from_local have different {what} ({listed}): make them equal")


def _whole_shape(layout: Layout, shapes: dict[int, Shape]) -> Shape:
    """The lengths that blocks of these shapes add up to."""
    whole = list(next(iter(shapes.values())))
    for dimension in range(len(whole)):
        axes = {axis for axis, part in enumerate(layout.sbp) if part == Split(dimension)}
        total = {
            rank: shapes[rank][dimension]
            for rank, at in layout.placement.coordinates()
            if all(index == 0 for axis, index in enumerate(at) if axis not in axes)
        }
        whole[dimension] = sum(total.values())
    return tuple(whole)


def _equal_replicas(layout: Layout, checksums: dict[int, int]) -> None:
    """PlacementError where blocks that must be equal, because an axis is B, are not."""
    for axis, part in enumerate(layout.sbp):
        if not isinstance(part, Broadcast):
            continue
        for group in layout.placement.groups(axis):
            differing = [rank for rank in group if checksums[rank] != checksums[group[0]]]
            if differing:
                name = layout.placement.axes[axis]
                raise PlacementError(
                    f"ranks {[group[0], *differing]} gave different blocks, but {layout} says they are equal "
                    f"along axis {name!r}: pass equal blocks, or use P if they are terms of a sum"
                )
