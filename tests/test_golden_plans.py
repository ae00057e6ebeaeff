"""The plans of one training step under the strategies that annotations give, as texts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import flowcore as fc

STRATEGIES = {
    "data": ({"data": 4}, {}),
    "model": ({"model": 4}, {"up.weight": {"model": fc.S(0)}, "down.weight": {"model": fc.S(1)}}),
    "hybrid": ({"data": 2, "model": 2}, {"up.weight": {"model": fc.S(0)}, "down.weight": {"model": fc.S(1)}}),
}


class Net(fc.nn.Module):
    """Two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.up = fc.nn.Linear(8, 16, bias=False)
        self.down = fc.nn.Linear(16, 4, bias=False)

    def forward(self, x: fc.Tensor) -> fc.Tensor:
        return self.down(fc.nn.relu(self.up(x)))


def plan_of(strategy: str) -> fc.Plan:
    """The plan of a step of stochastic gradient descent, made inside the world."""
    sizes, annotations = STRATEGIES[strategy]
    mesh = fc.Placement.grid(**sizes)
    model = Net()
    model.place(mesh, annotations)
    optimizer = fc.optim.SGD(model.parameters(), lr=0.1)
    sbp = {"data": fc.S(0)} if "data" in sizes else fc.B
    x = fc.asarray(np.ones((12, 8), np.float32), placement=mesh, sbp=sbp)

    @fc.compile
    def step(x: fc.Tensor) -> fc.Tensor:
        loss = (model(x) * model(x)).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step.plan(x)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_plan_of_a_strategy_is_as_it_was(strategy: str, golden: Callable[[str, str], None]) -> None:
    plans = fc.launch.run(plan_of, ranks=4, args=(strategy,))
    assert len({plan.text() for plan in plans}) == 1
    moves = "\n".join(
        f"{t.kind} {t.dtype}{list(t.shape)} {t.source} -> {t.target}: {t.bytes} B" for t in plans[0].transfers
    )
    nodes = [line for line in plans[0].text().splitlines() if line.startswith("  %")]
    ops = [line.split(" = ")[1].split("{")[0].split("(")[0] for line in nodes]
    golden(f"plan_{strategy}", f"{moves}\n\n{' '.join(ops)}")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_plan_moves_no_more_than_the_bound_of_its_transfers(strategy: str) -> None:
    plan = fc.launch.run(plan_of, ranks=4, args=(strategy,))[0]
    assert plan.transfers and all(transfer.bytes == transfer.bound for transfer in plan.transfers)
