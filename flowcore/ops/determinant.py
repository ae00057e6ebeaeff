"""Determinants, and the pseudo-inverse, which exist for singular matrices too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from flowcore.dispatch import filled, operands
from flowcore.dtypes import DType, complex64, complex128, float32, float64, limits, real_dtype
from flowcore.errors import DTypeError
from flowcore.op import Array, Op, Sample, Type, operator, type_of
from flowcore.ops.call import apply, apply_all
from flowcore.ops.cast import astype, floating
from flowcore.ops.complex import conj, imag
from flowcore.ops.contract import matmul
from flowcore.ops.elementwise import broadcast_shape, sum_to
from flowcore.ops.matrix import OfMatrices, adjoint, check_matrices, each
from flowcore.ops.orthogonal import SVD
from flowcore.ops.reduce import sum as total
from flowcore.ops.shape import reshape
from flowcore.ops.solve import inv
from flowcore.placement.layout import Layout, Shape
from flowcore.placement.sbp import B
from flowcore.placement.signature import Equation, broadcast_equation
from flowcore.tensor import Tensor, TensorLike

__all__ = ["det", "pinv", "slogdet"]


class SlogdetResult(NamedTuple):
    """det x = sign exp(logabsdet)."""

    sign: Tensor
    logabsdet: Tensor


@operator
class Det(OfMatrices):
    """y = det a."""

    name: ClassVar[str] = "det"

    def results(self, batch: Shape, m: int, n: int, dtype: DType) -> tuple[Type, ...]:
        return (Type(batch, dtype),)

    def kernel(self, a: Array) -> Any:
        return np.linalg.det(a)

    def vjp(self, dy: Tensor, a: Tensor) -> Tensor:
        return _scaled(adjoint(apply(Adjugate(), a)), dy)


@operator
class Adjugate(OfMatrices):
    """y with a y = det(a) 1, the transposed cofactors: those of u diag(s) vᴴ are det(u vᴴ) v diag(Π s / s) uᴴ."""

    name: ClassVar[str] = "adjugate"

    def results(self, batch: Shape, m: int, n: int, dtype: DType) -> tuple[Type, ...]:
        return (Type((*batch, n, n), dtype),)

    def kernel(self, a: Array) -> Any:
        u, s, vh = each(np.linalg.svd, SVD(True).infer(type_of(a)), a)[0]
        ones = np.ones((*s.shape[:-1], 1), s.dtype)
        before = np.cumprod(np.concatenate([ones, s[..., :-1]], -1), -1)
        after = np.cumprod(np.concatenate([ones, s[..., :0:-1]], -1), -1)[..., ::-1]
        turn = (np.linalg.det(u) * np.linalg.det(vh))[..., None, None]
        u, vh = (np.conj(np.swapaxes(factor, -1, -2)) for factor in (u, vh))
        return turn * ((vh * (before * after)[..., None, :]) @ u) if s.shape[-1] else a.copy()

    def vjp(self, dy: Tensor, a: Tensor) -> Tensor:
        """Of det(a) a⁻¹; a singular matrix is an error."""
        inverse = inv(a)
        back, size = adjoint(inverse), conj(apply(Det(), a))
        along = total(conj(inverse) * dy, axis=(-2, -1))
        return _scaled(_scaled(back, along) - matmul(matmul(back, dy), back), size)


def _scaled(matrices: Tensor, factors: Tensor) -> Tensor:
    """Every matrix times its factor."""
    return matrices * reshape(factors, (*factors.shape, 1, 1))


@operator
class SlogDet(OfMatrices):
    """(sign, log): det a = sign exp(log), |sign| = 1; sign 0 and log -inf where a is singular."""

    name: ClassVar[str] = "slogdet"

    def results(self, batch: Shape, m: int, n: int, dtype: DType) -> tuple[Type, ...]:
        return Type(batch, dtype), Type(batch, real_dtype(dtype))

    def kernel(self, a: Array) -> Any:
        return tuple(np.linalg.slogdet(a))

    def vjp(self, dy: tuple[Tensor, Tensor], a: Tensor) -> Tensor:
        """dlog = Re tr(a⁻¹ da), dsign = i sign Im tr(a⁻¹ da); a singular matrix is an error."""
        dsign, dlog = dy
        along = astype(dlog, a.dtype)
        if a.dtype.kind == "c":
            along = along - imag(conj(dsign) * apply_all(self, a)[0]) * 1j
        return _scaled(adjoint(inv(a)), along)


@operator
class Pinv(Op):
    """y = a⁺ for a: (…, m, n), singular values up to rtol: (…) of the greatest taken for 0."""

    name: ClassVar[str] = "pinv"

    def infer(self, a: Type, rtol: Type) -> tuple[Type, ...]:
        check_matrices(self.name, a, is_square=False)
        if rtol.dtype != real_dtype(a.dtype):
            raise DTypeError(f"pinv of {a.dtype} with rtol of {rtol.dtype}: it must be {real_dtype(a.dtype)}")
        batch = broadcast_shape(self.name, [a.shape[:-2], rtol.shape])
        return (Type((*batch, a.shape[-1], a.shape[-2]), a.dtype),)

    def equation(self, a: Type, rtol: Type) -> Equation:
        shapes = [a.shape[:-2], rtol.shape]
        batch = broadcast_equation(shapes, max(map(len, shapes)))
        (first, second), (result,) = batch.inputs, batch.outputs
        return Equation((first + "YZ", second), (result + "ZY",))

    def kernel(self, a: Array, rtol: Array) -> Any:
        (result,) = results = self.infer(type_of(a), type_of(rtol))
        whole = np.broadcast_to(a, (*result.shape[:-2], *a.shape[-2:]))
        found, _ = each(lambda a, rtol: np.linalg.pinv(a, rtol=rtol[..., 0, 0]), results, whole, rtol[..., None, None])
        return found[0]

    def vjp(self, dy: Tensor, a: Tensor, rtol: Tensor) -> Any:
        """dy = -y da y + y yᴴ daᴴ (1 - a y) + (1 - y a) daᴴ yᴴ y where the rank stays (Golub and Pereyra 1973)."""
        y = apply(self, a, rtol)
        back, change = adjoint(y), adjoint(dy)
        outside = matmul(change, matmul(y, back)), matmul(matmul(back, y), change)
        da = outside[0] - matmul(a, matmul(y, outside[0])) + outside[1] - matmul(matmul(outside[1], y), a)
        return sum_to(da - matmul(matmul(back, dy), back), a), None

    def flops(self, *types: Type) -> int:
        return 8 * types[0].size * min(types[0].shape[-2:])

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return self if all(flags) else None

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        # a gradient exists where nothing is cut off, and there a smaller tolerance changes nothing
        excluded = tuple(
            (f"B,P(max)->{result}", "true of a tolerance of 0 only") for result in ("B", "P(max)", "P(min)")
        )
        whole = (((5, 3), float64), ((3, 4), float64), ((4, 3), complex128))
        cut: tuple[tuple[Shape, Shape, DType], ...] = (((5, 3, 3), (5,), complex64), ((1, 3, 4), (5,), float32))
        return (
            *(
                Sample(cls(), (Type(a, dtype), Type((), float64)), ("normal", "index:1"), excluded)
                for a, dtype in whole
            ),
            *(Sample(cls(), (Type(a, dtype), Type(rtol, float32)), ("normal", "unit")) for a, rtol, dtype in cut),
        )


def det(x: TensorLike, /) -> Tensor:
    """The determinants (…) of matrices x: (…, n, n)."""
    return apply(Det(), *floating(x))


def slogdet(x: TensorLike, /) -> SlogdetResult:
    """(sign, logabsdet) of matrices x: (…, n, n), for determinants beyond floats; (0, -inf) where x is singular."""
    return SlogdetResult(*apply_all(SlogDet(), *floating(x)))


def pinv(x: TensorLike, /, *, rtol: TensorLike = None) -> Tensor:
    """The pseudo-inverses (…, n, m) of matrices x: (…, m, n).

    rtol: (…), singular values up to rtol times the greatest count as 0; by default max(m, n) times the dtype's epsilon.
    """
    (matrix,) = floating(x)
    check_matrices("pinv", matrix.value.type, is_square=False)
    return apply(Pinv(), matrix, tolerance(matrix, rtol))


def tolerance(matrix: Tensor, rtol: TensorLike) -> Tensor:
    """`rtol`, or max(m, n) times the dtype's epsilon, as a tensor beside `matrix`."""
    dtype = real_dtype(matrix.dtype)
    if rtol is None:
        rtol = max(matrix.shape[-2:]) * float(limits(dtype).eps)
    if isinstance(rtol, int | float):
        return filled((), float(rtol), dtype, Layout(matrix.placement, B))
    return astype(operands(matrix, rtol)[1], dtype)
