"""Normalizations agree with numpy; the statistics of a split batch are those of the whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import flowcore as fc

Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(2.0, 3.0, size=(5, 6, 4, 3))
WEIGHT, BIAS = RANDOM.normal(size=6), RANDOM.normal(size=6)


def whiten(x: Array, axes: tuple[int, ...]) -> Array:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


def by_channel(x: Array) -> Array:
    return x * WEIGHT.reshape(6, 1, 1) + BIAS.reshape(6, 1, 1)


CASES: dict[str, tuple[Callable[..., Any], Array]] = {
    "layer": (lambda x, w, b: fc.nn.layer_norm(x, (4, 3)), whiten(X, (2, 3))),
    "rms": (lambda x, w, b: fc.nn.rms_norm(x, (3,), eps=0.0), X / np.sqrt((X**2).mean(-1, keepdims=True))),
    "group": (
        lambda x, w, b: fc.nn.group_norm(x, 3, w, b),
        by_channel(whiten(X.reshape(5, 3, 2, 4, 3), (2, 3, 4)).reshape(X.shape)),
    ),
    "instance": (lambda x, w, b: fc.nn.instance_norm(x, w, b), by_channel(whiten(X, (2, 3)))),
    "batch": (lambda x, w, b: fc.nn.batch_norm(x, None, None, w, b), by_channel(whiten(X, (0, 2, 3)))),
    "running": (
        lambda x, w, b: fc.nn.batch_norm(x, w, b * b, eps=1.0),
        (X - WEIGHT[:, None, None]) / np.sqrt(BIAS[:, None, None] ** 2 + 1),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_normalizations_agree_with_numpy_on_every_split(name: str) -> None:
    f, expected = CASES[name]

    def program() -> list[Array]:
        w, b = fc.asarray(WEIGHT), fc.asarray(BIAS)
        given = [fc.asarray(X, sbp=sbp) for sbp in ("B", "S0", "S1", "S2", "P")]
        return [f(x, w, b).numpy() for x in given] + [
            fc.grad(lambda x: (f(x, w, b) ** 3).sum())(x).numpy() for x in given
        ]

    found = fc.launch.run(program, ranks=3, transport="threads")[0]
    for value in found[:5]:
        np.testing.assert_allclose(value, expected, atol=1e-10)
    for gradient in found[6:]:
        np.testing.assert_allclose(gradient, found[5], atol=1e-10)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_follows_the_statistics_of_the_whole_batch(momentum: float | None) -> None:
    batches = [RANDOM.normal(i, 2.0, size=(7, 3, 2)) for i in range(3)]

    def program(sbp: str, is_compiled: bool) -> list[Array]:
        layer = fc.nn.BatchNorm1d(3, momentum=momentum, dtype="float64")
        step = fc.compile(lambda x: layer(x)) if is_compiled else layer
        made = [step(fc.asarray(batch, sbp=sbp)).numpy() for batch in batches]
        layer.eval()
        made.append(step(fc.asarray(batches[0], sbp=sbp)).numpy())
        return [*made, layer.running_mean.numpy(), layer.running_var.numpy(), layer.num_batches_tracked.numpy()]

    mean, variance = np.zeros(3), np.ones(3)
    for count, batch in enumerate(batches, 1):
        share = 1 / count if momentum is None else momentum
        mean += share * (batch.mean((0, 2)) - mean)
        variance += share * (batch.var((0, 2), ddof=1) - variance)
    expected = [whiten(batch, (0, 2)) for batch in batches]
    expected += [(batches[0] - mean[:, None]) / np.sqrt(variance[:, None] + 1e-5), mean, variance, np.asarray(3)]
    for sbp, is_compiled in (("B", False), ("S0", False), ("S0", True), ("S1", True)):
        found = fc.launch.run(partial(program, sbp, is_compiled), ranks=2, transport="threads")[1]
        for value, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(value, wanted, atol=1e-10)


def test_layers_name_their_parameters_as_in_pytorch() -> None:
    assert list(fc.nn.BatchNorm2d(3).state_dict()) == [
        "weight", "bias", "running_mean", "running_var", "num_batches_tracked",
    ]  # fmt: skip
    assert list(fc.nn.BatchNorm3d(3, affine=False, track_running_stats=False).state_dict()) == []
    assert list(fc.nn.GroupNorm(2, 4).state_dict()) == ["weight", "bias"]
    assert list(fc.nn.InstanceNorm2d(3).state_dict()) == []
    assert list(fc.nn.RMSNorm(3).state_dict()) == ["weight"]
    x = fc.asarray(X)
    for layer, expected in (
        (fc.nn.InstanceNorm2d(6, affine=True, dtype="float64"), whiten(X, (2, 3))),
        (fc.nn.GroupNorm(1, 6, dtype="float64"), whiten(X, (1, 2, 3))),
        (fc.nn.BatchNorm2d(6, track_running_stats=False, dtype="float64").eval(), whiten(X, (0, 2, 3))),
    ):
        np.testing.assert_allclose(layer(x).numpy(), expected, atol=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: fc.nn.group_norm(x, 4), "must divide the channels"),
        (lambda x: fc.nn.instance_norm(x[:, :, 0, :1]), "at least 2 spatial"),
        (lambda x: fc.nn.batch_norm(x[:1, :, :1, :1], None, None), "at least 2 elements"),
        (lambda x: fc.nn.BatchNorm1d(6)(x), "2 or 3 dimensions"),
        (lambda x: fc.nn.batch_norm(x, None, None, fc.ones(3)), "one element per channel"),
        (lambda x: fc.nn.rms_norm(x, (4,)), "does not fit"),
    ],
)
def test_what_does_not_fit_is_an_error(call: Any, message: str) -> None:
    with pytest.raises(fc.FlowcoreError, match=message):
        call(fc.asarray(X))
