"""Products by oneDNN are those of float32 rounded once, for any shapes and strides; numpy does the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flowcore.dtypes import NARROW, limits
from flowcore.jit import onednn, product
from flowcore.jit.store import is_available
from flowcore.jit.table import call
from flowcore.ops.contract import multiply

BFLOAT16 = [dtype for dtype in NARROW if dtype.name == "bfloat16"]
SHAPES = [((), 33, 20, 17), ((), 1, 5, 7), ((), 6, 9, 1), ((), 1, 4, 1), ((3,), 8, 16, 24), ((2, 3), 5, 7, 4),
          ((), 0, 3, 2), ((), 4, 0, 3)]  # fmt: skip


def matrices(lead: tuple[int, ...], rows: int, columns: int, dtype: Any, way: str, seed: int) -> Any:
    """Random matrices that lie by rows, by columns, or with gaps."""
    draw = np.random.default_rng(seed)
    if way == "columns":
        return draw.normal(size=(*lead, columns, rows)).astype(dtype).swapaxes(-1, -2)
    gaps = 2 if way == "gaps" else 1
    return draw.normal(size=(*lead, rows * gaps, columns * gaps)).astype(dtype)[..., ::gaps, ::gaps]


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("way", ["rows", "columns", "gaps"])
@pytest.mark.parametrize("is_installed", [True, False], ids=["oneDNN", "numpy"])
def test_products_are_those_of_float32_rounded(
    way: str, dtype: Any, is_installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_installed:
        monkeypatch.setattr(onednn, "library", lambda: None)
    for lead, m, k, n in SHAPES:
        a, b = matrices(lead, m, k, dtype, way, 0), matrices(lead, k, n, dtype, "rows", 1)
        exact = np.matmul(a.astype(np.float64), b.astype(np.float64))
        places = [None, np.empty((*lead, m, n), dtype), np.empty((*lead, n, m), dtype).swapaxes(-1, -2)]
        for out in places:
            found = multiply(a, b, out)
            assert found.dtype == dtype and (out is None or found is out)
            np.testing.assert_allclose(found.astype(np.float64), exact, rtol=float(limits(dtype).eps), atol=1e-5)


@pytest.mark.skipif(onednn.library() is None, reason="oneDNN is not installed")
@pytest.mark.parametrize("dtype", BFLOAT16, ids=str)
def test_plain_products_of_bfloat16_are_done_by_the_library_in_every_orientation(dtype: Any) -> None:
    for first in ("rows", "columns"):
        for second in ("rows", "columns"):
            for third in ("rows", "columns"):
                a, b = matrices((), 32, 48, dtype, first, 0), matrices((), 48, 64, dtype, second, 1)
                assert onednn.multiply(a, b, matrices((), 32, 64, dtype, third, 2))


@pytest.mark.skipif(onednn.library() is None or not is_available(), reason="oneDNN or numba is not installed")
@pytest.mark.parametrize("formula", ["mk,kn->mn", "mk,nk->mn", "km,kn->mn", "km,nk->mn", "mk,kn->nm", "mk,nk->nm"])
def test_large_products_of_float32_in_programs_are_done_by_the_library(
    formula: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product, "LEAST", 0)
    draw, (terms, result) = np.random.default_rng(0), formula.split("->")
    first, second = terms.split(",")
    for sizes in ((33, 20, 17), (64, 64, 64), (2, 130, 3), (5, onednn.LONG + 1, 4)):
        lengths = dict(zip("mkn", sizes, strict=True))
        found = product.launch(first, second, result, lengths, "f4")
        assert found is not None and found.kernel.source.startswith("from flowcore.jit.foreign")
        a, b = (draw.normal(size=[lengths[c] for c in term]).astype("float32") for term in (first, second))
        y, room = np.full([lengths[c] for c in result], np.nan, "float32"), np.full(found.scratch, 255, np.uint8)
        for scale in (1, 2):  # other addresses, the same call
            given = a * np.float32(scale)
            assert call(found.kernel, found.numbers, [given, b, y, room]) == 0
            wanted = np.einsum(formula, given.astype(float), b.astype(float))
            np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.skipif(onednn.library() is None, reason="oneDNN is not installed")
def test_where_no_code_has_the_name_that_is_asked_for_the_first_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "PACKING", b"nothing")
    a, b, y = (np.ones((64, 64), "float32") for _ in range(3))
    made = onednn.product("float32", (((64, 64), (64, 1)),) * 3)
    assert made is not None
    made((a, b, y))
    np.testing.assert_array_equal(y, 64)


@pytest.mark.skipif(onednn.library() is None or not is_available(), reason="oneDNN or numba is not installed")
def test_small_products_and_those_of_float64_are_left_to_the_blas_of_numpy() -> None:
    for kind, length in (("f4", 16), ("f8", 512)):
        found = product.launch("mk", "kn", "mn", dict.fromkeys("mkn", length), kind)
        assert found is not None and found.kernel.source.startswith("from flowcore.jit.matmul")
