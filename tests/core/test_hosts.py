"""On two hosts with a slow link, changes of layout go by the hosts: eagerly, compiled and in gradients alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.placement.machine import Link, Machine
from flowcore.world import current

TWO_HOSTS = Machine(between=Link(50e-6, 1e-7), hosts=(0, 0, 1, 1))
X = np.arange(64 * 32, dtype=np.float32).reshape(64, 32) % 7


def on_two_hosts(function: Callable[[], Any]) -> list[Any]:
    """What `function` returns on each of 4 ranks that believe to live on two hosts."""

    def program() -> Any:
        current().machine = TWO_HOSTS
        return function()

    return fc.launch.run(program, ranks=4)


@pytest.mark.parametrize("target", ["B", "S0", "S1"])
@pytest.mark.parametrize("source", ["P", "S0", "B"])
def test_an_eager_change_of_layout_is_right(source: str, target: str) -> None:
    def program() -> Any:
        return fc.asarray(X, sbp=source).to_global(sbp=target).numpy()

    for found in on_two_hosts(program):
        assert np.array_equal(found, X)


def test_a_compiled_function_takes_the_path_and_says_so() -> None:
    long = np.tile(X, 32)

    def program() -> Any:
        x, w = fc.asarray(long, sbp="S1"), fc.asarray(long.T.copy(), sbp="S0")

        @fc.compile
        def product(x: fc.Tensor, w: fc.Tensor) -> fc.Tensor:
            return fc.matmul(x, w).to_global(sbp=fc.B)

        return product(x, w).numpy(), product.plan(x, w)

    for value, plan in on_two_hosts(program):
        assert np.array_equal(value, long @ long.T)
        assert [t.kind for t in plan.transfers] == ["reduce_scatter", "all_reduce", "all_gather"]
        assert all(t.bytes == t.bound and t.seconds > 0 for t in plan.transfers)
        assert plan.transfers[0].reason.endswith("leg 1 of 3")
        assert plan.seconds == pytest.approx(sum(t.seconds for t in plan.transfers))
        assert fc.Plan(plan.graph).bytes_moved == 2 * 3 * 64 * 64 * 4
        assert "hosts=(0, 0, 1, 1)" in plan.text()


def test_a_gradient_takes_the_path() -> None:
    def program() -> Any:
        x, w = fc.asarray(X, sbp="S0"), fc.asarray(np.ones((32, 48), np.float32))
        w.requires_grad = True
        fc.matmul(x, w).sum().backward()
        return w.grad.numpy()

    for found in on_two_hosts(program):
        assert np.array_equal(found, np.repeat(X.sum(0)[:, None], 48, 1))


def test_the_saved_plan_moves_what_was_planned(tmp_path: Any) -> None:
    def program() -> Any:
        x = fc.asarray(X, sbp="S0")
        step = fc.compile(lambda x: x.to_global(sbp=fc.B))
        return step.plan(x)

    plan = on_two_hosts(program)[0]
    plan.save(tmp_path / "plan.txt")
    loaded = fc.Plan.load(tmp_path / "plan.txt")
    assert loaded == plan
    assert [str(t.target) for t in loaded.transfers] == [str(t.target) for t in plan.transfers]
    assert loaded.bytes_moved == plan.bytes_moved


def test_times_of_transfers_that_do_not_wait_for_each_other_are_not_added() -> None:
    def program() -> Any:
        x, y = fc.asarray(X, sbp="S0"), fc.asarray(X, sbp="S0")
        return fc.compile(lambda x, y: (x.to_global(sbp="B"), y.to_global(sbp="B"))).plan(x, y)

    plan = fc.launch.run(program, ranks=2)[0]
    assert len(plan.transfers) == 2
    assert plan.seconds == plan.transfers[0].seconds == plan.transfers[1].seconds


def test_ranks_that_reckon_with_different_machines_are_told_so() -> None:
    def program() -> Any:
        current().machine = TWO_HOSTS if current().rank else Machine()
        return fc.asarray(X, sbp="S0").to_global(sbp="B")

    with pytest.raises(fc.DivergenceError):
        fc.launch.run(program, ranks=4)
