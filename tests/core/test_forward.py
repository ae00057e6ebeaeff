"""Forward mode agrees with reverse mode and with differences, at any order, eager and compiled, on any layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowcore as fc

A = np.random.default_rng(0).normal(size=(5, 7))
W = np.random.default_rng(1).normal(size=(7, 4))
T = np.random.default_rng(2).normal(size=(5, 7))


def f(x: fc.Tensor) -> fc.Tensor:
    return (fc.tanh(x @ fc.asarray(W)) ** 2).sum() * x.mean()


@pytest.mark.parametrize("compiled", [False, True])
def test_forward_and_reverse_mode_mix_at_any_order(compiled: bool) -> None:
    x, t = fc.asarray(A), fc.asarray(T)

    def rate(g: Any) -> Any:
        return lambda x: fc.jvp(g, (x,), (t,))[1]

    def slope(g: Any) -> Any:
        return lambda x: (fc.grad(g)(x) * t).sum()

    run = fc.compile if compiled else lambda g: g
    first = [run(g)(x).item() for g in (rate(f), slope(f))]
    second = [run(g)(x).item() for g in (rate(rate(f)), rate(slope(f)), slope(rate(f)), slope(slope(f)))]
    third = [run(g)(x).item() for g in (rate(slope(rate(f))), slope(rate(slope(f))))]
    step = 1e-5
    np.testing.assert_allclose(first, (f(x + step * t).item() - f(x - step * t).item()) / (2 * step), rtol=1e-7)
    np.testing.assert_allclose(second, (rate(f)(x + step * t).item() - rate(f)(x - step * t).item()) / (2 * step))
    np.testing.assert_allclose(third, third[0], rtol=1e-10)


def test_tangents_and_results_are_trees() -> None:
    tree, along = {"a": fc.asarray(A), "b": [fc.asarray(W)]}, {"a": fc.asarray(T), "b": [fc.asarray(W * 2)]}
    value, rate, more = fc.jvp(lambda p: ({"y": p["a"] @ p["b"][0]}, "more"), (tree,), (along,), has_aux=True)
    np.testing.assert_allclose(value["y"].numpy(), A @ W)
    np.testing.assert_allclose(rate["y"].numpy(), T @ W + A @ (2 * W))
    assert more == "more"


def test_what_does_not_depend_on_the_primal_has_the_derivative_zero() -> None:
    x, t = fc.asarray(A), fc.asarray(T)
    _, (constant, index, same) = fc.jvp(lambda x: (fc.asarray(W), fc.argmax(x), x), (x,), (t,))
    assert not constant.numpy().any() and index.item() == 0
    np.testing.assert_array_equal(same.numpy(), T)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("sbp", ["S0", "S1", "P"])
def test_split_tensors_have_the_derivatives_of_one_rank(sbp: str, compiled: bool) -> None:
    def program() -> Any:
        g = fc.compile(lambda x, t: fc.jvp(f, (x,), (t,))) if compiled else lambda x, t: fc.jvp(f, (x,), (t,))
        return tuple(found.item() for found in g(fc.asarray(A, sbp=sbp), fc.asarray(T, sbp="S0")))

    value, rate = fc.jvp(f, (fc.asarray(A),), (fc.asarray(T),))
    for found in fc.launch.run(program, ranks=3):
        np.testing.assert_allclose(found, (value.item(), rate.item()), rtol=1e-12)


def test_the_dead_part_of_forward_mode_is_dropped() -> None:
    x = fc.asarray(A)
    graph = fc.compile(lambda x: fc.jvp(lambda x: fc.sin(x), (x,), (x,))).plan(x).graph
    assert sorted(node.op.name for node in graph.nodes) == ["cos", "multiply", "sin"]


def test_arrays_are_tensors_everywhere() -> None:
    np.testing.assert_allclose(fc.jvp(lambda x: x * x, (A,), (T,))[1].numpy(), 2 * A * T)
    np.testing.assert_allclose(fc.vjp(lambda x: x * x, A)[1](T)[0].numpy(), 2 * A * T)
    np.testing.assert_allclose(fc.jacobian(lambda x: x * x)(A[0]).numpy(), np.diag(2 * A[0]))
    np.testing.assert_allclose(fc.checkpoint(lambda x: x * x)(A).numpy(), A * A)
    np.testing.assert_allclose(fc.cond(fc.asarray(True), lambda x: x * x, lambda x: x, A).numpy(), A * A)


def test_tangents_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(fc.GradError, match="tangents of shapes"):
        fc.jvp(f, (fc.asarray(A),), (fc.asarray(W),))
    with pytest.raises(fc.GradError, match="cast it to a floating dtype"):
        fc.jvp(f, (fc.asarray([1]),), (fc.asarray([1]),))
    with pytest.raises(fc.GradError, match="cotangents of shapes"):
        fc.vjp(f, fc.asarray(A))[1](fc.asarray(A))


def test_no_gradient_flows_through_stop_gradient_or_no_grad_in_a_graph() -> None:
    def g(x: fc.Tensor) -> fc.Tensor:
        with fc.no_grad():
            scale = x * 3
        return (x * scale * fc.stop_gradient(x) * x.detach()).sum()

    x = fc.asarray(A)
    for run in (g, fc.compile(g)):
        np.testing.assert_allclose(fc.grad(run)(x).numpy(), 3 * A**3)
        np.testing.assert_allclose(fc.jvp(run, (x,), (x,))[1].item(), (3 * A**4).sum())
