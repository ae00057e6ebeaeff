"""Gradients: of functions, of trees, of gradients, of graphs, and the same on every layout."""

from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.grad import gradient_graph
from flowcore.staging import replay
from flowcore.text import parse_graph, write_graph
from flowcore.verify import verify

A = np.random.default_rng(0).normal(size=(5, 3))
W = np.random.default_rng(1).normal(size=(3, 4))


def cube_sum(x: fc.Tensor) -> fc.Tensor:
    return (x * x * x).sum()


def test_grad_of_a_function_is_its_derivative() -> None:
    x = fc.asarray(A)
    np.testing.assert_allclose(fc.grad(cube_sum)(x).numpy(), 3 * A**2)
    assert x.grad is None and not x.requires_grad


def test_value_and_grad_gives_both() -> None:
    value, gradient = fc.value_and_grad(cube_sum)(fc.asarray(A))
    np.testing.assert_allclose(value.item(), (A**3).sum())
    np.testing.assert_allclose(gradient.numpy(), 3 * A**2)


def test_argnums_choose_the_arguments() -> None:
    def f(x: fc.Tensor, y: fc.Tensor) -> fc.Tensor:
        return (x * x * y).sum()

    x, y = fc.asarray(A), fc.asarray(A + 1)
    np.testing.assert_allclose(fc.grad(f, 1)(x, y).numpy(), A**2)
    dy, dx = fc.grad(f, (1, 0))(x, y)
    np.testing.assert_allclose(dy.numpy(), A**2)
    np.testing.assert_allclose(dx.numpy(), 2 * A * (A + 1))
    with pytest.raises(fc.GradError, match="argnums 2"):
        fc.grad(f, 2)(x, y)


def test_has_aux_passes_more_results_on() -> None:
    def f(x: fc.Tensor) -> Any:
        return cube_sum(x), {"twice": x * 2}

    gradient, more = fc.grad(f, has_aux=True)(fc.asarray(A))
    np.testing.assert_allclose(gradient.numpy(), 3 * A**2)
    np.testing.assert_allclose(more["twice"].numpy(), 2 * A)
    (value, _), gradient = fc.value_and_grad(f, has_aux=True)(fc.asarray(A))
    np.testing.assert_allclose(value.item(), (A**3).sum())


def test_the_gradient_of_a_tree_is_such_a_tree() -> None:
    def f(tree: Any) -> fc.Tensor:
        return (tree["a"] * tree["b"][0]).sum() + tree["b"][1].sum() * 0

    found = fc.grad(f)({"a": fc.asarray(A), "b": [fc.asarray(A + 1), fc.asarray(W)]})
    np.testing.assert_allclose(found["a"].numpy(), A + 1)
    np.testing.assert_allclose(found["b"][0].numpy(), A)
    np.testing.assert_allclose(found["b"][1].numpy(), 0 * W)


def test_vjp_pulls_cotangents_back() -> None:
    result, pull = fc.vjp(lambda a, w: a @ w, fc.asarray(A), fc.asarray(W))
    np.testing.assert_allclose(result.numpy(), A @ W)
    for scale in (1.0, 2.0):
        da, dw = pull(fc.asarray(np.full((5, 4), scale)))
        np.testing.assert_allclose(da.numpy(), scale * np.ones((5, 4)) @ W.T)
        np.testing.assert_allclose(dw.numpy(), scale * A.T @ np.ones((5, 4)))


def test_gradients_of_gradients_are_right() -> None:
    second = fc.grad(lambda x: fc.grad(cube_sum)(x).sum())
    np.testing.assert_allclose(second(fc.asarray(A)).numpy(), 6 * A)
    third = fc.grad(lambda x: second(x).sum())
    np.testing.assert_allclose(third(fc.asarray(A)).numpy(), np.full_like(A, 6))
    np.testing.assert_allclose(fc.compile(second)(fc.asarray(A)).numpy(), 6 * A)


def test_an_inner_gradient_does_not_confuse_its_variable_with_the_outer_one() -> None:
    # d/dx [x · d/dy (x + y)] = 1
    f = fc.grad(lambda x: x * fc.grad(lambda y: x + y)(x))
    assert f(fc.asarray(3.0)).item() == 1
    # d/dx [x · d/dy (x · y)] = 2x
    f = fc.grad(lambda x: x * fc.grad(lambda y: x * y)(x))
    assert f(fc.asarray(3.0)).item() == 6


def test_backward_adds_to_the_gradients_of_leaves() -> None:
    x = fc.asarray(A).requires_grad_()
    for times in (1, 2, 3):
        cube_sum(x).backward()
        np.testing.assert_allclose(x.grad.numpy(), times * 3 * A**2)
    y = x * 2
    y.backward(fc.asarray(np.ones_like(A)))
    np.testing.assert_allclose(x.grad.numpy(), 9 * A**2 + 2)
    assert y.grad is None


def test_a_tensor_used_twice_gets_the_sum() -> None:
    x = fc.asarray(A).requires_grad_()
    y = fc.exp(x)
    (y * y + y).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * np.exp(2 * A) + np.exp(A))


def test_an_assignment_between_forward_and_backward_is_an_error() -> None:
    x = fc.asarray(A).requires_grad_()
    loss = cube_sum(x)
    with fc.no_grad():
        x.assign(x * 2)
    with pytest.raises(fc.GradError, match="assigned to after"):
        loss.backward()


