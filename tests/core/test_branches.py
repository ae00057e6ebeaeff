"""`cond` and `while_loop` do what Python's if and while do, in every transform and on every layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.text import parse_graph, write_graph

A = np.random.default_rng(0).normal(size=(5, 7))
B = np.random.default_rng(1).normal(size=(5, 7))


def chosen(x: Any, y: Any) -> Any:
    return fc.cond(x.sum() > 0, lambda x, y: fc.sin(x) * y, lambda x, y: x * x * 3, x, y).sum()


def by_hand(x: Any, y: Any, positive: bool) -> Any:
    return (fc.sin(x) * y if positive else x * x * 3).sum()


@pytest.mark.parametrize("sbp", ["B", "S0", "P"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_branch_is_taken_by_every_transform(sign: int, sbp: str) -> None:
    positive = sign * A.sum() > 0

    def program(f: Any, compiled: bool = False) -> Any:
        run = fc.compile if compiled else lambda g: g
        x, y = fc.asarray(sign * A, sbp=sbp), fc.asarray(B, sbp="S1")
        found = (
            run(f)(x, y), *run(fc.grad(f, (0, 1)))(x, y), run(lambda x, y: fc.jvp(f, (x, y), (y, x))[1])(x, y),
            run(fc.grad(lambda x: (fc.grad(f)(x, y) ** 2).sum()))(x),
        )  # fmt: skip
        return [one.numpy() for one in found]

    expected = program(lambda x, y: by_hand(x, y, positive))
    for compiled in (False, True):
        for results in fc.launch.run(program, ranks=2, args=(chosen, compiled)):
            for one, wanted in zip(results, expected, strict=True):
                np.testing.assert_allclose(one, wanted, rtol=1e-9, atol=1e-12)


def test_examples_may_take_different_branches() -> None:
    x, y = fc.asarray(A), fc.asarray(B)
    for transform in (lambda f: f, lambda f: fc.grad(f)):
        found = fc.vmap(transform(chosen))(x, y).numpy()
        for row, a, b in zip(found, A, B, strict=True):
            np.testing.assert_allclose(row, transform(chosen)(fc.asarray(a), fc.asarray(b)).numpy())
    same = fc.vmap(lambda x: fc.cond(y.sum() > 0, lambda x: x + 1, lambda x: x - 1, x))(x)
    np.testing.assert_allclose(same.numpy(), A + (1 if B.sum() > 0 else -1))


def test_captured_parameters_state_and_random_numbers_pass_through_branches() -> None:
    w, count = fc.asarray(A).requires_grad_(), fc.asarray(0.0)

    def drawn(x: Any) -> Any:
        count.assign(count + 1)
        return x * w * fc.random.rand(7, dtype="float64")

    for flag in (True, False):
        for run in (lambda f: f, fc.compile):
            w.grad = None
            fc.manual_seed(2)
            run(lambda flag, x: fc.cond(flag, drawn, lambda x: x * w, x).sum())(
                fc.asarray(flag), fc.asarray(B)
            ).backward()
            fc.manual_seed(2)
            scale = fc.random.rand(7, dtype="float64").numpy() if flag else 1.0
            assert w.grad is not None
            np.testing.assert_allclose(w.grad.numpy(), B * scale)
    assert count.item() == 2


def test_branches_are_planned_and_their_transfers_told() -> None:
    def program() -> Any:
        f = fc.compile(lambda p, x: fc.cond(p, lambda x: x.to_global(sbp=fc.B) * 2, lambda x: x + 1, x))
        x, p = fc.asarray(A, sbp=fc.S(0)), fc.asarray(True)
        np.testing.assert_allclose(f(p, x).numpy(), 2 * A)
        np.testing.assert_allclose(f(fc.asarray(False), x).numpy(), A + 1)
        assert parse_graph(write_graph(f.graph(p, x))) == f.graph(p, x)
        plan = f.plan(p, x)
        assert parse_graph(plan.text()) == plan.graph
        return plan

    plan = fc.launch.run(program, ranks=3)[0]
    assert plan.transfers and all("where cond takes this branch" in transfer.reason for transfer in plan.transfers)


def test_what_cond_refuses() -> None:
    x = fc.asarray(A)
    with pytest.raises(fc.ShapeError, match="one boolean"):
        fc.cond(x > 0, lambda x: x, lambda x: x, x)
    with pytest.raises(fc.ShapeError, match="must be alike"):
        fc.cond(fc.asarray(True), lambda x: x, lambda x: x.sum(), x)
    assert fc.cond(True, lambda x: x, lambda x: x.sum(), x) is x

    def program() -> None:
        flag = fc.asarray(True, placement=fc.Placement([0]))
        with pytest.raises(fc.PlanError, match="move the condition"):
            fc.cond(flag, lambda x: x * 2, lambda x: x, fc.asarray(A, sbp=fc.S(0)))

    fc.launch.run(program, ranks=2)


def root(a: Any) -> Any:
    """sqrt by Newton's iteration."""

    def test(c: Any) -> Any:
        return (abs(c[0] * c[0] - a) > 1e-13 * a).sum() > 0

    return fc.while_loop(test, lambda c: ((c[0] + a / c[0]) / 2, c[1] + 1), (a * 1.0, 0))


