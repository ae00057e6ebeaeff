"""Tensors as other programs hold them: DLPack in and out, pickles, copies.

A tensor shares the memory of this rank's block where that is the whole value; its readers must not write to it, since
a tensor is a value.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from flowcore.capsules import array_of, capsule_of
from flowcore.dispatch import asarray, gathered, located
from flowcore.dtypes import as_dtype
from flowcore.errors import CopyError, GradError, PlacementError, TraceError
from flowcore.graph import Value
from flowcore.op import Array, Type, function
from flowcore.ops.alias import fresh
from flowcore.placement.layout import Layout, sbp_text
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import SbpLike
from flowcore.tensor import Tensor
from flowcore.tree import replaced
from flowcore.world import current

__all__ = ["from_dlpack"]

CPU = (1, 0)
"""DLPack's name for main memory."""
READ_ONLY = (1, 0)
"""The version of DLPack that knows memory that is only to be read."""
T = TypeVar("T", bound=Tensor)


def from_dlpack(
    x: Any,
    /,
    *,
    device: Any = None,
    copy: bool | None = None,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """A tensor of the array `x` of any library with `__dlpack__`, in its memory unless `copy`.

    On several ranks each passes the same value, as to `asarray`.
    """
    place = located(device, placement)
    if isinstance(x, Tensor):
        return asarray(x, placement=place, sbp=sbp, copy=copy)
    if not hasattr(x, "__dlpack__"):
        raise CopyError(f"from_dlpack of {type(x).__name__}: it has no __dlpack__; use asarray")
    try:
        array = array_of(x)
    except Exception as error:  # another library raises what it likes
        raise CopyError(f"from_dlpack of {type(x).__name__}: {error}") from error
    return asarray(array, placement=place, sbp=sbp, copy=bool(copy))


@function
def to_dlpack(x: Tensor, max_version: Any, dl_device: Any, copy: bool | None) -> Any:
    """A DLPack capsule of the whole value, in the tensor's memory and read-only unless `copy`.

    Readers before DLPack 1.0 cannot be told not to write: what must not be written to is copied for them.
    """
    if dl_device not in (None, CPU):
        raise CopyError(f"a tensor cannot be exported to device {dl_device}: it lives in main memory, {CPU}")
    if max_version is not None and max_version >= READ_ONLY and not copy:
        return capsule_of(whole(x), max_version=max_version)
    block = x.numpy() if copy else _shared(x)
    if not block.flags.writeable:
        if copy is False:
            raise CopyError("this memory is only to be read, which a reader before DLPack 1.0 cannot know: let it copy")
        block = block.copy()
    return capsule_of(block, max_version=max_version)


@function
def whole(x: Tensor) -> Array:
    """The whole value, read-only, in this rank's memory if it is there; collective over the placement if not."""
    view = _shared(x)
    view.flags.writeable = False
    return view


@function
def exported(tree: Any) -> Any:
    """`tree` with arrays for the tensors in it, read-only, because a tensor is a value."""
    return replaced(tree, (Tensor,), whole)


def _shared(x: Tensor) -> Array:
    x._own_block("a view of the whole value")
    return np.asarray(gathered(x).block).view()


@function
def reduced(x: Tensor) -> tuple[Any, ...]:
    """How to pickle this rank's part of `x`: its block and its layout, and whether it is a variable."""
    if x.trace is not None:
        raise TraceError("a tensor of a traced function has no value to pickle: return it from the function first")
    is_variable = x.requires_grad and x.is_leaf
    sbp = sbp_text(x.sbp)
    return rebuilt, (type(x), x.shape, x.dtype.name, x.placement, sbp, x.block, current().rank, is_variable)


def rebuilt(
    kind: type[T],
    shape: tuple[int, ...],
    dtype: str,
    placement: Placement,
    sbp: str,
    block: Array | None,
    rank: int,
    is_variable: bool,
) -> T:
    """The tensor pickled by `rank`; PlacementError where this world has no such placement, or this is another rank.

    The block of a replicated tensor is the same on every rank.
    """
    world = current()
    world.check(placement)
    layout = Layout(placement, sbp).of(len(shape))
    mine = world.rank in placement
    if world.rank != rank and not (layout.is_broadcast and (block is not None or not mine)):
        raise PlacementError(
            f"a block of {layout} pickled on rank {rank} was loaded on rank {world.rank}, which holds another: "
            f"load it on the same rank, or pickle x.numpy()"
        )
    value = Value(Type(shape, as_dtype(dtype)), placement, layout.sbp)
    return _made(kind, value, block if mine else None, is_variable)


def _made(kind: type[T], value: Value, block: Array | None, is_variable: bool) -> T:
    made = kind.__new__(kind)
    Tensor.__init__(made, value, block)
    made._requires_grad = is_variable
    return made


@function
def copied(x: T, deep: bool) -> T | Tensor:
    """A tensor of the same class with the same value; of a variable (a leaf) also a variable, with its gradient."""
    if not x.is_leaf:
        if deep:
            raise GradError("a deep copy of a tensor computed from variables would copy how it was: detach() it first")
        return fresh(x)
    if x.trace is not None or current().trace is not None:
        return fresh(x)
    block = x.block if x.block is None or not deep else np.array(x.block)
    made = _made(type(x), x.value, block, x.requires_grad)
    made._grad = x._grad if x._grad is None or not deep else copied(x._grad, deep)
    return made
