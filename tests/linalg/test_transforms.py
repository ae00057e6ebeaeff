"""Linear algebra, transforms of Fourier, einsum and special functions under jvp, vmap, compile and each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.launch import run

L = fc.linalg
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "cholesky": lambda x: L.cholesky(x @ fc.conj(fc.matrix_transpose(x))),
    "solve": lambda x: L.solve(x, x[:, :2]),
    "inv": L.inv,
    "pinv": lambda x: L.pinv(x[:, :2]),
    "det": L.det,
    "slogdet": lambda x: L.slogdet(x)[1],
    "qr": lambda x: L.qr(x[:2])[1],
    "eigh": lambda x: (lambda w, v: (v * w**3) @ fc.conj(fc.matrix_transpose(v)))(*L.eigh(x)),
    "eigvalsh": L.eigvalsh,
    "svd": lambda x: (lambda u, s, vh: (u * s**2) @ vh)(*L.svd(x[:, :2], full_matrices=False)),
    "svdvals": L.svdvals,
    "norm": L.matrix_norm,
    "fft": lambda x: fc.fft.fftn(x, s=(4, 2), axes=(0, 1)),
    "irfft": lambda x: fc.fft.irfft(x * x, axis=0),
    "rfft": lambda x: fc.fft.rfft(fc.real(x), n=5),
    "einsum": lambda x: fc.einsum("ij,jk,lk->il", x, x, x[:2]),
    "lgamma": lambda x: fc.lgamma(fc.real(x) ** 2 + 0.5),
    "logsumexp": lambda x: fc.logsumexp(fc.real(x), axis=0),
    "erfinv": lambda x: fc.erfinv(fc.erf(fc.real(x))),
}
BOTH = pytest.mark.parametrize("dtype", ["float64", "complex128"])
EACH = pytest.mark.parametrize("name", FUNCTIONS)


def drawn(dtype: str, *shape: int) -> Any:
    random = np.random.default_rng(11)
    value = random.normal(size=shape) + 1j * random.normal(size=shape)
    return fc.asarray(value if dtype == "complex128" else value.real)


def close(found: Any, expected: Any, tolerance: float = 1e-9) -> None:
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=tolerance, atol=tolerance)


@BOTH
@EACH
def test_forward_derivatives_agree_with_differences(name: str, dtype: str) -> None:
    f, (x, v), step = FUNCTIONS[name], (drawn(dtype, 2, 3, 3)[0], drawn(dtype, 2, 3, 3)[1]), 1e-6
    y, slope = fc.jvp(f, (x,), (v,))
    close(y, f(x))
    close(slope, (f(x + step * v) - f(x - step * v)) / (2 * step), 1e-5)


@BOTH
@EACH
def test_a_batch_gives_what_a_loop_does(name: str, dtype: str) -> None:
    f, xs = FUNCTIONS[name], drawn(dtype, 4, 3, 3)
    close(fc.vmap(f)(xs), fc.stack([f(xs[i]) for i in range(4)]))

    def loss(x: Any) -> Any:
        return fc.sum(fc.abs(f(x)) ** 2.0)

    close(fc.vmap(fc.grad(loss))(xs), fc.stack([fc.grad(loss)(xs[i]) for i in range(4)]), 1e-7)


@EACH
def test_compiled_and_split_gives_what_one_rank_does(name: str) -> None:
    f, x = FUNCTIONS[name], drawn("complex128", 3, 3)

    def loss(x: Any) -> Any:
        return fc.sum(fc.abs(f(x)) ** 2.0)

    expected = fc.grad(loss)(x).numpy()

    def split() -> Any:
        return fc.compile(fc.grad(loss))(drawn("complex128", 3, 3).to_global(sbp=fc.S(0))).numpy()

    for found in run(split, ranks=2):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["det", "solve", "eigvalsh", "fft", "lgamma"])
def test_hessians_are_derivatives_of_gradients(name: str) -> None:
    f, x, v, step = FUNCTIONS[name], drawn("float64", 3, 3), drawn("float64", 2, 3, 3)[1], 1e-6

    def loss(x: Any) -> Any:
        return fc.sum(fc.abs(f(x)) ** 2.0)

    gradient = fc.grad(loss)
    found = fc.tensordot(fc.hessian(loss)(x), v, axes=2)
    close(found, (gradient(x + step * v) - gradient(x - step * v)) / (2 * step), 1e-4)