@pytest.mark.parametrize("compiled", [False, True])
def test_an_assignment_inside_a_traced_function_is_seen_too(compiled: bool) -> None:
    x = fc.asarray(A).requires_grad_()

    def f() -> None:
        loss = cube_sum(x)
        with fc.no_grad():
            x.assign(x * 2)
        loss.backward()

    with pytest.raises(fc.GradError, match="assigned to after"):
        (fc.compile(f) if compiled else f)()


def test_nothing_is_recorded_without_grad_and_after_detach() -> None:
    x = fc.asarray(A).requires_grad_()
    with fc.no_grad():
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad and not (x * 2).detach().requires_grad
    (x * x.detach()).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), A)
    with pytest.raises(fc.GradError, match="requires_grad"):
        x.detach().sum().backward()


def test_errors_of_gradients_say_what_is_wrong() -> None:
    x = fc.asarray(A).requires_grad_()
    with pytest.raises(fc.GradError, match="reduce to one element"):
        (x * 2).backward()
    with pytest.raises(fc.GradError, match="scalar result"):
        fc.grad(lambda x: x * 2)(x)
    with pytest.raises(fc.GradError, match="floating"):
        fc.grad(lambda x: x.sum())(fc.asarray([1, 2]))
    with pytest.raises(fc.GradError, match="floating"):
        fc.asarray([1, 2]).requires_grad_()
    with pytest.raises(fc.ShapeError, match="does not fit"):
        x.grad = fc.ones((2,))


def test_the_gradient_of_a_graph_is_a_graph() -> None:
    a, w = fc.asarray(A), fc.asarray(W)
    graph = fc.compile(lambda a, w: fc.tanh(a @ w).sum()).graph(a, w)
    text = write_graph(graph)
    both = gradient_graph(graph, [1, 0])
    assert write_graph(graph) == text
    assert verify(both) is both and parse_graph(write_graph(both)) == both
    value, dw, da = replay(both, [a, w])
    slope = 1 - np.tanh(A @ W) ** 2
    np.testing.assert_allclose(value.item(), np.tanh(A @ W).sum())
    np.testing.assert_allclose(dw.numpy(), A.T @ slope)
    np.testing.assert_allclose(da.numpy(), slope @ W.T)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("left", "right"), [("S0", "B"), ("S1", "S0"), ("B", "S1"), ("P", "B"), ("S0", "P")])
def test_gradients_of_split_tensors_equal_those_of_one_rank(left: str, right: str, compiled: bool) -> None:
    def f(a: fc.Tensor, w: fc.Tensor) -> fc.Tensor:
        return (fc.tanh(a @ w) * fc.exp(w.sum(axis=0))).mean()

    def program(a_sbp: str = left, w_sbp: str = right) -> Any:
        g = fc.value_and_grad(f, (0, 1))
        value, found = (fc.compile(g) if compiled else g)(fc.asarray(A, sbp=a_sbp), fc.asarray(W, sbp=w_sbp))
        return value.item(), *(gradient.numpy() for gradient in found)

    alone = fc.launch.run(program, ranks=1, args=("B", "B"))[0]
    for result in fc.launch.run(program, ranks=2):
        for found, wanted in zip(result, alone, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)


def test_backward_lays_gradients_out_as_their_leaves() -> None:
    def program() -> None:
        for sbp in ("S0", "S1", "B"):
            w = fc.asarray(W, sbp=sbp).requires_grad_()
            (fc.asarray(A, sbp="S0") @ w).sum().backward()
            assert w.grad.sbp == w.sbp
            np.testing.assert_allclose(w.grad.numpy(), np.broadcast_to(A.sum(0)[:, None], W.shape))

    fc.launch.run(program, ranks=3)


def test_the_gradient_of_a_move_comes_back_where_the_value_was() -> None:
    def program() -> None:
        x = fc.asarray(A, placement=fc.Placement([0, 1]), sbp="S0").requires_grad_()
        y = x.to_global(fc.Placement([2]), "B")
        (y * y).sum().backward()
        assert (x.grad.placement, x.grad.sbp) == (x.placement, x.sbp)
        np.testing.assert_allclose(x.grad.to_global(fc.Placement(3), "B").numpy(), 2 * A)

    fc.launch.run(program, ranks=3)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_gradient_comes_back_laid_out_as_asked_or_the_request_is_an_error(compiled: bool) -> None:
    def program() -> None:
        run, x = fc.compile if compiled else lambda f: f, fc.asarray(A, sbp="S0")
        for sbp in ("S0", "S1", "B", "P", "P(max)"):
            f = run(fc.grad(lambda x, sbp=sbp: (x.to_global(sbp="B", grad_sbp=sbp) ** 2).sum()))
            assert f(x).layout == fc.Layout(x.placement, sbp)
            np.testing.assert_allclose(f(x).numpy(), 2 * A)
        for sbp, words in (("S5", "does not have"), ("S0,S1", "one per axis"), ("X", "unknown sbp")):
            with pytest.raises(fc.PlacementError, match=words):
                run(fc.grad(lambda x, sbp=sbp: (x.to_global(sbp="B", grad_sbp=sbp) ** 2).sum()))(x)
        z = fc.asarray(A * 1j, sbp="S0")
        with pytest.raises(fc.FlowcoreError, match="no such partial value"):
            run(fc.grad(lambda z: (fc.abs(z.to_global(sbp="B", grad_sbp="P(max)")) ** 2.0).sum()))(z)

    fc.launch.run(program, ranks=2)
