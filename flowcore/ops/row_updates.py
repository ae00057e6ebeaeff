"""A few rows of tables changed: what a step of training does to an embedding, of which a batch names few rows.

The gradient of `take(table, indices)` is the `scatter_add` of rows, a table that is zero but for the rows named. These
operators take the rows and the indices instead, and change the rows named, in one pass over these; tables whose old
values nobody needs any more are written where they lie. Whoever holds a row changes it: tables may lie split by rows,
while indices and rows go to every rank, and split by columns like the rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from math import isfinite, prod
from typing import Any, ClassVar

import numpy as np

from flowcore.dtypes import DType, float32, float64, int64
from flowcore.errors import DTypeError, ShapeError
from flowcore.jit.launch import Launch
from flowcore.jit.rows import check_formula, formula, update
from flowcore.jit.source import NAMES
from flowcore.op import Array, Block, Op, Sample, Type, operator
from flowcore.ops.call import apply, apply_all
from flowcore.ops.gather import Take, terms_of
from flowcore.ops.reduce import sum
from flowcore.ops.rows import grouped, positions
from flowcore.ops.scatter import ScatterAdd
from flowcore.ops.shape import reshape
from flowcore.placement.layout import Shape
from flowcore.placement.sbp import B, Partial, Split
from flowcore.placement.signature import Algebra, Equation, Signature, derive
from flowcore.tensor import Tensor

__all__: list[str] = []


@dataclass(frozen=True)
class RowUpdate(Op):
    """Operands: tables (b, n, q), rows (b, i, q), indices (b, i), scalars (b); results: the tables.

    A row of the tables that an index names is what the `formulas` say, one per table, of the rows of the tables (a, b,
    c, d), of the sum g of the rows with its index, and of the scalars (u, v, w, x). Tables hold the rows from `start`
    on of `total` (-1: all). batch: how many dimensions b are. in_place: per table, whether it is written where it lies.
    """

    batch: int = 0
    start: int = 0
    total: int = -1
    in_place: tuple[bool, ...] = ()

    makes_memory: ClassVar[bool] = True
    writes: ClassVar[bool] = True
    is_exact: ClassVar[bool] = False
    """Whether rows that no index names become what the formulas say of g = 0 where u is negative or not finite."""

    is_linear: ClassVar[bool] = False
    """Whether the rows of an index may be taken one after the other where u is positive and finite."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The formulas."""
        raise NotImplementedError

    @property
    def count(self) -> int:
        """How many tables there are."""
        return len(self.texts)

    @property
    def into(self) -> tuple[int, ...]:
        """Per result the table in whose memory it is, or -1."""
        return tuple(number if held else -1 for number, held in enumerate(self.in_place or (False,) * self.count))

    def infer(self, *types: Type) -> tuple[Type, ...]:
        tables, (table, rows, indices), scalars = (
            types[: self.count],
            types[self.count - 1 :][:3],
            types[self.count + 2 :],
        )
        if indices.dtype.kind not in "iu" or table.dtype.kind != "f":
            raise DTypeError(
                f"{self.name} of {rows} by {indices} into {table}: takes floats by integers; cast with astype"
            )
        wanted = (*indices.shape, *table.shape[self.batch + 1 :])
        leads = (
            min(table.ndim - 1, indices.ndim) >= self.batch and table.shape[: self.batch] == indices.shape[: self.batch]
        )
        if not leads or any(other != table for other in tables) or rows != Type(wanted, table.dtype):
            shown = " and ".join(map(str, tables))
            raise ShapeError(
                f"{self.name} of {rows} by {indices} into {shown}: tables are of one type, and rows have their dtype "
                f"and the shape of the indices before that of a row; cast, reshape or broadcast them"
            )
        for scalar in scalars:
            if scalar != Type(table.shape[: self.batch], table.dtype):
                raise ShapeError(f"{self.name} of {table} with {scalar}: give one number of the table's dtype")
        return tables

    def equation(self, *types: Type) -> Equation:
        table, indices = types[0], types[self.count + 1]
        letters, places, named = terms_of(table.ndim, self.batch, self.batch, indices.ndim - self.batch)
        scalars = (letters[: self.batch] for _ in types[self.count + 2 :])
        return Equation((*(letters,) * self.count, named, places, *scalars), (letters,) * self.count)

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        (low, high), total = inputs[0].box[self.batch], inputs[0].shape[self.batch]
        if (low, high) == (0, total):
            return self
        return replace(self, start=self.start + low, total=total if self.total < 0 else self.total)

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return replace(self, batch=self.batch + 1) if all(flags) else None

    def flops(self, *types: Type) -> int:
        return types[self.count].size * self.count

    # memory

    def over(self, source: int, result: int) -> Op | None:
        if source != result:
            return None
        held = self.in_place or (False,) * self.count
        return replace(self, in_place=(*held[:result], True, *held[result + 1 :]))

    def new_results(self, numbers: Sequence[int]) -> Sequence[int]:
        return (
            [number for number, is_held in zip(numbers, self.in_place, strict=True) if not is_held]
            if self.in_place
            else numbers
        )

    def checks(self, types: Sequence[Type]) -> tuple[int, tuple[Hashable, ...]]:
        return self.count + 1, (("index", types[0].shape[self.batch] if self.total < 0 else self.total),)

    def launch(self, types: Sequence[Type]) -> Launch | None:
        table, rows, indices = types[0], types[self.count], types[self.count + 1]
        kind, index = NAMES.get(str(rows.dtype), ""), NAMES.get(str(indices.dtype), "")
        if self.batch or kind not in ("f4", "f8") or index not in ("i4", "i8"):
            return None
        total = table.shape[0] if self.total < 0 else self.total
        sizes = ((indices.size, 1),), prod(table.shape[1:]), self.start, table.shape[0], total
        scalars = len(types) - self.count - 2
        return update(self.texts, self.into, scalars, self.is_exact, self.is_linear, kind, index, *sizes)

    def kernel(self, *arrays: Array) -> Any:
        return self.write((None,) * self.count, *arrays)

    def write(self, results: Sequence[Array | None], *arrays: Array) -> Any:
        made = []
        for number, (table, memory) in enumerate(zip(arrays[: self.count], results, strict=False)):
            if self.in_place and self.in_place[number] and table.flags.c_contiguous and table.flags.writeable:
                made.append(table)
            elif memory is None:
                made.append(table.copy())
            else:
                np.copyto(memory, table)
                made.append(memory)
        self.change(made, *arrays[self.count :])
        return tuple(made) if self.count > 1 else made[0]

    def change(self, tables: Sequence[Array], rows: Array, indices: Array, *scalars: Array) -> None:
        """Change the rows of `tables`, which are contiguous, where they lie."""
        length = tables[0].shape[self.batch]
        places = positions(indices, length if self.total < 0 else self.total, self.name).astype(np.int64, copy=False)
        front, count = prod(indices.shape[: self.batch]), prod(indices.shape[self.batch :])
        width = prod(rows.shape[indices.ndim :])
        matrices = [table.reshape(front, length, width) for table in tables]
        rows = np.ascontiguousarray(rows).reshape(front, count, width)
        places = np.ascontiguousarray(places).reshape(front, count)
        for number in range(front):
            numbers = [scalar.reshape(-1)[number : number + 1] for scalar in scalars]
            self.merge([matrix[number] for matrix in matrices], rows[number], places[number], numbers)

    def merge(self, tables: Sequence[Array], rows: Array, places: Array, scalars: Sequence[Array]) -> None:
        """Change `tables` (n, q) by `rows` (k, q) at `places` (k,) of the whole; those beyond are of other ranks."""
        rows, places = held(tables[0], rows, places - self.start)
        named, inverse = np.unique(places, return_inverse=True)
        known: dict[str, Any] = dict(zip("uvwx", scalars, strict=False))
        known["g"] = grouped(np.add, inverse.reshape(-1), rows, len(named), 0)
        known |= {letter: table[named] for letter, table in zip("abcd", tables, strict=False)}
        found = [formula(text)(known) for text in self.texts]
        for table, new in zip(tables, found, strict=True):
            table[named] = new


