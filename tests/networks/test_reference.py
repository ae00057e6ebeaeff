"""Networks written plainly in the public API equal independent ones in numpy, to 1e-9, whatever the layouts.

The derivative of the loss along a random direction of all parameters is that of the numpy network by a complex step,
which is exact to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import flowcore as fc

Array = np.ndarray[Any, Any]
Named = Mapping[str, Array]
nn = fc.nn
DOUBLE: Any = {"dtype": "float64"}


# numpy, in real and complex numbers


def relu(x: Array) -> Array:
    return x * (x.real > 0)


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.real.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def whiten(x: Array, mean: Array, variance: Array) -> Array:
    return (x - mean) / np.sqrt(variance + 1e-5)


def square_mean(x: Array, axis: Any) -> Array:
    return ((x - x.mean(axis, keepdims=True)) ** 2).mean(axis, keepdims=True)


def convolve(x: Array, w: Array, stride: int, pad: int) -> Array:
    framed = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    seen = np.lib.stride_tricks.sliding_window_view(framed, w.shape[2:], (2, 3))[:, :, ::stride, ::stride]
    return np.einsum("ncpqkl,ockl->nopq", seen, w)


# an LSTM over sequences with a linear head


class Sequences(nn.Module):
    def __init__(self) -> None:
        self.lstm, self.head = nn.LSTM(3, 4, **DOUBLE), nn.Linear(4, 2, **DOUBLE)

    def forward(self, x: fc.Tensor) -> fc.Tensor:
        hidden, _ = self.lstm(x)
        return self.head(hidden)  # type: ignore[no-any-return]


def sequences(p: Named, x: Array) -> Array:
    h = c = np.zeros((x.shape[1], 4))
    rows = []
    for row in x:
        gates = (
            row @ p["lstm.weight_ih_l0"].T + p["lstm.bias_ih_l0"] + h @ p["lstm.weight_hh_l0"].T + p["lstm.bias_hh_l0"]
        )
        i, f, g, o = np.split(gates, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        rows.append(h @ p["head.weight"].T + p["head.bias"])
    return np.stack(rows)


# a residual block with batch normalization


class Residual(nn.Module):
    def __init__(self) -> None:
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, 2, 1, bias=False, **DOUBLE), nn.BatchNorm2d(4, **DOUBLE)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, 1, 1, bias=False, **DOUBLE), nn.BatchNorm2d(4, **DOUBLE)
        self.short, self.bn3 = nn.Conv2d(3, 4, 1, 2, bias=False, **DOUBLE), nn.BatchNorm2d(4, **DOUBLE)

    def forward(self, x: fc.Tensor) -> fc.Tensor:
        y = self.bn2(self.conv2(nn.relu(self.bn1(self.conv1(x)))))
        return nn.relu(y + self.bn3(self.short(x)))


def residual(p: Named, x: Array, is_training: bool = True) -> Array:
    def norm(x: Array, name: str) -> Array:
        mean, variance = p[f"{name}.running_mean"][:, None, None], p[f"{name}.running_var"][:, None, None]
        if is_training:
            mean, variance = x.mean((0, 2, 3), keepdims=True), square_mean(x, (0, 2, 3))
        return whiten(x, mean, variance) * p[f"{name}.weight"][:, None, None] + p[f"{name}.bias"][:, None, None]

    y = norm(convolve(relu(norm(convolve(x, p["conv1.weight"], 2, 1), "bn1")), p["conv2.weight"], 1, 1), "bn2")
    return relu(y + norm(convolve(x, p["short.weight"], 2, 0), "bn3"))


def residual_evaluated(p: Named, x: Array) -> Array:
    return residual(p, x, False)


class Evaluated(Residual):
    def __init__(self) -> None:
        super().__init__()
        self.eval()


# a transformer block with causal attention


class Transformer(nn.Module):
    def __init__(self) -> None:
        self.norm1, self.norm2 = nn.LayerNorm(8, **DOUBLE), nn.LayerNorm(8, **DOUBLE)
        self.q, self.k, self.v, self.o = (nn.Linear(8, 8, **DOUBLE) for _ in range(4))
        self.up, self.down = nn.Linear(8, 16, **DOUBLE), nn.Linear(16, 8, **DOUBLE)

    def forward(self, x: fc.Tensor) -> fc.Tensor:
        h = self.norm1(x)
        heads = [layer(h).reshape((*h.shape[:2], 4, 2)) for layer in (self.q, self.k, self.v)]
        q, k, v = (fc.permute_dims(head, (0, 2, 1, 3)) for head in heads)
        y = fc.permute_dims(nn.scaled_dot_product_attention(q, k, v, is_causal=True), (0, 2, 1, 3))
        x = x + self.o(y.reshape(x.shape))
        return x + self.down(nn.gelu(self.up(self.norm2(x)), "tanh"))  # type: ignore[no-any-return]


def transformer(p: Named, x: Array) -> Array:
    def norm(x: Array, name: str) -> Array:
        return whiten(x, x.mean(-1, keepdims=True), square_mean(x, -1)) * p[f"{name}.weight"] + p[f"{name}.bias"]

    def linear(x: Array, name: str) -> Array:
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    h = norm(x, "norm1")
    q, k, v = (linear(h, name).reshape(*x.shape[:2], 4, 2).transpose(0, 2, 1, 3) for name in "qkv")
    scores = q @ k.swapaxes(2, 3) / np.sqrt(2)
    seen = np.tril(np.ones(scores.shape[2:], bool))
    y = softmax(np.where(seen, scores, -1e30)) @ v
    x = x + linear(y.transpose(0, 2, 1, 3).reshape(x.shape), "o")
    u = linear(norm(x, "norm2"), "up")
    return x + linear(u * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (u + 0.044715 * u**3))), "down")


# two graph convolutions: the mean of the neighbours, weighted by their degrees

EDGES = np.random.default_rng(7).integers(0, 9, (2, 30))
DEGREE = np.bincount(EDGES[1], minlength=9) + 1.0


class Graphs(nn.Module):
    def __init__(self) -> None:
        self.first, self.second = nn.Linear(5, 6, **DOUBLE), nn.Linear(6, 3, **DOUBLE)

    def forward(self, x: fc.Tensor) -> fc.Tensor:
        edges = fc.asarray(EDGES, placement=x.placement)
        scale = fc.asarray(1 / np.sqrt(DEGREE)[:, None], placement=x.placement)

        def convolve(x: fc.Tensor, layer: nn.Module) -> fc.Tensor:
            h = layer(x) * scale
            return (fc.segment_sum(fc.take(h, edges[0], axis=0), edges[1], 9) + h) * scale  # type: ignore[no-any-return]

        return convolve(nn.relu(convolve(x, self.first)), self.second)


def graphs(p: Named, x: Array) -> Array:
    adjacency = np.eye(9)
    np.add.at(adjacency, (EDGES[1], EDGES[0]), 1)
    adjacency = adjacency / np.sqrt(DEGREE[:, None] * DEGREE)
    h = relu(adjacency @ (x @ p["first.weight"].T + p["first.bias"]))
    return adjacency @ (h @ p["second.weight"].T + p["second.bias"])


# a neural ordinary differential equation, by Runge and Kutta's method of fourth order as a scan


class Flow(nn.Module):
    def __init__(self) -> None:
        self.up, self.down = nn.Linear(3, 8, **DOUBLE), nn.Linear(8, 3, **DOUBLE)

    def forward(self, x: fc.Tensor) -> fc.Tensor:
        def slope(x: fc.Tensor) -> fc.Tensor:
            return self.down(fc.tanh(self.up(x)))  # type: ignore[no-any-return]

        def step(x: fc.Tensor, _: None) -> tuple[fc.Tensor, fc.Tensor]:
            h = 0.1
            k1 = slope(x)
            k2 = slope(x + k1 * (h / 2))
            k3 = slope(x + k2 * (h / 2))
            x = x + (k1 + k2 * 2 + k3 * 2 + slope(x + k3 * h)) * (h / 6)
            return x, x

        return fc.scan(step, x, None, length=6)[1]


def flow(p: Named, x: Array) -> Array:
    def slope(x: Array) -> Array:
        return np.tanh(x @ p["up.weight"].T + p["up.bias"]) @ p["down.weight"].T + p["down.bias"]

    seen = []
    for _ in range(6):
        k1 = slope(x)
        k2 = slope(x + 0.05 * k1)
        k3 = slope(x + 0.05 * k2)
        x = x + (k1 + 2 * k2 + 2 * k3 + slope(x + 0.1 * k3)) * (0.1 / 6)
        seen.append(x)
    return np.stack(seen)


@dataclass(frozen=True)
class Case:
    """A network, its twin, the shape of its input, and (mesh, layout of the input, of parameters) beside one rank."""

    model: Callable[[], Any]
    twin: Callable[[Named, Array], Array]
    shape: tuple[int, ...]
    worlds: tuple[tuple[dict[str, int], Any, dict[str, Any]], ...] = field(default=())


COLUMNS = {"up.weight": {"model": fc.S(0)}, "up.bias": {"model": fc.S(0)}, "down.weight": {"model": fc.S(1)}}
HEADS = {f"[qkv].{name}": {"model": fc.S(0)} for name in ("weight", "bias")} | {"o.weight": {"model": fc.S(1)}}
DATA = {"data": fc.S(0)}
CHANNELS: dict[str, Any] = {name: {"model": fc.S(0)} for name in ("conv1.weight", "bn1.*")}
CHANNELS |= {"conv2.weight": {"model": fc.S(1)}, "bn1.num*": "B"}
RESIDUAL = (
    ({"data": 3}, DATA, {}),
    ({"rows": 3}, {"rows": fc.S(2)}, {}),
    ({"model": 2}, {}, CHANNELS),
    ({"data": 2, "model": 2}, DATA, CHANNELS),
)
TRANSFORMER = (
    ({"data": 3}, DATA, {}),
    ({"data": 2, "model": 2}, DATA, {**COLUMNS, **HEADS}),
    ({"rows": 2}, {"rows": fc.S(1)}, {}),
)
CASES = {
    "lstm": Case(
        Sequences, sequences, (5, 6, 3), (({"data": 2}, {"data": fc.S(1)}, {}), ({"model": 2}, {}, {"*weight*": "S0"}))
    ),
    "resnet block": Case(Residual, residual, (4, 3, 9, 6), RESIDUAL),
    "resnet block, evaluated": Case(Evaluated, residual_evaluated, (4, 3, 9, 6), RESIDUAL),
    "transformer block": Case(Transformer, transformer, (4, 7, 8), TRANSFORMER),
    "graph convolution": Case(
        Graphs, graphs, (9, 5), (({"data": 2}, DATA, {}), ({"model": 2}, {"model": fc.S(1)}, {"first.weight": "S1"}))
    ),
    "neural ode": Case(
        Flow, flow, (6, 3),
        (({"model": 2}, {}, COLUMNS), ({"data": 3}, DATA, {}), ({"data": 2, "model": 2}, DATA, COLUMNS)),
    ),
}  # fmt: skip


def run_one(model: Any, mesh: dict[str, int], sbp: Any, layouts: dict[str, Any], state: Named, x: Array) -> list[Any]:
    """(outputs, gradients, state after) of the network, eager and compiled, on a mesh."""
    found = []
    for is_compiled in (False, True):
        network = model()
        network.load_state_dict(state)
        placement = fc.Placement.grid(**mesh)
        network.place(placement, layouts)
        given = fc.asarray(x, placement=placement, sbp=sbp or "B")

        def step(x: fc.Tensor, network: Any = network) -> fc.Tensor:
            y = network(x)
            (y * y * y).sum().backward()
            return y  # type: ignore[no-any-return]

        y = (fc.compile(step) if is_compiled else step)(given)
        slopes = {name: p.grad.numpy() for name, p in network.named_parameters()}
        found.append((y.numpy(), slopes, {name: value.numpy() for name, value in network.state_dict().items()}))
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_network_equals_its_twin_in_numpy(name: str) -> None:
    case, random = CASES[name], np.random.default_rng(3)
    fresh = fc.launch.run(lambda: {key: value.numpy() for key, value in case.model().state_dict().items()}, ranks=1)[0]
    state = {
        key: random.uniform(0.5, 2, value.shape) if "var" in key else random.normal(size=value.shape) * 0.5
        for key, value in fresh.items() if "num_batches" not in key
    } | {key: value for key, value in fresh.items() if "num_batches" in key}  # fmt: skip
    x = random.normal(size=case.shape)
    expected = case.twin(state, x)
    worlds = (({"data": 1}, None, {}), *case.worlds)
    for mesh, sbp, layouts in worlds:
        ranks = int(np.prod(list(mesh.values())))
        results = fc.launch.run(run_one, ranks=ranks, args=(case.model, mesh, sbp, layouts, state, x))
        for y, slopes, after in results[0]:
            np.testing.assert_allclose(y, expected, rtol=0, atol=1e-9)
            directions = {key: random.normal(size=value.shape) for key, value in slopes.items()}
            moved = {key: state[key] + 1e-30j * directions[key] if key in directions else state[key] for key in state}
            derivative = (case.twin(moved, x) ** 3).sum().imag / 1e-30
            found = sum(np.vdot(slopes[key], directions[key]) for key in slopes)
            assert found == pytest.approx(derivative, rel=1e-9)
            check_statistics(name, state, after, x)


def check_statistics(name: str, before: Named, after: Named, x: Array) -> None:
    """The running statistics of the first normalization: followed while training, untouched else."""
    if "bn1.running_mean" not in before:
        return
    mean, variance = before["bn1.running_mean"], before["bn1.running_var"]
    if name == "resnet block":
        y = convolve(x, before["conv1.weight"], 2, 1)
        mean = 0.9 * mean + 0.1 * y.mean((0, 2, 3))
        variance = 0.9 * variance + 0.1 * y.var((0, 2, 3)) * (y[:, 0].size / (y[:, 0].size - 1))
    np.testing.assert_allclose(after["bn1.running_mean"], mean, atol=1e-9)
    np.testing.assert_allclose(after["bn1.running_var"], variance, atol=1e-9)
    assert after["bn1.num_batches_tracked"] == (name == "resnet block")


def test_gradients_of_examples_are_clipped_one_by_one() -> None:
    """The mean of the gradients of all examples, each first scaled to a norm of at most 1."""
    random = np.random.default_rng(5)
    x, y, w, v = (random.normal(size=shape) for shape in ((6, 3), (6, 2), (4, 3), (2, 4)))

    def loss(weights: Any, x: fc.Tensor, y: fc.Tensor) -> fc.Tensor:
        w, v = weights
        return ((v @ fc.tanh(w @ x) - y) ** 2).sum()  # type: ignore[no-any-return]

    def clipped(weights: Any, x: fc.Tensor, y: fc.Tensor) -> list[fc.Tensor]:
        slopes = fc.vmap(fc.grad(loss), in_axes=(None, 0, 0))(weights, x, y)
        squares = sum((slope * slope).sum(axis=(1, 2)) for slope in slopes)
        factor = 1 / fc.maximum(fc.sqrt(squares), 1.0)
        return [(slope * factor.reshape((-1, 1, 1))).mean(axis=0) for slope in slopes]

    def program(sbp: str, is_compiled: bool) -> list[Array]:
        weights = (fc.asarray(w), fc.asarray(v))
        step = fc.compile(clipped) if is_compiled else clipped
        return [found.numpy() for found in step(weights, fc.asarray(x, sbp=sbp), fc.asarray(y, sbp=sbp))]

    total_w, total_v = np.zeros_like(w), np.zeros_like(v)
    for one, wanted in zip(x, y, strict=True):
        h = np.tanh(w @ one)
        error = 2 * (v @ h - wanted)
        slope_v, slope_w = np.outer(error, h), np.outer((v.T @ error) * (1 - h * h), one)
        factor = 1 / max(1, np.sqrt((slope_v**2).sum() + (slope_w**2).sum()))
        total_w, total_v = total_w + factor * slope_w / 6, total_v + factor * slope_v / 6
    for ranks, sbp, is_compiled in ((1, "B", False), (2, "S0", False), (2, "S0", True)):
        found_w, found_v = fc.launch.run(program, ranks=ranks, args=(sbp, is_compiled))[0]
        np.testing.assert_allclose(found_w, total_w, rtol=0, atol=1e-9)
        np.testing.assert_allclose(found_v, total_v, rtol=0, atol=1e-9)
