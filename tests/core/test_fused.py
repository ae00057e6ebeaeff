"""Fused kernels give what operators give one by one: any graph, shape, dtype and special value, in both executors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flowcore as fc
from flowcore.fused import Fused
from flowcore.jit.store import is_available
from flowcore.local import localize
from flowcore.lower import lower
from flowcore.passes.fuse import fuse
from flowcore.passes.picks import compare_picks
from flowcore.passes.transposes import fold_transposes
from flowcore.text import write_graph
from tests.fusing import COMPILER, EXECUTORS, fuse_everything

SHAPES = [(4, 8), (1, 7), (33, 1), (3, 257), (2, 5, 9), (64, 33), (2, 3, 4, 5)]
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 1e-45, 88.5, -103.5, 1.0, -1.0, 0.5, -2.25]
UNARY: list[Callable[[Any], Any]] = [
    fc.exp, fc.tanh, fc.abs, lambda x: -x, lambda x: fc.sqrt(fc.abs(x)), lambda x: x * 0.25 + 1, fc.nn.relu,
    lambda x: fc.where(fc.isnan(x), 0.5, x), lambda x: fc.erf(x), lambda x: fc.log(fc.abs(x) + 1),
]  # fmt: skip
BINARY: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / (fc.abs(b) + 1), fc.maximum,
    fc.minimum, lambda a, b: fc.where(a <= b, a, b * 2), lambda a, b: (a == b).astype(a.dtype) + b,
]  # fmt: skip
ROWS: list[Callable[[Any], Any]] = [
    lambda x: fc.sum(x, axis=-1, keepdims=True), lambda x: fc.max(x, axis=-1, keepdims=True),
    lambda x: fc.nn.softmax(x), lambda x: x - fc.mean(x, axis=-1, keepdims=True),
]  # fmt: skip
ENDS: list[Callable[[Any], Any]] = [
    lambda x: x, fc.sum, lambda x: fc.sum(x, axis=tuple(range(x.ndim - 1))), lambda x: fc.mean(x, axis=-1),
]  # fmt: skip


@pytest.fixture(params=EXECUTORS)
def everything_fused(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled functions fuse kernels of any size, run by numpy in tiles of 16 elements, or by compiled loops."""
    fuse_everything(request.param, monkeypatch, fold_transposes)


def composed(seed: int) -> Callable[..., list[Any]]:
    """A function of four tensors, drawn at random: two whole ones, a row and a column."""

    def f(x: Any, y: Any, row: Any, column: Any) -> list[Any]:
        draw = np.random.default_rng(seed)
        known, ends = [x, y, row, column], []
        for _ in range(draw.integers(3, 9)):
            a, b = (known[i] for i in draw.integers(len(known), size=2))
            kind = draw.integers(4)
            new = UNARY[draw.integers(len(UNARY))](a) if kind == 0 else BINARY[draw.integers(len(BINARY))](a, b)
            if kind == 3 and new.shape == x.shape:
                new = ROWS[draw.integers(len(ROWS))](new)
            known.append(new)
        for _ in range(2):
            ends.append(ENDS[draw.integers(len(ENDS))](known[draw.integers(4, len(known))] + x))
        return [*ends, known[-1]]

    return f


def operands(shape: tuple[int, ...], dtype: str, seed: int, is_special: bool) -> list[Any]:
    """Arrays for `composed`."""
    draw = np.random.default_rng(seed)
    shapes = [shape, shape, shape[-1:], (*shape[:-1], 1)]
    arrays = [draw.normal(size=s).astype(dtype) for s in shapes]
    if is_special:
        for array in arrays:
            hit = draw.random(array.shape) < 0.2
            array[hit] = draw.choice(np.array(SPECIAL, dtype), size=hit.sum())
    return arrays


def check(seed: int, shape: tuple[int, ...], dtype: str, is_special: bool) -> None:
    f = composed(seed)
    arrays = [fc.asarray(array) for array in operands(shape, dtype, seed, is_special)]
    tolerance = {"float32": 2e-5, "float64": 1e-12}[dtype]
    for found, wanted in zip(fc.compile(f)(*arrays), f(*arrays), strict=True):
        a, b = found.numpy(), wanted.numpy()
        assert a.dtype == b.dtype and a.shape == b.shape
        finite = b[np.isfinite(b)]
        scale = max(float(np.abs(finite).max(initial=0)), 1.0)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("seed", range(9))
