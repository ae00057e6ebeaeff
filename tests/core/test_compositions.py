"""Transforms inside transforms, on a mesh of 2 × 2 ranks, give what one rank gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc

R = np.random.default_rng(0)
A, W = R.normal(size=(4, 6)), R.normal(size=(6, 6)) / 3


def deep(w: Any, x: Any) -> Any:
    """A scan of checkpoints, and a branch on what it gives."""

    def step(h: Any, _: Any) -> Any:
        h = fc.checkpoint(lambda h: fc.tanh(h @ w))(h)
        return h, h.sum()

    h, ys = fc.scan(step, x, None, length=3)
    return fc.cond(ys.sum() > 0, lambda h: (h * h).sum(), lambda h: h.sum() * 2, h)


def walk(x: Any, w: Any) -> Any:
    """Random steps in a scan."""

    def step(h: Any, _: Any) -> Any:
        return h * fc.random.rand(6, dtype="float64", placement=x.placement) + h @ w, None

    return fc.scan(step, x, None, length=2)[0]


def grown(x: Any, w: Any) -> Any:
    """A loop until a norm is reached."""
    return fc.while_loop(lambda h: (h * h).sum() < 500, lambda h: h * 1.3 + (h @ w) * 0.01, x)


COMPOSITIONS: dict[str, Callable[[Any, Any], Any]] = {
    "grad": lambda x, w: fc.grad(deep)(w, x),
    "vmap of grad": lambda x, w: fc.vmap(fc.grad(deep), (None, 0))(w, x),
    "grad of vmap": lambda x, w: fc.grad(lambda w: fc.vmap(deep, (None, 0))(w, x).sum())(w),
    "jacobian of scan": lambda x, w: fc.jacobian(lambda x: walk(x, w), mode="forward")(x),
    "hessian of cond": lambda x, w: fc.hessian(lambda x: deep(w, x))(x[0]),
    "random scan under vmap": lambda x, w: fc.vmap(lambda x: walk(x, w))(x),
    "grad of a random scan": lambda x, w: fc.grad(lambda x: walk(x, w).sum())(x),
    "jvp of while": lambda x, w: fc.jvp(lambda x: grown(x, w), (x,), (x,))[1],
    "vmap of jvp of while": lambda x, w: fc.vmap(lambda x: fc.jvp(lambda x: grown(x, w), (x,), (x,))[1])(x),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_compositions_give_on_four_ranks_what_they_give_on_one(name: str) -> None:
    def program(compiled: bool) -> Any:
        size = 2 if fc.world_size() == 4 else 1
        mesh = fc.Placement.grid(data=size, model=size)
        x = fc.asarray(A, placement=mesh, sbp={"data": fc.S(0)})
        w = fc.asarray(W, placement=mesh, sbp={"model": fc.S(1)})
        fc.manual_seed(3)
        f = COMPOSITIONS[name]
        return (fc.compile(f) if compiled else f)(x, w).numpy()

    expected = program(False)
    assert np.isfinite(expected).all() and expected.any()
    np.testing.assert_allclose(program(True), expected, rtol=1e-9, atol=1e-12)
    for compiled in (False, True):
        for found in fc.launch.run(program, ranks=4, args=(compiled,)):
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
