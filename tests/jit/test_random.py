"""Random numbers of compiled kernels are those of numpy, bit for bit; dropout and clipping are loops."""

from __future__ import annotations

import numpy as np
import pytest

import flowcore as fc
from flowcore.fused import Fused
from flowcore.jit.store import is_available
from flowcore.jit.table import call
from flowcore.lower import lower
from flowcore.op import Type
from flowcore.ops.random import Uniform
from flowcore.pipeline import LOCAL

pytestmark = pytest.mark.skipif(not is_available(), reason="numba is not installed")
KEYS = np.array([[7, 3], [2**40 + 1, 2**35 + 5]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "offset", "logical"),
    [
        ((1000,), (), ()),
        ((), (), ()),
        ((3, 7), (2, 0), (9, 7)),
        ((3, 7), (2, 5), (9, 33)),
        ((5, 2, 6), (0, 1, 0), (5, 4, 6)),
    ],
)
def test_compiled_numbers_are_numpys(
    shape: tuple[int, ...], offset: tuple[int, ...], logical: tuple[int, ...], dtype: str
) -> None:
    for key in (KEYS[0], KEYS):
        op = Uniform(shape, dtype, offset, logical)
        launch, (made,) = op.launch([Type(key.shape, key.dtype)]), op.infer(Type(key.shape, key.dtype))
        assert launch is not None
        found = np.empty(made.shape, made.dtype)
        assert call(launch.kernel, launch.numbers, [key, found]) == 0
        np.testing.assert_array_equal(found, op.kernel(key))


def test_what_is_no_progression_of_runs_is_left_to_numpy() -> None:
    assert Uniform((2, 2, 2, 3), "float32", (0, 0, 1, 0), (2, 5, 4, 4)).launch([Type((2,), np.dtype("int64"))]) is None


def test_dropout_and_clipping_are_loops() -> None:
    def f(x: fc.Tensor, w: fc.Tensor) -> tuple[fc.Tensor, fc.Tensor]:
        w = w.detach().requires_grad_()
        loss = (fc.nn.functions.dropout(x @ w, 0.25) ** 2).mean()
        loss.backward()
        norm = fc.optim.clip_grad_norm([w], 0.5)
        assert w.grad is not None
        return norm, w.grad

    draw = np.random.default_rng(0)
    x, w = (fc.asarray(draw.normal(size=(64, 64)).astype("float32")) for _ in range(2))
    fc.manual_seed(0)
    expected = [y.numpy() for y in f(x, w)]
    fc.manual_seed(0)
    step = fc.compile(f)
    for found, wanted in zip(step(x, w), expected, strict=True):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-7)
    instructions = lower(step.plan(x, w).graph, 0, LOCAL).instructions
    names = [each.node.op.name for each in instructions if each.node is not None]
    loops = [each.node.op for each in instructions if each.node is not None and isinstance(each.node.op, Fused)]
    assert names.count("contract") == 2 and names.count("uniform") == 1
    assert {"where", "less"} <= {step.name for loop in loops for step in loop.body.steps}
