"""Products by numpy's own BLAS inside compiled kernels equal numpy's, for every transposition, stride and offset."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowcore.jit import library
from flowcore.jit.store import is_available

pytestmark = pytest.mark.skipif(
    not (is_available() and library.has_gemm()), reason="numba, or a BLAS of numpy's that is known, is not installed"
)
LENGTHS = [(0, 3, 2), (3, 0, 2), (3, 2, 0), (1, 1, 1), (5, 7, 3), (1, 9, 4), (33, 17, 40)]


def stored(draw: np.random.Generator, shape: tuple[int, int], is_turned: bool, dtype: str) -> tuple[Any, Any, int, int]:
    """A matrix of `shape`, and where it lies in a flat array: (matrix, array, first element, row distance)."""
    height, width = shape[::-1] if is_turned else shape
    distance, first = width + int(draw.integers(3)), int(draw.integers(4))
    flat = draw.normal(size=first + height * distance + 1).astype(dtype)
    rows = flat[first : first + height * distance].reshape(height, distance)[:, :width]
    return rows.T if is_turned else rows, flat, first, distance


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_product_of_parts_of_arrays_is_that_of_numpy(dtype: str) -> None:
    import numba

    from flowcore.jit.blas import gemm

    @numba.njit
    def multiply(ta, tb, m, n, k, alpha, a, a0, lda, b, b0, ldb, beta, c, c0, ldc):  # type: ignore[no-untyped-def]  # numba's types
        gemm(ta, tb, m, n, k, alpha, a, a0, lda, b, b0, ldb, beta, c, c0, ldc)

    draw, number = np.random.default_rng(0), np.dtype(dtype).type
    for (m, n, k), ta, tb, beta in product(LENGTHS, (False, True), (False, True), (0.0, 1.0)):
        a, flat_a, a0, lda = stored(draw, (m, k), ta, dtype)
        b, flat_b, b0, ldb = stored(draw, (k, n), tb, dtype)
        c, flat_c, c0, ldc = stored(draw, (m, n), False, dtype)
        outside = np.ones(flat_c.shape, bool)
        outside[c0 : c0 + m * ldc].reshape(m, ldc)[:, :n] = False
        if beta == 0:
            c[...] = np.nan
        before, wanted = flat_c.copy(), 0.5 * (a @ b) + (c if beta else 0)
        multiply(ta, tb, m, n, k, number(0.5), flat_a, a0, lda, flat_b, b0, ldb, number(beta), flat_c, c0, ldc)
        np.testing.assert_allclose(c, wanted, rtol=1e-5 if dtype == "float32" else 1e-13, atol=1e-5)
        np.testing.assert_array_equal(flat_c[outside], before[outside])


def test_machine_code_from_another_process_finds_the_address_anew(tmp_path: Path) -> None:
    (tmp_path / "kept.py").write_text(
        "import numba\nfrom flowcore.jit.blas import gemm\n"
        "@numba.njit('void(float64[::1])', cache=True)\n"
        "def square(x):\n    gemm(False, True, 1, 1, x.size, 1.0, x, 0, x.size, x, 0, x.size, 0.0, x, 0, 1)\n"
    )
    code = (
        f"import sys; sys.path.append({str(tmp_path)!r})\n"
        "import numpy, kept; x = numpy.arange(4.0); kept.square(x); print(x[0], len(kept.square.stats.cache_hits))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    ]
    assert runs == [["14.0", "0"], ["14.0", "1"]]


def test_without_a_known_blas_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "NAMES", ("nothing_{}gemm",))
    assert not library.gemm_addresses.__wrapped__()
