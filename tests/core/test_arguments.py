"""What stands beside tensors in calls: numpy's integers do as Python's, and what makes no sense is a typed error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc

X = np.arange(12.0).reshape(3, 4)
IMAGE = np.arange(32.0).reshape(1, 2, 4, 4)
WITH_INTEGERS: tuple[Callable[[Any], Any], ...] = (
    lambda i: fc.sum(X, axis=i(1)),
    lambda i: fc.reshape(X, i(12)),
    lambda i: fc.tile(X, i(2)),
    lambda i: fc.moveaxis(X, i(0), i(1)),
    lambda i: fc.roll(X, i(1)),
    lambda i: fc.roll(X, i(1), axis=i(1)),
    lambda i: fc.tensordot(X, X.T, axes=i(1)),
    lambda i: fc.expand_dims(X, axis=i(0)),
    lambda i: fc.stack([X, X], axis=i(1)),
    lambda i: fc.linalg.norm(X, axis=i(0)),
    lambda i: fc.linalg.matrix_power(X @ X.T, i(2)),
    lambda i: fc.fft.fft(X, n=i(3), axis=i(0)),
    lambda i: fc.scan(lambda c, _: (c, c), fc.zeros(2), None, length=i(3))[1],
    lambda i: fc.vmap(lambda x: x.sum(), in_axes=i(1))(X),
    lambda i: fc.grad(lambda x: (x * x).sum(), argnums=i(0))(X),
    lambda i: fc.jacobian(lambda x: x.sum(axis=0), argnums=i(0))(X),
    lambda i: fc.nn.max_pool2d(fc.asarray(IMAGE), i(2), padding=i(1)),
    lambda i: fc.nn.adaptive_avg_pool2d(fc.asarray(IMAGE), i(2)),
    lambda i: fc.nn.LayerNorm(i(4))(X),
    lambda i: fc.zeros(fc.random.choice(i(5), i(2)).shape),
)
BAD: dict[str, Callable[[], Any]] = {
    "no axis": lambda: fc.sum(X, axis=1.0),
    "an axis as text": lambda: fc.sum(X, axis="a"),
    "lengths that are no integers": lambda: fc.reshape(X, (2.0, 6)),
    "a shape as text": lambda: fc.reshape(X, "a"),
    "a part of a power": lambda: fc.linalg.matrix_power(np.eye(2), 1.5),
    "a negative length of a transform": lambda: fc.fft.fft(X, n=-1),
    "an argument twice": lambda: fc.grad(lambda x: x.sum(), argnums=(0, 0))(X),
    "an argument twice, counted from both ends": lambda: fc.jacobian(lambda x, y: x, argnums=(1, -1))(X, X),
    "an argument as text": lambda: fc.grad(lambda x: x.sum(), argnums="a"),
    "no placement": lambda: fc.asarray(X).to_global(placement=3),
    "no placement to use": lambda: fc.use(3).__enter__(),
    "no formula": lambda: fc.einsum(3, X),
    "a quantile as text": lambda: fc.quantile(X, "a"),
    "a number that no float holds": lambda: fc.asarray(X) + 10**400,
    "more bytes than there are": lambda: fc.zeros((2**62, 4)),
    "half a shift": lambda: fc.roll(X, 1.5),
    "smoothing over 1": lambda: fc.nn.cross_entropy(fc.asarray(X), fc.asarray([0, 1, 2]), label_smoothing=2.0),
    "no widths": lambda: fc.pad(X, 1),
    "half a width": lambda: fc.pad(X, ((0.5, 1), (0, 0))),
    "no state of random numbers": lambda: fc.random.set_state({"seed": 1}),
    "no state of an optimizer": lambda: fc.optim.SGD(fc.nn.Linear(2, 2).parameters(), lr=0.1).load_state_dict({}),
    "no operator": lambda: fc.testing.check_op(3),
    "half an axis": lambda: fc.stack([X, X], axis=0.5),
}


@pytest.mark.parametrize("call", WITH_INTEGERS)
def test_numpys_integers_do_as_pythons(call: Callable[[Any], Any]) -> None:
    expected, found = call(int), call(np.int64)
    assert found.shape == expected.shape
    assert all(type(length) is int for length in found.shape)
    np.testing.assert_array_equal(found.numpy(), expected.numpy())


@pytest.mark.parametrize("call", BAD.values(), ids=BAD)
def test_what_makes_no_sense_is_a_typed_error(call: Callable[[], Any]) -> None:
    with pytest.raises(fc.FlowcoreError):
        call()


def test_modules_and_branches_take_arrays() -> None:
    layer = fc.nn.BatchNorm1d(4, dtype="float64")
    np.testing.assert_array_equal(layer(X).numpy(), layer(fc.asarray(X)).numpy())
    assert isinstance(fc.cond(True, lambda x: x, lambda x: -x, X), fc.Tensor)


@pytest.mark.parametrize("draw", [
    lambda r: r.bernoulli(2.0, (3,)), lambda r: r.gamma(0.0), lambda r: r.beta(-1.0, 1.0), lambda r: r.poisson(-1.0),
    lambda r: r.exponential(-1.0), lambda r: r.normal(0.0, -1.0), lambda r: r.choice(3, p=[0.5, 0.5]),
    lambda r: r.choice(2, p=[1.5, -0.5]), lambda r: r.randint(0, 300, dtype="uint8"), lambda r: r.gamma(float("nan")),
])  # fmt: skip
def test_numbers_that_no_distribution_has_are_typed_errors(draw: Any) -> None:
    with pytest.raises(fc.FlowcoreError):
        draw(fc.random)


def test_draws_of_nothing_and_bounds_that_just_fit() -> None:
    assert fc.random.permutation(0).shape == (0,) and fc.random.randn(0, 3).shape == (0, 3)
    assert fc.random.randint(0, 256, (9,), dtype="uint8").dtype == "uint8"
    assert fc.random.poisson(0.0).item() == 0


@pytest.mark.parametrize("lr", [-0.1, float("nan"), float("inf")])
def test_a_learning_rate_is_a_number_from_0(lr: float) -> None:
    with pytest.raises(fc.FlowcoreError, match="learning rate"):
        fc.optim.SGD(fc.nn.Linear(2, 2).parameters(), lr=lr)


@pytest.mark.parametrize("other", [lambda x: x.T, lambda x: np.repeat(x, 2, axis=0).T[:, ::2]])
def test_an_argument_that_comes_back_after_one_whose_elements_lie_apart_is_itself(other: Any) -> None:
    @fc.compile
    def f(x: fc.Tensor) -> fc.Tensor:
        return (x * 2 + 1).sum()

    first, second = fc.full((30, 40), 1.0, dtype="float64"), fc.full((40, 30), 5.0, dtype="float64").mT
    third = fc.asarray(other(np.full((40, 30), 7.0)))
    found = [f(x).item() for x in (first, second, first, third, first)]
    assert found == [3600.0, 13200.0, 3600.0, 18000.0, 3600.0]
