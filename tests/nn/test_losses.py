"""Losses and activations are their formulas in numpy, with the gradients of these, on every layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc

Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(0)
X, Y, Z = RANDOM.normal(size=(3, 5, 6)) * 2
SIGNS, BITS, CLASSES = RANDOM.choice([-1.0, 1.0], (5, 6)), RANDOM.integers(0, 2, (5, 6)) * 1.0, RANDOM.integers(0, 6, 5)
WEIGHT, SHARES = RANDOM.uniform(0.5, 2, 6), RANDOM.dirichlet(np.ones(6), 5)
HIGH, HIGH_CLASSES = RANDOM.normal(size=(2, 6, 3)), RANDOM.integers(0, 6, (2, 3))
T = fc.asarray
N = fc.nn


def log_softmax(x: Array, axis: int = -1) -> Array:
    x = x - x.max(axis, keepdims=True)
    return x - np.log(np.exp(x).sum(axis, keepdims=True))


def entropies(x: Array, smooth: float = 0.0, weight: Array | None = None) -> Array:
    shared = np.eye(6)[CLASSES] * (1 - smooth) + smooth / 6
    return -(shared * log_softmax(x) * (1 if weight is None else weight)).sum(-1)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def distance(a: Array, b: Array) -> Array:
    return np.sqrt(((a - b + 1e-6) ** 2).sum(-1))


def cosine(a: Array, b: Array) -> Array:
    return (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def huber(d: Array, delta: float) -> Array:
    return np.where(abs(d) < delta, d * d / 2, delta * (abs(d) - delta / 2))


KEPT = CLASSES != 2
SIGN = SIGNS[:, 0]
LOSSES: dict[str, tuple[Callable[..., Any], Callable[[Array], Any]]] = {
    "cross_entropy": (lambda x: N.cross_entropy(x, T(CLASSES)), lambda x: entropies(x).mean()),
    "cross_entropy weighted": (
        lambda x: N.cross_entropy(x, T(CLASSES), T(WEIGHT), ignore_index=2),
        lambda x: (entropies(x) * WEIGHT[CLASSES])[KEPT].sum() / WEIGHT[CLASSES][KEPT].sum(),
    ),
    "cross_entropy smooth": (
        lambda x: N.cross_entropy(x, T(CLASSES), T(WEIGHT), label_smoothing=0.3),
        lambda x: entropies(x, 0.3, WEIGHT).sum() / WEIGHT[CLASSES].sum(),
    ),
    "cross_entropy shares": (
        lambda x: N.cross_entropy(x, T(SHARES), T(WEIGHT), reduction="none"),
        lambda x: -(SHARES * log_softmax(x) * WEIGHT).sum(-1),
    ),
    "cross_entropy axis": (
        lambda x: N.cross_entropy(T(HIGH) * x[0, 0], T(HIGH_CLASSES), axis=1, reduction="sum"),
        lambda x: -np.take_along_axis(log_softmax(HIGH * x[0, 0], 1), HIGH_CLASSES[:, None], 1).sum(),
    ),
    "nll_loss": (
        lambda x: N.nll_loss(x, T(CLASSES), T(WEIGHT), ignore_index=2),
        lambda x: -(x[range(5), CLASSES] * WEIGHT[CLASSES])[KEPT].sum() / WEIGHT[CLASSES][KEPT].sum(),
    ),
    "mse_loss": (lambda x: N.mse_loss(x, T(Y), reduction="none"), lambda x: (x - Y) ** 2),
    "l1_loss": (lambda x: N.l1_loss(x, T(Y)), lambda x: abs(x - Y).mean()),
    "smooth_l1_loss": (lambda x: N.smooth_l1_loss(x, T(Y), beta=0.5), lambda x: huber(x - Y, 0.5).mean() / 0.5),
    "huber_loss": (lambda x: N.huber_loss(x, T(Y), delta=2.0), lambda x: huber(x - Y, 2.0).mean()),
    "bce": (
        lambda x: N.binary_cross_entropy(N.sigmoid(x), T(BITS), T(WEIGHT)),
        lambda x: -(WEIGHT * (BITS * np.log(sigmoid(x)) + (1 - BITS) * np.log(1 - sigmoid(x)))).mean(),
    ),
    "bce with logits": (
        lambda x: N.binary_cross_entropy_with_logits(x, T(BITS), pos_weight=T(WEIGHT)),
        lambda x: -(WEIGHT * BITS * np.log(sigmoid(x)) + (1 - BITS) * np.log(1 - sigmoid(x))).mean(),
    ),
    "kl_div": (
        lambda x: N.kl_div(x, T(SHARES), reduction="batchmean"),
        lambda x: (SHARES * (np.log(SHARES) - x)).sum() / 5,
    ),
    "kl_div of logarithms": (
        lambda x: N.kl_div(x, T(np.log(SHARES)), log_target=True),
        lambda x: (SHARES * (np.log(SHARES) - x)).mean(),
    ),
    "poisson": (
        lambda x: N.poisson_nll_loss(x, T(abs(Y) * 2), full=True),
        lambda x: (np.exp(x) - 2 * abs(Y) * x + np.where(abs(Y) > 0.5, stirling(np.maximum(2 * abs(Y), 1)), 0)).mean(),
    ),
    "gaussian": (
        lambda x: N.gaussian_nll_loss(x, T(Y), T(Z**2 + 0.1), full=True),
        lambda x: (np.log(Z**2 + 0.1) + (x - Y) ** 2 / (Z**2 + 0.1) + np.log(2 * np.pi)).mean() / 2,
    ),
    "hinge": (lambda x: N.hinge_embedding_loss(x, T(SIGNS)), lambda x: np.where(SIGNS == 1, x, relu(1 - x)).mean()),
    "soft_margin": (lambda x: N.soft_margin_loss(x, T(SIGNS)), lambda x: np.log1p(np.exp(-SIGNS * x)).mean()),
    "ranking": (
        lambda x: N.margin_ranking_loss(x, T(Y), T(SIGNS), 0.3),
        lambda x: relu(-SIGNS * (x - Y) + 0.3).mean(),
    ),
    "cosine": (
        lambda x: N.cosine_embedding_loss(x, T(Y), T(SIGN), 0.1),
        lambda x: np.where(SIGN == 1, 1 - cosine(x, Y), relu(cosine(x, Y) - 0.1)).mean(),
    ),
    "triplet": (
        lambda x: N.triplet_margin_loss(x, T(Y), T(Z), 2.0, swap=True),
        lambda x: relu(distance(x, Y) - np.minimum(distance(x, Z), distance(Y, Z)) + 2).mean(),
    ),
}  # fmt: skip


def stirling(target: Array) -> Array:
    return target * np.log(target) - target + np.log(2 * np.pi * target) / 2


SELU = (1.6732632423543772, 1.0507009873554805)
ACTIVATIONS: dict[str, tuple[Callable[..., Any], Callable[[Array], Any]]] = {
    "relu6": (lambda x: N.relu6(x * 3), lambda x: np.clip(3 * x, 0, 6)),
    "leaky_relu": (lambda x: N.leaky_relu(x, 0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
    "prelu": (lambda x: N.prelu(x, T(WEIGHT)), lambda x: np.where(x > 0, x, x * WEIGHT)),
    "elu": (lambda x: N.elu(x, 2.0), lambda x: np.where(x > 0, x, 2 * np.expm1(x))),
    "celu": (lambda x: N.celu(x, 2.0), lambda x: np.where(x > 0, x, 2 * np.expm1(x / 2))),
    "selu": (N.selu, lambda x: SELU[1] * np.where(x > 0, x, SELU[0] * np.expm1(x))),
    "softplus": (lambda x: N.softplus(x, 2.0), lambda x: np.log1p(np.exp(2 * x)) / 2),
    "logsigmoid": (N.logsigmoid, lambda x: -np.log1p(np.exp(-x))),
    "softsign": (N.softsign, lambda x: x / (1 + abs(x))),
    "tanhshrink": (N.tanhshrink, lambda x: x - np.tanh(x)),
    "hardshrink": (N.hardshrink, lambda x: np.where(abs(x) <= 0.5, 0, x)),
    "softshrink": (N.softshrink, lambda x: np.sign(x) * relu(abs(x) - 0.5)),
    "hardtanh": (lambda x: N.hardtanh(x, -0.7, 0.9), lambda x: np.clip(x, -0.7, 0.9)),
    "hardsigmoid": (N.hardsigmoid, lambda x: np.clip(x + 3, 0, 6) / 6),
    "hardswish": (N.hardswish, lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "mish": (N.mish, lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    "glu": (N.glu, lambda x: x[:, :3] * sigmoid(x[:, 3:])),
    "softmin": (N.softmin, lambda x: np.exp(log_softmax(-x))),
}
CASES = {**LOSSES, **ACTIVATIONS}


@pytest.mark.parametrize("name", CASES)
def test_it_is_its_formula_on_every_layout_and_so_is_its_gradient(name: str) -> None:
    function, formula = CASES[name]

    def program() -> list[tuple[Array, Array]]:
        given = [fc.asarray(X, sbp=sbp) for sbp in ("B", "S0", "S1", "P")]
        slope = fc.grad(lambda x: function(x).sum())
        return [(function(x).numpy(), slope(x).numpy()) for x in given]

    direction, step = np.random.default_rng(1).normal(size=X.shape), 1e-6
    expected = (np.sum(formula(X + step * direction)) - np.sum(formula(X - step * direction))) / (2 * step)
    for value, slope in fc.launch.run(program, ranks=2)[1]:
        np.testing.assert_allclose(value, formula(X), rtol=1e-9, atol=1e-12)
        assert np.vdot(slope, direction) == pytest.approx(expected, rel=1e-6, abs=1e-7)


SMOOTH = (
    "elu",
    "celu",
    "selu",
    "softplus",
    "logsigmoid",
    "softsign",
    "mish",
    "hardswish",
    "soft_margin",
    "bce with logits",
)


@pytest.mark.parametrize("name", SMOOTH)
def test_large_inputs_give_finite_values_and_gradients(name: str) -> None:
    x = fc.asarray(X * 1e3)
    function = CASES[name][0]
    assert np.isfinite(function(x).numpy()).all()
    assert np.isfinite(fc.grad(lambda x: function(x).sum())(x).numpy()).all()


def test_cross_entropy_over_a_split_vocabulary_moves_rows_only_also_backwards() -> None:
    """The maximum, the sum and the picked logit of each row, reduced to all: 2 (ranks − 1) elements each."""
    rows, classes, ranks = 40, 96, 4
    logits, target = RANDOM.normal(size=(rows, classes)), RANDOM.integers(0, classes, rows)

    def program() -> tuple[Any, Array]:
        step = fc.compile(fc.value_and_grad(lambda x, y: N.cross_entropy(x, y, label_smoothing=0.1)))
        x, y = fc.asarray(logits, sbp="S1"), fc.asarray(target)
        plan, (_, slope) = step.plan(x, y), step(x, y)
        assert str(slope.layout).endswith("S1")
        return plan, slope.numpy()

    plan, slope = fc.launch.run(program, ranks=ranks)[0]
    expected = (np.exp(log_softmax(logits)) - np.eye(classes)[target] * 0.9 - 0.1 / classes) / rows
    np.testing.assert_allclose(slope, expected, atol=1e-12)
    assert {np.prod(transfer.shape) for transfer in plan.transfers} <= {1, rows}
    assert plan.bytes_moved <= 4 * 2 * (ranks - 1) * rows * 8


def test_modules_are_their_functions_with_options() -> None:
    x, y = fc.asarray(X), fc.asarray(CLASSES)
    weighted = N.CrossEntropyLoss(weight=fc.asarray(WEIGHT), label_smoothing=0.1)
    assert weighted(x, y).item() == N.cross_entropy(x, y, fc.asarray(WEIGHT), label_smoothing=0.1).item()
    assert list(weighted.state_dict()) == ["weight"]
    assert N.SmoothL1Loss(beta=0.5)(x, fc.asarray(Y)).item() == N.smooth_l1_loss(x, fc.asarray(Y), beta=0.5).item()
    np.testing.assert_array_equal(N.LeakyReLU(0.2)(x).numpy(), N.leaky_relu(x, 0.2).numpy())
    np.testing.assert_array_equal(N.PReLU(6, dtype="float64")(x).numpy(), N.leaky_relu(x, 0.25).numpy())
    assert repr(N.GELU(approximate="tanh")) == "GELU(approximate='tanh')"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: N.cross_entropy(x, T(CLASSES), T(WEIGHT[:3])), "one for each"),
        (lambda x: N.cross_entropy(x, T(CLASSES), axis=2), "axis 2"),
        (lambda x: N.cross_entropy(x, T(CLASSES), axis=0), "targets of shape"),
        (lambda x: N.cross_entropy(x, T(CLASSES + 6)), "outside 0..5"),
        (lambda x: N.cross_entropy(x, T(SHARES), ignore_index=1), "ignore_index with probabilities"),
        (lambda x: N.huber_loss(x, T(Y), delta=0), "must be positive"),
        (lambda x: N.kl_div(x, T(Y[:3])), "must be equal"),
        (lambda x: N.glu(x[:, :5]), "must be even"),
        (lambda x: N.prelu(x, T(WEIGHT[:2])), "one per channel"),
    ],
)
def test_what_does_not_fit_is_an_error(call: Any, message: str) -> None:
    with pytest.raises(fc.FlowcoreError, match=message):
        call(fc.asarray(X))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_certainty_has_a_bounded_loss_and_no_gradient_that_is_nan(dtype: str) -> None:
    x, target = np.array([0, 1, 0, 1, 0.25], dtype), np.array([0, 1, 1, 0, 1], dtype)
    losses, pull = fc.vjp(lambda x: N.binary_cross_entropy(x, target, reduction="none"), x)
    np.testing.assert_allclose(losses.numpy(), [0, 0, 100, 100, np.log(4)], rtol=1e-6)
    np.testing.assert_allclose(pull(fc.ones_like(losses))[0].numpy(), [1, -1, 0, 0, -4], rtol=1e-6)
