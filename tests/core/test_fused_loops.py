"""What generated loops count, load and compute again: columns by number, cheap values; in both executors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.fused import Fused
from flowcore.local import localize
from flowcore.passes.fuse import fuse
from flowcore.passes.picks import compare_picks
from tests.fusing import EXECUTORS, fuse_everything


@pytest.fixture(params=EXECUTORS)
def everything_fused(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled functions fuse kernels of any size, run by numpy in tiles of 16 elements, or by compiled loops."""
    fuse_everything(request.param, monkeypatch, compare_picks)


def numbers(x: fc.Tensor, start: int, step: int) -> fc.Tensor:
    return start + step * fc.arange(x.shape[-1])


COUNTING: dict[str, Callable[[fc.Tensor], Any]] = {
    "columns": lambda x: fc.where(numbers(x, 3, 2) < 7, x * 2, 0.0) + 1,
    "columns of a progression": lambda x: fc.where(fc.arange(-3, 2 * x.shape[-1] - 3, 2) < 5, x, 0.0) * 2,
    "rows and columns": lambda x: fc.where(numbers(x, 0, 1) <= fc.arange(x.shape[-2])[:, None], x, -1.0) * 3,
    "one row": lambda x: fc.where(numbers(x[0], 0, 1) == 4, x[0], 0.0) + x[0],
    "after a reduction": lambda x: fc.where(numbers(x, 0, 1) == 2, x - x.max(axis=-1, keepdims=True), 0.0) + x,
    "all three": lambda x: (fc.where(numbers(x, 0, 1) == 2, x, 0.0) / fc.sum(fc.exp(x), axis=-1, keepdims=True)).sum(),
}


@pytest.mark.parametrize("shape", [(5, 7), (40, 33), (2, 6, 9)])
@pytest.mark.parametrize("name", COUNTING)
def test_the_numbers_of_columns_are_counted(name: str, shape: tuple[int, ...], everything_fused: None) -> None:
    f = COUNTING[name]
    x = fc.asarray(np.random.default_rng(0).normal(size=shape))
    np.testing.assert_allclose(fc.compile(f)(x).numpy(), f(x).numpy(), rtol=1e-12, atol=1e-14)


def test_a_row_is_read_once_per_stage_and_only_what_is_costly_is_kept() -> None:
    def f(x: fc.Tensor, y: fc.Tensor) -> Any:
        return fc.value_and_grad(fc.nn.cross_entropy)(x, y)

    x, y = fc.asarray(np.zeros((64, 32), np.float32)), fc.asarray(np.zeros(64, np.int64))
    graph = fuse(compare_picks(localize(fc.compile(f).plan(x, y).graph, 0)), least=1)
    (loss,) = (node.op for node in graph.nodes if isinstance(node.op, Fused) and "exp" in node.op.text())
    assert isinstance(loss, Fused)
    kept = [loss.body.steps[number - len(loss.body.inputs)].name for number in loss.body.kept]
    assert kept == ["exp"] and [item.space for item in loss.body.inputs].count("c") == 0


def test_a_plan_tells_how_many_operators_it_has_before_and_after_fusion() -> None:
    @fc.compile
    def f(x: fc.Tensor, w: fc.Tensor) -> fc.Tensor:
        return fc.nn.gelu(x @ w, approximate="tanh") * 2 + x

    plan = f.plan(fc.ones((256, 256)), fc.ones((256, 256)))
    fusion = plan.fusion
    assert fusion.before > 10 and (fusion.after, fusion.loops) == (2, 1), "a product and one loop"
    assert f"{fusion.before} operators on a rank run as 2 calls, 1 of them fused loops" in plan.explain().split("\n")[0]
