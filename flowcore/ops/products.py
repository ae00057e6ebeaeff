"""Products of vectors and matrices that are made of contractions and elementwise products."""

from __future__ import annotations

from flowcore.dispatch import operands
from flowcore.errors import ShapeError
from flowcore.op import function
from flowcore.ops.axes import axis_of, whole_number
from flowcore.ops.cast import aligned, floating
from flowcore.ops.complex import conj
from flowcore.ops.contract import matmul, tensordot
from flowcore.ops.create import eye
from flowcore.ops.elementwise import broadcast_shape
from flowcore.ops.gather import take
from flowcore.ops.shape import broadcast_to, permute_dims, reshape
from flowcore.ops.solve import inv
from flowcore.tensor import Tensor, TensorLike

__all__ = ["dot", "inner", "kron", "outer", "vdot", "vecdot"]


@function
def vecdot(a: TensorLike, b: TensorLike, /, *, axis: int = -1) -> Tensor:
    """Σ conj(a) b along `axis`, counted from the end; the other dimensions broadcast."""
    first, second = aligned(a, b)
    if not -min(first.ndim, second.ndim) <= axis < 0:
        raise ShapeError(
            f"vecdot of {first.shape} and {second.shape} along axis {axis}: "
            f"give one of {-min(first.ndim, second.ndim)}..-1, which both have"
        )
    if first.shape[axis] != second.shape[axis]:
        raise ShapeError(f"vecdot of {first.shape} and {second.shape}: lengths along axis {axis} must be equal")
    rows, columns = (_last(x, axis) for x in (first, second))
    product = matmul(reshape(conj(rows), (*rows.shape[:-1], 1, rows.shape[-1])), reshape(columns, (*columns.shape, 1)))
    return reshape(product, product.shape[:-2])


def _last(x: Tensor, axis: int) -> Tensor:
    """`x` with dimension `axis` as the last."""
    place = axis % x.ndim
    return permute_dims(x, [*(other for other in range(x.ndim) if other != place), place])


def outer(a: TensorLike, b: TensorLike, /) -> Tensor:
    """y[i, j] = a[i] b[j] of vectors; other tensors are flattened first."""
    first, second = (reshape(x, (x.size,)) for x in aligned(a, b))
    return reshape(first, (first.size, 1)) * second


def inner(a: TensorLike, b: TensorLike, /) -> Tensor:
    """Σ a b over the last dimensions; the product where either is a scalar."""
    first, second = aligned(a, b)
    return tensordot(first, second, axes=((-1,), (-1,))) if first.ndim and second.ndim else first * second


def dot(a: TensorLike, b: TensorLike, /) -> Tensor:
    """Σ a b over the last dimension of a and the last but one (or only) of b; the product where either is a scalar."""
    first, second = aligned(a, b)
    if not first.ndim or not second.ndim:
        return first * second
    return tensordot(first, second, axes=((-1,), (max(-2, -second.ndim),)))


def vdot(a: TensorLike, b: TensorLike, /) -> Tensor:
    """Σ conj(a) b over all elements, in row-major order."""
    first, second = (reshape(x, (x.size,)) for x in aligned(a, b))
    return vecdot(first, second)


def kron(a: TensorLike, b: TensorLike, /) -> Tensor:
    """The Kronecker product: y[i n + k, j m + l] = a[i, j] b[k, l] for b: (n, m), and so for any dimensions."""
    first, second = aligned(a, b)
    ndim = max(first.ndim, second.ndim)
    ours, theirs = ((1,) * (ndim - x.ndim) + x.shape for x in (first, second))
    wide = reshape(first, [length for mine in ours for length in (mine, 1)])
    narrow = reshape(second, [length for other in theirs for length in (1, other)])
    return reshape(wide * narrow, [mine * other for mine, other in zip(ours, theirs, strict=True)])


def cross(a: TensorLike, b: TensorLike, /, *, axis: int = -1) -> Tensor:
    """a × b of vectors of 3 along `axis`, counted from the end; the other dimensions broadcast."""
    first, second = aligned(a, b)
    shape = broadcast_shape("cross", [first.shape, second.shape])
    along = axis_of(axis, len(shape), "cross")
    lengths = [x.shape[along - len(shape)] if along - len(shape) >= -x.ndim else 1 for x in (first, second)]
    if lengths != [3, 3]:
        raise ShapeError(
            f"cross of {first.shape} and {second.shape} along axis {axis}: vectors need 3 elements; pad or slice them"
        )
    first, second = (broadcast_to(x, shape) for x in (first, second))
    turned = [[take(x, order, axis=along) for order in ([1, 2, 0], [2, 0, 1])] for x in (first, second)]
    return turned[0][0] * turned[1][1] - turned[0][1] * turned[1][0]


def matrix_power(x: TensorLike, n: int, /) -> Tensor:
    """x · x ⋯ x, n times, of matrices x: (…, k, k); for n < 0 of their inverses, for n = 0 the identity."""
    n = whole_number(n, "matrix_power with n =")
    (matrix,) = operands(x) if n >= 0 else floating(x)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ShapeError(f"matrix_power of shape {matrix.shape}: takes square matrices (…, n, n); reshape or slice it")
    if n < 0:
        return matrix_power(inv(matrix), -n)
    if n == 0:
        one = eye(matrix.shape[-1], dtype=matrix.dtype, placement=matrix.placement)
        return broadcast_to(one, matrix.shape)
    half = matrix_power(matrix, n // 2) if n > 1 else None
    square = matrix if half is None else matmul(half, half)
    return matmul(square, matrix) if n % 2 and half is not None else square
