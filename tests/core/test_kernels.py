"""Every kind of fused kernel on every kind of shape, dtype and special value gives what numpy gives one by one."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flowcore as fc
from flowcore.fused import Fused
from flowcore.world import current
from tests.fusing import EXECUTORS, fuse_everything

SHAPES = [(1, 1), (0, 7), (5, 0), (1, 31), (33, 1), (2, 3, 5), (7, 129), (300, 257)]
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-45, 1e38, 88.5, -103.5]


def norm(x: Any, row: Any, column: Any) -> Any:
    """Layer normalization, its rows scaled and shifted."""
    centred = x - fc.mean(x, axis=-1, keepdims=True)
    return centred / fc.sqrt(fc.mean(centred * centred, axis=-1, keepdims=True) + 1e-5) * row + column


def adam(x: Any, row: Any, column: Any) -> Any:
    """The update of one optimizer's step."""
    mean, square = x * 0.9 + row * 0.1, x * x * 0.999 + column * column * 0.001
    return x - mean / (fc.sqrt(square) + 1e-8) * 1e-3


KINDS: dict[str, Callable[..., Any]] = {
    "chain": lambda x, row, column: fc.tanh(fc.exp(-fc.abs(x)) * 2 - 1),
    "broadcasts": lambda x, row, column: (x + row) * column - row * column,
    "choices": lambda x, row, column: fc.where((x > row) & (x == x), fc.maximum(x, column), row),
    "row sum": lambda x, row, column: x - fc.sum(x * row, axis=-1, keepdims=True),
    "softmax": lambda x, row, column: fc.nn.softmax(x * 2 + row),
    "log softmax": lambda x, row, column: fc.nn.log_softmax(x + column) * row,
    "layer norm": norm,
    "column sum": lambda x, row, column: fc.sum(x * column + row, axis=tuple(range(x.ndim - 1))),
    "total": lambda x, row, column: fc.sum(x * row + column),
    "casts": lambda x, row, column: ((x.astype("float64") + 1).astype("float32") * 3).astype(x.dtype) + row,
    "conditions": lambda x, row, column: (x > column).astype(x.dtype) * (row <= 0).astype("int32").astype(x.dtype),
    "update": adam,
    "gelu": lambda x, row, column: fc.nn.gelu(x + row, approximate="tanh") + column,
    "two results": lambda x, row, column: fc.stack([fc.sum(x * 2, axis=-1), fc.sum(x * 2 + row, axis=-1)]),
}
DOUBLE = ("casts", "softmax", "column sum", "update")
"""The kinds that are compiled for float64 too: compiling takes most of the time of these tests."""
ELEMENTWISE = ("chain", "broadcasts", "choices", "casts", "conditions", "update", "gelu")
"""The kinds without sums, whose elements have nothing to do with each other."""
NEEDS_COLUMNS = ("softmax", "log softmax")
"""What has no value where a row is empty."""


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Kernels of any size, run by numpy in tiles of 16 elements, or by compiled loops."""
    fuse_everything(request.param, monkeypatch)
    return str(request.param)


def operands(shape: tuple[int, ...], dtype: str, share: float) -> list[Any]:
    """Arrays x, row and column, of which a share is special."""
    draw = np.random.default_rng(len(shape) + sum(shape))
    arrays = [draw.normal(size=size).astype(dtype) for size in (shape, shape[-1:], (*shape[:-1], 1))]
    with np.errstate(all="ignore"):
        for array in arrays:
            hit = draw.random(array.shape) < share
            array[hit] = draw.choice(np.array(SPECIAL, dtype), size=hit.sum())
    return [fc.asarray(array) for array in arrays]


def assert_close(found: fc.Tensor, wanted: fc.Tensor) -> None:
    """Whether all elements are as wanted, to the size of the largest: sums cancel."""
    a, b = found.numpy(), wanted.numpy()
    assert a.dtype == b.dtype and a.shape == b.shape
    tolerance = {"float32": 3e-5, "float64": 1e-12}[str(b.dtype)]
    scale = max(float(np.abs(b[np.isfinite(b)]).max(initial=0)), 1.0)
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * min(scale, 1e6))


def assert_each_close(found: fc.Tensor, wanted: fc.Tensor, given: list[fc.Tensor]) -> None:
    """Whether every element is as wanted, to 8 roundings of itself, of what it was made from, or of 1."""
    a, b = found.numpy(), wanted.numpy()
    assert a.dtype == b.dtype and a.shape == b.shape
    sizes = [np.abs(array, dtype="float64") for array in (b, *(one.numpy() for one in given))]
    scale = reduce(np.maximum, (np.where(np.isfinite(size), size, 1) for size in sizes), np.float64(1))
    np.testing.assert_allclose(a / scale, b / scale, rtol=0, atol=8 * float(np.finfo(b.dtype).eps))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", KINDS)
def test_a_kind_of_kernel_gives_what_its_operators_give(name: str, dtype: str, executor: str) -> None:
    if executor == "loops" and dtype == "float64" and name not in DOUBLE:
        return
    f = fc.compile(KINDS[name])
    for number, shape in enumerate(SHAPES):
        if shape[-1] == 0 and name in NEEDS_COLUMNS:
            continue
        given_arrays = operands(shape, dtype, 0.15 if number % 2 else 0.0)
        found, wanted = f(*given_arrays), KINDS[name](*given_arrays)
        if name in ELEMENTWISE:
            assert_each_close(found, wanted, given_arrays)
        else:
            assert_close(found, wanted)
    nodes = [node for each in f.variants(current()) for node in each.program.local.nodes]
    assert any(isinstance(node.op, Fused) for node in nodes)


@pytest.mark.parametrize("name", [name for name in KINDS if name not in ("casts", "conditions", "total")])
def test_a_kernel_over_an_operand_that_nobody_reads_gives_the_same(name: str, executor: str) -> None:
    def over(x: Any, row: Any, column: Any) -> Any:
        x = fc.take(x, np.arange(x.shape[0])[::-1].copy(), axis=0)
        if name in ("column sum", "two results"):
            x = KINDS["softmax"](x, row, column)
        return KINDS[name](x, row, column)

    f = fc.compile(over)
    for shape, share in (((7, 129), 0.0), ((60, 37), 0.15), ((1, 1), 0.0)):
        arrays = operands(shape, "float32", share)
        assert_close(f(*arrays), over(*arrays))
    nodes = [node for each in f.variants(current()) for node in each.program.local.nodes]
    assert any(max(node.op.into) >= 0 for node in nodes if isinstance(node.op, Fused))


CHAIN: list[Callable[[Any, Any, Any], Any]] = [
    lambda a, b, x: a + b, lambda a, b, x: a * 0.5 - b, lambda a, b, x: fc.maximum(a, b),
    lambda a, b, x: fc.exp(-fc.abs(a)) + b,
    lambda a, b, x: a.astype("float32").astype(x.dtype) * b, lambda a, b, x: (a < b).astype(x.dtype) + x,
    lambda a, b, x: a - fc.sum(x * b, axis=-1, keepdims=True), lambda a, b, x: fc.nn.softmax(x) * b + a,
    lambda a, b, x: a / (fc.max(fc.abs(x + b), axis=-1, keepdims=True) + 1),
    lambda a, b, x: x + fc.sum(x * a, axis=tuple(range(x.ndim - 1))),
]  # fmt: skip


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from(CHAIN), st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=7),
    st.sampled_from([shape for shape in SHAPES if 0 not in shape[-1:]]),
    st.sampled_from(["float32", "float64"]),
    st.sampled_from([0.0, 0.1]),
)
def test_any_graph_in_tiles_gives_what_its_operators_give(
    steps: list[Any], shape: tuple[int, ...], dtype: str, share: float
) -> None:
    def f(x: Any, row: Any, column: Any) -> Any:
        held = [x, row, column]
        for step, one, other in steps:
            held.append(step(held[-1 - one % len(held)], held[-1 - other % len(held)], x))
        return held[-1] + x

    given_arrays = operands(shape, dtype, share)
    with pytest.MonkeyPatch.context() as patch:
        fuse_everything("tiles", patch)
        assert_close(fc.compile(f)(*given_arrays), f(*given_arrays))
