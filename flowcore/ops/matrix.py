"""Batches of matrices (…, m, n): what every operator on them shares, and views of them.

Batch axes may be split, for every matrix is treated alone; the axes of a matrix are needed whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import operands
from flowcore.dtypes import DType, complex128, float64, is_float
from flowcore.errors import DTypeError, ShapeError
from flowcore.op import Array, Op, Sample, Type, as_tuple, function, type_of
from flowcore.ops.axes import letters
from flowcore.ops.complex import conj
from flowcore.ops.create import arange
from flowcore.ops.indexing import getitem
from flowcore.ops.reduce import sum as total
from flowcore.ops.selection import where
from flowcore.ops.shape import expand_dims, permute_dims, reshape
from flowcore.placement.layout import Shape
from flowcore.placement.signature import Equation
from flowcore.tensor import Tensor, TensorLike

__all__ = ["matrix_transpose"]


@dataclass(frozen=True)
class OfMatrices(Op):
    """Results of every matrix of a: (…, m, n) alone."""

    is_square: ClassVar[bool] = True
    """Whether m = n is needed."""
    draw: ClassVar[str] = "normal"
    shapes: ClassVar[tuple[Shape, ...]] = ((4, 4), (5, 3, 3))
    """Shapes of samples; the last one also as complex matrices."""
    has_phase: ClassVar[bool] = False
    """Whether the columns of complex results may be turned by any phase."""

    def results(self, batch: Shape, m: int, n: int, dtype: DType) -> tuple[Type, ...]:
        """The types of the results, all with the batch dimensions in front."""
        raise NotImplementedError

    def infer(self, a: Type, **_: Any) -> tuple[Type, ...]:
        check_matrices(self.name, a, self.is_square)
        m, n = a.shape[-2:]
        return self.results(a.shape[:-2], m, n, a.dtype)

    def answers(self, f: Callable[[Array], Any], a: Array) -> tuple[Array, ...]:
        """The results of `f`, nan where it has none; see `each`."""
        return each(f, self.infer(type_of(a)), a)[0]

    def equation(self, a: Type, **_: Any) -> Equation:
        batch = letters(a.ndim - 2)
        return Equation((batch + "YZ",), tuple(batch + "YZ"[: made.ndim - len(batch)] for made in self.infer(a)))

    def flops(self, *types: Type) -> int:
        return 4 * types[0].size * min(types[0].shape[-2:])

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return self

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return cls.of()

    @classmethod
    def of(cls, *attributes: Any) -> tuple[Sample, ...]:
        """The samples of the operator with these attributes."""
        cases = [*((shape, float64) for shape in cls.shapes), (cls.shapes[-1], complex128)]
        return tuple(
            Sample(
                cls(*attributes), (Type(shape, dtype),), (cls.draw,), (), not (cls.has_phase and dtype == complex128)
            )
            for shape, dtype in cases
        )


def check_matrices(name: str, a: Type, is_square: bool) -> None:
    """ShapeError or DTypeError where `a` holds no (square) matrices in single or double precision."""
    if a.ndim < 2 or (is_square and a.shape[-1] != a.shape[-2]):
        needed = "square matrices (…, n, n)" if is_square else "matrices (…, m, n)"
        raise ShapeError(f"{name} of shape {a.shape}: takes {needed}; reshape or slice it")
    if not is_float(a.dtype) or a.dtype.itemsize < 4:
        raise DTypeError(f"{name} of {a.dtype}: takes single or double precision; cast with astype")


def hermitian(a: Array) -> Array:
    """The Hermitian part of every matrix."""
    half: Array = (a + np.conj(np.swapaxes(a, -1, -2))) / 2
    return half


def each(f: Callable[..., Any], results: Sequence[Type], a: Array, *others: Array) -> tuple[tuple[Array, ...], Array]:
    """What `f` gives for every matrix of the batch, and 0 for each matrix for which it has no answer, else 1.

    nan where it has none, and where a matrix is not finite: LAPACK's iterations may never end on these.
    """
    is_finite = np.isfinite(a).all(axis=(-2, -1))
    if is_finite.all():
        try:
            return as_tuple(f(a, *others)), np.ones(a.shape[:-2], np.int64)
        except np.linalg.LinAlgError:
            pass
    lead = np.broadcast_shapes(*(array.shape[:-2] for array in (a, *others)))
    found = tuple(np.full(result.shape, np.nan, result.dtype) for result in results)
    marks = np.ones(lead, np.int64)
    is_finite = np.broadcast_to(is_finite, lead)
    given = [np.broadcast_to(array, lead + array.shape[-2:]) for array in (a, *others)]
    for place in np.ndindex(lead):
        if is_finite[place]:
            try:
                for result, one in zip(found, as_tuple(f(*(array[place] for array in given))), strict=True):
                    result[place] = one
            except np.linalg.LinAlgError:
                marks[place] = 0
    stretched = tuple(axis for axis, length in enumerate(a.shape[:-2]) if length != lead[axis])
    return found, marks.min(axis=stretched, keepdims=True, initial=1)


# functions of matrices


@function
def matrix_transpose(x: TensorLike, /) -> Tensor:
    """The last two dimensions swapped."""
    (tensor,) = operands(x)
    if tensor.ndim < 2:
        raise ShapeError(f"matrix_transpose of shape {tensor.shape}: takes matrices (…, m, n); reshape it")
    return permute_dims(tensor, (*range(tensor.ndim - 2), tensor.ndim - 1, tensor.ndim - 2))


def adjoint(x: Tensor) -> Tensor:
    """The conjugate transpose of every matrix."""
    return conj(matrix_transpose(x))


def hermitian_part(x: Tensor) -> Tensor:
    """(x + xᴴ) / 2."""
    return (x + adjoint(x)) * 0.5


def diagonal(x: TensorLike, /, *, offset: int = 0) -> Tensor:
    """y[…, i] = x[…, i, i + offset] of matrices x, for negative offsets x[…, i - offset, i]."""
    (tensor,) = operands(x)
    if tensor.ndim < 2:
        raise ShapeError(f"diagonal of shape {tensor.shape}: takes matrices (…, m, n); reshape it")
    *batch, m, n = tensor.shape
    length = max(0, min(m + min(offset, 0), n - max(offset, 0)))
    start = max(offset, 0) - n * min(offset, 0)
    flat = reshape(tensor, (*batch, m * n))
    return getitem(flat, (..., slice(start, start + length * (n + 1) - n if length else start, n + 1)))


def spread(values: Tensor) -> Tensor:
    """The diagonal matrices (…, n, n) of values: (…, n)."""
    numbers = arange(values.shape[-1], placement=values.placement)
    return where(numbers == expand_dims(numbers, 1), expand_dims(values, -1), 0)


def trace(x: TensorLike, /, *, offset: int = 0, dtype: Any = None) -> Tensor:
    """Σ_i x[…, i, i + offset] of matrices x; integers are summed as 64-bit integers, or as `dtype`."""
    return total(diagonal(x, offset=offset), axis=-1, dtype=dtype)
