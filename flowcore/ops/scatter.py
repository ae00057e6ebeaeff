"""Rows reduced into a table by integer indices: sums, greatest and least; the segments of graph networks.

A rank whose block of the table holds the rows start..start + length of `total` reduces only its own; ranks that hold
different rows to reduce give partial tables, `P` of the reduction.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import operands
from flowcore.dtypes import DType, bool_, float64, int64, kind_of
from flowcore.errors import DTypeError, ShapeError
from flowcore.jit.launch import Launch
from flowcore.jit.rows import add as add_rows
from flowcore.op import Array, Block, Op, Sample, Type, function, operator
from flowcore.ops.axes import axis_of
from flowcore.ops.call import apply
from flowcore.ops.cast import astype
from flowcore.ops.comparison import equal
from flowcore.ops.extrema import maximum, minimum
from flowcore.ops.gather import CASES, Take, rows_launch, terms_of
from flowcore.ops.reduce import highest, lowest
from flowcore.ops.rows import grouped, positions
from flowcore.ops.shape import broadcast_to
from flowcore.placement.layout import Shape
from flowcore.placement.signature import Algebra, Equation
from flowcore.tensor import Tensor, TensorLike

__all__ = ["scatter_add", "scatter_max", "scatter_min", "segment_max", "segment_min", "segment_sum"]


ONE_INDEX = tuple((f"{term},B->{term}", "with one index no rows meet") for term in ("P", "P(max)", "P(min)"))


@dataclass(frozen=True)
class Scatter(Op):
    """y[b, p, n, q] = the reduction over i with index[b, i] = n of rows[b, p, i, q]; its identity where there is none.

    y holds the `length` rows from `start` on of `total`; -1: all.
    """

    axis: int
    length: int
    batch: int = 0
    start: int = 0
    total: int = -1

    ufunc: ClassVar[np.ufunc]
    kinds: ClassVar[str] = "biuf"
    makes_memory: ClassVar[bool] = True
    writes: ClassVar[bool] = True

    def identity(self, dtype: DType) -> Any:
        """What stands where no row goes."""
        return 0

    def infer(self, rows: Type, indices: Type) -> tuple[Type, ...]:
        if indices.dtype.kind not in "iu" or kind_of(rows.dtype) not in self.kinds:
            raise DTypeError(
                f"{self.name} of {rows.dtype} by {indices.dtype}: takes numbers by integers; cast with astype"
            )
        places = indices.ndim - self.batch
        found = rows.shape[: self.batch] + rows.shape[self.axis : self.axis + places]
        if found != indices.shape or not self.batch <= self.axis or self.length < 0:
            raise ShapeError(
                f"{self.name} of {rows.shape} by {indices.shape} along axis {self.axis}: the indices' dimensions must "
                f"stand there in the rows, {self.batch} of them in front; permute or broadcast the operands"
            )
        shape = (*rows.shape[: self.axis], self.length, *rows.shape[self.axis + places :])
        return (Type(shape, rows.dtype),)

    def equation(self, rows: Type, indices: Type) -> Equation:
        places = indices.ndim - self.batch
        table, first, second = terms_of(rows.ndim - places + 1, self.axis, self.batch, places)
        return Equation((second, first), (table,))

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        (low, high), whole = outputs[0].box[self.axis], outputs[0].shape[self.axis]
        if (low, high) == (0, whole):
            return self
        total = whole if self.total < 0 else self.total
        return replace(self, length=high - low, start=self.start + low, total=total)

    def checks(self, types: Sequence[Type]) -> tuple[int, tuple[Hashable, ...]]:
        return 1, (("index", self.length if self.total < 0 else self.total),)

    def kernel(self, rows: Array, indices: Array) -> Any:
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
        found = grouped(self.ufunc, target, values, prod(batch) * self.length, self.identity(rows.dtype))
        return np.moveaxis(found.reshape(*batch, self.length, *rest), self.batch, self.batch + before)

    def write(self, results: Sequence[Array | None], rows: Array, indices: Array) -> Array:
        (memory,) = results
        assert memory is not None
        np.copyto(memory, self.kernel(rows, indices))
        return memory

    def flops(self, *types: Type) -> int:
        return types[0].size

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        if all(flags):
            return replace(self, axis=self.axis + 1, batch=self.batch + 1)
        return replace(self, axis=self.axis + 1) if flags[0] and not self.batch else None

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        def sample(case: tuple[Shape, Shape, int, int], dtype: Any) -> Sample:
            table, indices, axis, batch = case
            rows = table[:axis] + indices[batch:] + table[axis + 1 :]
            drawn = ("normal", f"index:{table[axis]}")
            types = (Type(rows, dtype), Type(indices, int64))
            op = cls(axis=axis, length=table[axis], batch=batch)
            return Sample(op, types, drawn, ONE_INDEX if len(indices) == batch else ())

        return (*(sample(case, float64) for case in CASES), sample(CASES[0], int64))


@operator
class ScatterAdd(Scatter):
    """y[b, p, n, q] = Σ_i rows[b, p, i, q] [index[b, i] = n]: the transpose of `Take` along `axis`."""

    name: ClassVar[str] = "scatter_add"
    algebra: ClassVar[Algebra] = Algebra(linear=(frozenset({0}),), reduction="sum")
    ufunc: ClassVar[np.ufunc] = np.add
    kinds: ClassVar[str] = "iufc"

    def launch(self, types: Sequence[Type]) -> Launch | None:
        rows, indices = types
        return rows_launch(add_rows, self, rows, indices, self.length)

    def vjp(self, dy: Tensor, rows: Tensor, indices: Tensor) -> Any:
        return apply(Take(self.axis, self.batch), dy, indices), None


class ScatterExtremum(Scatter):
    """The greatest or the least; rows that tie share the gradient equally, as in `max`."""

    def vjp(self, dy: Tensor, rows: Tensor, indices: Tensor) -> Any:
        take, add = Take(self.axis, self.batch), ScatterAdd(self.axis, self.length, self.batch)
        hit = astype(equal(rows, apply(take, apply(self, rows, indices), indices)), dy.dtype)
        count = maximum(apply(add, hit, indices), 1.0)
        return hit * apply(take, dy / count, indices), None


@operator
class ScatterMax(ScatterExtremum):
    """y[b, p, n, q] = max of rows[b, p, i, q] over i with index[b, i] = n; the least of its dtype where none is."""

    name: ClassVar[str] = "scatter_max"
    algebra: ClassVar[Algebra] = Algebra(reduction="max")
    ufunc: ClassVar[np.ufunc] = np.maximum

    def identity(self, dtype: DType) -> Any:
        return lowest(dtype)


@operator
class ScatterMin(ScatterExtremum):
    """y[b, p, n, q] = min of rows[b, p, i, q] over i with index[b, i] = n; the greatest of its dtype where none is."""

    name: ClassVar[str] = "scatter_min"
    algebra: ClassVar[Algebra] = Algebra(reduction="min")
    ufunc: ClassVar[np.ufunc] = np.minimum

    def identity(self, dtype: DType) -> Any:
        return highest(dtype)


def _segments(
    kind: type[ScatterAdd] | type[ScatterMax] | type[ScatterMin], x: TensorLike, ids: TensorLike, count: int, axis: int
) -> Tensor:
    rows, places = operands(x, ids)
    return apply(kind(axis_of(axis, rows.ndim, kind.name), count), rows, places)


@function
def segment_sum(x: TensorLike, segment_ids: TensorLike, /, num_segments: int, *, axis: int = 0) -> Tensor:
    """y[n] = Σ of the slices x[i] along `axis` with segment_ids[i] = n, in any order; 0 for an empty segment.

    segment_ids: integers below num_segments, as many as slices (or of several dimensions, which stand in x at `axis`).
    """
    (rows,) = operands(x)
    return _segments(ScatterAdd, astype(rows, int64) if rows.dtype == bool_ else rows, segment_ids, num_segments, axis)


@function
def segment_max(x: TensorLike, segment_ids: TensorLike, /, num_segments: int, *, axis: int = 0) -> Tensor:
    """The greatest instead of the sum, see `segment_sum`; -inf, or the least integer, for an empty segment.

    In the gradient, elements that tie share equally.
    """
    return _segments(ScatterMax, x, segment_ids, num_segments, axis)


@function
def segment_min(x: TensorLike, segment_ids: TensorLike, /, num_segments: int, *, axis: int = 0) -> Tensor:
    """The least instead of the sum, see `segment_sum`; +inf, or the greatest integer, for an empty segment.

    In the gradient, elements that tie share equally.
    """
    return _segments(ScatterMin, x, segment_ids, num_segments, axis)


@function
def scatter_add(x: TensorLike, indices: TensorLike, rows: TensorLike, /, *, axis: int = 0) -> Tensor:
    """x with the slices `rows` added along `axis` at `indices`; an index may stand there several times."""
    table, places, values = _scattered(x, indices, rows, axis)
    return table + segment_sum(values, places, table.shape[axis], axis=axis)


@function
def scatter_max(x: TensorLike, indices: TensorLike, rows: TensorLike, /, *, axis: int = 0) -> Tensor:
    """The greater of x and the slices `rows` that `indices` bring to the same place along `axis`."""
    table, places, values = _scattered(x, indices, rows, axis)
    return maximum(table, segment_max(values, places, table.shape[axis], axis=axis))


@function
def scatter_min(x: TensorLike, indices: TensorLike, rows: TensorLike, /, *, axis: int = 0) -> Tensor:
    """The lesser of x and the slices `rows` that `indices` bring to the same place along `axis`."""
    table, places, values = _scattered(x, indices, rows, axis)
    return minimum(table, segment_min(values, places, table.shape[axis], axis=axis))


def _scattered(x: TensorLike, indices: TensorLike, rows: TensorLike, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    table, places, values = operands(x, indices, rows)
    along = axis_of(axis, table.ndim, "scatter")
    shape = (*table.shape[:along], *places.shape, *table.shape[along + 1 :])
    return table, places, broadcast_to(astype(values, table.dtype), shape)
