"""Small layers do what their names say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowcore as fc

X = np.random.default_rng(0).normal(size=(4, 3, 5, 2))


def test_identity_and_flatten() -> None:
    x = fc.asarray(X)
    np.testing.assert_array_equal(fc.nn.Identity(3, any=True)(x).numpy(), X)
    for layer, shape in ((fc.nn.Flatten(), (4, 30)), (fc.nn.Flatten(0, -2), (60, 2)), (fc.nn.Flatten(2, 2), X.shape)):
        np.testing.assert_array_equal(layer(x).numpy(), X.reshape(shape))


def test_bilinear_is_a_form_in_both() -> None:
    layer, a, b = fc.nn.Bilinear(3, 4, 2, dtype="float64"), X[:, :, 0, 0], X.reshape(4, 30)[:, :4]
    expected = np.einsum("ni,oij,nj->no", a, layer.weight.numpy(), b) + layer.bias.numpy()
    np.testing.assert_allclose(layer(fc.asarray(a), fc.asarray(b)).numpy(), expected, atol=1e-12)
    one = layer(fc.asarray(a[0]), fc.asarray(b[0]))
    np.testing.assert_allclose(one.numpy(), expected[0], atol=1e-12)


def test_whole_channels_are_dropped() -> None:
    fc.manual_seed(0)
    layer, x = fc.nn.Dropout2d(0.25), np.ones((40, 30, 3, 2))
    found = layer(fc.asarray(x)).numpy()
    assert set(np.unique(found)) == {0, 1 / 0.75}
    assert (found == found[:, :, :1, :1]).all()
    assert found.mean() == pytest.approx(1, abs=0.05)
    np.testing.assert_array_equal(layer.eval()(fc.asarray(x)).numpy(), x)


def test_half_precision_convolutions_are_summed_in_single() -> None:
    x, w = (
        np.random.default_rng(i).normal(size=shape).astype("float16")
        for i, shape in enumerate(((1, 600, 5), (1, 600, 5)))
    )
    found = fc.nn.conv1d(fc.asarray(x), fc.asarray(w))
    assert found.dtype == np.float16
    np.testing.assert_allclose(found.numpy(), (x.astype("float64") * w).sum().reshape(1, 1, 1), rtol=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: fc.nn.Flatten(2, 1)(x), "behind the last"),
        (lambda x: fc.nn.Dropout1d()(x), "takes 3 dimensions"),
        (lambda x: fc.nn.Bilinear(3, 4, 2)(x, x), "it takes"),
    ],
)
def test_what_does_not_fit_is_an_error(call: Any, message: str) -> None:
    with pytest.raises(fc.ShapeError, match=message):
        call(fc.asarray(X))
