"""Results of wide products lie transposed in memory, and nothing but that changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.graph import Graph
from flowcore.passes import upright

Function = Callable[..., Any]
ROWS, WIDTH = 6, 10
FUNCTIONS: dict[str, tuple[bool, Function]] = {
    "layers": (True, lambda x, w, b: fc.nn.relu(fc.nn.relu(x @ w.mT + b) @ w.mT)),
    "sums and maxima": (True, lambda x, w, b: fc.exp(x @ w.mT).sum(axis=1) * fc.max(x @ w.mT * 2, axis=(0, 1))),
    "broadcast": (True, lambda x, w, b: fc.exp(x @ w.mT - x[:, :1] + b) @ w),
    "two results": (True, lambda x, w, b: (lambda y: y.sum(axis=0) + fc.exp(y).sum())(fc.tanh(x @ w.mT))),
    "product behind a product": (True, lambda x, w, b: x @ w.mT @ w.mT @ b),
    "asked for": (True, lambda x, w, b: fc.tanh((x @ w.mT).to_global(sbp=fc.S(1))).sum(axis=0)),
    "a result leaves": (False, lambda x, w, b: x @ w.mT),
    "with an input": (False, lambda x, w, b: (x @ w.mT * x).sum(axis=0)),
    "cut": (False, lambda x, w, b: (x @ w.mT)[:, 1:].sum(axis=0)),
    "weights the other way": (False, lambda x, w, b: fc.tanh(x @ w).sum(axis=0)),
}  # fmt: skip


def is_turned(graph: Graph) -> bool:
    """Whether a value of its matrix products lies transposed."""
    shapes = [graph.values[node.outputs[0]].type.shape for node in graph.nodes if node.op.name == "contract"]
    return (WIDTH, ROWS) in shapes


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients_are_those_of_the_eager_function(
    name: str, ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upright, "LARGE", 1)
    turns, function = FUNCTIONS[name]
    draw = np.random.default_rng(0)
    arrays = [draw.normal(size=shape) / 3 for shape in ((ROWS, WIDTH), (WIDTH, WIDTH), (WIDTH,))]

    def run() -> tuple[bool, list[np.ndarray[Any, Any]], list[np.ndarray[Any, Any]]]:
        given = [fc.asarray(array, sbp=sbp) for array, sbp in zip(arrays, (fc.S(0), fc.B, fc.B), strict=True)]

        def both(*tensors: Any) -> Any:
            y = function(*tensors)
            slopes = fc.grad(lambda *each: fc.tanh(function(*each)).sum(), argnums=(0, 1))(*tensors)
            return (y, *slopes)

        found = [each.numpy() for each in fc.compile(both)(*given)]
        return is_turned(fc.compile(function).plan(*given).graph), found, [each.numpy() for each in both(*given)]

    for turned, found, expected in fc.launch.run(run, ranks=ranks, transport="threads"):
        assert turned == turns
        for mine, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("rows", "turns"), [(256, True), (1024, False)])
def test_large_weights_give_the_rows(rows: int, turns: bool) -> None:
    x, w = fc.zeros((rows, 512), dtype="float32"), fc.zeros((512, 512), dtype="float32")
    graph = fc.compile(lambda x, w: fc.nn.relu(x @ w.mT).sum(axis=0)).plan(x, w).graph
    assert ((512, rows) in [value.type.shape for value in graph.values]) == turns
