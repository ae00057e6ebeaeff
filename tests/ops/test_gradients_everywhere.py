"""Gradients of indexing, sorting, reductions and segments: split over ranks, compiled, forward and mapped alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc

RANDOM = np.random.default_rng(0)
X, DIRECTION = RANDOM.normal(size=(2, 5, 4))
BATCH = RANDOM.normal(size=(3, 5, 4))
IDS = np.array([1, 0, 2, 0, 1])


def written(x: Any) -> Any:
    """A tensor assigned to in several ways."""
    y = x * 1.0
    y[1:3] = x[::2][:2]
    y[[0, 4, 0]] = 2 * x[:3]
    y[x > 1] = 0.5
    return y


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "slices": lambda x: x[3] * x[-1, ::-1],
    "indices": lambda x: x[[0, 3, 0], [1, 2, 1]],
    "written": written,
    "take_along_axis": lambda x: fc.take_along_axis(x, fc.argsort(x, axis=0)[:2], axis=0),
    "sort": lambda x: fc.sort(x, axis=0, descending=True),
    "top_k": lambda x: fc.top_k(x, 2, axis=0)[0],
    "max": lambda x: fc.max(x, axis=0),
    "prod": lambda x: fc.prod(x, axis=0),
    "cumulative_sum": lambda x: fc.cumulative_sum(x, axis=0),
    "cumulative_prod": lambda x: fc.cumulative_prod(x, axis=0, include_initial=True),
    "diff": lambda x: fc.diff(x, axis=0, n=2),
    "std": lambda x: fc.std(x, axis=0, correction=1),
    "median": lambda x: fc.median(x, axis=0),
    "segment_sum": lambda x: fc.segment_sum(x, IDS, 4),
    "segment_max": lambda x: fc.segment_max(x, IDS, 3),
    "scatter_add": lambda x: fc.scatter_add(x, IDS[:2], x[:2] ** 2),
}


def loss(name: str) -> Callable[[Any], Any]:
    """A scalar that tells the elements of the function's result apart."""

    def scalar(x: Any) -> Any:
        y = FUNCTIONS[name](x)
        return (y * y * fc.asarray(np.cos(np.arange(y.size)).reshape(y.shape))).sum()

    return scalar


def curve(name: str) -> Callable[[Any], Any]:
    """The derivative of the gradient along a direction."""
    return fc.grad(lambda x: (fc.grad(loss(name))(x) * fc.asarray(DIRECTION)).sum())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_are_those_of_one_rank(name: str) -> None:
    first, second = (make(name)(fc.asarray(X)).numpy() for make in (lambda n: fc.grad(loss(n)), curve))
    step = 1e-6 * DIRECTION
    ends = [loss(name)(fc.asarray(X + sign * step)).item() for sign in (1, -1)]
    assert np.vdot(first, DIRECTION) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-6)

    def program() -> None:
        for sbp in (fc.S(0), fc.S(1)):
            x = fc.asarray(X, sbp=sbp)
            np.testing.assert_allclose(fc.grad(loss(name))(x).numpy(), first, atol=1e-10)
            np.testing.assert_allclose(curve(name)(x).numpy(), second, atol=1e-9)
        compiled = fc.compile(fc.grad(loss(name)))
        np.testing.assert_allclose(compiled(fc.asarray(X, sbp=fc.S(0))).numpy(), first, atol=1e-10)

    fc.launch.run(program, ranks=3, transport="threads")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_forward_mode_and_vmap_agree_with_reverse_mode(name: str) -> None:
    first = fc.grad(loss(name))(fc.asarray(X)).numpy()
    _, slope = fc.jvp(loss(name), (fc.asarray(X),), (fc.asarray(DIRECTION),))
    assert slope.item() == pytest.approx(np.vdot(first, DIRECTION))
    each = np.stack([fc.grad(loss(name))(fc.asarray(x)).numpy() for x in BATCH])
    np.testing.assert_allclose(fc.vmap(fc.grad(loss(name)))(fc.asarray(BATCH)).numpy(), each, atol=1e-10)
