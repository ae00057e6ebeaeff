"""Gradients of what is made of several operators, or not unique, against central differences; and on several ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.launch import run

L = fc.linalg
WEIGHTS = np.array([1.0, -2.0, 0.5])


def turned(u: Any, weights: Any, v: Any) -> Any:
    """u diag(weights) vᴴ, in which the phases of the columns of u and v do not show."""
    return (u * weights[..., None, :]) @ fc.conj(L.matrix_transpose(v))


def by_eigh(x: Any) -> Any:
    values, vectors = L.eigh(x)
    return turned(vectors, values * WEIGHTS, vectors)


def by_svd(x: Any) -> Any:
    u, s, vh = L.svd(x, full_matrices=False)
    v = fc.conj(L.matrix_transpose(vh))
    return turned(u, s * s * WEIGHTS, v) + fc.sum(turned(u, WEIGHTS, u)) + fc.sum(turned(v, s * WEIGHTS, v))


FUNCTIONS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "eigh": (by_eigh, (2, 3, 3)),
    "svd": (by_svd, (2, 4, 3)),
    "svd wide": (by_svd, (3, 5)),
    "inv": (L.inv, (2, 3, 3)),
    "pinv": (L.pinv, (4, 3)),
    "matrix_power": (lambda x: L.matrix_power(x, -2), (3, 3)),
    "nuclear": (lambda x: L.matrix_norm(x, ord="nuc"), (3, 4)),
    "spectral": (lambda x: L.matrix_norm(x, ord=2), (3, 4)),
    "columns": (lambda x: L.matrix_norm(x, ord=1), (2, 3, 4)),
    "norm": (lambda x: L.vector_norm(x, axis=-1), (3, 4)),
    "norm 3": (lambda x: L.vector_norm(x, ord=3, axis=0), (3, 4)),
    "norm inf": (lambda x: L.vector_norm(x, ord=np.inf), (3, 4)),
    "vecdot": (lambda x: L.vecdot(x, x * x + 1), (3, 4)),
    "cross": (lambda x: L.cross(x, x[..., ::-1]), (4, 3)),
    "trace": (lambda x: L.trace(x @ x, offset=-1), (2, 4, 4)),
    "kron": (lambda x: fc.kron(x, x[0]), (2, 3)),
}


def loss(name: str, weights: Any) -> Callable[[Any], Any]:
    f, _ = FUNCTIONS[name]
    return lambda x: fc.sum(fc.real(f(x) * weights))


def setting(name: str, dtype: str) -> tuple[Any, Any, Any]:
    """A point, a direction and weights of the result."""
    f, shape = FUNCTIONS[name]
    random = np.random.default_rng(7)

    def drawn(shape: Any) -> Any:
        value = random.normal(size=shape) + 1j * random.normal(size=shape)
        return value if dtype == "complex128" else value.real

    x = drawn(shape)
    return x, drawn(shape), drawn(f(fc.asarray(x)).shape)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_agree_with_differences(name: str, dtype: str) -> None:
    x, direction, weights = setting(name, dtype)
    f, step = loss(name, weights), 1e-6
    slope = np.vdot(direction, fc.grad(f)(fc.asarray(x)).numpy()).real
    ahead, behind = (f(fc.asarray(x + sign * step * direction)).item() for sign in (1, -1))
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_are_the_same_on_several_ranks(name: str) -> None:
    x, _, weights = setting(name, "complex128")
    alone = fc.grad(loss(name, weights))(fc.asarray(x)).numpy()

    def split() -> Any:
        return fc.grad(loss(name, weights))(fc.asarray(x, sbp=fc.S(0))).numpy()

    for found in run(split, ranks=3):
        np.testing.assert_allclose(found, alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("ord", [1, 2, 3, np.inf, -np.inf, 0.5])
def test_a_norm_has_gradient_0_at_0(ord: float) -> None:
    found = fc.grad(lambda x: fc.sum(L.vector_norm(x, ord=ord, axis=-1)))(
        fc.asarray(np.array([[0.0, 0.0], [0.0, 2.0]]))
    )
    np.testing.assert_array_equal(found.numpy()[0], [0, 0])
    assert np.isfinite(found.numpy()).all()


def test_the_determinant_of_a_singular_matrix_has_its_cofactors_as_gradient() -> None:
    x = np.array([[1.0, 2, 3], [2, 4, 6], [1, 0, 1]])
    cofactors = [
        [(-1) ** (i + j) * np.linalg.det(np.delete(np.delete(x, i, 0), j, 1)) for j in range(3)] for i in range(3)
    ]
    np.testing.assert_allclose(fc.grad(L.det)(fc.asarray(x)).numpy(), cofactors, atol=1e-12)


def test_equal_eigenvalues_do_not_spoil_the_gradient() -> None:
    x = fc.asarray(np.eye(3))
    found = fc.grad(lambda x: fc.sum(by_eigh(x)) * 0 + fc.sum(L.eigvalsh(x)))(x)
    np.testing.assert_allclose(found.numpy(), np.eye(3), atol=1e-12)


@pytest.mark.parametrize(
    "f",
    [lambda x: L.qr(x, mode="complete")[0], lambda x: L.svd(x)[0]],
)
def test_arbitrary_vectors_have_no_gradient(f: Callable[[Any], Any]) -> None:
    with pytest.raises(fc.GradError, match="arbitrary"):
        fc.grad(lambda x: fc.sum(f(x)))(fc.asarray(np.ones((4, 2))))
