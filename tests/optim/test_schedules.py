"""Learning-rate schedules and clipping against their formulas."""

from math import cos, inf, pi
from typing import Any

import numpy as np
import pytest

import flowcore as fc


def rates(schedule: fc.optim.Schedule, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(schedule.optimizer.lr)
        schedule.step()
    return found


def sgd(lr: float = 2.0) -> fc.optim.SGD:
    return fc.optim.SGD([fc.zeros((1,)).requires_grad_()], lr=lr)


def test_every_schedule_follows_its_formula() -> None:
    assert rates(fc.optim.StepLR(sgd(), 2, 0.5), 5) == [2, 2, 1, 1, 0.5]
    assert rates(fc.optim.LambdaLR(sgd(), lambda t: 1 / (t + 1)), 3) == pytest.approx([2, 1, 2 / 3])
    cosine = [0.1 + 1.9 * (1 + cos(pi * t / 4)) / 2 for t in range(5)]
    assert rates(fc.optim.CosineAnnealingLR(sgd(), 4, 0.1), 5) == pytest.approx(cosine)


def test_warm_up_rises_and_hands_over() -> None:
    opt = sgd()
    schedule = fc.optim.WarmupLR(opt, 4, after=fc.optim.StepLR(opt, 1, 0.5))
    assert rates(schedule, 7) == [0, 0.5, 1, 1.5, 2, 1, 0.5]
    assert rates(fc.optim.WarmupLR(sgd(), 2, 0.5), 4) == [1, 1.5, 2, 2]


def test_a_schedule_goes_on_from_its_state() -> None:
    one, other = fc.optim.StepLR(sgd(), 2, 0.5), fc.optim.StepLR(sgd(), 2, 0.5)
    rates(one, 3)
    other.load_state_dict(one.state_dict())
    assert rates(one, 3) == rates(other, 3)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, inf])
@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_clipping_scales_all_gradients_by_one_factor(norm_type: float, max_norm: float) -> None:
    grads = [np.random.default_rng(i).normal(size=(4, 3)) for i in range(3)]
    flat = np.concatenate(grads).reshape(-1)
    norm = np.linalg.norm(flat, norm_type)

    def check() -> tuple[float, list[Any]]:
        params = [fc.zeros((4, 3), dtype="float64", sbp=sbp).requires_grad_() for sbp in ("B", "S0", "S1")]
        for p, g in zip(params, grads, strict=True):
            p.grad = fc.asarray(g, sbp=p.sbp)
        found = fc.optim.clip_grad_norm(params, max_norm, norm_type).item()
        return found, [p.grad.numpy() for p in params if p.grad is not None]

    for ranks in (1, 2):
        for found, clipped in fc.launch.run(check, ranks=ranks):
            assert found == pytest.approx(norm, rel=1e-9)
            factor = min(1.0, max_norm / (norm + 1e-6))
            np.testing.assert_allclose(clipped, np.array(grads) * factor, rtol=1e-9)


def test_clipping_needs_a_gradient() -> None:
    with pytest.raises(fc.FlowcoreError, match="backward"):
        fc.optim.clip_grad_norm([fc.zeros((2,)).requires_grad_()], 1.0)
