"""Layers under transforms: vmap equals a loop over examples, of values and of gradients; jvp equals differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc

Array = np.ndarray[Any, Any]
nn = fc.nn
RANDOM = np.random.default_rng(0)
X, W, Q, K = (RANDOM.normal(size=shape) for shape in ((3, 2, 4, 6, 5), (4, 2, 3, 3), (3, 2, 5, 4), (2, 6, 4)))
GRU = nn.GRU(5, 3, dtype="float64")

# a function, its arguments, along which axis each is mapped
CASES: dict[str, tuple[Callable[..., Any], tuple[Array, ...], tuple[int | None, ...]]] = {
    "convolution": (lambda x, w: nn.conv2d(x, w, padding=1, groups=2), (X, W), (0, None)),
    "convolution of each by its own": (
        lambda x, w: nn.conv2d(x, w, stride=2),
        (X[:, :, :2], np.stack([W] * 3)),
        (0, 0),
    ),
    "transposed convolution": (lambda x, w: nn.conv_transpose2d(x, w, stride=2), (X, W), (0, None)),
    "max pooling": (lambda x: nn.max_pool2d(x, 3, 2, 1), (X,), (0,)),
    "average pooling": (lambda x: nn.avg_pool2d(x, 3, 2, 1, count_include_pad=False), (X,), (0,)),
    "adaptive pooling": (lambda x: nn.adaptive_max_pool2d(x, (4, 3)), (X,), (0,)),
    "interpolation": (lambda x: nn.interpolate(x, scale_factor=2, mode="bilinear"), (X,), (0,)),
    "attention": (lambda q, k: nn.scaled_dot_product_attention(q, k, k, is_causal=True), (Q, K), (0, None)),
    "group norm": (lambda x: nn.group_norm(x, 2), (X,), (0,)),
    "cross entropy": (lambda x: nn.cross_entropy(x[:, 0, 0], fc.asarray([1, 4])), (X,), (0,)),
    "recurrent layer": (lambda x: GRU(x)[0], (X[:, :, 0],), (0,)),
}


@pytest.mark.parametrize("name", CASES)
def test_vmap_of_a_layer_and_of_its_gradient_is_a_loop(name: str) -> None:
    f, arrays, axes = CASES[name]

    def slopes(*given: fc.Tensor) -> Any:
        return fc.grad(lambda *given: (f(*given) ** 2).sum(), argnums=tuple(range(len(given))))(*given)

    given = [fc.asarray(array) for array in arrays]
    each = [[fc.asarray(a if axis is None else a[i]) for a, axis in zip(arrays, axes, strict=True)] for i in range(3)]
    expected = np.stack([f(*one).numpy() for one in each])
    np.testing.assert_allclose(fc.vmap(f, in_axes=axes)(*given).numpy(), expected, atol=1e-10)
    one_by_one = zip(*(slopes(*one) for one in each), strict=True)
    for found, wanted in zip(fc.vmap(slopes, in_axes=axes)(*given), one_by_one, strict=True):
        np.testing.assert_allclose(found.numpy(), np.stack([slope.numpy() for slope in wanted]), atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_the_forward_derivative_of_a_layer_agrees_with_differences(name: str) -> None:
    f, arrays, axes = CASES[name]
    point = [a if axis is None else a[0] for a, axis in zip(arrays, axes, strict=True)]
    direction = [np.random.default_rng(1).normal(size=a.shape) for a in point]
    ends = [
        f(*(fc.asarray(a + sign * 1e-6 * d) for a, d in zip(point, direction, strict=True))).numpy() for sign in (1, -1)
    ]
    _, found = fc.jvp(f, tuple(map(fc.asarray, point)), tuple(map(fc.asarray, direction)))
    np.testing.assert_allclose(found.numpy(), (ends[0] - ends[1]) / 2e-6, atol=1e-6)
