"""Updates run as soon as they can, each node behind what makes its inputs, and no gradient waits for others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import flowcore as fc
from flowcore.passes.update import update_early

WIDTH, DEPTH = 256, 5
OPTIMIZERS: dict[str, Callable[[list[fc.Tensor]], fc.optim.Optimizer]] = {
    "plain": lambda each: fc.optim.SGD(each, lr=0.1),
    "momentum": lambda each: fc.optim.SGD(each, lr=0.1, momentum=0.9),
    "adam": lambda each: fc.optim.AdamW(each, lr=0.1),
}


def planned(optimizer: str, is_clipped: bool = False) -> fc.Plan:
    """The plan of a step of a model of `DEPTH` equal layers on few rows."""
    model = fc.nn.Sequential(*(fc.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(DEPTH)))
    opt = OPTIMIZERS[optimizer](list(model.parameters()))

    @fc.compile
    def step(x: fc.Tensor) -> fc.Tensor:
        loss = fc.mean(fc.square(model(x)))
        loss.backward()
        if is_clipped:
            fc.optim.clip_grad_norm(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad()
        return loss

    return step.plan(fc.ones((4, WIDTH)))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_one_gradient_lives_at_a_time(optimizer: str) -> None:
    plan = planned(optimizer)
    gradient = WIDTH * WIDTH * 4
    assert gradient < plan.footprint.arena + plan.footprint.others < 1.5 * gradient, plan.explain()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("is_clipped", [False, True])
def test_the_order_has_the_same_nodes_each_behind_what_makes_its_inputs(optimizer: str, is_clipped: bool) -> None:
    plan = planned(optimizer, is_clipped)
    early = update_early(plan.graph, plan.updates)
    assert sorted(map(id, early.nodes)) == sorted(map(id, plan.graph.nodes))
    known = set(early.inputs)
    for node in early.nodes:
        assert known.issuperset(node.inputs)
        known.update(node.outputs)


def test_what_needs_all_gradients_waits_for_all() -> None:
    assert planned("adam", True).footprint.arena > DEPTH * WIDTH * WIDTH * 4
