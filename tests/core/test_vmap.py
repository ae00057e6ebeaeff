"""`vmap` is the loop over examples: values, gradients, random numbers, layouts; and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowcore as fc

R = np.random.default_rng(0)
A, W = R.normal(size=(4, 5, 7)), R.normal(size=(7, 3))


def f(x: Any, w: Any) -> Any:
    return fc.tanh(x @ w).sum(axis=0)


@pytest.mark.parametrize("compiled", [False, True])
def test_axes_in_and_out(compiled: bool) -> None:
    x, w = fc.asarray(A), fc.asarray(W)
    run = fc.compile if compiled else lambda g: g
    np.testing.assert_allclose(run(fc.vmap(f, (0, None)))(x, w).numpy(), np.tanh(A @ W).sum(1))
    np.testing.assert_allclose(run(fc.vmap(f, (1, None), out_axes=-1))(x, w).numpy(), np.tanh(A @ W).sum(0).T)
    both = fc.vmap(fc.vmap(f, (0, None)), (None, 2), out_axes=1)
    many = np.stack([W, 2 * W], axis=2)
    expected = np.stack([np.tanh(A @ W).sum(1), np.tanh(A @ (2 * W)).sum(1)], axis=1)
    np.testing.assert_allclose(run(both)(x, fc.asarray(many)).numpy(), expected)


def test_trees_and_arrays_and_what_is_the_same_for_all() -> None:
    def g(pair: Any, scale: float, *, more: Any) -> Any:
        return {"sum": pair["a"].sum() * scale + more, "same": more}

    out = fc.vmap(g, ({"a": 1}, None), out_axes={"sum": 0, "same": None})({"a": A}, 2.0, more=fc.asarray(3.0))
    np.testing.assert_allclose(out["sum"].numpy(), 2 * A.sum((0, 2)) + 3)
    assert out["same"].shape == ()
    assert fc.vmap(g, ({"a": 1}, None))({"a": A}, 2.0, more=fc.asarray(3.0))["same"].shape == (5,)


def test_it_composes_with_gradients_both_ways() -> None:
    x, w = fc.asarray(A), fc.asarray(W)
    each = fc.vmap(fc.grad(lambda w, x: f(x, w).sum()), (None, 0))(w, x)
    for row, found in zip(A, each.numpy(), strict=True):
        np.testing.assert_allclose(found, row.T @ (1 - np.tanh(row @ W) ** 2))
    total = fc.grad(lambda w: fc.vmap(f, (0, None))(x, w).sum())(w)
    np.testing.assert_allclose(total.numpy(), each.numpy().sum(0))
    captured = fc.grad(lambda w: fc.vmap(lambda x: f(x, w))(x).sum())(w)
    np.testing.assert_allclose(captured.numpy(), total.numpy())


def test_parameters_captured_by_the_function_receive_gradients() -> None:
    w = fc.asarray(W).requires_grad_()
    fc.vmap(lambda x: f(x, w))(A).sum().backward()
    assert w.grad is not None
    np.testing.assert_allclose(w.grad.numpy(), sum(row.T @ (1 - np.tanh(row @ W) ** 2) for row in A))


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_jacobians_and_hessians(mode: str) -> None:
    x, w = fc.asarray(A[0]), fc.asarray(W)
    found = fc.jacobian(f, (0, 1), mode=mode)(x, w)
    slope = 1 - np.tanh(A[0] @ W) ** 2
    np.testing.assert_allclose(found[0].numpy(), np.einsum("mn,kn->nmk", slope, W))
    np.testing.assert_allclose(found[1].numpy(), np.einsum("mn,mk,nj->nkj", slope, A[0], np.eye(3)))
    tree = fc.jacobian(lambda p: {"y": f(p[0], p[1])}, mode=mode)([x, w])["y"]
    np.testing.assert_allclose(tree[1].numpy(), found[1].numpy())
    third = fc.hessian(lambda x: (x**3).sum() * x[0])(fc.asarray([1.0, 2.0]))
    np.testing.assert_allclose(third.numpy(), [[12.0, 12.0], [12.0, 12.0]])


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_random_numbers_are_those_of_the_loop(compiled: bool, nested: bool) -> None:
    def draw(x: fc.Tensor) -> fc.Tensor:
        return x * fc.random.rand(2) + fc.random.randn(2)

    mapped, shape = (fc.vmap(fc.vmap(draw)), (3, 4, 2)) if nested else (fc.vmap(draw), (12, 2))
    fc.manual_seed(3)
    found = (fc.compile(mapped) if compiled else mapped)(fc.ones(shape)).numpy()
    after = fc.random.get_state()
    fc.manual_seed(3)
    np.testing.assert_allclose(found.reshape(12, 2), [draw(fc.ones((2,))).numpy() for _ in range(12)], rtol=1e-6)
    assert fc.random.get_state() == after
    same = fc.vmap(draw, randomness="same")(fc.ones((3, 2))).numpy()
    assert (same == same[0]).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_the_layout_of_the_axis_of_examples_is_kept_and_nothing_moves(axis: int) -> None:
    def program() -> Any:
        x = fc.asarray(A[:, :4], sbp=fc.S(axis))
        step = fc.compile(fc.vmap(lambda x: fc.tanh(x).sum(axis=-1), axis))
        assert step(x).sbp == (fc.S(0),) and step.plan(x).bytes_moved == 0
        return step(x).numpy()

    for found in fc.launch.run(program, ranks=3):
        np.testing.assert_allclose(found, np.moveaxis(np.tanh(A[:, :4]).sum(-1), axis, 0))


def test_a_request_for_a_layout_speaks_of_the_example() -> None:
    def program() -> Any:
        y = fc.vmap(lambda x: x.to_global(sbp=fc.S(0)) * 2)(fc.asarray(A))
        return y.sbp, y.numpy()

    for sbp, found in fc.launch.run(program, ranks=3):
        assert sbp == (fc.S(1),)
        np.testing.assert_allclose(found, 2 * A)


def test_state_may_change_alike_for_all_and_not_apart() -> None:
    state = fc.asarray(1.0)

    def count(x: fc.Tensor) -> fc.Tensor:
        state.assign(state + 1)
        return x * state

    np.testing.assert_allclose(fc.vmap(count)(fc.ones((3,))).numpy(), [2, 2, 2])
    assert state.item() == 2
    with pytest.raises(fc.TraceError, match="differs between examples"):
        fc.vmap(lambda x: state.assign(x))(fc.ones((3,)))
    w = fc.asarray(W).requires_grad_()
    with pytest.raises(fc.TraceError, match=r"use fc\.grad inside"):
        fc.vmap(lambda x: f(x, w).sum().backward())(A)


@pytest.mark.parametrize("sbp", ["B", "S0", "S1"])
def test_loops_of_numbers_inside_loops(sbp: str) -> None:
    def climbs(row: Any) -> Any:
        return fc.scan(lambda c, x: (fc.while_loop(lambda z: z < x, lambda z: z + 0.5, c), c), row[0], row)

    def plainly(row: Any) -> tuple[float, list[float]]:
        level, levels = row[0], []
        for x in row:
            levels.append(level)
            while level < x:
                level += 0.5
        return level, levels

    def program() -> list[Any]:
        return [x.numpy() for x in fc.vmap(climbs)(fc.asarray(A[0], sbp=sbp))]

    expected = [np.array(part) for part in zip(*map(plainly, A[0]), strict=True)]
    for found, wanted in zip(fc.launch.run(program, ranks=2, transport="threads")[0], expected, strict=True):
        np.testing.assert_allclose(found, wanted)


def test_what_vmap_refuses() -> None:
    with pytest.raises(fc.ShapeError, match="must be equal"):
        fc.vmap(f)(A, W)
    with pytest.raises(fc.ShapeError, match="no tensor is mapped"):
        fc.vmap(f, (None, None))(A, W)
    with pytest.raises(fc.ShapeError, match="in_axes"):
        fc.vmap(f, (0,))(A, W)
    with pytest.raises(fc.ShapeError, match="one axis for all"):
        fc.vmap(lambda t: t["a"], ({"b": 0},))({"a": A})
    with pytest.raises(fc.ShapeError, match="differs between examples"):
        fc.vmap(f, (0, None), out_axes=None)(A, W)
    with pytest.raises(fc.TraceError, match="needs a value"):
        fc.vmap(lambda x: x.sum().item())(fc.asarray(A))
    with pytest.raises(fc.ShapeError, match="randomness"):
        fc.vmap(f, randomness="none")
