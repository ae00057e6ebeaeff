"""Functions of nn against plain numpy formulas in float64, on one rank and on threads with every layout."""

from collections.abc import Callable
from math import erf, pi, sqrt
from typing import Any

import numpy as np
import pytest

import flowcore as fc

Array = np.ndarray[Any, Any]
Function = Callable[..., Any]
X = np.random.default_rng(1).normal(size=(5, 7)) * 3
Y = np.random.default_rng(2).normal(size=(5, 7))
TARGET = np.array([0, 6, 3, 2, 6])


def np_softmax(x: Array, axis: int = -1) -> Array:
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def np_cross_entropy(x: Array) -> Array:
    return -np.log(np_softmax(x))[np.arange(5), TARGET]


def np_layer_norm(x: Array) -> Array:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


UNARY: dict[str, tuple[Function, Function]] = {
    "relu": (fc.nn.relu, lambda x: np.maximum(x, 0)),
    "sigmoid": (fc.nn.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "silu": (fc.nn.silu, lambda x: x / (1 + np.exp(-x))),
    "gelu": (fc.nn.gelu, lambda x: x * 0.5 * (1 + np.vectorize(erf)(x / sqrt(2)))),
    "gelu_tanh": (
        lambda x: fc.nn.gelu(x, approximate="tanh"),
        lambda x: 0.5 * x * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))),
    ),
    "softmax": (fc.nn.softmax, np_softmax),
    "softmax_0": (lambda x: fc.nn.softmax(x, axis=0), lambda x: np_softmax(x, 0)),
    "log_softmax": (fc.nn.log_softmax, lambda x: np.log(np_softmax(x))),
    "cross_entropy": (lambda x: fc.nn.cross_entropy(x, fc.asarray(TARGET)), lambda x: np_cross_entropy(x).mean()),
    "cross_entropy_none": (
        lambda x: fc.nn.cross_entropy(x, fc.asarray(TARGET), reduction="none"),
        np_cross_entropy,
    ),
    "cross_entropy_ignore": (
        lambda x: fc.nn.cross_entropy(x, fc.asarray(TARGET), ignore_index=6),
        lambda x: np_cross_entropy(x)[TARGET != 6].mean(),
    ),
    "cross_entropy_smooth": (
        lambda x: fc.nn.cross_entropy(x, fc.asarray(TARGET), label_smoothing=0.1),
        lambda x: (0.9 * np_cross_entropy(x) - 0.1 * np.log(np_softmax(x)).mean(-1)).mean(),
    ),
    "mse_loss": (lambda x: fc.nn.mse_loss(x, fc.asarray(Y)), lambda x: ((x - Y) ** 2).mean()),
    "mse_loss_sum": (lambda x: fc.nn.mse_loss(x, fc.asarray(Y), reduction="sum"), lambda x: ((x - Y) ** 2).sum()),
    "layer_norm": (lambda x: fc.nn.layer_norm(x, (7,)), np_layer_norm),
    "linear": (lambda x: fc.nn.linear(x, fc.asarray(Y[:3]), fc.asarray(Y[0, :3])), lambda x: x @ Y[:3].T + Y[0, :3]),
}


def numeric_gradient(f: Function, x: Array) -> Array:
    """Central differences of the sum of f."""
    result = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[place] = 1e-6
        result[place] = (np.sum(f(x + step)) - np.sum(f(x - step))) / 2e-6
    return result


@pytest.mark.parametrize("sbp", ["B", "S0", "S1", "P"])
@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("name", UNARY)
def test_a_function_is_its_formula_on_every_layout(name: str, ranks: int, sbp: str) -> None:
    function, formula = UNARY[name]

    def check() -> Array:
        return function(fc.asarray(X, sbp=sbp)).numpy()  # type: ignore[no-any-return]

    for result in fc.launch.run(check, ranks=ranks):
        np.testing.assert_allclose(result, formula(X), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", UNARY)
def test_a_gradient_is_that_of_the_formula(name: str, ranks: int) -> None:
    function, formula = UNARY[name]

    def check() -> Array:
        x = fc.asarray(X, sbp="S1")
        weigh = fc.grad(lambda x: fc.sum(function(x)))
        return weigh(x).numpy()  # type: ignore[no-any-return]

    for result in fc.launch.run(check, ranks=ranks):
        np.testing.assert_allclose(result, numeric_gradient(formula, X), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "cross_entropy", "sigmoid", "silu", "gelu"])
def test_large_inputs_overflow_nowhere(name: str) -> None:
    big = X * 1e4
    result = UNARY[name][0](fc.asarray(big)).numpy()
    assert np.isfinite(result).all()


def test_relu_has_no_gradient_at_zero_and_keeps_nan() -> None:
    x = fc.asarray(np.array([-1.0, 0.0, 2.0]))
    assert fc.grad(lambda x: fc.nn.relu(x).sum())(x).numpy().tolist() == [0, 0, 1]
    assert np.isnan(fc.nn.relu(fc.asarray(np.array([np.nan]))).numpy()).all()


