"""Reductions and cumulative functions: dtypes, special values, gradients through zeros, every layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(3, 5, 4))
INPUTS: dict[str, Any] = {
    "float64": X,
    "float32": X.astype(np.float32),
    "float16": X.astype(np.float16),
    "complex128": X + 1j * X[::-1],
    "int64": RANDOM.integers(-4, 5, (3, 5, 4)),
    "int8": RANDOM.integers(-128, 128, (3, 5, 4)).astype(np.int8),
    "uint8": RANDOM.integers(0, 256, (3, 5, 4)).astype(np.uint8),
    "bool": X > -1.2,
    "empty": np.zeros((3, 0, 4)),
}
INTEGERS, FLOATS, COMPLEX = "int64 int8 uint8 bool", "float64 float32 float16", "complex128"
TOLERANCE = {"float16": 4e-3, "float32": 1e-5, "complex64": 1e-5}
LAYOUTS = (fc.B, fc.S(0), fc.S(1), fc.S(2), fc.P)
Function = Callable[[Any], Any]


def wide(x: Any) -> Any:
    """The dtype of a sum by the standard: of integers the widest of their kind."""
    return {"b": np.int64, "i": np.int64, "u": np.uint64}.get(x.dtype.kind, x.dtype)


CASES: dict[str, tuple[str, Function, Function]] = {
    "sum": (f"{INTEGERS} {FLOATS} {COMPLEX} empty", lambda x: fc.sum(x, axis=(0, -1)),
            lambda x: np.sum(x, axis=(0, -1), dtype=wide(x))),
    "sum as": (f"{INTEGERS} {FLOATS}", lambda x: fc.sum(x, axis=1, dtype="float64", keepdims=True),
               lambda x: np.sum(x, axis=1, dtype=np.float64, keepdims=True)),
    "sum narrow": ("uint8 int8", lambda x: fc.sum(x, axis=1, dtype=x.dtype),
                   lambda x: np.sum(x, axis=1, dtype=x.dtype)),
    "sum of nothing": (f"{INTEGERS} {FLOATS}", lambda x: fc.sum(x, axis=()),
                       lambda x: np.sum(x, axis=(), dtype=wide(x))),
    "prod": (f"{INTEGERS} {FLOATS} {COMPLEX} empty", lambda x: fc.prod(x, axis=(0, -1)),
             lambda x: np.prod(x, axis=(0, -1), dtype=wide(x))),
    "prod all": (f"{INTEGERS} float64 empty", lambda x: fc.prod(x, keepdims=True),
                 lambda x: np.prod(x, keepdims=True, dtype=wide(x))),
    "prod narrow": ("uint8", lambda x: fc.prod(x, axis=1, dtype=np.uint8),
                    lambda x: np.prod(x, axis=1, dtype=np.uint8)),
    "mean": (f"{FLOATS} {COMPLEX}", lambda x: fc.mean(x, axis=1), lambda x: np.mean(x, axis=1)),
    "mean whole": (INTEGERS, lambda x: fc.mean(x, axis=-1), lambda x: np.mean(x, axis=-1).astype(np.float32)),
    "mean of nothing": ("empty", lambda x: fc.mean(x, axis=1), lambda x: np.full((3, 4), np.nan)),
    "var": (FLOATS, lambda x: fc.var(x, axis=(0, 2), correction=1), lambda x: np.var(x, axis=(0, 2), ddof=1)),
    "var of few": ("float64", lambda x: fc.var(x[:, :1], axis=1, correction=1), lambda x: np.full((3, 4), np.nan)),
    "var complex": (COMPLEX, lambda x: fc.var(x, axis=0), lambda x: np.var(x, axis=0)),
    "std": (FLOATS, lambda x: fc.std(x, keepdims=True), lambda x: np.std(x, keepdims=True)),
    "quantile": ("float64 float32", lambda x: fc.quantile(x, [0.0, 0.3, 1.0], axis=(0, 2)),
                 lambda x: np.quantile(x, np.array([0.0, 0.3, 1.0], x.dtype), axis=(0, 2))),
    "median": ("float64 float32", lambda x: fc.median(x, axis=1, keepdims=True),
               lambda x: np.median(x, axis=1, keepdims=True)),
    "max": (f"{INTEGERS} {FLOATS}", lambda x: fc.max(x, axis=(0, 1), keepdims=True),
            lambda x: np.max(x, axis=(0, 1), keepdims=True)),
    "min": (f"{INTEGERS} {FLOATS}", lambda x: fc.min(x), lambda x: np.min(x)),
    "any": (f"{INTEGERS} {FLOATS} {COMPLEX} empty", lambda x: fc.any(x, axis=1), lambda x: np.any(x, axis=1)),
    "all": (f"{INTEGERS} {FLOATS} {COMPLEX} empty", lambda x: fc.all(x), lambda x: np.all(x)),
    "cumulative_sum": (f"{INTEGERS} {FLOATS} {COMPLEX} empty", lambda x: fc.cumulative_sum(x, axis=1),
                       lambda x: np.cumsum(x, axis=1, dtype=wide(x))),
    "cumulative_sum from 0": ("float64 int8 empty", lambda x: fc.cumulative_sum(x, axis=1, include_initial=True),
                              lambda x: np.cumsum(np.pad(x, ((0, 0), (1, 0), (0, 0))), axis=1, dtype=wide(x))),
    "cumulative_prod": (f"{INTEGERS} {FLOATS} {COMPLEX} empty", lambda x: fc.cumulative_prod(x, axis=-1),
                        lambda x: np.cumprod(x, axis=-1, dtype=wide(x))),
    "cumulative_prod from 1": ("float64 uint8", lambda x: fc.cumulative_prod(x, axis=0, include_initial=True),
                               lambda x: np.cumprod(np.concatenate([np.ones_like(x[:1]), x]), axis=0, dtype=wide(x))),
    "cumsum": ("float64 int8", lambda x: fc.cumsum(x), lambda x: np.cumsum(x)),
    "cumprod": ("float64", lambda x: fc.cumprod(x), lambda x: np.cumprod(x)),
    "diff": (f"{INTEGERS} {FLOATS} {COMPLEX}", lambda x: fc.diff(x, axis=1, n=2), lambda x: np.diff(x, axis=1, n=2)),
    "diff of more": ("float64", lambda x: fc.diff(x, prepend=x[..., :1], append=x), lambda x:
                     np.diff(x, prepend=x[..., :1], append=x)),
    "diff of nothing": ("empty", lambda x: fc.diff(x, axis=1), lambda x: np.diff(x, axis=1)),
}  # fmt: skip


def check_all(name: str) -> None:
    """One case on all its inputs, from every layout that these can have."""
    inputs, ours, theirs = CASES[name]
    for key in inputs.split():
        x = INPUTS[key]
        for layout in LAYOUTS:
            if layout == fc.P and x.dtype.kind not in "iu" and key != "float64":
                continue
            with np.errstate(all="ignore"):
                expected = np.asarray(theirs(x))
            got = ours(fc.asarray(x).to_global(sbp=layout)).numpy()
            note = f"{name} of {key} from {layout}"
            assert (got.shape, got.dtype) == (expected.shape, expected.dtype), note
            tolerance = TOLERANCE.get(expected.dtype.name, 1e-9)
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance, err_msg=note)


@pytest.mark.parametrize("name", CASES)
def test_functions_agree_with_numpy_on_every_layout(name: str) -> None:
    check_all(name)
    fc.launch.run(lambda: check_all(name), ranks=3, transport="threads")


def test_half_precision_is_summed_in_single() -> None:
    ones = fc.ones((4096,), dtype="float16")
    assert fc.sum(ones).item() == 4096
    assert fc.mean(ones * 100).item() == 100
    assert fc.cumulative_sum(ones)[-1].item() == 4096


def test_nan_reaches_sums_and_extremes() -> None:
    x = fc.asarray(np.array([1.0, np.nan, 2.0]))
    assert all(np.isnan(f(x).item()) for f in (fc.sum, fc.prod, fc.mean, fc.var, fc.max, fc.min))


def test_quantiles_know_nan_and_infinities() -> None:
    x = fc.asarray(np.array([[1.0, np.inf, 2.0], [np.nan, 1.0, 2.0], [-np.inf, 3.0, 5.0]]))
    np.testing.assert_array_equal(fc.median(x, axis=1).numpy(), [2.0, np.nan, 3.0])
    np.testing.assert_array_equal(fc.quantile(x, 1, axis=1).numpy(), [np.inf, np.nan, 5.0])
    spread = fc.grad(lambda x: fc.quantile(x, 0.25))(fc.asarray(np.array([3.0, 1.0, 2.0])))
    np.testing.assert_array_equal(spread.numpy(), [0.0, 0.5, 0.5])


ZEROS = np.array([[2.0, 0.0, 3.0, -1.0], [0.0, 5.0, 0.0, 2.0], [1.5, 2.0, -3.0, 4.0]])


def tangent(f: Function, x: Any, v: Any) -> Any:
    """The derivative of the numpy function `f` at x along v, exact for polynomials of small degree."""
    steps = np.arange(-3, 4)
    values = np.stack([f(x + step * v) for step in steps])
    return np.tensordot(np.array([-1, 9, -45, 0, 45, -9, 1]) / 60, values, axes=1)


@pytest.mark.parametrize("name", ["prod", "cumulative_prod", "cumulative_prod_reversed"])
def test_products_have_the_right_derivatives_at_zeros(name: str) -> None:
    ours, theirs = {
        "prod": (lambda x: fc.prod(x, axis=1), lambda x: np.prod(x, axis=1)),
        "cumulative_prod": (lambda x: fc.cumulative_prod(x, axis=1), lambda x: np.cumprod(x, axis=1)),
        "cumulative_prod_reversed": (
            lambda x: fc.flip(fc.cumulative_prod(fc.flip(x), axis=1)), lambda x: np.flip(np.cumprod(np.flip(x), axis=1))
        ),
    }[name]  # fmt: skip
    weights = RANDOM.normal(size=theirs(ZEROS).shape)
    u, v = RANDOM.integers(-2, 3, (2, 3, 4)).astype(float)

    def loss(x: Any) -> Any:
        return (ours(x) * fc.asarray(weights)).sum()

    def slope(x: Any) -> Any:
        return np.sum(weights * tangent(theirs, x, u))

    x = fc.asarray(ZEROS)
    first = fc.grad(loss)(x)
    np.testing.assert_allclose(np.vdot(u, first.numpy()), slope(ZEROS))
    second = fc.grad(lambda x: (fc.grad(loss)(x) * fc.asarray(u)).sum())(x)
    np.testing.assert_allclose(np.vdot(v, second.numpy()), tangent(slope, ZEROS, v), atol=1e-9)


def test_a_recurrence_runs_either_way() -> None:
    a, b = RANDOM.normal(size=(2, 3, 5))
    expected, y = np.zeros((3, 5)), np.zeros(3)
    for place in range(5):
        y = expected[:, place] = a[:, place] * y + b[:, place]
    np.testing.assert_allclose(fc.linear_recurrence(a, b).numpy(), expected)
    turned = fc.linear_recurrence(a[:, ::-1].copy(), b[:, ::-1].copy(), reverse=True)
    np.testing.assert_allclose(turned.numpy(), expected[:, ::-1])


@pytest.mark.parametrize(
    "act",
    [
        lambda x: fc.cumulative_sum(x), lambda x: fc.sum(x, axis=3), lambda x: fc.sum(x, axis=(0, 0)),
        lambda x: fc.max(x[:, :0], axis=1), lambda x: fc.max(x + 1j), lambda x: fc.diff(x, n=-1),
        lambda x: fc.quantile(x, 1.5),
        lambda x: fc.cumulative_prod(x, axis=0, dtype=bool),
    ],
)  # fmt: skip
def test_bad_arguments_are_typed_errors(act: Function) -> None:
    with pytest.raises((fc.ShapeError, fc.DTypeError)):
        act(fc.asarray(X))
