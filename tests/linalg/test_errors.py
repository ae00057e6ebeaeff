"""What no matrix has is the same error on every rank, whichever rank holds the matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.launch import run

L = fc.linalg
ONE_BAD = np.stack([np.eye(3), np.eye(3), np.zeros((3, 3)), np.eye(3)])
CASES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "inv": (L.inv, "inv: 1 of 4 matrices is singular: use pinv"),
    "solve": (lambda x: L.solve(x, x), "solve: 1 of 4 matrices is singular"),
    "cholesky": (L.cholesky, "cholesky: 1 of 4 matrices is not positive definite"),
    "matrix_power": (lambda x: L.matrix_power(x, -1), "inv: 1 of 4"),
    "slogdet": (fc.grad(lambda x: fc.sum(L.slogdet(x)[1])), "inv: 1 of 4"),
    "compiled": (fc.compile(L.inv), "inv: 1 of 4"),
}


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_one_bad_matrix_is_an_error_on_every_rank(name: str, ranks: int) -> None:
    f, text = CASES[name]

    def told() -> Any:
        x = fc.asarray(ONE_BAD, sbp=fc.S(0))
        with pytest.raises(fc.LinAlgError, match=text) as caught:
            f(x)
        assert isinstance(caught.value, np.linalg.LinAlgError | ValueError)
        return fc.sum(x).item()  # and all go on

    assert run(told, ranks=ranks) == [9.0] * ranks


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["svd", "svdvals", "eigh", "eigvalsh", "qr", "pinv", "inv", "cholesky", "det"])
def test_what_is_not_finite_stays_in_its_matrix_and_ends(name: str, value: float) -> None:
    x = np.stack([np.full((3, 3), value), np.diag([3.0, 2, 1])])
    found = getattr(L, name)(fc.asarray(x))
    expected = getattr(L, name)(fc.asarray(x[1:]))
    for one, alone in zip(*((r if isinstance(r, tuple) else (r,)) for r in (found, expected)), strict=True):
        assert not np.isfinite(one.numpy()[0]).all()
        np.testing.assert_allclose(one.numpy()[1], alone.numpy()[0], atol=1e-12)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: L.inv(fc.zeros((2, 3))), "takes square matrices"),
        (lambda: L.cholesky(fc.zeros((3,))), "takes square matrices"),
        (lambda: L.svd(fc.zeros((3,))), r"takes matrices \(…, m, n\)"),
        (lambda: L.solve(fc.zeros((3, 3)), fc.zeros((4, 1))), "the right side needs 3 rows"),
        (lambda: L.cross(fc.zeros((2,)), fc.zeros((2,))), "vectors need 3 elements"),
        (lambda: L.cross(fc.zeros((2, 3)), fc.zeros((2, 1))), "vectors need 3 elements"),
        (lambda: fc.tensordot(fc.zeros((2, 2)), fc.zeros((2, 2)), axes=-1), "both need so many"),
        (lambda: fc.tensordot(fc.zeros((2, 2)), fc.zeros((2, 2)), axes=3), "both need so many"),
        (lambda: fc.tensordot(fc.zeros((2, 2)), fc.zeros((2, 2)), axes=((0, 1), (0,))), "each once"),
        (lambda: fc.tensordot(fc.zeros((2, 2)), fc.zeros((2, 2)), axes=((0, 0), (0, 1))), "each once"),
        (lambda: L.vecdot(fc.zeros((2,)), fc.zeros((3,))), "must be equal"),
        (lambda: L.matrix_norm(fc.zeros((2, 2)), ord=5), "give one of"),
        (lambda: L.norm(fc.zeros((2, 2, 2)), 2), "name one axis"),
        (lambda: L.qr(fc.zeros((2, 2)), mode="r"), "'reduced' or 'complete'"),
        (lambda: L.trace(fc.zeros((2,))), "takes matrices"),
        (lambda: L.matrix_power(fc.zeros((2, 3)), 2), "takes square matrices"),
    ],
)
def test_wrong_shapes_and_options_are_named(call: Callable[[], Any], error: str) -> None:
    with pytest.raises(fc.ShapeError, match=error):
        call()


def test_half_precision_is_named() -> None:
    with pytest.raises(fc.DTypeError, match="takes single or double precision"):
        L.inv(fc.asarray(np.eye(2, dtype="float16")))
