"""Rows of a table picked by integer indices (`take`), and rows added into a table (`scatter_add`), its gradient.

Split along the table's axis, a rank knows only the rows start..start + rows of `total`: it takes zeros for the others,
so that the results sum up to the whole (`P`), and adds only its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import operands
from flowcore.dtypes import bool_, float64, int64
from flowcore.errors import DTypeError, ShapeError
from flowcore.op import Array, Block, Op, Sample, Type, function, operator
from flowcore.ops.axes import axis_of
from flowcore.ops.call import apply
from flowcore.ops.rows import grouped_sum, pick, positions
from flowcore.ops.shape import permute_dims, reshape
from flowcore.placement.layout import Shape
from flowcore.placement.signature import Algebra, Equation
from flowcore.tensor import Tensor, TensorLike

__all__ = ["scatter_add", "take", "take_along_axis"]

CASES: tuple[tuple[Shape, Shape, int, int], ...] = (
    # table, indices, axis, batch
    ((5, 7), (4,), 0, 0), ((5, 7), (3, 4), 0, 0), ((3, 5, 4), (7,), 1, 0), ((5, 7), (), 1, 0),
    ((5, 7), (5,), 1, 1), ((3, 7, 2, 5), (3, 4), 2, 1),
)  # fmt: skip

ONE_INDEX = tuple((f"B,P({op})->P({op})", "with one index no rows meet in a sum") for op in ("max", "min"))


def _terms(ndim: int, axis: int, batch: int, places: int) -> tuple[str, str, str]:
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
        first, second, result = _terms(table.ndim, self.axis, self.batch, indices.ndim - self.batch)
        return Equation((first, second), (result,))

    def properties(self, table: Type, indices: Type) -> Algebra:
        # rows that a rank does not hold are zeros: of booleans that is the identity of max
        return Algebra(selects=(frozenset({0}),), reduction="max" if table.dtype == bool_ else "sum")

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        (low, high), total = inputs[0].box[self.axis], inputs[0].shape[self.axis]
        if (low, high) == (0, total):
            return self
        return replace(self, start=self.start + low, total=total if self.total < 0 else self.total)

    def kernel(self, table: Array, indices: Array) -> Any:
        rows = table.shape[self.axis]
        total = rows if self.total < 0 else self.total
        places = positions(indices, total, self.name)
        if rows == total:
            return pick(table, places, self.axis, self.batch)
        places = places.astype(np.int64) - self.start
        held = (places >= 0) & (places < rows)
        if rows == 0:
            return np.zeros(self.infer(_type(table), _type(indices))[0].shape, table.dtype)
        picked = pick(table, np.where(held, places, 0), self.axis, self.batch)
        after = table.ndim - self.axis - 1
        before = self.axis - self.batch
        mask = held.reshape(held.shape[: self.batch] + (1,) * before + held.shape[self.batch :] + (1,) * after)
        return np.where(mask, picked, picked.dtype.type(0))

    def vjp(self, dy: Tensor, table: Tensor, indices: Tensor) -> Any:
        return apply(ScatterAdd(self.axis, table.shape[self.axis], self.batch), indices, dy), None

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


def _type(array: Array) -> Type:
    return Type(array.shape, array.dtype)


@operator
class ScatterAdd(Op):
    """y[b, p, n, q] = Σ_i rows[b, p, i, q] [index[b, i] = n]: the transpose of `Take` along `axis`.

    y holds the `length` rows from `start` on of `total`; -1: all.
    """

    axis: int
    length: int
    batch: int = 0
    start: int = 0
    total: int = -1

    name: ClassVar[str] = "scatter_add"
    algebra: ClassVar[Algebra] = Algebra(linear=(frozenset({1}),), reduction="sum")

    def infer(self, indices: Type, rows: Type) -> tuple[Type, ...]:
        if indices.dtype.kind not in "iu" or rows.dtype == bool_:
            raise DTypeError(f"scatter_add of {rows.dtype} by {indices.dtype}: takes numbers by integers; use astype")
        places = indices.ndim - self.batch
        found = rows.shape[: self.batch] + rows.shape[self.axis : self.axis + places]
        if found != indices.shape or not self.batch <= self.axis:
            raise ShapeError(
                f"scatter_add of {rows.shape} by {indices.shape} along axis {self.axis}: the indices' dimensions must "
                f"stand there in the rows, {self.batch} of them in front; permute or broadcast the operands"
            )
        shape = (*rows.shape[: self.axis], self.length, *rows.shape[self.axis + places :])
        return (Type(shape, rows.dtype),)

    def equation(self, indices: Type, rows: Type) -> Equation:
        places = indices.ndim - self.batch
        table, first, second = _terms(rows.ndim - places + 1, self.axis, self.batch, places)
        return Equation((first, second), (table,))

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        (low, high), whole = outputs[0].box[self.axis], outputs[0].shape[self.axis]
        if (low, high) == (0, whole):
            return self
        total = whole if self.total < 0 else self.total
        return replace(self, length=high - low, start=self.start + low, total=total)

    def kernel(self, indices: Array, rows: Array) -> Any:
        total = self.length if self.total < 0 else self.total
        places = positions(indices, total, self.name).astype(np.int64) - self.start
        count = indices.ndim - self.batch
        batch, before = rows.shape[: self.batch], self.axis - self.batch
        # (batch, before, indices, after) -> (batch, indices, before, after)
        front = np.moveaxis(rows, range(self.axis, self.axis + count), range(self.batch, self.batch + count))
        rest = front.shape[self.batch + count :]
        flat = places.reshape(prod(batch), prod(indices.shape[self.batch :]))
        target = (flat + self.length * np.arange(prod(batch))[:, None]).reshape(-1)
        kept = ((flat >= 0) & (flat < self.length)).reshape(-1)
        values = front.reshape(target.size, prod(rest))
        if not kept.all():
            target, values = target[kept], values[kept]
        sums = grouped_sum(target, values, prod(batch) * self.length)
        return np.moveaxis(sums.reshape(*batch, self.length, *rest), self.batch, self.batch + before)

    def vjp(self, dy: Tensor, indices: Tensor, rows: Tensor) -> Any:
        return None, apply(Take(self.axis, self.batch), dy, indices)

    def flops(self, *types: Type) -> int:
        return types[1].size

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        if all(flags):
            return replace(self, axis=self.axis + 1, batch=self.batch + 1)
        return replace(self, axis=self.axis + 1) if flags[1] and not self.batch else None

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        def sample(case: tuple[Shape, Shape, int, int], dtype: Any) -> Sample:
            table, indices, axis, batch = case
            rows = table[:axis] + indices[batch:] + table[axis + 1 :]
            drawn = (f"index:{table[axis]}", "normal")
            types = (Type(indices, int64), Type(rows, dtype))
            return Sample(cls(axis, table[axis], batch), types, drawn, ONE_INDEX if len(indices) == batch else ())

        return (*(sample(case, float64) for case in CASES), sample(CASES[0], int64))


@function
def take(x: TensorLike, indices: TensorLike, /, *, axis: int | None = None) -> Tensor:
    """The slices of x along `axis` (None: of x flattened) at `indices`; negative ones count from the end."""
    table, places = operands(x, indices)
    if axis is None:
        table, axis = reshape(table, (table.size,)), 0
    return apply(Take(axis_of(axis, table.ndim, "take")), table, places)


@function
def take_along_axis(x: TensorLike, indices: TensorLike, /, *, axis: int = -1) -> Tensor:
    """y[…, i, …] = x[…, indices[…, i, …], …] along `axis`; all other lengths are equal."""
    table, places = operands(x, indices)
    along = axis_of(axis, table.ndim, "take_along_axis")
    if along == table.ndim - 1:
        return apply(Take(along, along), table, places)
    swapped = [other for other in range(table.ndim) if other != along] + [along]
    back = tuple(int(place) for place in np.argsort(swapped))
    picked = apply(Take(table.ndim - 1, table.ndim - 1), permute_dims(table, swapped), permute_dims(places, swapped))
    return permute_dims(picked, back)


@function
def scatter_add(indices: TensorLike, rows: TensorLike, /, *, length: int, axis: int = 0) -> Tensor:
    """A tensor of `length` slices along `axis`, each the sum of the slices of `rows` whose index it is."""
    places, values = operands(indices, rows)
    return apply(ScatterAdd(axis_of(axis, values.ndim, "scatter_add"), length), places, values)
