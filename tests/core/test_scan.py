"""`scan` is the unrolled loop: values, all derivatives, batches, state, layouts, its plan and its text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.text import parse_graph, write_graph

R = np.random.default_rng(0)
X, W, H = R.normal(size=(6, 3, 4)), R.normal(size=(4, 4)) / 2, R.normal(size=(3, 4))
SCALES = np.arange(6.0)


def looped(w: Any, h: Any, x: Any) -> Any:
    def step(h: Any, x: Any) -> Any:
        h = fc.tanh(h @ w + x)
        return h, (h * h).sum()

    h, ys = fc.scan(step, h, x)
    return h.sum() + (ys * fc.asarray(SCALES)).sum()


def unrolled(w: Any, h: Any, x: Any) -> Any:
    total: Any = 0.0
    for i in range(6):
        h = fc.tanh(h @ w + x[i])
        total = total + (h * h).sum() * float(i)
    return h.sum() + total


def everything(f: Any, *sbps: str) -> list[Any]:
    """The value of f and derivatives of it in every combination."""
    w, h, x = (fc.asarray(a, sbp=sbp) for a, sbp in zip((W, H, X), sbps, strict=True))
    grad = fc.grad(f, (0, 1, 2))

    def squares(w: Any, h: Any, x: Any) -> Any:
        return (fc.grad(f)(w, h, x) ** 2).sum()

    def rate(g: Any) -> Any:
        return lambda w: fc.jvp(lambda w: g(w), (w,), (w,))[1]

    found = [
        f(w, h, x), *grad(w, h, x), fc.jvp(f, (w, h, x), (w, h, x))[1], *fc.grad(squares, (0, 1, 2))(w, h, x),
        fc.vmap(f, (None, 0, 1))(w, h, x), fc.vmap(fc.grad(f), (None, 0, 1))(w, h, x),
        rate(rate(lambda w: f(w, h, x)))(w), fc.grad(rate(lambda w: f(w, h, x)))(w), fc.compile(grad)(w, h, x)[0],
    ]  # fmt: skip
    return [tensor.numpy() for tensor in found]


SBPS = [("B", "S0", "S1"), ("S1", "S1", "S2"), ("B", "P", "S0")]


def test_it_equals_the_unrolled_loop_in_every_derivative() -> None:
    for found, expected in zip(everything(looped, "B", "B", "B"), everything(unrolled, "B", "B", "B"), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("sbps", SBPS, ids="-".join)
def test_it_equals_one_rank_on_every_layout(sbps: tuple[str, ...]) -> None:
    expected = everything(looped, "B", "B", "B")
    for results in fc.launch.run(everything, ranks=3, args=(looped, *sbps)):
        for found, wanted in zip(results, expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_a_gradient_summed_over_steps_is_put_together_once_and_after_the_loop() -> None:
    def program() -> Any:
        w, h, x = (fc.asarray(a, sbp=sbp) for a, sbp in zip((W, H, X), ("B", "S0", "S1"), strict=True))
        step = fc.compile(lambda w, h, x: fc.grad(looped)(w, h, x).to_global(sbp=fc.B))
        plan, graph = step.plan(w, h, x), step.graph(w, h, x)
        assert parse_graph(plan.text()) == plan.graph and parse_graph(write_graph(graph)) == graph
        return plan

    plan = fc.launch.run(program, ranks=3)[0]
    (transfer,) = plan.transfers
    assert transfer.kind == "all_reduce" and transfer.times == 1
    assert transfer.bytes == transfer.bound == 2 * 2 * 4 * 4 * 8


def test_what_a_step_moves_counts_as_often_as_it_runs() -> None:
    def program() -> Any:
        def step(h: Any, x: Any) -> Any:
            return h.to_global(sbp=fc.S(0)).to_global(sbp=fc.B) + x, None

        f = fc.compile(lambda h, x: fc.scan(step, h, x)[0])
        h, x = fc.zeros((3, 4), dtype="float64"), fc.asarray(X)
        np.testing.assert_allclose(f(h, x).numpy(), X.sum(0))
        return f.plan(h, x)

    plan = fc.launch.run(program, ranks=3)[0]
    (transfer,) = plan.transfers
    assert transfer.times == 6 and transfer.bytes == 6 * 2 * 3 * 4 * 8 == plan.bytes_moved
    assert "in each of 6 steps of scan" in transfer.reason


def test_a_carry_that_changes_its_layout_converges() -> None:
    def program() -> Any:
        turned = fc.compile(lambda h: fc.scan(lambda h, x: (h.mT * 2, None), h, None, length=3)[0])
        moved = fc.compile(lambda h: fc.scan(lambda h, x: (h.to_global(sbp=fc.S(1)) * 2, None), h, None, length=3)[0])
        h = fc.asarray(W, sbp=fc.S(0))
        np.testing.assert_allclose(turned(h).numpy(), 8 * W.T)
        np.testing.assert_allclose(moved(h).numpy(), 8 * W)
        return [t.times for t in moved.plan(h).transfers], moved(h).sbp

    for times, sbp in fc.launch.run(program, ranks=2):
        assert (times, sbp) == ([1], (fc.S(1),))  # moved once, before the loop


def test_a_carry_that_changes_its_placement_is_an_error_unless_it_is_a_replica() -> None:
    def program() -> None:
        half = fc.Placement([0, 1])
        with pytest.raises(fc.PlacementError, match="leaves it on"):
            fc.scan(lambda h, x: (h.to_global(half, fc.B), None), fc.asarray(H, sbp=fc.S(0)), None, length=2)
        last, _ = fc.scan(
            lambda h, x: (h + x, None), fc.zeros((3, 4), dtype="float64"), fc.asarray(X, placement=half, sbp="S1")
        )
        assert last.placement == half

    fc.launch.run(program, ranks=3)


@pytest.mark.parametrize("compiled", [False, True])
def test_random_numbers_and_state_are_carried(compiled: bool) -> None:
    count = fc.asarray(0.0)

    def f(x: fc.Tensor) -> Any:
        def step(total: Any, x: Any) -> Any:
            count.assign(count + x.sum())
            return total + fc.random.rand(2) * x, total

        return fc.scan(step, fc.zeros((2,)), x)

    fc.manual_seed(1)
    last, ys = (fc.compile(f) if compiled else f)(fc.ones((5, 2)))
    state = fc.random.get_state()
    fc.manual_seed(1)
    draws = [fc.random.rand(2).numpy() for _ in range(5)]
    np.testing.assert_allclose(last.numpy(), np.sum(draws, 0), rtol=1e-6)
    np.testing.assert_allclose(ys.numpy()[1:], np.cumsum(draws, 0)[:-1], rtol=1e-6)
    assert count.item() == 10 and fc.random.get_state() == state


def test_trees_numbers_directions_and_no_steps() -> None:
    def step(carry: Any, x: Any) -> Any:
        return {"n": carry["n"] + 1, "sum": carry["sum"] + x["a"]}, carry["n"]

    last, ys = fc.scan(step, {"n": 0, "sum": np.zeros(4)}, {"a": X[:, 0]}, reverse=True)
    assert last["n"].item() == 6 and ys.numpy().tolist() == [5, 4, 3, 2, 1, 0]
    np.testing.assert_allclose(last["sum"].numpy(), X[:, 0].sum(0))
    last, ys = fc.scan(lambda c, x: (c + x, x), fc.asarray(1.0), fc.zeros((0,)))
    assert last.item() == 1 and ys.shape == (0,)
    nested = fc.scan(lambda c, row: (fc.scan(lambda c, x: (c * x, None), c, row)[0], None), np.float64(1), X[0])
    np.testing.assert_allclose(nested[0].item(), X[0].prod())


@pytest.mark.parametrize("make", [lambda x: x, lambda x: x[::2], lambda x: fc.broadcast_to(x[:1, :1], (6, 4))])
def test_blocks_that_skip_or_repeat_elements_enter_compiled_loops(make: Any) -> None:
    x = make(fc.asarray(np.arange(48.0).reshape(12, 4)))

    def f(start: fc.Tensor, x: fc.Tensor) -> Any:
        return fc.scan(lambda h, row: (fc.tanh(h + row) * 2, h), start, x)

    start = fc.broadcast_to(fc.asarray(np.float64(0.5)), (4,))
    for found, wanted in zip(fc.compile(f)(start, x), f(start, x), strict=True):
        np.testing.assert_allclose(found.numpy(), wanted.numpy())
    gradient = fc.grad(lambda x: f(start, x)[0].sum())
    np.testing.assert_allclose(fc.compile(gradient)(x).numpy(), gradient(x).numpy())


def test_parameters_of_the_step_receive_gradients() -> None:
    w = fc.asarray(W).requires_grad_()
    for run in (looped, fc.compile(looped)):
        w.grad = None
        run(w, fc.asarray(H), fc.asarray(X)).backward()
        assert w.grad is not None
        expected = fc.grad(unrolled)(fc.asarray(W), fc.asarray(H), fc.asarray(X))
        np.testing.assert_allclose(w.grad.numpy(), expected.numpy(), rtol=1e-9)


def test_what_scan_refuses() -> None:
    x, h = fc.asarray(X), fc.asarray(H)
    with pytest.raises(fc.DTypeError, match=r"enters a step as float64\[3,4\] and leaves it as float64\[4\]"):
        fc.scan(lambda h, x: (h.sum(axis=0), None), h, x)
    with pytest.raises(fc.ShapeError, match="one length"):
        fc.scan(lambda h, x: (h, None), h, x, length=4)
    with pytest.raises(fc.ShapeError, match="give a length"):
        fc.scan(lambda h, x: (h, None), h)
    with pytest.raises(fc.ShapeError, match="returns"):
        fc.scan(lambda h, x: h, h, x)
    with pytest.raises(fc.ShapeError, match="return one alike"):
        fc.scan(lambda h, x: ((h, h), None), h, x)
    w = fc.asarray(W).requires_grad_()
    with pytest.raises(fc.TraceError, match="inside scan"):
        fc.scan(lambda h, x: (h, (h @ w).sum().backward()), h, x)
