"""Where one rank overflows, every rank skips the step: on all strategies, clipped, accumulated, compressed."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import flowcore as fc
from tests.overflow import STRATEGIES, VARIANTS, check


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_step_that_overflows_on_one_rank_is_none_on_all(strategy: str, variant: str) -> None:
    fc.launch.run(partial(check, strategy, variant), ranks=3)  # units are split unevenly


def test_gradients_left_to_another_function_stay_as_they_were() -> None:
    layer = fc.nn.Linear(4, 3, bias=False)

    @fc.compile(precision=fc.Precision("fp16", scale=1024.0))
    def accumulate(x: fc.Tensor) -> None:
        fc.sum(layer(x)).backward()

    found = []
    for value in (6e4, 1.0, 6e4, 1.0):
        accumulate(fc.full((2, 4), value))
        found.append(layer.weight.grad.numpy().ravel().tolist())
    np.testing.assert_array_equal(found, np.multiply.outer([0.0, 2.0, 2.0, 4.0], np.ones(12)))
    assert accumulate.loss_scale == 256.0
