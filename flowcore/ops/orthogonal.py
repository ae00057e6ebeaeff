"""Orthogonal factors: of a matrix and a triangle (qr), of a Hermitian matrix (eigh), of any matrix (svd).

The gradients are the adjoints of the factors' differentials (M. B. Giles, "Collected matrix derivative results for
forward and reverse mode algorithmic differentiation", 2008), for complex matrices too. Where a factor is not unique, as
vectors of equal values or the phases of complex vectors, a loss must not depend on the choice. The factors of a matrix
that is not finite, or for which LAPACK finds none, are nan.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from flowcore.dtypes import DType, real_dtype
from flowcore.errors import GradError, ShapeError
from flowcore.op import Array, Sample, Type, operator
from flowcore.ops.call import apply, apply_all
from flowcore.ops.cast import astype, floating
from flowcore.ops.comparison import equal
from flowcore.ops.complex import imag
from flowcore.ops.contract import matmul
from flowcore.ops.join import concat
from flowcore.ops.matrix import OfMatrices, adjoint, diagonal, hermitian, hermitian_part, spread
from flowcore.ops.selection import where
from flowcore.ops.shape import expand_dims
from flowcore.ops.solve import solve
from flowcore.ops.triangle import triu
from flowcore.placement.layout import Shape
from flowcore.tensor import Tensor, TensorLike

__all__ = ["eigh", "eigvalsh", "qr", "svd", "svdvals"]

ANY_SHAPE = ((5, 3), (3, 5), (5, 3, 3))
LEFT, RIGHT = (..., slice(None), slice(None)), slice(None)


class QRResult(NamedTuple):
    """x = Q R."""

    Q: Tensor
    R: Tensor


class EighResult(NamedTuple):
    """x v = λ v for the columns v of the eigenvectors."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class SVDResult(NamedTuple):
    """x = U diag(S) Vh."""

    U: Tensor
    S: Tensor
    Vh: Tensor


@operator
class QR(OfMatrices):
    """(q, r): a = q r, qᴴ q = 1, r upper triangular with a real diagonal; `complete`: q is square."""

    complete: bool = False

    name: ClassVar[str] = "qr"
    is_square: ClassVar[bool] = False
    shapes: ClassVar[tuple[Shape, ...]] = ANY_SHAPE

    def results(self, batch: Shape, m: int, n: int, dtype: DType) -> tuple[Type, ...]:
        k = m if self.complete else min(m, n)
        return Type((*batch, m, k), dtype), Type((*batch, k, n), dtype)

    def kernel(self, a: Array) -> Any:
        return self.answers(partial(np.linalg.qr, mode="complete" if self.complete else "reduced"), a)

    def vjp(self, dy: tuple[Tensor, Tensor], a: Tensor) -> Tensor:
        """With a = (a₁ a₂), a₁ no wider than high: a₁ = q r₁, and r₂ = qᴴ a₂."""
        (dq, dr), (q, r), (m, n) = dy, apply_all(self, a), a.shape[-2:]
        if self.complete and m > n:
            raise GradError(f"qr of {a.shape} with mode='complete' has no gradient: its last columns are arbitrary")
        if m >= n:
            return _qr_gradient(q, r, dq, dr)
        first, rest = (..., slice(None, m)), (..., slice(m, None))
        da1 = _qr_gradient(q, r[first], dq + matmul(a[rest], adjoint(dr[rest])), dr[first])
        return concat([da1, matmul(q, dr[rest])], axis=-1)

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return (*cls.of(), cls.of(True)[1])


def _qr_gradient(q: Tensor, r: Tensor, dq: Tensor, dr: Tensor) -> Tensor:
    """The gradient of a = q r, r: (n, n): (dq + q (y + yᴴ)) r⁻ᴴ with y the upper half of dr rᴴ - qᴴ dq."""
    whole = matmul(dr, adjoint(r)) - matmul(adjoint(q), dq)
    upper = triu(whole) - spread(diagonal(whole)) * 0.5
    return adjoint(solve(r, adjoint(dq + matmul(q, upper + adjoint(upper)))))


@operator
class Eigh(OfMatrices):
    """(λ, v): a v = v diag(λ) for the Hermitian part of a, λ ascending, vᴴ v = 1."""

    name: ClassVar[str] = "eigh"
    has_phase: ClassVar[bool] = True

    def results(self, batch: Shape, m: int, n: int, dtype: DType) -> tuple[Type, ...]:
        return Type((*batch, n), real_dtype(dtype)), Type((*batch, n, n), dtype)

    def kernel(self, a: Array) -> Any:
        return self.answers(np.linalg.eigh, hermitian(a))

    def vjp(self, dy: tuple[Tensor, Tensor], a: Tensor) -> Tensor:
        """dλ = diag(vᴴ da v), dv = v (f ∘ vᴴ da v), f = 1 / (λⱼ - λᵢ)."""
        (dvalues, dvectors), (values, v) = dy, apply_all(self, a)
        inner = matmul(adjoint(v), dvectors) * _inverse_gaps(values) + spread(astype(dvalues, v.dtype))
        return hermitian_part(matmul(matmul(v, inner), adjoint(v)))


def _inverse_gaps(values: Tensor) -> Tensor:
    """y[i, j] = 1 / (values[j] - values[i]), 0 where they are equal."""
    gaps = expand_dims(values, -2) - expand_dims(values, -1)
    return where(equal(gaps, 0), 0, 1 / where(equal(gaps, 0), 1, gaps))


