"""Recurrent layers agree with loops in numpy: every kind, layers, directions, states, layouts, eager and compiled."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import flowcore as fc

Array = np.ndarray[Any, Any]
X = np.random.default_rng(0).normal(size=(5, 4, 3))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def step(kind: str, x: Array, state: list[Array], w: Array, u: Array, b: Array, c: Array) -> list[Array]:
    """One cell by its formulas."""
    mine, own, h = x @ w.T + b, state[0] @ u.T + c, state[0]
    if kind == "RNN":
        return [np.tanh(mine + own)]
    if kind == "LSTM":
        i, f, g, o = np.split(mine + own, 4, axis=1)
        cell = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
        return [sigmoid(o) * np.tanh(cell), cell]
    (r, z, n), (r2, z2, n2) = np.split(mine, 3, axis=1), np.split(own, 3, axis=1)
    keep = sigmoid(z + z2)
    return [(1 - keep) * np.tanh(n + sigmoid(r + r2) * n2) + keep * h]


def run(
    kind: str, x: Array, first: Array, named: dict[str, Array], layers: int, directions: tuple[str, ...]
) -> tuple[Array, Array]:
    """(outputs, last states) of all layers; first: (states, layers · directions, n, hidden)."""
    last = []
    for layer in range(layers):
        sides = []
        for number, direction in enumerate(directions):
            parameters = [
                named[f"{name}_l{layer}{direction}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            state, seen = list(first[:, layer * len(directions) + number]), []
            for row in x[::-1] if direction else x:
                state = step(kind, row, state, *parameters)
                seen.append(state[0])
            last.append(state)
            sides.append(np.stack(seen[::-1] if direction else seen))
        x = np.concatenate(sides, axis=-1)
    return x, np.stack([np.stack(part) for part in zip(*last, strict=True)])


def program(kind: str, is_deep: bool, sbp: str) -> tuple[Any, ...]:
    fc.manual_seed(1)
    layer = getattr(fc.nn, kind)(3, 6, 2 if is_deep else 1, bidirectional=is_deep, dtype="float64")
    count, states = (4, 2 if kind == "LSTM" else 1) if is_deep else (1, 2 if kind == "LSTM" else 1)
    first = np.random.default_rng(1).normal(size=(states, count, 4, 6))
    given = tuple(fc.asarray(part) for part in first)
    x = fc.asarray(X, sbp=sbp)
    state = given if states == 2 else given[0]

    def forward(x: fc.Tensor) -> Any:
        return layer(x, state)

    y, last = forward(x)
    compiled, _ = fc.compile(forward)(x)
    y.sum().backward()
    slope = layer.weight_hh_l0.grad.numpy()
    stacked = np.stack([part.numpy() for part in (last if states == 2 else (last,))])
    named = {name: tensor.numpy() for name, tensor in layer.state_dict().items()}
    return y.numpy(), stacked, compiled.numpy(), slope, named, first


@pytest.mark.parametrize("is_deep", [False, True])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_recurrent_layers_agree_with_loops(kind: str, is_deep: bool) -> None:
    for ranks, sbp in ((1, "B"), (2, "S1")):
        y, last, compiled, slope, named, first = fc.launch.run(partial(program, kind, is_deep, sbp), ranks=ranks)[0]
        directions = ("", "_reverse") if is_deep else ("",)
        expected, state = run(kind, X, first, named, 2 if is_deep else 1, directions)
        np.testing.assert_allclose(y, expected, atol=1e-12)
        np.testing.assert_allclose(compiled, expected, atol=1e-12)
        np.testing.assert_allclose(last, state, atol=1e-12)
        direction, size = np.random.default_rng(2).normal(size=slope.shape), 1e-6
        ends = [
            run(kind, X, first, {**named, "weight_hh_l0": named["weight_hh_l0"] + sign * size * direction},
                2 if is_deep else 1, directions)[0].sum()
            for sign in (1, -1)
        ]  # fmt: skip
        assert np.vdot(slope, direction) == pytest.approx((ends[0] - ends[1]) / (2 * size), rel=1e-6, abs=1e-7)


def test_forms_of_inputs_are_equal() -> None:
    layer, first = fc.nn.GRU(3, 6, dtype="float64"), fc.nn.GRU(3, 6, batch_first=True, dtype="float64")
    first.load_state_dict(layer.state_dict())
    y, last = layer(fc.asarray(X))
    turned, same = first(fc.asarray(X.transpose(1, 0, 2)))
    np.testing.assert_allclose(turned.numpy().transpose(1, 0, 2), y.numpy())
    np.testing.assert_allclose(same.numpy(), last.numpy())
    single, alone = layer(fc.asarray(X[:, 0]))
    np.testing.assert_allclose(single.numpy(), y.numpy()[:, 0])
    np.testing.assert_allclose(alone.numpy(), last.numpy()[:, 0])
    assert sorted(layer.state_dict()) == ["bias_hh_l0", "bias_ih_l0", "weight_hh_l0", "weight_ih_l0"]
    assert fc.nn.LSTM(3, 6, bias=False).weight_ih_l0.shape == (24, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: fc.nn.LSTM(3, 6)(x[..., :2]), "it takes"),
        (lambda x: fc.nn.LSTM(3, 6, dtype="float64")(x, fc.zeros((1, 4, 6))), "needs 2 of"),
        (lambda x: fc.nn.RNN(3, 6, nonlinearity="sin"), "choose 'tanh'"),
        (lambda x: fc.nn.GRU(3, 0), "hidden_size=0 .* from 1"),
    ],
)
def test_what_does_not_fit_is_an_error(call: Any, message: str) -> None:
    with pytest.raises(fc.FlowcoreError, match=message):
        call(fc.asarray(X))
