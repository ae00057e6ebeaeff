"""Tensors in the form of others: constants of their shape, dtype and layout, and grids of their coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowcore.dispatch import located, operands
from flowcore.errors import ShapeError
from flowcore.op import function
from flowcore.ops.cast import aligned
from flowcore.ops.create import full
from flowcore.ops.elementwise import broadcast_shape
from flowcore.ops.shape import broadcast_to, reshape
from flowcore.placement.layout import Shape
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import B, Partial, SbpLike
from flowcore.tensor import Tensor, TensorLike

__all__ = [
    "broadcast_arrays", "broadcast_shapes", "empty_like", "full_like", "meshgrid", "ones_like", "zeros_like",
]  # fmt: skip


@function
def full_like(
    x: TensorLike,
    /,
    fill_value: TensorLike,
    *,
    dtype: Any = None,
    device: Any = None,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """`fill_value` everywhere, in the shape, dtype, placement and (where it is known and not partial) layout of x."""
    (tensor,) = operands(x)
    place = located(device, placement)
    if place in (None, tensor.placement) and sbp is None and tensor.value.sbp is not None:
        sbp = tuple(B if isinstance(part, Partial) else part for part in tensor.sbp)
    return full(
        tensor.shape,
        fill_value,
        dtype=tensor.dtype if dtype is None else dtype,
        placement=tensor.placement if place is None else place,
        sbp=sbp,
    )


@function
def zeros_like(
    x: TensorLike,
    /,
    *,
    dtype: Any = None,
    device: Any = None,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """0 everywhere, in the shape, dtype, placement and layout of x."""
    return full_like(x, 0, dtype=dtype, device=device, placement=placement, sbp=sbp)


@function
def ones_like(
    x: TensorLike,
    /,
    *,
    dtype: Any = None,
    device: Any = None,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """1 everywhere, in the shape, dtype, placement and layout of x."""
    return full_like(x, 1, dtype=dtype, device=device, placement=placement, sbp=sbp)


@function
def empty_like(
    x: TensorLike,
    /,
    *,
    dtype: Any = None,
    device: Any = None,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """A tensor to be assigned to, in the form of x; until then 0 everywhere."""
    return full_like(x, 0, dtype=dtype, device=device, placement=placement, sbp=sbp)


def broadcast_shapes(*shapes: Sequence[int]) -> Shape:
    """The shape to which tensors of these shapes broadcast against each other."""
    return broadcast_shape("broadcast", [tuple(shape) for shape in shapes]) if shapes else ()


def broadcast_arrays(*arrays: TensorLike) -> list[Tensor]:
    """The tensors, broadcast against each other to one shape; each keeps its dtype."""
    tensors = operands(*arrays)
    shape = broadcast_shapes(*(tensor.shape for tensor in tensors))
    return [broadcast_to(tensor, shape) for tensor in tensors]


def meshgrid(*arrays: TensorLike, indexing: str = "xy") -> list[Tensor]:
    """For coordinates along every axis, the coordinates of all points of their grid, one tensor per axis.

    indexing: "ij", axis i of the grid is argument i; "xy", the first two are swapped.
    """
    if indexing not in ("xy", "ij"):
        raise ShapeError(f"meshgrid with indexing {indexing!r}: give 'xy' or 'ij'")
    tensors = aligned(*arrays) if arrays else ()
    if any(tensor.ndim > 1 for tensor in tensors):
        raise ShapeError(f"meshgrid of shapes {[tensor.shape for tensor in tensors]}: give one dimension each")
    order = list(range(len(tensors)))
    if indexing == "xy" and len(tensors) > 1:
        order[:2] = (1, 0)
    shape = tuple(tensors[argument].size for argument in order)
    lines = [tuple(-1 if other == argument else 1 for other in order) for argument in range(len(tensors))]
    return [
        broadcast_to(reshape(tensor, tuple(tensor.size if length == -1 else 1 for length in line)), shape)
        for tensor, line in zip(tensors, lines, strict=True)
    ]
