"""Rows of a table picked by integer indices; `scatter_add` is the transpose.

Split along the table's axis, a rank knows only the rows start..start + rows of `total`: it takes zeros for the others,
so that the results sum up to the whole (`P`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from math import prod
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import operands
from flowcore.dtypes import bool_, float64, int64, zero_of
from flowcore.errors import DTypeError, ShapeError
from flowcore.jit.launch import Launch
from flowcore.jit.rows import take as take_rows
from flowcore.jit.source import NAMES
from flowcore.op import OPS, Array, Block, Op, Sample, Type, function, operator
from flowcore.ops.axes import axis_of
from flowcore.ops.call import apply
from flowcore.ops.rows import pick, positions
from flowcore.ops.shape import broadcast_to, permute_dims, reshape
from flowcore.placement.layout import Shape
from flowcore.placement.signature import Algebra, Equation
from flowcore.tensor import Tensor, TensorLike

__all__ = ["take", "take_along_axis"]

CASES: tuple[tuple[Shape, Shape, int, int], ...] = (
    # table, indices, axis, batch
    ((5, 7), (4,), 0, 0), ((5, 7), (3, 4), 0, 0), ((3, 5, 4), (7,), 1, 0), ((5, 7), (), 1, 0),
    ((5, 7), (5,), 1, 1), ((3, 7, 2, 5), (3, 4), 2, 1),
)  # fmt: skip


def terms_of(ndim: int, axis: int, batch: int, places: int) -> tuple[str, str, str]:
    """The letters of a table of `ndim` dimensions, of the indices (`places` beyond the batch) and of the rows."""
    names = "abcdefghijklmnopqrstuvwxyz"
    table, others = names[:ndim], names[ndim : ndim + places]
    return table, table[:batch] + others, table[:axis] + others + table[axis + 1 :]


@operator
class Take(Op):
    """y[b, p, i, q] = table[b, p, index[b, i], q], where b are the `batch` leading dimensions and n is at `axis`.

    The table holds the rows from `start` on of `total`; -1: all.
    """

    axis: int
    batch: int = 0
    start: int = 0
    total: int = -1

    name: ClassVar[str] = "take"
    makes_memory: ClassVar[bool] = True
    writes: ClassVar[bool] = True

    def infer(self, table: Type, indices: Type) -> tuple[Type, ...]:
        if indices.dtype.kind not in "iu":
            raise DTypeError(f"take with indices of {indices.dtype}: they must be integers; cast with astype")
        if not self.batch <= self.axis < table.ndim or indices.shape[: self.batch] != table.shape[: self.batch]:
            raise ShapeError(
                f"take along axis {self.axis} of {table.shape} by {indices.shape}: the first {self.batch} dimensions "
                f"must be equal and the axis beyond them; permute or broadcast the operands"
            )
        shape = table.shape[: self.axis] + indices.shape[self.batch :] + table.shape[self.axis + 1 :]
        return (Type(shape, table.dtype),)

    def equation(self, table: Type, indices: Type) -> Equation:
        first, second, result = terms_of(table.ndim, self.axis, self.batch, indices.ndim - self.batch)
        return Equation((first, second), (result,))

    def properties(self, table: Type, indices: Type) -> Algebra:
        # rows that a rank does not hold are zeros: of booleans that is the identity of max
        return Algebra(selects=(frozenset({0}),), reduction="max" if table.dtype == bool_ else "sum")

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        (low, high), total = inputs[0].box[self.axis], inputs[0].shape[self.axis]
        if (low, high) == (0, total):
            return self
        return replace(self, start=self.start + low, total=total if self.total < 0 else self.total)

    def checks(self, types: Sequence[Type]) -> tuple[int, tuple[Hashable, ...]]:
        return 1, (("index", types[0].shape[self.axis] if self.total < 0 else self.total),)

    def kernel(self, table: Array, indices: Array) -> Any:
        rows = table.shape[self.axis]
        total = rows if self.total < 0 else self.total
        places = positions(indices, total, self.name)
        if rows == total:
            return pick(table, places, self.axis, self.batch)
        places = places.astype(np.int64) - self.start
        held = (places >= 0) & (places < rows)
        nothing = zero_of(table.dtype)
        if rows == 0:
            return np.full(self.infer(_type(table), _type(indices))[0].shape, nothing, table.dtype)
        picked = pick(table, np.where(held, places, 0), self.axis, self.batch)
        after = table.ndim - self.axis - 1
        before = self.axis - self.batch
        mask = held.reshape(held.shape[: self.batch] + (1,) * before + held.shape[self.batch :] + (1,) * after)
        return np.where(mask, picked, nothing)

    def write(self, results: Sequence[Array | None], table: Array, indices: Array) -> Array:
        (memory,) = results
        assert memory is not None
        rows = table.shape[self.axis]
        if rows == 0 or rows != (rows if self.total < 0 else self.total) or self.batch:
            np.copyto(memory, self.kernel(table, indices))
        else:
            # places are in range; with another mode than "clip" numpy would make the result first and copy it
            np.take(table, positions(indices, rows, self.name), axis=self.axis, out=memory, mode="clip")
        return memory

    def vjp(self, dy: Tensor, table: Tensor, indices: Tensor) -> Any:
        scatter: Any = OPS["scatter_add"]
        found = apply(scatter(axis=self.axis, length=table.shape[self.axis], batch=self.batch), dy, indices)
        if self.axis == 0:
            found.scattered = indices, dy
        return found, None

    def launch(self, types: Sequence[Type]) -> Launch | None:
        table, indices = types
        return rows_launch(take_rows, self, table, indices, table.shape[self.axis])

    def flops(self, *types: Type) -> int:
        return 0

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        if all(flags):
            return replace(self, axis=self.axis + 1, batch=self.batch + 1)
        if self.batch:
            return None
        if flags[0]:
            return replace(self, axis=self.axis + 1)
        return self if self.axis == 0 else None

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        def sample(case: tuple[Shape, Shape, int, int], dtype: Any, draw: str) -> Sample:
            table, indices, axis, batch = case
            drawn = (draw, f"index:{table[axis]}")
            return Sample(cls(axis, batch), (Type(table, dtype), Type(indices, int64)), drawn)

        floats = tuple(sample(case, float64, "normal") for case in CASES)
        return (*floats, sample(CASES[0], int64, "normal"), sample(CASES[0], bool_, "bool"))


def rows_launch(make: Callable[..., Launch], op: Any, rows: Type, indices: Type, length: int) -> Launch | None:
    """What `make` gives for an operator on the first dimension of tables of `length` rows; None: no loop is made.

    There may be a batch of tables, and indices for each.
    """
    kind, index = NAMES.get(str(rows.dtype), ""), NAMES.get(str(indices.dtype), "")
    if op.axis != op.batch or kind not in ("f4", "f8", "i4", "i8") or index not in ("i4", "i8"):
        return None
    width = prod(rows.shape[op.axis + 1 if make is take_rows else indices.ndim :])
    count, total = prod(indices.shape[op.batch :]), length if op.total < 0 else op.total
    return make(kind, index, count, width, op.start, length, total)


def _type(array: Array) -> Type:
    return Type(array.shape, array.dtype)


@function
def take(x: TensorLike, indices: TensorLike, /, *, axis: int | None = None) -> Tensor:
    """The slices of x along `axis` (None: of x flattened) at `indices`; negative ones count from the end."""
    table, places = operands(x, indices)
    if axis is None:
        table, axis = reshape(table, (table.size,)), 0
    return apply(Take(axis_of(axis, table.ndim, "take")), table, places)


@function
def take_along_axis(x: TensorLike, indices: TensorLike, /, *, axis: int = -1) -> Tensor:
    """y[…, i, …] = x[…, indices[…, i, …], …] along `axis`; all other lengths broadcast against each other."""
    table, places = operands(x, indices)
    along = axis_of(axis, table.ndim, "take_along_axis")
    if places.ndim != table.ndim:
        raise ShapeError(f"take_along_axis of {table.shape} by {places.shape}: give as many dimensions; reshape one")
    table, places = _beside(table, places, along), _beside(places, table, along)
    if along == table.ndim - 1:
        return apply(Take(along, along), table, places)
    swapped = [other for other in range(table.ndim) if other != along] + [along]
    back = tuple(int(place) for place in np.argsort(swapped))
    picked = apply(Take(table.ndim - 1, table.ndim - 1), permute_dims(table, swapped), permute_dims(places, swapped))
    return permute_dims(picked, back)


def _beside(x: Tensor, other: Tensor, axis: int) -> Tensor:
    """`x` with lengths of 1 repeated to those of `other`, but along `axis`."""
    lengths = zip(x.shape, other.shape, strict=True)
    shape = (mine if place == axis or mine != 1 else theirs for place, (mine, theirs) in enumerate(lengths))
    return broadcast_to(x, tuple(shape))
