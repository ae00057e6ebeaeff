"""Compiled functions with convolutions equal their eager forms, whatever stands between, before and behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.convolved import is_available
from flowcore.graph import Graph
from flowcore.passes.channels_last import channels_last
from flowcore.pipeline import physical
from flowcore.world import current

nn = fc.nn
Function = Callable[..., Any]


FUNCTIONS: dict[str, Function] = {
    "normalized": lambda x, w, v: nn.relu(nn.batch_norm(nn.conv2d(x, w, padding=1), None, None)),
    "residual": lambda x, w, v: x + nn.conv2d(nn.relu(nn.conv2d(x, w, padding=1)), v, padding=1),
    "biased": lambda x, w, v: nn.conv2d(x, w, bias=v[:, 0, 0, 0], stride=2),
    "by pixel": lambda x, w, v: nn.conv2d(x, w) * fc.arange(5, dtype=x.dtype) + v[0, 0, :1, :1],
    "mean of pixels": lambda x, w, v: nn.conv2d(x, w).mean(axis=(2, 3)) @ v[:, :, 0, 0],
    "mean of rows": lambda x, w, v: nn.conv2d(x, w).mean(axis=(1, 3)),
    "greatest": lambda x, w, v: fc.max(nn.conv2d(x, w), axis=(0, 2, 3)),
    "pooled": lambda x, w, v: nn.conv2d(nn.max_pool2d(nn.conv2d(x, w, padding=1), 2), v, padding=1),
    "averaged": lambda x, w, v: nn.avg_pool2d(nn.conv2d(x, w, padding=1), 2, padding=1),
    "groups": lambda x, w, v: nn.relu(nn.conv2d(nn.conv2d(x, w, padding=1), v[:, :2], groups=2)),
    "grouped norm": lambda x, w, v: nn.group_norm(nn.conv2d(x, w), 2),
    "layer norm": lambda x, w, v: nn.layer_norm(nn.conv2d(x, w), (6, 5)),
    "transposed": lambda x, w, v: nn.conv_transpose2d(nn.relu(nn.conv2d(x, w, stride=2)), v, stride=2),
    "joined": lambda x, w, v: fc.concat([nn.conv2d(x, w), nn.conv2d(x, v)], axis=1) * 2,
    "cut": lambda x, w, v: nn.conv2d(x, w)[:, 1:3] * 2,
    "lines": lambda x, w, v: nn.relu(nn.conv1d(x.reshape((3, 4, 56)), w[..., 0], padding=1)),
    "two results": lambda x, w, v: (lambda y: fc.exp(y * 0.1).sum() + y[0])(nn.conv2d(x, w)),
    "chosen": lambda x, w, v: (lambda y: fc.where(y > 0, y, x * 0.5))(nn.conv2d(x, w, padding=1)),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_compiled_function_and_its_gradients_equal_the_eager_ones(name: str) -> None:
    random = np.random.default_rng(1)
    arrays = [random.normal(size=shape) for shape in ((3, 4, 8, 7), (4, 4, 3, 3), (4, 4, 3, 3))]
    given = [fc.asarray(array) for array in arrays]

    def loss(*tensors: Any) -> Any:
        y = FUNCTIONS[name](*tensors)
        return (y * y * y).sum(), y

    def both(*tensors: Any) -> Any:
        return fc.grad(lambda *each: loss(*each)[0], argnums=(0, 1, 2))(*tensors), loss(*tensors)[1]

    (slopes, y), (wanted, expected) = fc.compile(both)(*given), both(*given)
    np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-10, atol=1e-11)
    for mine, other in zip(slopes, wanted, strict=True):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.skipif(not is_available(), reason="numba, or a BLAS of numpy's that is known, is not installed")
def test_between_convolutions_no_value_is_transposed() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, padding=1), nn.BatchNorm2d(8)
    )

    def step(x: Any) -> Any:
        loss = (model(x) ** 2).mean()
        loss.backward()
        return loss

    logical = fc.compile(step).graph(fc.asarray(np.ones((2, 3, 8, 8), np.float32)))
    graph = channels_last(physical(logical, current().machine))
    assert counts(graph, "convolved") == 5 and counts(graph, "convolve") == 0
    large = [node for node in graph.nodes if node.op.name == "permute" and graph.values[node.inputs[0]].type.size > 8]
    assert [graph.values[node.inputs[0]].type.shape for node in large] == [(2, 3, 8, 8)]


def counts(graph: Graph, name: str) -> int:
    """How many operators of this name there are."""
    return sum(node.op.name == name for node in graph.nodes)