@operator
class Eigvalsh(OfMatrices):
    """λ, ascending: the eigenvalues of the Hermitian part of a."""

    name: ClassVar[str] = "eigvalsh"

    def results(self, batch: Shape, m: int, n: int, dtype: DType) -> tuple[Type, ...]:
        return (Type((*batch, n), real_dtype(dtype)),)

    def kernel(self, a: Array) -> Any:
        return self.answers(np.linalg.eigvalsh, hermitian(a))[0]

    def vjp(self, dy: Tensor, a: Tensor) -> Tensor:
        v = apply_all(Eigh(), a)[1]
        return matmul(v * expand_dims(dy, -2), adjoint(v))


@operator
class SVD(OfMatrices):
    """(u, s, vh): a = u diag(s) vh, uᴴ u = 1 = vh vhᴴ, s descending; `full`: u and vh are square."""

    full: bool = False

    name: ClassVar[str] = "svd"
    is_square: ClassVar[bool] = False
    shapes: ClassVar[tuple[Shape, ...]] = ANY_SHAPE
    has_phase: ClassVar[bool] = True

    def results(self, batch: Shape, m: int, n: int, dtype: DType) -> tuple[Type, ...]:
        k = min(m, n)
        left, right = (m, n) if self.full else (k, k)
        return Type((*batch, m, left), dtype), Type((*batch, k), real_dtype(dtype)), Type((*batch, right, n), dtype)

    def kernel(self, a: Array) -> Any:
        return self.answers(partial(np.linalg.svd, full_matrices=self.full), a)

    def vjp(self, dy: tuple[Tensor, Tensor, Tensor], a: Tensor) -> Tensor:
        """With f = 1 / (sⱼ² - sᵢ²) off the diagonal and skew(x) = x - xᴴ.

        da = u (skew(uᴴdu) ∘ f s + s f ∘ skew(vᴴdv) + ds) vᴴ + (1 - u uᴴ) du s⁻¹ vᴴ + u s⁻¹ dvᴴ (1 - v vᴴ); where
        vectors have phases, also half of what the diagonals of uᴴdu and vᴴdv say of these, over s.
        """
        if self.full and a.shape[-1] != a.shape[-2]:
            raise GradError(f"svd of {a.shape} with full_matrices=True has no gradient: its last vectors are arbitrary")
        (du, ds, dvh), (u, s, vh) = dy, apply_all(self, a)
        v, dv = adjoint(vh), adjoint(dvh)
        inverse = where(equal(s, 0), 0, 1 / where(equal(s, 0), 1, s))
        row, column = expand_dims(s, -2), expand_dims(s, -1)
        gaps = _inverse_gaps(s * s)
        left, right = matmul(adjoint(u), du), matmul(adjoint(v), dv)
        inner = (left - adjoint(left)) * gaps * row + (right - adjoint(right)) * gaps * column
        inner = inner + spread(astype(ds, u.dtype))
        if u.dtype.kind == "c":
            inner = inner + spread(imag(diagonal(left) - diagonal(right)) * inverse * 0.5j)
        outside = du - matmul(u, left), dv - matmul(v, right)
        da = matmul(matmul(u, inner) + outside[0] * expand_dims(inverse, -2), vh)
        return da + matmul(u * expand_dims(inverse, -2), adjoint(outside[1]))

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return (*cls.of(), cls.of(True)[2])


@operator
class SingularValues(OfMatrices):
    """s, descending: the singular values of a."""

    name: ClassVar[str] = "svdvals"
    is_square: ClassVar[bool] = False
    shapes: ClassVar[tuple[Shape, ...]] = ((5, 3), (4, 3, 5))

    def results(self, batch: Shape, m: int, n: int, dtype: DType) -> tuple[Type, ...]:
        return (Type((*batch, min(m, n)), real_dtype(dtype)),)

    def kernel(self, a: Array) -> Any:
        return self.answers(np.linalg.svdvals, a)[0]

    def vjp(self, dy: Tensor, a: Tensor) -> Tensor:
        u, _, vh = apply_all(SVD(), a)
        return matmul(u * expand_dims(dy, -2), vh)


def qr(x: TensorLike, /, *, mode: str = "reduced") -> QRResult:
    """(Q, R) of matrices x: (…, m, n): Q (…, m, k), R (…, k, n), k = min(m, n), or m with mode="complete"."""
    if mode not in ("reduced", "complete"):
        raise ShapeError(f"qr with mode {mode!r}: give 'reduced' or 'complete'")
    return QRResult(*apply_all(QR(mode == "complete"), *floating(x)))


def eigh(x: TensorLike, /) -> EighResult:
    """(eigenvalues, eigenvectors) of Hermitian matrices x: (…, n, n), ascending; of their Hermitian part."""
    return EighResult(*apply_all(Eigh(), *floating(x)))


def eigvalsh(x: TensorLike, /) -> Tensor:
    """The eigenvalues (…, n) of Hermitian matrices x: (…, n, n), ascending; of their Hermitian part."""
    return apply(Eigvalsh(), *floating(x))


def svd(x: TensorLike, /, *, full_matrices: bool = True) -> SVDResult:
    """(U, S, Vh) of matrices x: (…, m, n), S (…, min(m, n)) descending; U and Vh are square if `full_matrices`."""
    return SVDResult(*apply_all(SVD(full_matrices), *floating(x)))


def svdvals(x: TensorLike, /) -> Tensor:
    """The singular values (…, min(m, n)) of matrices x: (…, m, n), descending."""
    return apply(SingularValues(), *floating(x))
