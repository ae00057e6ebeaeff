"""Special functions against the library of C and scipy, over their whole range; and at their poles."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

import flowcore as fc

Array = np.ndarray[Any, Any]
POSITIVE = np.concatenate([np.linspace(1e-3, 30, 20001), 10.0 ** np.linspace(-300, 15, 501)])
NEGATIVE = -np.linspace(0.01, 40, 20001)
NEGATIVE = NEGATIVE[np.abs(NEGATIVE - np.round(NEGATIVE)) > 1e-2]
INSIDE = np.concatenate([np.linspace(-1, 1, 20001)[1:-1], 1 - 10.0 ** -np.linspace(1, 15.9, 301)])


def error(found: Array, expected: Array, least: float) -> float:
    """The greatest error relative to max(least, |expected|)."""
    return float(np.max(np.abs(found - expected) / np.maximum(least, np.abs(expected))))


def listed(f: Callable[[float], float]) -> Callable[[Array], Array]:
    return lambda x: np.array([f(value) for value in x])


@pytest.mark.parametrize(
    ("ours", "theirs", "x", "least", "bound"),
    [
        (fc.lgamma, listed(math.lgamma), POSITIVE, 1, 2e-15),
        (fc.lgamma, listed(math.lgamma), NEGATIVE, 1, 2e-14),
        (fc.digamma, special.digamma, POSITIVE, 1, 1e-14),
        (fc.digamma, special.digamma, NEGATIVE, 1, 1e-13),
        (fc.erfc, listed(math.erfc), np.linspace(-7, 26, 20001), 0, 2e-15),
        (fc.erfinv, special.erfinv, INSIDE, 1e-300, 2e-15),
        *(
            (lambda x, n=n: fc.polygamma(n, x), lambda x, n=n: special.polygamma(n, x), POSITIVE[1000:20001], 1, 1e-14)
            for n in (1, 2, 3, 8)
        ),
    ],
)
def test_values_are_within_the_stated_error(
    ours: Callable[[Any], Any], theirs: Callable[[Array], Array], x: Array, least: float, bound: float
) -> None:
    with np.errstate(all="ignore"):
        assert error(ours(fc.asarray(x)).numpy(), theirs(x), least) < bound
        single = x[(np.abs(x) < 30) & (np.abs(x) > 1e-30)].astype(np.float32)
        found = ours(fc.asarray(single)).numpy()
        assert found.dtype == np.float32
        expected = theirs(single.astype(np.float64))
        kept = (np.abs(expected) > 1e-36) & np.isfinite(expected)
        assert error(found[kept], expected[kept], least) < 1e-7


def test_derivatives_of_digamma_reflect() -> None:
    x, n = NEGATIVE[NEGATIVE > -6], 2
    for n in (1, 2, 3, 4):
        moved = special.polygamma(n, x + 7) - (-1) ** n * math.factorial(n) * sum((x + k) ** -(n + 1) for k in range(7))
        assert error(fc.polygamma(n, fc.asarray(x)).numpy(), moved, 1) < 1e-12


def test_values_at_poles_and_ends() -> None:
    x = fc.asarray(np.array([0.0, -1, -2, np.inf, -np.inf, np.nan]))
    nan, inf = np.nan, np.inf
    np.testing.assert_array_equal(fc.gammaln(x).numpy(), [inf, inf, inf, inf, inf, nan])
    np.testing.assert_array_equal(fc.digamma(x).numpy(), [nan, nan, nan, inf, nan, nan])
    np.testing.assert_array_equal(fc.polygamma(1, x).numpy(), [inf, inf, inf, 0, nan, nan])
    np.testing.assert_array_equal(fc.erfc(x).numpy()[[0, 3, 4, 5]], [1, 0, 2, nan])
    ends = fc.asarray(np.array([1.0, -1, 0, 1.5, nan]))
    np.testing.assert_array_equal(fc.erfinv(ends).numpy(), [inf, -inf, 0, nan, nan])


def test_an_order_without_a_float_factorial_is_named() -> None:
    with pytest.raises(fc.ShapeError, match=r"give one of 0\.\.150"):
        fc.polygamma(151, fc.ones(()))


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_logsumexp_agrees_with_scipy(axis: Any, keepdims: bool) -> None:
    x = np.random.default_rng(0).normal(size=(3, 4, 5)) * 400
    found = fc.logsumexp(fc.asarray(x), axis=axis, keepdims=keepdims).numpy()
    np.testing.assert_allclose(found, special.logsumexp(x, axis=axis, keepdims=keepdims), rtol=1e-14)


def test_logsumexp_of_infinities() -> None:
    x = fc.asarray(np.array([[-np.inf, -np.inf], [np.inf, 0], [-np.inf, 3], [np.nan, 0]]))
    np.testing.assert_array_equal(fc.logsumexp(x, axis=1).numpy(), [-np.inf, np.inf, 3, np.nan])
    gradient = fc.grad(lambda x: fc.sum(fc.logsumexp(x, axis=1)))(x[:1])
    np.testing.assert_array_equal(gradient.numpy(), [[0, 0]])


def test_the_gradient_of_logsumexp_is_a_softmax() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4)) * 100
    found = fc.grad(lambda x: fc.sum(fc.logsumexp(x, axis=1)))(fc.asarray(x, sbp="B"))
    np.testing.assert_allclose(found.numpy(), special.softmax(x, axis=1), rtol=1e-12)
