"""Products and transposes in registers are numpy's, for sizes below, at and beyond those of tiles, in any order."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from flowcore.jit.store import is_available

pytestmark = pytest.mark.skipif(not is_available(), reason="numba is not installed")
SIZES = [(0, 5, 3), (5, 0, 3), (5, 3, 0), (1, 1, 1), (9, 67, 3), (17, 16, 8), (8, 32, 1), (3, 50, 33)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_are_those_of_numpy_and_touch_nothing_else(dtype: str) -> None:
    import numba

    from flowcore.jit.panels import multiply

    @numba.njit
    def made(*given):  # type: ignore[no-untyped-def]  # numba's types
        multiply(*given)

    draw, number = np.random.default_rng(0), np.dtype(dtype).type
    for (m, n, k), is_turned, adds in product(SIZES, (False, True), (False, True)):
        a, b = draw.normal(size=(m, k)).astype(dtype), draw.normal(size=(k, n + 2)).astype(dtype)
        c = np.full((m, n + 3), np.nan, dtype)
        if adds:
            c[:, :n] = draw.normal(size=(m, n))
        before, wanted = c.copy(), 0.5 * (a @ b[:, :n]) + (c[:, :n] if adds else 0)
        held = np.ascontiguousarray(a.T if is_turned else a).ravel()
        row, column = (1, m) if is_turned else (k, 1)
        flat: Any = c.reshape(-1)
        made(m, n, k, number(0.5), held, 0, row, column, b.reshape(-1), 0, n + 2, adds, flat, 0, n + 3)
        np.testing.assert_allclose(c[:, :n], wanted, rtol=1e-5 if dtype == "float32" else 1e-13, atol=1e-5)
        np.testing.assert_array_equal(c[:, n:], before[:, n:])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_transposes_are_those_of_numpy(dtype: str) -> None:
    import numba

    from flowcore.jit.panels import transpose

    @numba.njit
    def made(*given):  # type: ignore[no-untyped-def]  # numba's types
        transpose(*given)

    for m, n in ((1, 1), (16, 16), (8, 8), (37, 50), (64, 17)):
        x = np.random.default_rng(0).normal(size=(m, n + 1)).astype(dtype)
        y = np.full((n, m + 2), np.nan, dtype)
        made(m, n, x.reshape(-1), 0, n + 1, y.reshape(-1), 0, m + 2)
        np.testing.assert_array_equal(y[:, :m], x[:, :n].T)
        assert np.isnan(y[:, m:]).all()
