"""Compiled pooling takes the first of equal elements, nan before all, and refuses windows outside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.ops.call import apply
from flowcore.ops.pool import WindowArgMax


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_compiled_pooling_and_its_gradient_equal_the_eager_ones(spatial: int, dtype: str) -> None:
    draw = np.random.default_rng(0)
    array = draw.integers(-2, 3, size=(2, 3, 7, 6, 5)[: 2 + spatial]).astype(dtype)  # many are equal
    array.reshape(-1)[::17], array.reshape(-1)[5::29] = np.nan, -np.inf
    pool = (fc.nn.max_pool1d, fc.nn.max_pool2d, fc.nn.max_pool3d)[spatial - 1]

    def both(x: Any) -> Any:
        y = pool(x, 3, stride=2, padding=1)
        return y, fc.grad(lambda x: (pool(x, 3, stride=2, padding=1) * 2).sum())(x)

    x = fc.asarray(array)
    for found, wanted in zip(fc.compile(both)(x), both(x), strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted.numpy())


def test_a_window_outside_is_refused_by_compiled_code_as_by_numpy() -> None:
    op = WindowArgMax((2,), (4,), (1,), (1,), (3,))
    x = fc.asarray(np.ones((2, 5)))
    for f in (lambda x: apply(op, x), fc.compile(lambda x: apply(op, x))):
        with pytest.raises(fc.ShapeError, match="a window lies outside"):
            f(x)
