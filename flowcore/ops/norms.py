"""Norms of vectors and matrices, and what follows from singular values."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from flowcore.errors import ShapeError
from flowcore.ops.axes import axes_of, whole_numbers
from flowcore.ops.cast import astype, floating
from flowcore.ops.comparison import equal, greater, not_equal
from flowcore.ops.complex import conj, real
from flowcore.ops.determinant import tolerance
from flowcore.ops.matrix import check_matrices
from flowcore.ops.orthogonal import svdvals
from flowcore.ops.reduce import max, min, sum
from flowcore.ops.rounding import abs
from flowcore.ops.selection import where
from flowcore.ops.shape import permute_dims, reshape
from flowcore.ops.unary import sqrt
from flowcore.tensor import Tensor, TensorLike

__all__ = ["matrix_norm", "matrix_rank", "norm", "vector_norm"]

Axis = int | Sequence[int] | None


def vector_norm(x: TensorLike, /, *, axis: Axis = None, keepdims: bool = False, ord: float | int = 2) -> Tensor:
    """(Σ |x|^ord)^(1/ord) over `axis` (None: all); inf, -inf: the greatest, the least |x|; 0: how many are not 0.

    Its gradient at elements that are 0 is 0, also at the zero vector.
    """
    (tensor,) = floating(x)
    axes = axes_of(axis, tensor.ndim, "vector_norm")
    if ord == 2:
        return _root(sum(real(tensor * conj(tensor)), axis=axes, keepdims=keepdims))
    size = abs(tensor)
    if ord == inf:
        return _greatest(size, axes, keepdims)
    if ord == -inf:
        return min(size, axis=axes, keepdims=keepdims)
    if ord == 0:
        return sum(astype(not_equal(size, 0), size.dtype), axis=axes, keepdims=keepdims)
    if ord == 1:
        return sum(size, axis=axes, keepdims=keepdims)
    is_zero = equal(size, 0)
    # an element 0 adds nothing and has no slope: that of a power would be infinite below 1
    power = where(is_zero, 0, where(is_zero, 1, size) ** ord) if ord > 0 else size**ord
    powers = sum(power, axis=axes, keepdims=keepdims)
    is_zero = equal(powers, 0)
    return where(is_zero, 0, where(is_zero, 1, powers) ** (1 / ord))


def _greatest(sizes: Tensor, axis: Axis, keepdims: bool = False) -> Tensor:
    """The greatest of numbers that are not negative: 0 of none."""
    return (max if sizes.size else sum)(sizes, axis=axis, keepdims=keepdims)


def _root(squares: Tensor) -> Tensor:
    """The square root, with gradient 0 at 0."""
    is_zero = equal(squares, 0)
    return where(is_zero, 0, sqrt(where(is_zero, 1, squares)))


def matrix_norm(x: TensorLike, /, *, keepdims: bool = False, ord: float | int | str | None = "fro") -> Tensor:
    """The norm of matrices x: (…, m, n).

    ord: "fro" (the root of the sum of squares), "nuc" (the sum of singular values), 2, -2 (the greatest, the least of
    them), 1, -1 (of the sums of absolute values of columns), inf, -inf (of rows).
    """
    (matrix,) = floating(x)
    check_matrices("matrix_norm", matrix.value.type, is_square=False)
    norms = {
        "fro": lambda: vector_norm(matrix, axis=(-2, -1)),
        "nuc": lambda: sum(svdvals(matrix), axis=-1),
        2: lambda: _greatest(svdvals(matrix), -1), -2: lambda: min(svdvals(matrix), axis=-1),
        1: lambda: _greatest(sum(abs(matrix), axis=-2), -1), -1: lambda: min(sum(abs(matrix), axis=-2), axis=-1),
        inf: lambda: _greatest(sum(abs(matrix), axis=-1), -1), -inf: lambda: min(sum(abs(matrix), axis=-1), axis=-1),
    }  # fmt: skip
    wanted = "fro" if ord is None else ord
    if wanted not in norms:
        raise ShapeError(f"matrix_norm with ord {ord!r}: give one of {', '.join(map(repr, norms))}")
    found = norms[wanted]()
    return reshape(found, (*found.shape, 1, 1)) if keepdims else found


def norm(x: TensorLike, /, ord: float | int | str | None = None, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """numpy's norm: of vectors along one axis, of matrices along two; of all elements where neither is given."""
    (tensor,) = floating(x)
    if axis is None and ord is None:
        return vector_norm(tensor, keepdims=keepdims)
    axes = axes_of(axis, tensor.ndim, "norm") if axis is None else whole_numbers(axis, "norm along axis")
    match len(axes), ord:
        case 1, None | float() | int():
            return vector_norm(tensor, axis=axes, keepdims=keepdims, ord=2 if ord is None else ord)
        case 2, _:
            first, second = (place % tensor.ndim for place in axes)
            rest = [place for place in range(tensor.ndim) if place not in (first, second)]
            found = matrix_norm(permute_dims(tensor, (*rest, first, second)), ord=ord)
            shape = tuple(1 if place in (first, second) else length for place, length in enumerate(tensor.shape))
            return reshape(found, shape) if keepdims else found
    raise ShapeError(f"norm over {len(axes)} axes with ord {ord!r}: name one axis of vectors or two of matrices")


def matrix_rank(x: TensorLike, /, *, rtol: TensorLike = None) -> Tensor:
    """How many singular values of matrices x: (…, m, n) exceed rtol times the greatest; `rtol` as in `pinv`."""
    (matrix,) = floating(x)
    values = svdvals(matrix)
    if 0 in matrix.shape[-2:]:
        return sum(greater(values, 0), axis=-1)
    limit = max(values, axis=-1) * tolerance(matrix, rtol)
    return sum(greater(values, reshape(limit, (*limit.shape, 1))), axis=-1)