def held(table: Array, rows: Array, places: Array) -> tuple[Array, Array]:
    """Those of the rows that `table` holds, and where."""
    mine = (places >= 0) & (places < len(table))
    return rows[mine], places[mine]


CASES: tuple[tuple[Shape, Shape, int], ...] = (((5, 7), (4,), 0), ((5,), (2, 3), 0), ((2, 5, 3), (2, 4), 1))
"""Shapes of tables and indices, and how many dimensions are a batch."""


def sample(op: RowUpdate, case: tuple[Shape, Shape, int], dtype: DType, scalars: int) -> Sample:
    """Tables with rows for them."""
    table, places, batch = case
    types = (*(Type(table, dtype),) * op.count, Type(places + table[batch + 1 :], dtype), Type(places, int64))
    drawn = (*("positive",) * op.count, "normal", f"index:{table[batch]}", *("positive",) * scalars)
    return Sample(replace(op, batch=batch), (*types, *(Type(table[:batch], dtype),) * scalars), drawn)


@operator
class SubtractRows(RowUpdate):
    """y[b, n, q] = a[b, n, q] − u[b] · Σ_i rows[b, i, q] [index[b, i] = n]."""

    name: ClassVar[str] = "subtract_rows"
    algebra: ClassVar[Algebra] = Algebra(linear=(frozenset({0, 1}), frozenset({0, 3})), monotone=(1, 0, 0, 0))
    is_exact: ClassVar[bool] = True
    is_linear: ClassVar[bool] = True

    @property
    def texts(self) -> tuple[str, ...]:
        return ("a - u * g",)

    def rules(self, types: tuple[Type, ...], parts: int) -> tuple[Signature, ...]:
        own = (
            Signature((Partial(), Split(axis), Split(axis), B), (Partial(),))
            for axis in range(self.batch, types[2].ndim)
        )  # ranks subtract the rows that they have
        return (*derive(self.equation(*types), self.algebra), *own)

    def merge(self, tables: Sequence[Array], rows: Array, places: Array, scalars: Sequence[Array]) -> None:
        factor = scalars[0][0]
        if isfinite(factor) and not np.signbit(factor):
            super().merge(tables, rows, places, scalars)
            return
        # what is not named changes too: 0 · inf is nan, and -0.0 - -0.0 is 0.0
        rows, places = held(tables[0], rows, places - self.start)
        tables[0][...] -= factor * grouped(np.add, places, rows, len(tables[0]), 0)

    def vjp(self, dy: Tensor, table: Tensor, rows: Tensor, indices: Tensor, scale: Tensor) -> Any:
        total = apply(ScatterAdd(self.batch, table.shape[self.batch], self.batch), rows, indices)
        taken = apply(Take(self.batch, self.batch), dy, indices)
        factor = reshape(scale, (*scale.shape, *(1,) * (rows.ndim - self.batch)))
        return dy, -factor * taken, None, -sum(dy * total, axis=tuple(range(self.batch, table.ndim)))

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return [sample(cls(), case, float64, 1) for case in CASES]


@operator
class UpdateRows(RowUpdate):
    """The rows named as `formulas` say, of at most four tables and four scalars; there is no gradient of it."""

    formulas: tuple[str, ...] = ()

    name: ClassVar[str] = "update_rows"

    @property
    def texts(self) -> tuple[str, ...]:
        return self.formulas

    def infer(self, *types: Type) -> tuple[Type, ...]:
        for text in self.formulas:
            check_formula(text, len(self.formulas), len(types) - len(self.formulas) - 2)
        return super().infer(*types)

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        one, two = (
            cls(formulas=("(a - u) * (a - u) + g / sqrt(1 + g * g)",)),
            cls(formulas=("b * b + g", "(a - b) * a")),
        )
        return [*(sample(one, case, float32, 1) for case in CASES[::2]), sample(two, CASES[1], float32, 0)]


def update_rows(
    formulas: Sequence[str], tables: Sequence[Tensor], indices: Tensor, rows: Tensor, *scalars: Tensor
) -> tuple[Tensor, ...]:
    """`tables` with the rows that `indices` name as `formulas` say; see `RowUpdate`."""
    found = apply_all(UpdateRows(formulas=tuple(formulas)), *tables, rows, indices, *scalars)
    return found if isinstance(found, tuple) else (found,)
