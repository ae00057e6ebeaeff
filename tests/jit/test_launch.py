"""What compiled code runs for an operator, alone and in stretches of a program, is what numpy computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.jit.library import has_gemm
from flowcore.jit.product import launch as product_launch
from flowcore.jit.store import is_available
from flowcore.jit.table import call
from flowcore.op import OPS, Array, Sample, as_tuple
from flowcore.runtime import Program
from flowcore.stretch import Stretch, part
from flowcore.world import current

pytestmark = pytest.mark.skipif(not is_available(), reason="no compiler of kernels is installed")
SAMPLES = [sample for cls in OPS.values() for sample in cls.samples()]
LAUNCHED = [sample for sample in SAMPLES if sample.op.launch(sample.types) is not None]
VIEWS = [sample for sample in SAMPLES if sample.op.view(sample.types) is not None]
CONTRACTIONS = (
    # formula, lengths, whether one kernel does it without copies
    ("mk,kn->mn", "m3 k4 n5", True), ("mk,nk->mn", "m3 k4 n5", True), ("km,kn->mn", "m3 k4 n5", True),
    ("km,nk->mn", "m3 k4 n5", True), ("mk,kn->nm", "m3 k4 n5", True), ("mk,kn->mn", "m1 k1 n1", True),
    ("mk,kn->mn", "m1 k4 n5", True), ("km,nk->mn", "m3 k1 n5", True), ("mk,nk->mn", "m3 k4 n1", True),
    ("bqhd,bkhd->bhqk", "b2 q3 h4 d5 k6", True), ("bhqk,bkhd->bqhd", "b2 q3 h4 d5 k6", True),
    ("bmk,kn->bmn", "b2 m3 k4 n5", True), ("bmn,bmk->nk", "b2 m3 n4 k5", True), ("m,n->mn", "m3 n4", True),
    ("k,k->", "k7", True), ("mk,k->m", "m3 k4", True), ("k,kn->n", "k4 n3", True),
    ("amb,bkc->akmc", "a2 m3 b4 k5 c6", False),
    ("mbk,kbn->bmn", "m3 b2 k4 n5", True), ("abcmk,abckn->abcmn", "a2 b3 c2 m3 k4 n5", True),
    ("mabk,kabn->bamn", "a2 b3 m3 k4 n5", True), ("acbmk,abckn->bcamn", "a2 b3 c2 m3 k4 n5", False),
)  # fmt: skip


def drawn(sample: Sample) -> list[Array]:
    """Operands of a sample, whole numbers where they must be indices."""
    draw = np.random.default_rng(0)
    ways = [*sample.draw, *["normal"] * (len(sample.types) - len(sample.draw))]
    return [
        draw.integers(int(way[6:]), size=type.shape).astype(type.dtype)
        if way.startswith("index:")
        else np.asarray(np.abs(draw.normal(size=type.shape)) * 3).astype(type.dtype)
        for type, way in zip(sample.types, ways, strict=True)
    ]


def launched(op: Any, arrays: list[Array], types: Any) -> tuple[Array, ...]:
    """The results of the compiled kernel of `op`."""
    launch = op.launch(types)
    results = [np.empty(type.shape, type.dtype) for type in op.infer(*types)]
    new = [result for result, source in zip(results, launch.into, strict=True) if source < 0]
    kinds = launch.kernel.kinds[len(arrays) + len(new) :]
    scratch = [np.empty(size, kind) for size, kind in zip(launch.scratch, kinds, strict=True)]
    assert call(launch.kernel, launch.numbers, [*arrays, *new, *scratch]) == 0
    pairs = zip(results, launch.into, strict=True)
    return tuple(result if source < 0 else arrays[source] for result, source in pairs)


@pytest.mark.parametrize("sample", LAUNCHED, ids=lambda sample: f"{sample.op.text()}-{sample.types[0].dtype}")
def test_the_compiled_kernel_of_an_operator_gives_what_numpy_does(sample: Sample) -> None:
    arrays = drawn(sample)
    wanted = as_tuple(sample.op.kernel(*arrays))
    for found, other in zip(launched(sample.op, arrays, sample.types), wanted, strict=True):
        np.testing.assert_allclose(found, other, rtol=1e-5 if other.dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("sample", VIEWS, ids=lambda sample: f"{sample.op.text()}-{sample.types[0].dtype}")
def test_a_view_lies_where_its_operator_says(sample: Sample) -> None:
    (x, *_), (result,) = drawn(sample), sample.op.infer(*sample.types)
    offset = sample.op.view(sample.types)
    assert offset is not None
    np.testing.assert_array_equal(part(x, offset, result), sample.op.kernel(x))


@pytest.mark.skipif(not has_gemm(), reason="numpy's BLAS is not known")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("formula", "sizes", "is_one"), CONTRACTIONS)
def test_a_contraction_is_products_without_copies(formula: str, sizes: str, is_one: bool, dtype: Any) -> None:
    lengths = {text[0]: int(text[1:]) for text in sizes.split()}
    terms, result = formula.split("->")
    first, second = terms.split(",")
    found = product_launch(first, second, result, lengths, np.dtype(dtype).str[1:])
    assert (found is not None) == is_one
    if found is None:
        return
    draw = np.random.default_rng(0)
    a, b = (draw.normal(size=[lengths[letter] for letter in term]).astype(dtype) for term in (first, second))
    y = np.full([lengths[letter] for letter in result], np.nan, dtype)
    assert call(found.kernel, found.numbers, [a, b, y]) == 0
    np.testing.assert_allclose(y, np.einsum(formula, a, b), rtol=1e-4 if dtype == np.float32 else 1e-12, atol=1e-6)


def program_of(function: Any) -> Program:
    """The last program that `function` was compiled to."""
    return function.variants(current())[-1].program  # type: ignore[no-any-return]  # any function


def stretches(function: Any) -> list[Stretch]:
    """The stretches of the program of `function`."""
    return [call for call in program_of(function).joined.calls if isinstance(call, Stretch)]


def mixed(x: fc.Tensor, w: fc.Tensor) -> tuple[fc.Tensor, ...]:
    """Kernels, views, and operators that only Python runs, in turn."""
    hidden = fc.exp(x @ w.T) * 2 - 1
    order = fc.sort(hidden[1:3], axis=-1)
    rest = fc.tanh(order.reshape(-1)) + hidden[0, 0]
    return fc.sum(rest * 3), hidden[2], rest.reshape((2, -1))


def test_stretches_around_operators_of_python_give_what_python_gives() -> None:
    draw = np.random.default_rng(0)
    x, w = (draw.normal(size=shape) for shape in ((4, 40), (50, 40)))
    f = fc.compile(mixed)
    results = [f(fc.asarray(x * scale), fc.asarray(w)) for scale in (1, 2, 0.5)]
    assert stretches(f)
    for scale, found in zip((1, 2, 0.5), results, strict=True):
        for mine, other in zip(found, mixed(fc.asarray(x * scale), fc.asarray(w)), strict=True):
            np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-12)


def test_blocks_that_are_replaced_or_not_contiguous_are_read_anew() -> None:
    f = fc.compile(lambda x: fc.exp(x * 2 + 1) @ x)
    array = np.random.default_rng(0).normal(size=(40, 40))
    for given in (array, array.T, array.T, np.asfortranarray(array) * 2, array[::-1], array):
        x = fc.asarray(given)
        np.testing.assert_allclose(f(x).numpy(), np.exp(given * 2 + 1) @ given, rtol=1e-10)
        x.block[...] *= 0.5  # what lies in the same memory
        np.testing.assert_allclose(f(x).numpy(), np.exp(x.numpy() * 2 + 1) @ x.numpy(), rtol=1e-10)


def test_an_array_that_is_gone_is_not_taken_for_one_at_its_address() -> None:
    f = fc.compile(lambda x: fc.sum(fc.exp(x) + 1))
    for number in range(20):
        x = fc.asarray(np.full((32, 32), number / 10))
        np.testing.assert_allclose(f(x).item(), 1024 * (np.exp(number / 10) + 1))
        del x


def test_an_error_inside_a_stretch_names_its_operator_and_line() -> None:
    @fc.compile
    def f(x: fc.Tensor, y: fc.Tensor) -> fc.Tensor:
        return fc.nn.cross_entropy(fc.exp(x) * 2, y) * 3

    x, good = fc.asarray(np.ones((40, 10))), np.arange(40) % 10
    before = f(x, fc.asarray(good)).item()
    with pytest.raises(fc.ShapeError, match="target 10 is outside") as caught:
        f(x, fc.asarray(good + 2))
    assert any("in below, called at" in note for note in caught.value.__notes__)
    assert f(x, fc.asarray(good)).item() == before