@pytest.mark.parametrize("sbp", ["B", "S0", "P"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_while_loop_and_its_derivatives(compiled: bool, sbp: str) -> None:
    square = 1 + A[:, 0] ** 2

    def program() -> Any:
        run, x = fc.compile if compiled else lambda g: g, fc.asarray(square, sbp=sbp)
        value, steps = run(root)(x)
        rate = run(lambda x: fc.jvp(lambda x: root(x)[0], (x,), (x,))[1])(x)
        second = run(lambda x: fc.jvp(lambda x: fc.jvp(lambda x: root(x)[0], (x,), (x,))[1], (x,), (x,))[1])(x)
        each = run(fc.vmap(lambda a: root(a)[0]))(x)
        return [value.numpy(), rate.numpy(), second.numpy(), each.numpy()], steps.item()

    expected = np.sqrt(square)
    for found, steps in fc.launch.run(program, ranks=2):
        for one, factor in zip(found, (1, 0.5, 0.25, 1), strict=True):
            np.testing.assert_allclose(one, factor * expected, rtol=1e-10)
        assert 3 < steps < 20


def test_a_jacobian_goes_forward_through_a_while_loop_and_a_gradient_is_an_error() -> None:
    x = fc.asarray(1 + A[:, 0] ** 2)
    found = fc.jacobian(lambda x: root(x)[0], mode="forward")(x).numpy()
    np.testing.assert_allclose(found, np.diag(0.5 / np.sqrt(x.numpy())), rtol=1e-9, atol=1e-12)
    for run in (lambda f: f, fc.compile):
        with pytest.raises(fc.GradError, match=r"use fc\.scan"):
            run(fc.grad(lambda x: root(x)[0].sum()))(x)


def test_a_while_loop_carries_state_and_random_numbers() -> None:
    def walk(x: Any) -> Any:
        return fc.while_loop(lambda c: c.sum() < 5, lambda c: c + fc.random.rand(dtype="float64"), x)

    for run in (lambda f: f, fc.compile):
        fc.manual_seed(4)
        found = run(walk)(fc.asarray(np.float64(0))).item()
        fc.manual_seed(4)
        total = 0.0
        while total < 5:
            total += fc.random.rand(dtype="float64").item()
        assert found == pytest.approx(total)


def test_what_a_while_loop_refuses() -> None:
    x = fc.asarray(A)
    with pytest.raises(fc.ShapeError, match="one boolean"):
        fc.while_loop(lambda c: c > 0, lambda c: c, x)
    with pytest.raises(fc.DTypeError, match="leaves it as"):
        fc.while_loop(lambda c: c.sum() > 0, lambda c: c.sum(), x)
    with pytest.raises(fc.TraceError, match="do it in the body"):
        fc.while_loop(lambda c: fc.random.rand() > c.sum(), lambda c: c, fc.asarray(1.0))


@pytest.mark.parametrize("wrap", [lambda f: f, fc.compile], ids=["eager", "compiled"])
def test_second_derivatives_that_pass_a_while_loop_backwards_are_errors(wrap: Any) -> None:
    def f(x: Any) -> Any:
        return fc.while_loop(lambda c: c.sum() < 50, lambda c: c * c + 1, x).sum()

    for derivative in (fc.hessian(f), fc.jacobian(fc.grad(f)), fc.hessian(lambda x: fc.jvp(f, (x,), (x,))[1])):
        with pytest.raises(fc.GradError, match="reverse mode through while_loop"):
            wrap(derivative)(np.array([1.0, 2.0]))
    forward = fc.jacobian(fc.jacobian(f, mode="forward"), mode="forward")
    np.testing.assert_array_equal(wrap(forward)(np.array([1.0, 2.0])).shape, (2, 2))
