"""Where values stand in a sorted tensor, and whether they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from flowcore.dtypes import bool_, float64, int64
from flowcore.errors import DTypeError, ShapeError
from flowcore.op import Array, Op, Sample, Type, function, operator
from flowcore.ops.axes import letters
from flowcore.ops.call import apply
from flowcore.ops.cast import aligned
from flowcore.ops.comparison import equal, logical_not
from flowcore.ops.create import zeros
from flowcore.ops.extrema import minimum
from flowcore.ops.gather import take
from flowcore.ops.shape import reshape
from flowcore.ops.sort import sort
from flowcore.placement.layout import Shape
from flowcore.placement.signature import Algebra, Equation
from flowcore.tensor import Tensor, TensorLike

__all__ = ["isin", "searchsorted"]


@operator
class SearchSorted(Op):
    """y[…] = how many elements of the sorted vector are less than v[…]; `right`: or equal to it.

    Counts of the parts of a split vector, which are sorted too, add up.
    """

    right: bool = False
    batch: int = 0
    """The leading dimensions that vector and values share."""

    name: ClassVar[str] = "searchsorted"
    algebra: ClassVar[Algebra] = Algebra(monotone=(0, 1), reduction="sum")

    def infer(self, vector: Type, values: Type) -> tuple[Type, ...]:
        if vector.ndim != self.batch + 1 or vector.shape[:-1] != values.shape[: self.batch]:
            raise ShapeError(f"searchsorted in shape {vector.shape}: the sorted tensor has one dimension; index it")
        if vector.dtype != values.dtype or vector.dtype.kind not in "biuf":
            raise DTypeError(
                f"searchsorted of {values.dtype} in {vector.dtype}: both must be of one real dtype; cast with astype"
            )
        return (Type(values.shape, int64),)

    def equation(self, vector: Type, values: Type) -> Equation:
        names = letters(values.ndim)
        return Equation((names[: self.batch] + "z", names), (names,))

    def kernel(self, vector: Array, values: Array) -> Any:
        found = np.empty(values.shape, np.int64)
        for place in np.ndindex(values.shape[: self.batch]):
            found[place] = np.searchsorted(vector[place], values[place], side="right" if self.right else "left")
        return found

    def vjp(self, dy: Tensor, vector: Tensor, values: Tensor) -> Any:
        return None, None

    def flops(self, *types: Type) -> int:
        return types[1].size * max(types[0].size.bit_length(), 1)

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        if all(flags):
            return replace(self, batch=self.batch + 1)
        return self if flags[1] and not self.batch else None

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        cases: tuple[tuple[Shape, Shape, bool, Any], ...] = (
            ((7,), (5,), False, int64), ((5,), (3, 4), True, float64), ((5,), (), False, float64),
            ((3, 5), (3, 4), False, float64),
        )  # fmt: skip
        return tuple(
            Sample(cls(right, len(vector) - 1), (Type(vector, dtype), Type(values, dtype)), ("sorted", "normal"))
            for vector, values, right, dtype in cases
        )


@function
def searchsorted(x1: TensorLike, x2: TensorLike, /, *, side: str = "left", sorter: TensorLike | None = None) -> Tensor:
    """Per element of x2 the index at which to insert it in the sorted vector x1 (`sorter`: x1[sorter] is sorted).

    side: "left", before elements that are equal to it, or "right", behind them.
    """
    if side not in ("left", "right"):
        raise ShapeError(f"searchsorted with side {side!r}: give 'left' or 'right'")
    vector, values = aligned(x1, x2)
    return apply(SearchSorted(side == "right"), vector if sorter is None else take(vector, sorter, axis=0), values)


@function
def isin(x1: TensorLike, x2: TensorLike, /, *, invert: bool = False) -> Tensor:
    """Whether each element of x1 is among those of x2 (invert: is not); nan never is."""
    elements, among = aligned(x1, x2)
    if among.size == 0:
        found = zeros(elements.shape, dtype=bool_, placement=elements.placement)
    else:
        known = sort(reshape(among, (among.size,)))
        place = minimum(searchsorted(known, elements), among.size - 1)
        found = equal(take(known, place, axis=0), elements)
    return logical_not(found) if invert else found