def test_any_graph_gives_what_its_operators_give(seed: int, everything_fused: None) -> None:
    dtype = "float64" if seed % 3 == 0 else "float32"
    for number, shape in enumerate(SHAPES):
        check(seed, shape, dtype, is_special=number % 2 == 1)


@given(st.integers(100, 10**6), st.sampled_from(SHAPES), st.sampled_from(["float32", "float64"]), st.booleans())
@settings(max_examples=60)
def test_any_graph_in_tiles_gives_what_its_operators_give(
    seed: int, shape: tuple[int, ...], dtype: str, is_special: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fuse_everything("tiles", patch, fold_transposes)
        check(seed, shape, dtype, is_special)


@pytest.mark.skipif(not is_available(), reason="no compiler of loops is installed")
@pytest.mark.parametrize("name", ["exp", "tanh", "log", "sqrt", "erf", "sin", "cos", "expm1", "log1p"])
def test_a_function_of_a_loop_is_numpys_to_the_last_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(COMPILER, "LOCAL", (partial(fuse, least=1),))
    line = np.concatenate([np.linspace(-110, 110, 4001), np.geomspace(1e-44, 80, 2000), np.array(SPECIAL)])
    x = fc.asarray(np.concatenate([line, -line]).astype("float32"))
    f = fc.compile(lambda x: fc.stack([getattr(fc, name)(x) + 0, x * 1]))
    with np.errstate(all="ignore"):
        wanted = getattr(fc, name)(fc.asarray(x.numpy().astype("float64"))).numpy()
        wanted = wanted.astype("float32")
    np.testing.assert_allclose(f(x).numpy()[0], wanted, rtol=4e-7, atol=1e-44)


def test_a_fused_loss_is_one_kernel(golden: Callable[[str, str], None]) -> None:
    def loss(x: fc.Tensor, y: fc.Tensor) -> Any:
        return fc.value_and_grad(lambda x: fc.nn.cross_entropy(x, y))(x)

    x, y = fc.asarray(np.ones((6, 5), np.float32)), fc.asarray(np.arange(6) % 5)
    physical = fc.compile(loss).plan(x, y).graph
    golden(
        "fused_cross_entropy", write_graph(fuse(compare_picks(localize(physical, 0)), least=1)).replace(__file__, "")
    )


def test_updates_are_in_place_and_what_others_hold_is_not_written_to() -> None:
    state = fc.ones((256, 256))

    @fc.compile
    def step(x: fc.Tensor) -> None:
        state.assign(state * 0.5 + x)

    x = fc.ones((256, 256))
    step(x)
    place = id(state.block)
    step(x)
    assert id(state.block) == place, "nobody else holds the state: it is updated where it lies"
    view, copy, held = state.to_local(), state.numpy().copy(), state.detach()
    step(x)
    np.testing.assert_array_equal(view, copy)
    np.testing.assert_array_equal(held.numpy(), copy)
    np.testing.assert_array_equal(state.numpy(), copy * 0.5 + 1)


def test_an_input_that_is_read_after_its_update_is_not_written_over() -> None:
    state = fc.asarray(np.arange(8192.0))

    @fc.compile
    def step() -> tuple[fc.Tensor, fc.Tensor]:
        before = state.reshape((64, 128))
        state.assign(state * 2 + 1)
        return before.T @ before, before

    wanted = np.arange(8192.0).reshape(64, 128)
    product, before = step()
    np.testing.assert_allclose(product.numpy(), wanted.T @ wanted)
    np.testing.assert_array_equal(before.numpy(), wanted)
    np.testing.assert_array_equal(state.numpy(), np.arange(8192.0) * 2 + 1)


def test_what_depends_on_no_input_is_computed_once() -> None:
    @fc.compile
    def f(x: fc.Tensor) -> fc.Tensor:
        return fc.where(fc.arange(5) < 3, x, 0)

    x = fc.ones((5,))
    np.testing.assert_array_equal(f(x).numpy(), [1, 1, 1, 0, 0])
    program = lower(f.plan(x).graph, 0, (fuse,))
    assert len(program.constants) == 2 and len(program.instructions) == 1


def test_transposes_become_part_of_the_products() -> None:
    def f(x: fc.Tensor, w: fc.Tensor) -> Any:
        return fc.value_and_grad(lambda w: (x @ w.mT).sum())(w)

    x, w = fc.ones((3, 4)), fc.asarray(np.arange(20.0, dtype=np.float32).reshape(5, 4))
    graph = fold_transposes(localize(fc.compile(f).plan(x, w).graph, 0))
    names = [node.op.name for node in graph.nodes]
    assert "permute" not in names and names.count("contract") == 2
    loss, gradient = fc.compile(f)(x, w)
    np.testing.assert_allclose(loss.numpy(), 3 * np.arange(20).sum())
    np.testing.assert_array_equal(gradient.numpy(), np.full((5, 4), 3))


def test_a_fused_node_shows_what_it_computes() -> None:
    graph = localize(fc.compile(lambda x: fc.exp(x) * 2 + x).plan(fc.ones((3, 4))).graph, 0)
    (node,) = fuse(graph, least=1).nodes
    assert isinstance(node.op, Fused) and node.op.text() == "fused{1x12: full exp multiply add}"


def test_the_derivative_of_an_activation_reads_its_argument_only(monkeypatch: pytest.MonkeyPatch) -> None:
    w = fc.asarray(np.random.default_rng(0).normal(size=(16, 16)).astype("float32"))

    def f(x: fc.Tensor) -> Any:
        return fc.value_and_grad(lambda x: fc.exp(fc.nn.gelu(x @ w, approximate="tanh") @ w * 0.01).sum())(x)

    x = fc.asarray(np.random.default_rng(1).normal(size=(32, 16)).astype("float32"))
    graph = fuse(fold_transposes(localize(fc.compile(f).plan(x).graph, 0)), least=1)
    forward, backward = (node for node in graph.nodes if isinstance(node.op, Fused) and "tanh" in node.op.text())
    assert len(forward.outputs) == 1, "none of the values on the way to the activation is written"
    assert set(forward.inputs) < set(backward.inputs) and len(backward.inputs) == 2
    monkeypatch.setattr(COMPILER, "LOCAL", (fold_transposes, partial(fuse, least=1)))
    for found, wanted in zip(fc.compile(f)(x), f(x), strict=True):
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=2e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_class_of_each_row_is_picked_as_by_its_number(dtype: str) -> None:
    draw = np.random.default_rng(0)
    x, y = fc.asarray(draw.normal(size=(2, 40, 7)).astype(dtype)), fc.asarray(draw.integers(7, size=(2, 40)))

    def f(x: fc.Tensor, y: fc.Tensor) -> Any:
        return fc.value_and_grad(lambda x: fc.nn.cross_entropy(x.reshape((80, 7)), y.reshape((80,))))(x)

    logs = x.numpy() - np.log(np.exp(x.numpy()).sum(axis=-1, keepdims=True))
    loss, gradient = fc.compile(f)(x, y)
    np.testing.assert_allclose(loss.numpy(), -np.take_along_axis(logs, y.numpy()[..., None], -1).mean(), rtol=1e-5)
    np.testing.assert_allclose(gradient.numpy(), f(x, y)[1].numpy(), rtol=1e-4, atol=1e-7)
    with pytest.raises(fc.FlowcoreError, match="7"):
        fc.compile(f)(x, y + 1)


@pytest.mark.parametrize("least", [1, 10**9])
def test_ranks_make_their_transfers_in_one_order_whatever_each_joins(
    least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five rows on three ranks: what the last one joins, with one row, is not what the others join."""
    monkeypatch.setattr(COMPILER, "LOCAL", (fold_transposes, compare_picks, partial(fuse, least=least)))
    logits, classes = np.random.default_rng(0).normal(size=(5, 7)), np.array([0, 6, 3, 1, 1])

    def body() -> list[list[Any]]:
        with fc.use(fc.Placement.grid(a=1, b=3)):
            x, target = fc.asarray(logits, sbp="S0,S1"), fc.asarray(classes, sbp="B,S0")
        step = fc.value_and_grad(fc.nn.cross_entropy)
        return [[y.numpy() for y in f(x, target)] for f in (fc.compile(step), step)]

    for found, expected in fc.launch.run(body, ranks=3, transport="threads"):
        for y, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(y, wanted, rtol=1e-12)