def test_cross_entropy_gathers_no_logits_that_are_split_over_classes() -> None:
    logits, target = np.tile(X, (40, 8)), np.tile(TARGET, 40)

    def check() -> tuple[int, float]:
        loss = fc.compile(fc.nn.cross_entropy)
        x, y = fc.asarray(logits, sbp="S1"), fc.asarray(target)
        return loss.plan(x, y).bytes_moved, loss(x, y).item()

    for moved, value in fc.launch.run(check, ranks=2):
        assert value == pytest.approx(-np.log(np_softmax(logits))[np.arange(200), target].mean(), rel=1e-9)
        assert moved <= 3 * 2 * 200 * 8 + 64, "only the maximum, the sum and the picked element of each row may move"


@pytest.mark.parametrize("sbp", ["B", "S0", "S1"])
def test_embedding_takes_rows_on_every_layout_of_the_table(sbp: str) -> None:
    def check() -> tuple[Array, Array]:
        table, places = fc.asarray(X, sbp=sbp), fc.asarray(np.array([[4, 0], [4, 2]]), sbp="S0")
        slope = fc.grad(lambda t: (fc.nn.embedding(places, t) * 2).sum())(table)
        return fc.nn.embedding(places, table).numpy(), slope.numpy()

    for rows, slope in fc.launch.run(check, ranks=2):
        np.testing.assert_array_equal(rows, X[[[4, 0], [4, 2]]])
        np.testing.assert_allclose(slope[:, 0], [2, 0, 2, 0, 4])


def test_dropout_drops_the_same_elements_on_every_layout_and_keeps_the_mean() -> None:
    def check(sbp: str) -> Array:
        fc.manual_seed(3)
        return fc.nn.dropout(fc.ones((200, 31), dtype="float64", sbp=sbp), 0.25).numpy()

    whole = fc.launch.run(check, ranks=1, args=("B",))[0]
    assert set(np.unique(whole)) == {0, 1 / 0.75}
    assert whole.mean() == pytest.approx(1, abs=0.03)
    for ranks, sbp in [(2, "S0"), (3, "S1"), (2, "B")]:
        for found in fc.launch.run(check, ranks=ranks, args=(sbp,)):
            np.testing.assert_array_equal(found, whole)


def test_errors_name_the_shapes() -> None:
    x = fc.asarray(X)
    with pytest.raises(fc.ShapeError, match=r"\(5, 7\)"):
        fc.nn.cross_entropy(x, fc.asarray(np.arange(4)))
    with pytest.raises(fc.DTypeError, match="integers"):
        fc.nn.cross_entropy(x, fc.asarray(np.ones(5)))
    with pytest.raises(fc.ShapeError, match="linear with weight"):
        fc.nn.linear(x, fc.asarray(X.T))
    with pytest.raises(fc.ShapeError, match="equal"):
        fc.nn.mse_loss(x, fc.asarray(Y[:3]))
    with pytest.raises(fc.FlowcoreError, match="probability"):
        fc.nn.dropout(x, 1.5)
    with pytest.raises(fc.FlowcoreError, match="reduction"):
        fc.nn.mse_loss(x, x, reduction="average")


IMAGES, ROWS = np.arange(32.0).reshape(2, 1, 4, 4) / 32, np.arange(12.0).reshape(3, 4) / 12
WITH_ARRAYS: dict[str, tuple[Any, ...]] = {
    "softmax": (ROWS,), "relu": (ROWS,), "prelu": (ROWS, np.ones(4)), "linear": (ROWS, np.ones((2, 4))),
    "dropout": (ROWS, 0.0), "embedding": (np.array([1, 0]), ROWS), "cross_entropy": (ROWS, np.array([0, 1, 2])),
    "mse_loss": (ROWS, ROWS + 1), "layer_norm": (ROWS, (4,)), "group_norm": (ROWS, 2), "batch_norm": (ROWS, None, None),
    "conv2d": (IMAGES, np.ones((2, 1, 3, 3))), "max_pool2d": (IMAGES, 2), "adaptive_avg_pool2d": (IMAGES, 2),
    "interpolate": (IMAGES, (5, 5)), "scaled_dot_product_attention": (IMAGES, IMAGES, IMAGES),
}  # fmt: skip


@pytest.mark.parametrize("name", WITH_ARRAYS)
def test_arrays_do_as_tensors(name: str) -> None:
    function, arguments = getattr(fc.nn, name), WITH_ARRAYS[name]
    tensors = [fc.asarray(x) if isinstance(x, np.ndarray) else x for x in arguments]
    found = function(*arguments)
    assert isinstance(found, fc.Tensor)
    np.testing.assert_array_equal(found.numpy(), function(*tensors).numpy())
