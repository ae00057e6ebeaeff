"""Linear algebra against numpy: all dtypes, empty and uneven shapes, and the same on every placement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.launch import run

Array = np.ndarray[Any, Any]
DTYPES = ("float32", "float64", "complex64", "complex128")
SQUARE = ((3, 3), (5, 3, 3), (2, 4, 2, 2), (0, 3, 3), (1, 1))
WIDE = ((3, 4), (4, 3), (5, 2, 3), (0, 2, 3), (2, 0, 3, 2))
EMPTY = ((0, 0), (3, 0, 0))


def matrices(shape: Sequence[int], dtype: str, definite: bool = False) -> Array:
    """Random matrices, well-conditioned where square."""
    random = np.random.default_rng(len(shape))
    value = random.normal(size=shape) + 1j * random.normal(size=shape)
    value = (value if np.dtype(dtype).kind == "c" else value.real).astype(dtype)
    if definite:
        value = value @ np.conj(np.swapaxes(value, -1, -2)) + np.eye(shape[-1], dtype=dtype)
    return value


def adjoint(x: Array) -> Array:
    return np.conj(np.swapaxes(x, -1, -2))


def product(*factors: Any) -> Array:
    """The product of factors whose parts are not unique; a vector stands for a diagonal matrix."""
    left, middle, right = (np.asarray(factor) for factor in factors)
    return (left * middle[..., None, :]) @ right


def thin_svd(x: Any, svd: Callable[..., Any]) -> tuple[Any, ...]:
    u, s, vh = svd(x, full_matrices=False)
    return product(u, s, vh), s, product(u, s * 0 + 1, adjoint(np.asarray(u)))


def full_svd(x: Any, svd: Callable[..., Any]) -> tuple[Any, ...]:
    u, s, vh = map(np.asarray, svd(x))
    k = s.shape[-1]
    return product(u[..., :k], s, vh[..., :k, :]), s, u @ adjoint(u), vh @ adjoint(vh)


def eigh(x: Any, f: Callable[..., Any]) -> tuple[Any, ...]:
    values, vectors = f(
        (x + adjoint(np.asarray(x))) / 2
        if isinstance(x, np.ndarray)
        else fc.linalg.matrix_transpose(fc.conj(x)) * 0.5 + x * 0.5
    )
    return values, product(vectors, values, adjoint(np.asarray(vectors)))


def right_side(x: Array) -> Array:
    return matrices((*x.shape[:-1], 4), x.dtype.name)


L, N = fc.linalg, np.linalg
CASES: dict[str, tuple[Any, Any, tuple[tuple[int, ...], ...], bool]] = {
    # name: (ours, numpy's, shapes, positive definite)
    "cholesky": (L.cholesky, N.cholesky, SQUARE + EMPTY, True),
    "cholesky upper": (lambda x: L.cholesky(x, upper=True), lambda x: adjoint(N.cholesky(x)), SQUARE, True),
    "det": (L.det, N.det, SQUARE + EMPTY, False),
    "diagonal": (L.diagonal, N.diagonal, SQUARE + WIDE + EMPTY, False),
    "diagonal above": (lambda x: L.diagonal(x, offset=1), lambda x: N.diagonal(x, offset=1), SQUARE + WIDE, False),
    "diagonal below": (lambda x: L.diagonal(x, offset=-2), lambda x: N.diagonal(x, offset=-2), SQUARE + WIDE, False),
    "eigh": (lambda x: eigh(x, L.eigh), lambda x: eigh(x, N.eigh), SQUARE + EMPTY, False),
    "eigvalsh": (L.eigvalsh, N.eigvalsh, SQUARE + EMPTY, True),
    "inv": (L.inv, N.inv, SQUARE + EMPTY, True),
    "matmul": (lambda x: x @ x, lambda x: x @ x, SQUARE + EMPTY, False),
    "matrix_power 0": (lambda x: L.matrix_power(x, 0), lambda x: N.matrix_power(x, 0), SQUARE, False),
    "matrix_power 5": (lambda x: L.matrix_power(x, 5), lambda x: N.matrix_power(x, 5), SQUARE, False),
    "matrix_power -3": (lambda x: L.matrix_power(x, -3), lambda x: N.matrix_power(x, -3), SQUARE, True),
    "matrix_rank": (L.matrix_rank, N.matrix_rank, SQUARE + WIDE[:4], False),
    "matrix_rank rtol": (
        lambda x: L.matrix_rank(x, rtol=0.5), lambda x: N.matrix_rank(x, rtol=0.5), SQUARE + WIDE[:4], False,
    ),
    "matrix_transpose": (L.matrix_transpose, N.matrix_transpose, SQUARE + WIDE, False),
    "outer": (lambda x: L.outer(x[0], x[1]), lambda x: np.outer(x[0], x[1]), ((2, 3), (2, 0)), False),
    "pinv": (L.pinv, N.pinv, SQUARE + WIDE[:4], False),
    "pinv rtol": (lambda x: L.pinv(x, rtol=0.5), lambda x: N.pinv(x, rtol=0.5), SQUARE + WIDE[:4], False),
    "qr": (L.qr, N.qr, SQUARE + WIDE, False),
    "qr complete": (lambda x: L.qr(x, mode="complete"), lambda x: N.qr(x, mode="complete"), WIDE, False),
    "slogdet": (L.slogdet, N.slogdet, SQUARE + EMPTY, False),
    "solve": (
        lambda x: L.solve(x, fc.asarray(right_side(x.numpy()))), lambda x: N.solve(x, right_side(x)), SQUARE, True,
    ),
    "solve one": (
        lambda x: L.solve(x, right_side(x.numpy())[..., 0]) if x.ndim == 2 else L.solve(x, x[(0,) * (x.ndim - 2)]),
        lambda x: N.solve(x, right_side(x)[..., 0]) if x.ndim == 2 else N.solve(x, x[(0,) * (x.ndim - 2)]),
        ((3, 3), (5, 3, 3), (2, 4, 2, 2)), True,
    ),
    "svd": (lambda x: full_svd(x, L.svd), lambda x: full_svd(x, N.svd), WIDE[:4], False),
    "svd thin": (lambda x: thin_svd(x, L.svd), lambda x: thin_svd(x, N.svd), WIDE[:4], False),
    "svdvals": (L.svdvals, N.svdvals, SQUARE + WIDE, False),
    "trace": (L.trace, N.trace, SQUARE + WIDE + EMPTY, False),
    "trace above": (lambda x: L.trace(x, offset=1), lambda x: N.trace(x, offset=1), SQUARE + WIDE, False),
    "vector_norm": (L.vector_norm, N.vector_norm, WIDE, False),
    "cross": (lambda x: L.cross(x, x[:1]), lambda x: N.cross(x, x[:1]), ((3, 3), (5, 3), (2, 4, 3)), False),
    "cross first": (lambda x: L.cross(x, x, axis=-2), lambda x: N.cross(x, x, axis=-2), ((3, 4), (5, 3, 2)), False),
    "tensordot": (lambda x: L.tensordot(x, x, axes=1), lambda x: N.tensordot(x, x, axes=1), ((3, 3), (1, 1)), False),
    "tensordot pairs": (
        lambda x: L.tensordot(x, x, axes=((0, -1), (1, 0))),
        lambda x: N.tensordot(x, x, axes=((0, -1), (1, 0))),
        ((3, 3), (3, 3)),
        False,
    ),
    "tensordot one": (
        lambda x: L.tensordot(x, x, axes=(1, 0)),
        lambda x: N.tensordot(x, x, axes=(1, 0)),
        ((3, 3), (4, 4)),
        False,
    ),
    "vecdot": (lambda x: L.vecdot(x, x[:1]), lambda x: N.vecdot(x, x[:1]), SQUARE[:3] + WIDE[:3], False),
    "vecdot axis": (lambda x: L.vecdot(x, x, axis=-2), lambda x: N.vecdot(x, x, axis=-2), SQUARE + WIDE, False),
    "dot": (lambda x: fc.dot(x, x), lambda x: np.dot(x, x), SQUARE[:2], False),
    "inner": (lambda x: fc.inner(x, x), lambda x: np.inner(x, x), SQUARE[:3] + WIDE, False),
    "kron": (lambda x: fc.kron(x, x[0]), lambda x: np.kron(x, x[0]), SQUARE[:3] + WIDE[:3], False),
    "vdot": (lambda x: fc.vdot(x, x), lambda x: np.vdot(x, x), SQUARE + WIDE, False),
    **{
        f"matrix_norm {ord}": (
            lambda x, ord=ord: L.matrix_norm(x, ord=ord), lambda x, ord=ord: N.matrix_norm(x, ord=ord), WIDE[:4], False,
        )
        for ord in ("fro", "nuc", 1, 2, np.inf, -1, -2, -np.inf)
    },
    **{
        f"vector_norm {ord} {axis}": (
            lambda x, ord=ord, axis=axis: L.vector_norm(x, ord=ord, axis=axis, keepdims=True),
            lambda x, ord=ord, axis=axis: N.vector_norm(x, ord=ord, axis=axis, keepdims=True),
            WIDE[:3], False,
        )
        for ord in (0, 0.5, 1, 2, 3, np.inf, -1, -np.inf) for axis in (None, -1, (-2, -1))
    },
    **{
        f"norm {ord} {axis}": (
            lambda x, ord=ord, axis=axis: L.norm(x, ord, axis), lambda x, ord=ord, axis=axis: N.norm(x, ord, axis),
            WIDE[:3], False,
        )
        for ord, axis in ((None, None), (None, 0), (3, -1), ("fro", (0, -1)), (1, (-1, 0)), (None, (0, 1)))
    },
}  # fmt: skip


def agree(found: Any, expected: Any, dtype: str) -> None:
    """Same shapes, dtypes and values, of one result or of each."""
    if isinstance(expected, tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            agree(one, other, dtype)
        return
    got, wanted = np.asarray(found), np.asarray(expected)
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    tolerance = 2e-4 if np.dtype(dtype).itemsize <= 8 and dtype != "float64" else 1e-9
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_results_agree_with_numpy(name: str, dtype: str) -> None:
    ours, theirs, shapes, definite = CASES[name]
    for shape in shapes:
        x = matrices(shape, dtype, definite)
        agree(ours(fc.asarray(x)), theirs(x), dtype)


def layouts(ndim: int) -> list[Any]:
    """Every axis split over 3 ranks, and a 2 × 2 grid with a partial axis."""
    line, grid = fc.Placement(3), fc.Placement([[0, 1], [2, 3]])
    return [
        *((line, fc.S(axis)) for axis in range(ndim)),
        (line, fc.P),
        (grid, (fc.S(0), fc.P)),
        (grid, (fc.P, fc.S(1))),
    ]


def everywhere(name: str) -> int:
    """How many placements give what numpy does, on each rank; real and complex matrices take turns."""
    ours, theirs, shapes, definite = CASES[name]
    count = 0
    for turn, (placement, sbp) in enumerate(layouts(len(shapes[1])), len(name)):
        if fc.rank() in placement.ranks:
            dtype = ("float64", "complex128")[turn % 2]
            x = matrices(shapes[1], dtype, definite)
            with fc.use(placement):
                agree(ours(fc.asarray(x, placement=placement, sbp=sbp)), theirs(x), dtype)
            count += 1
    return count


@pytest.mark.parametrize("name", CASES)
def test_results_are_the_same_on_every_placement(name: str) -> None:
    assert all(run(everywhere, ranks=4, args=(name,)))


def test_split_batches_stay_where_they_lie_and_only_marks_of_singular_matrices_move() -> None:
    def moved() -> list[int]:
        batch = fc.asarray(matrices((2, 3, 3), "float64"), sbp=fc.S(0))  # the third rank holds no matrix
        one, right = batch[0].to_global(sbp=fc.B), fc.asarray(matrices((3, 5), "float64"), sbp=fc.S(1))
        whole = (L.svd, L.qr, L.eigh, L.det, L.slogdet, L.pinv, L.svdvals)
        plans = [fc.compile(f).plan(batch) for f in whole]
        plans.append(fc.compile(L.solve).plan(one, right))
        agree(L.svd(batch).S, N.svd(batch.numpy()).S, "float64")
        agree(L.inv(batch), N.inv(batch.numpy()), "float64")
        return [*(plan.bytes_moved for plan in plans), fc.compile(L.inv).plan(batch).bytes_moved]

    ranks, mark = 3, 8
    assert run(moved, ranks=ranks)[0] == [0] * 8 + [2 * (ranks - 1) * mark]


@pytest.mark.parametrize("ord", ["fro", "nuc", 1, 2, np.inf])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3), (0, 2, 2)])
def test_norms_of_empty_matrices_are_0(ord: Any, shape: tuple[int, ...]) -> None:
    np.testing.assert_array_equal(L.matrix_norm(fc.zeros(shape), ord=ord).numpy(), np.zeros(shape[:-2]))
    np.testing.assert_array_equal(L.vector_norm(fc.zeros(shape), axis=-1).numpy(), np.zeros(shape[:-1]))
