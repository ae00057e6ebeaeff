"""Systems of linear equations, inverses and Cholesky factors, which not every matrix has.

The operators mark the matrices that have no result; `regular` turns a mark into the same error on every rank, whichever
rank holds the matrix.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from flowcore.dtypes import DType, complex128, float64, int64
from flowcore.errors import DTypeError, LinAlgError, ShapeError
from flowcore.op import Array, Op, Sample, Type, operator, type_of
from flowcore.ops.axes import letters
from flowcore.ops.call import apply, apply_all
from flowcore.ops.cast import floating
from flowcore.ops.contract import matmul
from flowcore.ops.create import eye
from flowcore.ops.elementwise import broadcast_shape, sum_to
from flowcore.ops.matrix import OfMatrices, adjoint, check_matrices, each, hermitian, hermitian_part, spread
from flowcore.ops.matrix import diagonal as diagonal_of
from flowcore.ops.reduce import sum as total
from flowcore.ops.shape import reshape
from flowcore.ops.triangle import tril
from flowcore.placement.layout import Shape
from flowcore.placement.signature import Algebra, Equation, Signature, broadcast_equation, derive
from flowcore.tensor import Tensor, TensorLike

__all__ = ["cholesky", "inv", "solve"]

POSITIVE = "not positive definite: add a multiple of the identity, or use eigh"
INVERTIBLE = "singular: use pinv, or add a multiple of the identity"


@operator
class Regular(Op):
    """y = x, where all of `count` matrices are `regular`; else LinAlgError, on every rank, for all need the number."""

    what: str
    count: int
    rule: str

    name: ClassVar[str] = "regular"
    algebra: ClassVar[Algebra] = Algebra(selects=(frozenset({0}),))

    def infer(self, x: Type, regular: Type) -> tuple[Type, ...]:
        return (x,)

    def equation(self, x: Type, regular: Type) -> Equation:
        return Equation((letters(x.ndim), letters(regular.ndim).upper()), (letters(x.ndim),))

    def checks(self, types: Sequence[Type]) -> tuple[int, tuple[Hashable, ...]]:
        return 1, (("regular", self.count),)

    def kernel(self, x: Array, regular: Array) -> Any:
        bad = int(np.sum(self.count - regular))
        if np.any(regular != self.count):
            verb = "is" if bad == 1 else "are"
            raise LinAlgError(f"{self.what}: {bad} of {self.count * regular.size} matrices {verb} {self.rule}")
        return x

    def vjp(self, dy: Tensor, x: Tensor, regular: Tensor) -> Any:
        return dy, None

    def flops(self, *types: Type) -> int:
        return 0

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return self if flags[0] else None

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        op = cls("cholesky", 0, POSITIVE)
        return (Sample(op, (Type((5, 7), float64), Type((), int64)), ("normal", "index:1")),)


def regular(results: tuple[Tensor, ...], what: str, rule: str) -> Tensor:
    """The first of (result, marks); LinAlgError on every rank where a mark is 0."""
    result, marks = results
    return apply(Regular(what, marks.size, rule), result, total(marks))


@operator
class Cholesky(OfMatrices):
    """(l, mark): l lower triangular with a positive diagonal, l lᴴ the Hermitian part of a; mark is 0 where none is."""

    name: ClassVar[str] = "cholesky"
    draw: ClassVar[str] = "definite"

    def results(self, batch: Shape, m: int, n: int, dtype: DType) -> tuple[Type, ...]:
        return Type((*batch, n, n), dtype), Type(batch, int64)

    def kernel(self, a: Array) -> Any:
        (factor,), marks = each(np.linalg.cholesky, (type_of(a),), hermitian(a))
        return factor, marks

    def vjp(self, dy: tuple[Tensor, Tensor], a: Tensor) -> Tensor:
        """dl = l φ(l⁻¹ da l⁻ᴴ), where φ takes the lower triangle and half of the diagonal; this is its adjoint."""
        factor = apply_all(self, a)[0]
        inner = tril(matmul(adjoint(factor), dy[0]))
        halved = inner - spread(diagonal_of(inner)) * 0.5
        half = _solved(adjoint(factor), halved)
        return hermitian_part(adjoint(_solved(adjoint(factor), adjoint(half))))


@operator
class Solve(Op):
    """(x, mark): a x = b for a: (…, n, n) and b: (…, n, k), whose batch dimensions broadcast.

    Columns of b are independent of each other. The mark is 0 where a is singular.
    """

    name: ClassVar[str] = "solve"

    def infer(self, a: Type, b: Type) -> tuple[Type, ...]:
        check_matrices(self.name, a, is_square=True)
        if b.ndim != a.ndim or b.shape[-2] != a.shape[-1]:
            raise ShapeError(f"solve of {a.shape} and {b.shape}: the right side needs {a.shape[-1]} rows; reshape it")
        if a.dtype != b.dtype:
            raise DTypeError(f"solve of {a.dtype} and {b.dtype}: operands must have one dtype; cast with astype")
        batch = broadcast_shape(self.name, [a.shape[:-2], b.shape[:-2]])
        return Type((*batch, *b.shape[-2:]), a.dtype), Type(a.shape[:-2], int64)

    def equation(self, a: Type, b: Type) -> Equation:
        batch = broadcast_equation([a.shape[:-2], b.shape[:-2]], a.ndim - 2)
        (first, second), (result,) = batch.inputs, batch.outputs
        return Equation((first + "YZ", second + "Zz"), (result + "Zz", first))

    def rules(self, types: tuple[Type, ...], parts: int) -> tuple[Signature, ...]:
        """Linear in b, and split as the equation of x says; the marks lie as the matrices do."""
        equation = self.equation(*types)
        found = derive(replace(equation, outputs=equation.outputs[:1]), Algebra(linear=(frozenset({1}),)))
        return tuple(Signature(made.inputs, (*made.outputs, made.inputs[0])) for made in found)

    def kernel(self, a: Array, b: Array) -> Any:
        (x,), marks = each(np.linalg.solve, self.infer(type_of(a), type_of(b))[:1], a, b)
        return x, marks

    def vjp(self, dy: tuple[Tensor, Tensor], a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        x, db = apply_all(self, a, b)[0], _solved(adjoint(a), dy[0])
        return sum_to(-matmul(db, adjoint(x)), a), sum_to(db, b)

    def flops(self, *types: Type) -> int:
        return types[0].size * types[0].shape[-1] + 2 * types[0].size * types[1].shape[-1]

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return self if all(flags) else None

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        cases: tuple[tuple[Shape, Shape, DType], ...] = (
            ((4, 4), (4, 5), float64), ((3, 4, 4), (3, 4, 2), float64), ((3, 4, 4), (1, 4, 5), float64),
            ((1, 3, 3), (5, 3, 4), complex128),
        )  # fmt: skip
        return tuple(Sample(cls(), (Type(a, dtype), Type(b, dtype))) for a, b, dtype in cases)


def _solved(a: Tensor, b: Tensor) -> Tensor:
    """a⁻¹ b, nan where a is singular."""
    return apply_all(Solve(), a, b)[0]


def solve(a: TensorLike, b: TensorLike, /) -> Tensor:
    """x with a x = b, a: (…, n, n), b: (n,) or (…, n, k); LinAlgError on every rank where some a is singular."""
    matrix, right = floating(a, b)
    if right.ndim == 0 or matrix.ndim < 2:
        raise ShapeError(f"solve of {matrix.shape} and {right.shape}: takes (…, n, n) and (n,) or (…, n, k); reshape")
    columns = right if right.ndim > 1 else reshape(right, (*right.shape, 1))
    ndim = max(matrix.ndim, columns.ndim)
    padded = [reshape(x, (1,) * (ndim - x.ndim) + x.shape) for x in (matrix, columns)]
    x = regular(apply_all(Solve(), *padded), "solve", INVERTIBLE)
    return x if right.ndim > 1 else reshape(x, x.shape[:-1])


def inv(x: TensorLike, /) -> Tensor:
    """The inverses of matrices x: (…, n, n); LinAlgError on every rank where one is singular."""
    (matrix,) = floating(x)
    check_matrices("inv", matrix.value.type, is_square=True)
    n = matrix.shape[-1]
    one = eye(n, dtype=matrix.dtype, placement=matrix.placement)
    columns = reshape(one, (1,) * (matrix.ndim - 2) + (n, n))
    return regular(apply_all(Solve(), matrix, columns), "inv", INVERTIBLE)


def cholesky(x: TensorLike, /, *, upper: bool = False) -> Tensor:
    """l with l lᴴ = x (`upper`: u with uᴴ u = x) of positive definite matrices x: (…, n, n), read as Hermitian.

    LinAlgError on every rank where one is not positive definite.
    """
    factor = regular(apply_all(Cholesky(), *floating(x)), "cholesky", POSITIVE)
    return adjoint(factor) if upper else factor
