"""Every operator of the registry in every transform: all orders and modes of derivatives, vmap, and both at once."""

from __future__ import annotations

import numpy as np
import pytest

import flowcore as fc
from flowcore.boxing_op import LAYOUT_OPERATORS
from flowcore.derivative_check import (
    Case,
    batching_problems,
    first_order,
    has_gradient,
    layout_problems,
    mixed_problems,
    second_order,
)
from flowcore.op import OPS, Sample
from flowcore.simulate import random_of, samples

RANKS = 3
BY_NAME: dict[str, list[Sample]] = {}
for one in samples(OPS, LAYOUT_OPERATORS):
    BY_NAME.setdefault(one.op.name, []).append(one)
DIFFERENTIABLE = {name: found for name, every in BY_NAME.items() if (found := [s for s in every if has_gradient(s)])}
FEW = 3
"""So many samples of an operator are differentiated in all combinations; all are in reverse mode (test_gradients)."""


def some(every: list[Sample]) -> list[Sample]:
    """The first samples and the last, which is often of another kind."""
    return every if len(every) <= FEW else [*every[: FEW - 1], every[-1]]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_every_combination_of_modes_gives_the_same_derivatives(name: str) -> None:
    for sample in some(DIFFERENTIABLE[name]):
        case = Case(sample, random_of(sample))
        points = [fc.asarray(x) for x in case.point]
        modes = first_order(case, points)
        np.testing.assert_allclose(modes["forward"], modes["reverse"], rtol=1e-7, atol=1e-9, err_msg=str(sample))
        combinations = second_order(case, points, case.directions(np.random.default_rng(1)))
        expected = combinations.pop("reverse over reverse")
        for mode, value in combinations.items():
            np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-8, err_msg=f"{mode} of {sample}")


@pytest.mark.parametrize("name", BY_NAME)
def test_vmap_is_a_loop(name: str) -> None:
    assert [problem for sample in BY_NAME[name] for problem in batching_problems(sample)] == []


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_vmap_and_gradients_compose_both_ways(name: str) -> None:
    assert [problem for sample in some(DIFFERENTIABLE[name]) for problem in mixed_problems(sample)] == []


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives_are_the_same_on_ranks(name: str) -> None:
    sample = DIFFERENTIABLE[name][0]
    for problems in fc.launch.run(lambda: list(layout_problems(sample)), ranks=RANKS):
        assert problems == []
