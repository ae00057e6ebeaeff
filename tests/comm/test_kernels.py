"""Reductions give the bits of terms reduced one after the other, compiled or not, whatever the shape and alignment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flowcore.comm import kernels
from flowcore.comm.kernels import reduce_fused
from flowcore.comm.reduction import Levels, reduce_terms

SIZES = (1, 5, 1000, 40_003)


def drawn(dtype: str, size: int, offset: int, seed: int) -> np.ndarray[Any, Any]:
    """Random numbers that are not aligned."""
    return (np.random.default_rng(seed).normal(size=size + offset) * 100).astype(dtype)[offset:]


@pytest.mark.parametrize("is_compiled", [False, True], ids=["numpy", "compiled"])
@pytest.mark.parametrize(
    "levels", [((2, "sum"),), ((3, "sum"),), ((5, "sum"),), ((2, "max"), (2, "sum")), ((4, "min"),)], ids=str
)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "c8", "f2", "bfloat16"])
def test_a_fused_reduction_gives_the_bits_of_one_after_another(
    levels: Levels, dtype: str, is_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dtype == "c8" and any(op != "sum" for _, op in levels):
        pytest.skip("complex numbers have no order")
    if is_compiled:
        pytest.importorskip("numba")
        for name in ("LARGE", "STREAM", "PATIENCE"):
            monkeypatch.setattr(kernels, name, 0)
    else:
        monkeypatch.setattr(kernels, "_compiled_sum", lambda: None)
    count = int(np.prod([size for size, _ in levels]))
    for size in SIZES:
        terms = [drawn(dtype, size, offset, size + offset) for offset in range(count)]
        expected, found = np.empty(size, dtype), np.empty(size + 3, dtype)[3:]
        reduce_terms(terms, levels, expected)
        reduce_fused(terms, levels, found)
        assert found.tobytes() == expected.tobytes()


def test_what_is_written_past_the_cache_is_right() -> None:
    compiled = pytest.importorskip("flowcore.comm.compiled", exc_type=ImportError)
    size = compiled.STREAM // 8 + 11
    terms = [drawn("f8", size, offset, offset) for offset in range(3)]
    found = np.empty(size + 1)[1:]
    assert compiled.sum_into(terms, found)
    assert found.tobytes() == (terms[0] + terms[1] + terms[2]).tobytes()


def test_terms_of_others_and_own_ones_are_added_alike() -> None:
    compiled = pytest.importorskip("flowcore.comm.compiled", exc_type=ImportError)
    terms = [drawn("f4", 1000, 0, seed).reshape(10, 100) for seed in range(3)]
    terms[2].flags.writeable = False
    found = np.empty((10, 100), "f4")
    assert compiled.sum_into(terms, found)
    assert found.tobytes() == (terms[0] + terms[1] + terms[2]).tobytes()
    assert terms[1].flags.writeable
