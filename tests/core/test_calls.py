"""Functions with a gradient of their own, computed again for it, or compiled: in every composition of transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc

A = np.random.default_rng(0).normal(size=(5, 7))
B = np.random.default_rng(1).normal(size=(5, 7))


def twice() -> Any:
    """exp(x)·y with a gradient with respect to x that is wrong by a factor of 2, so that its use shows."""
    f = fc.custom_vjp(lambda x, y: fc.exp(x) * y)
    return f.defvjp(
        lambda x, y: (fc.exp(x) * y, (fc.exp(x), y)),
        lambda saved, dy: (2 * dy * saved[0] * saved[1], dy * saved[0]),
    )


@pytest.mark.parametrize("sbp", ["B", "S0", "P"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_custom_gradient_is_used_by_every_transform(compiled: bool, sbp: str) -> None:
    def program() -> Any:
        f, run = twice(), fc.compile if compiled else lambda g: g
        x, y = fc.asarray(A, sbp=sbp), fc.asarray(B, sbp="S1")
        return [
            found.numpy()
            for found in (
                run(f)(x, y),
                *run(fc.grad(lambda x, y: f(x, y).sum(), (0, 1)))(x, y),
                run(lambda x: fc.jvp(lambda x: f(x, y), (x,), (x,))[1])(x),
                run(fc.vmap(fc.grad(lambda x, y: f(x, y).sum())))(x, y),
                run(fc.grad(lambda x: fc.vmap(f, (0, None))(x, y[0]).sum()))(x),
                run(fc.grad(lambda x: (fc.grad(lambda x: f(x, y).sum())(x) * x).sum()))(x),
            )
        ]

    e = np.exp(A)
    expected = [e * B, 2 * e * B, e, 2 * e * B * A, 2 * e * B, 2 * e * B[0], 2 * e * B * (1 + A)]
    for results in fc.launch.run(program, ranks=2):
        for found, wanted in zip(results, expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_a_custom_gradient_takes_trees_and_integers() -> None:
    f = fc.custom_vjp(lambda pair, n: {"y": pair[0] * pair[1] * n})
    f.defvjp(
        lambda pair, n: ({"y": pair[0] * pair[1] * n}, (pair, n)),
        lambda s, dy: ((dy["y"] * s[0][1] * s[1], dy["y"] * s[0][0] * s[1]), None),
    )
    found = fc.grad(lambda x, y: f((x, y), fc.asarray(3))["y"].sum(), (0, 1))(fc.asarray(A), fc.asarray(B))
    np.testing.assert_allclose(found[0].numpy(), 3 * B)
    np.testing.assert_allclose(found[1].numpy(), 3 * A)


def test_what_a_custom_gradient_must_not_be() -> None:
    x, w = fc.asarray(A), fc.asarray(B).requires_grad_()
    with pytest.raises(fc.GradError, match="defvjp"):
        fc.custom_vjp(lambda x: x)(x)
    reads = fc.custom_vjp(lambda x: x * w).defvjp(lambda x: (x * w, None), lambda saved, dy: (dy,))
    with pytest.raises(fc.GradError, match="pass it as an argument"):
        fc.grad(lambda x: reads(x).sum())(x)
    for backward, words in (
        (lambda s, dy: (dy, dy), "gives 2 gradients"),
        (lambda s, dy: (dy.sum(),), "must be equal"),
    ):
        wrong = fc.custom_vjp(lambda x: x * 2).defvjp(lambda x: (x * 2, None), backward)
        with pytest.raises(fc.GradError, match=words):
            wrong(x)
    with pytest.raises(fc.ShapeError, match="other types"):
        fc.custom_vjp(lambda x: x).defvjp(lambda x: (x.sum(), None), lambda s, dy: (dy,))(x)


def layers(x: fc.Tensor, count: int) -> fc.Tensor:
    for _ in range(count):
        x = fc.sin(x * 1.5)
    return x


def plain(x: fc.Tensor) -> fc.Tensor:
    return layers(x, 16).sum()


def segments(x: fc.Tensor) -> fc.Tensor:
    for _ in range(4):
        x = fc.checkpoint(lambda x: layers(x, 4))(x)
    return x.sum()


@pytest.mark.parametrize("compiled", [False, True])
def test_checkpoints_change_no_result(compiled: bool) -> None:
    x, t = fc.asarray(A), fc.asarray(B)
    for transform in (fc.value_and_grad, lambda f: lambda x: fc.jvp(f, (x,), (t,)), lambda f: fc.vmap(fc.grad(f))):
        found, expected = ((fc.compile if compiled else lambda g: g)(transform(f))(x) for f in (segments, plain))
        for one, other in zip(_list(found), _list(expected), strict=True):
            np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-10)
    small = fc.asarray(A[0, :3])
    np.testing.assert_allclose(fc.hessian(segments)(small).numpy(), fc.hessian(plain)(small).numpy(), rtol=1e-9)


BETWEEN: dict[str, Callable[[Callable[[fc.Tensor], fc.Tensor]], Callable[[fc.Tensor], fc.Tensor]]] = {
    "plain": lambda f: f,
    "checkpoint": fc.checkpoint,
    "compile": fc.compile,
    "checkpoint of checkpoint": lambda f: fc.checkpoint(fc.checkpoint(f)),
    "compile of checkpoint": lambda f: fc.compile(fc.checkpoint(f)),
    "vmap": fc.vmap,
    "scan": lambda f: lambda x: fc.scan(lambda carry, row: (carry, f(row)), fc.asarray(0.0), x)[1],
    "cond": lambda f: lambda x: fc.cond(fc.asarray(True), f, f, x),
    "checkpoint in scan": lambda f: lambda x: fc.scan(lambda c, row: (c, fc.checkpoint(f)(row)), fc.asarray(0.0), x)[1],
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", BETWEEN)
def test_backward_reaches_arguments_and_parameters_through_every_transform(name: str, compiled: bool) -> None:
    gradients = {}
    for each in ("plain", name):
        fc.manual_seed(3)
        layer = fc.nn.Linear(A.shape[-1], 4, dtype="float64")
        x = fc.asarray(A.reshape(-1, A.shape[-1]))
        x.requires_grad = True

        def step(x: fc.Tensor, layer: fc.nn.Linear = layer, each: str = each) -> fc.Tensor:
            loss = fc.sum(fc.sin(BETWEEN[each](lambda rows: fc.tanh(layer(rows)))(x)))
            loss.backward()
            return loss

        (fc.compile(step) if compiled else step)(x)
        gradients[each] = [np.asarray(t.grad.numpy()) for t in (x, *layer.parameters()) if t.grad is not None]
    assert len(gradients[name]) == (2 if compiled else 3)  # the argument of a compiled function has no grad
    for found, expected in zip(gradients[name], gradients["plain"], strict=True):
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def _list(found: Any) -> list[Any]:
    return list(found) if isinstance(found, tuple) else [found]


def test_a_checkpointed_chain_is_computed_again() -> None:
    x = fc.ones((1000,), dtype="float64")
    plans = {f: fc.compile(fc.grad(f)).plan(x) for f in (plain, segments)}
    sines = {f: sum(node.op.name == "sin" for node in plan.graph.nodes) for f, plan in plans.items()}
    # forward, 3 segments of 4 (nothing needs the result of the last); again, 3 of 4 sines in each of 4 segments
    assert sines == {plain: 15, segments: 3 * 4 + 4 * 3}


def test_random_numbers_are_the_same_when_computed_again() -> None:
    def f(x: fc.Tensor) -> fc.Tensor:
        return (x * fc.random.rand(7, dtype="float64")) ** 2

    x, found = fc.asarray(A), []
    for g in (f, fc.checkpoint(f), fc.compile(fc.checkpoint(f))):
        fc.manual_seed(5)
        gradient = fc.grad(lambda x, g=g: g(x).sum())(x).numpy()
        found.append((gradient, fc.random.rand(3).numpy()))
    for gradient, after in found[1:]:
        np.testing.assert_allclose(gradient, found[0][0])
        np.testing.assert_array_equal(after, found[0][1])


def test_compiled_functions_are_differentiated_compiled() -> None:
    calls = []

    @fc.compile
    def f(x: fc.Tensor) -> fc.Tensor:
        calls.append(1)
        return plain(x * w)

    w, x = fc.asarray(B).requires_grad_(), fc.asarray(A)
    expected = fc.grad(lambda w: plain(x * w))(fc.asarray(B)).numpy()
    for times in (1, 2):
        f(x).backward()
        assert w.grad is not None
        np.testing.assert_allclose(w.grad.numpy(), times * expected, rtol=1e-10)
    np.testing.assert_allclose(fc.grad(f)(x).numpy(), fc.grad(lambda x: plain(x * w))(x).numpy(), rtol=1e-10)
    second = fc.grad(lambda x: (fc.grad(f)(x) ** 2).sum())(x)
    wanted = fc.grad(lambda x: (fc.grad(lambda x: plain(x * w))(x) ** 2).sum())(x)
    np.testing.assert_allclose(second.numpy(), wanted.numpy(), rtol=1e-9)
    assert len(calls) <= 3  # for arguments that require no gradient, and that do


def test_a_compiled_function_that_draws_is_differentiated_by_the_numbers_it_drew() -> None:
    f = fc.compile(lambda x: (x * fc.random.rand(7, dtype="float64")).sum())
    x = fc.asarray(A).requires_grad_()
    fc.manual_seed(5)
    value = f(x)
    fc.random.rand(3)
    value.backward()
    fc.manual_seed(5)
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy()[0], fc.random.rand(7, dtype="float64").numpy())


def test_what_a_compiled_function_has_used_up_is_an_error() -> None:
    w = fc.asarray(A).requires_grad_()

    @fc.compile
    def step() -> fc.Tensor:
        loss = (w * w).sum()
        loss.backward()
        return loss

    with pytest.raises(fc.GradError, match="call backward inside that function"):
        step().backward()


def test_a_custom_gradient_of_a_function_with_one_is_its_own() -> None:
    @fc.custom_vjp
    def inner(x: Any) -> Any:
        return 2 * x

    inner.defvjp(lambda x: (2 * x, ()), lambda saved, dy: (5 * dy,))
    outer = fc.custom_vjp(fc.vmap(inner))
    with pytest.raises(fc.GradError, match="without its rule"):
        outer(fc.ones(3))
    outer.defvjp(lambda x: (inner(x), ()), lambda saved, dy: (7 * dy,))
    assert fc.grad(lambda x: outer(x).sum())(fc.ones(3))[0].item() == 7
    assert fc.grad(lambda x: inner(x).sum())(fc.ones(3))[0].item() == 5
