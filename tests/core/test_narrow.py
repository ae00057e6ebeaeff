"""float16 and bfloat16 as dtypes of the language: promotion, compiled loops, changes of layout, text and pickles."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore import dtypes
from flowcore.dtypes import NARROW, as_dtype, promote
from flowcore.errors import DTypeError
from flowcore.text import parse_graph

Array = np.ndarray[Any, Any]
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 6e-8, 65504.0, 65520.0, 3.4e38, 1.0 + 2**-9, 1.0 + 3 * 2**-9]


def bits_equal(found: Array, expected: Array) -> bool:
    """Whether two arrays are equal to the sign of zeros, nan being equal to nan."""
    same = found.view(np.uint16) == expected.view(np.uint16)
    return bool((same | (np.isnan(found) & np.isnan(expected))).all())


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_compiled_loops_round_as_numpy_does(dtype: np.dtype[Any]) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(dtype)
    some = np.random.default_rng(0).integers(0, 2**32, 2**16, np.uint32).view(np.float32)
    some[: len(SPECIAL)] = SPECIAL

    @fc.compile
    def loop(x: Any, y: Any) -> Any:
        return fc.where(x == x, x * 1.0, x), fc.where(y == y, y, y).astype(dtype)

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        kept, rounded = loop(fc.asarray(every), fc.asarray(some))
        assert bits_equal(kept.numpy(), every)
        assert bits_equal(rounded.numpy(), some.astype(dtype))


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_a_compiled_chain_gives_the_bits_of_its_operators_one_by_one(dtype: np.dtype[Any]) -> None:
    def chain(x: Any, w: Any) -> Any:
        return fc.nn.relu(x * w + 1.5).sum(axis=1), fc.exp(x - x.max(axis=1, keepdims=True)) * 0.5

    x, w = (fc.asarray(np.random.default_rng(s).normal(size=(33, 70)).astype(dtype)) for s in (0, 1))
    for found, expected in zip(fc.compile(chain)(x, w), chain(x, w), strict=True):
        assert found.dtype == expected.dtype == dtype
        np.testing.assert_allclose(*(y.numpy().astype(float) for y in (found, expected)), rtol=2**-7)


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("change", [("P", "B"), ("P", "S0"), ("S0", "B"), ("S1", "S0"), ("B", "P")], ids=" to ".join)
def test_a_change_of_layout_moves_the_storage_and_reduces_in_float32(
    change: tuple[str, str], dtype: np.dtype[Any]
) -> None:
    terms = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(dtype)

    def move() -> tuple[Array, Array, int]:
        mesh, (source, target) = fc.Placement(3), change
        if source == "P":
            x = fc.from_local(terms[fc.rank()], mesh, "P", (5, 7))
            whole = terms.astype(np.float32).sum(axis=0).astype(dtype)
        else:
            x, whole = fc.asarray(terms[0], placement=mesh, sbp=source), terms[0]
        wide = fc.compile(lambda x: x.to_global(sbp=target)).plan(x.astype("float32")).bytes_moved
        step = fc.compile(lambda x: x.to_global(sbp=target))
        assert 2 * step.plan(x).bytes_moved == wide
        return step(x).numpy(), x.to_global(sbp=target).numpy(), whole

    for compiled, eager, whole in fc.launch.run(move, ranks=3):
        assert bits_equal(compiled, whole) and bits_equal(eager, whole)


def test_bfloat16_promotes_as_other_floats_do() -> None:
    bf16 = as_dtype("bfloat16")
    table = {"float16": "float32", "float32": "float32", "float64": "float64", "int64": "bfloat16", "bool": "bfloat16",
             "complex64": "complex64", "bfloat16": "bfloat16"}  # fmt: skip
    for name, expected in table.items():
        assert promote(bf16, as_dtype(name)) == promote(as_dtype(name), bf16) == as_dtype(expected)
    x = fc.ones((2,), dtype=fc.bfloat16)
    assert (x * 2.5).dtype == (x + fc.arange(2)).dtype == bf16 and (x * 1j).dtype == as_dtype("complex64")
    assert fc.isdtype(bf16, "real floating") and fc.finfo(bf16).eps == 2**-7


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("name", ["erf", "erfinv", "gelu", "lgamma", "sigmoid"])
def test_functions_of_narrow_constants_are_those_of_float32_rounded(name: str, dtype: np.dtype[Any]) -> None:
    function, constant = getattr(fc, name, None) or getattr(fc.nn, name), as_dtype(dtype).type(0.3)
    wide = function(fc.asarray(np.float32(constant))).astype(dtype)
    for run in (fc.compile(lambda: function(fc.full((3,), float(constant), dtype=dtype))),
                lambda: function(fc.full((3,), float(constant), dtype=dtype))):  # fmt: skip
        assert bits_equal(run().numpy(), np.broadcast_to(wide.numpy(), (3,)))


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_narrow_tensors_are_differentiated_pickled_and_written_as_text(dtype: np.dtype[Any]) -> None:
    x = fc.asarray(np.linspace(-2, 2, 5), dtype=dtype)
    assert fc.grad(lambda x: (x * x).sum())(x).numpy().tolist() == [-4, -2, 0, 2, 4]
    again = pickle.loads(pickle.dumps(x))
    assert again.dtype == dtype and bits_equal(again.numpy(), x.numpy())
    plan = fc.compile(lambda x: x * 2).plan(x)
    assert parse_graph(plan.text()) == plan.graph


def test_without_ml_dtypes_bfloat16_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtypes, "NAMES", {k: v for k, v in dtypes.NAMES.items() if v.kind != "V"})
    with pytest.raises(DTypeError, match=r"install flowcore\[bf16\]"):
        fc.zeros((2,), dtype="bfloat16")


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("max_version", [None, (1, 0)])
def test_narrow_tensors_go_out_and_come_in_by_dlpack(dtype: np.dtype[Any], max_version: Any) -> None:
    class Foreign:
        """Another library's array, as far as DLPack sees it."""

        def __dlpack__(self, **_: Any) -> Any:
            return x.__dlpack__(max_version=max_version)

        def __dlpack_device__(self) -> Any:
            return x.__dlpack_device__()

    x = fc.asarray(np.arange(6.0).reshape(2, 3), dtype=dtype)
    y = fc.from_dlpack(Foreign())
    assert y.dtype == dtype and bits_equal(y.numpy(), x.numpy())
