"""Initial values: their distributions, and their limits."""

from math import sqrt
from typing import Any
from weakref import ref

import numpy as np
import pytest

import flowcore as fc

CASES = {
    "xavier_uniform_": sqrt(2 / 700), "xavier_normal_": sqrt(2 / 700), "kaiming_uniform_": sqrt(2 / 300),
    "kaiming_normal_": sqrt(2 / 300), "normal_": 1.0, "uniform_": sqrt(1 / 12),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_initial_weight_has_the_deviation_of_its_formula(name: str) -> None:
    fc.manual_seed(0)
    weight = fc.zeros((400, 300))
    result = getattr(fc.nn.init, name)(weight)
    assert result is weight
    values = weight.numpy()
    assert values.std() == pytest.approx(CASES[name], rel=0.02)
    assert values.mean() == pytest.approx(0.5 if name == "uniform_" else 0, abs=0.02)


def test_constants_fill() -> None:
    x = fc.zeros((3, 2))
    assert (fc.nn.init.ones_(x).numpy() == 1).all()
    assert (fc.nn.init.constant_(x, 2.5).numpy() == np.float32(2.5)).all()
    with pytest.raises(fc.ShapeError, match="2 dimensions"):
        fc.nn.init.xavier_uniform_(fc.zeros((3,)))


def test_values_are_drawn_when_the_old_ones_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, seen, draw = fc.full((4, 3), 7.0), [], fc.random.normal
    kept, old = weight.detach(), ref(weight.block)

    def normal(*arguments: Any, **options: Any) -> fc.Tensor:
        seen.append(old() is None)
        return draw(*arguments, **options)

    monkeypatch.setattr(fc.random, "normal", normal)
    fc.nn.init.normal_(weight)
    assert (kept.numpy() == 7).all(), "what others hold stays as it is"
    del kept
    old = ref(weight.block)
    fc.nn.init.normal_(weight)
    assert seen == [False, True]
    with pytest.raises(fc.ShapeError, match="std=-1"):
        fc.nn.init.normal_(weight, std=-1)
    assert (weight.numpy() == 0).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_random_values_of_16_bits_are_those_of_float32_rounded(dtype: str) -> None:
    drawn = []
    for each in (dtype, "float32"):
        fc.manual_seed(0)
        drawn.append([p.astype(dtype).numpy() for p in fc.nn.Linear(7, 5, dtype=each).parameters()])
        drawn[-1].append(fc.nn.Embedding(7, 5, dtype=each).weight.astype(dtype).numpy())
    for narrow, rounded in zip(*drawn, strict=True):
        np.testing.assert_array_equal(narrow, rounded)
