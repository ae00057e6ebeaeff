"""A compiled function does what the function does, on any number of ranks, and its plan tells what moves."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowcore as fc

X = np.random.default_rng(0).normal(size=(7, 5))
Y = np.random.default_rng(1).normal(size=(7, 3))
MESHES = {"1": {"data": 1}, "2": {"data": 2}, "3": {"data": 3}, "2x2": {"data": 2, "model": 2}}
HERE = Path(__file__).name


def train(mesh: dict[str, int], compiled: bool, optimizer: str = "Adam") -> tuple[list[float], list[Any]]:
    """Losses and parameters of six steps."""
    fc.manual_seed(0)
    placement = fc.Placement.grid(**mesh)
    model = fc.nn.Sequential(fc.nn.Linear(5, 6, dtype="float64"), fc.nn.GELU(), fc.nn.Linear(6, 3, dtype="float64"))
    split = {"model": fc.S(0)} if "model" in mesh else {"data": fc.S(1)}
    model.place(placement, {"0.weight": split})
    opt = getattr(fc.optim, optimizer)(model.parameters(), lr=0.05)

    def step(x: fc.Tensor, y: fc.Tensor) -> fc.Tensor:
        loss = fc.nn.mse_loss(model(x), y)
        loss.backward()
        opt.step()
        opt.zero_grad()
        return loss

    run = fc.compile(step) if compiled else step
    x, y = (fc.asarray(data, placement=placement, sbp={"data": fc.S(0)}) for data in (X, Y))
    losses = [run(x, y).item() for _ in range(6)]
    return losses, [p.numpy() for p in model.parameters()]


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_compiled_training_equals_eager_training_on_one_rank(mesh: dict[str, int], optimizer: str) -> None:
    ranks = int(np.prod(list(mesh.values())))
    losses, parameters = train({"data": 1}, False, optimizer)
    assert losses[-1] < losses[0]
    for compiled in (False, True):
        for found, values in fc.launch.run(train, ranks=ranks, args=(mesh, compiled, optimizer)):
            np.testing.assert_allclose(found, losses, rtol=1e-9)
            for value, wanted in zip(values, parameters, strict=True):
                np.testing.assert_allclose(value, wanted, rtol=1e-9, atol=1e-12)


def test_what_the_function_assigns_is_stored_on_every_call() -> None:
    def program() -> None:
        count = fc.zeros((5,), sbp=fc.S(0))

        @fc.compile
        def f(x: fc.Tensor) -> fc.Tensor:
            count.assign(count + x)
            return count * 2

        for calls in (1, 2, 3):
            np.testing.assert_array_equal(f(fc.ones((5,))).numpy(), np.full(5, 2.0 * calls))
            np.testing.assert_array_equal(count.numpy(), np.full(5, calls))
        count.assign(fc.zeros((5,)))
        np.testing.assert_array_equal(f(fc.ones((5,))).numpy(), np.full(5, 2.0))
        assert count.sbp == (fc.S(0),)

    fc.launch.run(program, ranks=2)


def test_gradients_accumulate_across_calls_until_cleared() -> None:
    def program() -> None:
        w = fc.asarray([1.0, 2.0, 3.0], sbp=fc.S(0)).requires_grad_()

        @fc.compile
        def f(x: fc.Tensor) -> None:
            (w * x).sum().backward()

        x = fc.asarray([1.0, 10.0, 100.0])
        for _ in range(2):
            for calls in (1, 2, 3, 4):
                f(x)
                np.testing.assert_array_equal(w.grad.numpy(), [calls, 10 * calls, 100 * calls])
                assert w.grad.sbp == w.sbp
            w.grad = None
        w.grad = fc.ones((3,), sbp=fc.B)
        f(x)
        np.testing.assert_array_equal(w.grad.numpy(), [2, 11, 101])

    fc.launch.run(program, ranks=2)


def test_gradients_made_outside_are_read_and_cleared_inside() -> None:
    w = fc.asarray([1.0, 2.0]).requires_grad_()
    opt = fc.optim.SGD([w], lr=1.0)

    @fc.compile
    def update() -> None:
        opt.step()
        opt.zero_grad()

    for k in (1, 2, 3):
        (w * w).sum().backward()
        update()
        assert w.grad is None
        np.testing.assert_allclose(w.numpy(), [(-1.0) ** k, 2 * (-1.0) ** k])


def test_train_and_eval_are_traced_apart() -> None:
    model = fc.nn.Dropout(0.5)
    f = fc.compile(lambda x: model(x))
    x = fc.ones((64,))
    assert (f(x).numpy() != 1).any()
    model.eval()
    assert (f(x).numpy() == 1).all()
    model.train()
    assert (f(x).numpy() != 1).any()


def test_dropout_draws_anew_on_every_call() -> None:
    model = fc.nn.Dropout(0.5)
    f = fc.compile(lambda x: model(x))
    x = fc.ones((64,))
    assert (f(x).numpy() != f(x).numpy()).any()


def test_python_values_are_part_of_what_is_traced() -> None:
    traced = []

    @fc.compile
    def f(x: fc.Tensor, power: int, *, negative: bool = False) -> fc.Tensor:
        traced.append((power, negative))
        for _ in range(power - 1):
            x = x * x
        return -x if negative else x

    x = fc.asarray([3.0])
    assert [f(x, 1).item(), f(x, 2).item(), f(x, 2, negative=True).item(), f(x, 2).item()] == [3, 9, -9, 9]
    assert traced == [(1, False), (2, False), (2, True)]
    f(fc.asarray([3.0, 4.0]), 1)
    assert len(traced) == 4


def test_trees_go_in_and_come_out() -> None:
    f = fc.compile(lambda batch: {"sum": batch["x"] + batch["more"][0], "same": batch["x"], "name": "n"})
    x, y = fc.asarray([1.0]), fc.asarray([2.0])
    out = f({"x": x, "more": [y]})
    assert (out["sum"].item(), out["same"].item(), out["name"]) == (3.0, 1.0, "n")


def test_a_strict_plan_names_the_line_of_an_implicit_transfer() -> None:
    def program() -> None:
        def total(x: fc.Tensor) -> fc.Tensor:
            return x.sum().to_global(sbp=fc.B)

        def exp_of_sum(x: fc.Tensor) -> fc.Tensor:
            return fc.exp(x.sum())

        x = fc.ones((6,), sbp=fc.S(0))
        assert fc.compile(total, plan="strict")(x).item() == 6
        line = exp_of_sum.__code__.co_firstlineno + 1
        with pytest.raises(fc.PlanError, match=rf"{HERE}:{line}"):
            fc.compile(exp_of_sum, plan="strict")(x)

    fc.launch.run(program, ranks=3)


@pytest.mark.parametrize("plan", ["best", None, np.ones(3)], ids=["a name", "None", "an array"])
def test_an_unknown_plan_is_an_error(plan: Any) -> None:
    with pytest.raises(fc.PlanError, match="unknown plan"):
        fc.compile(lambda x: x, plan=plan)


def generated(x: Any) -> Any:
    yield x


async def awaited(x: Any) -> Any:
    return x


@pytest.mark.parametrize(
    "function",
    ["strict", 3, generated, awaited, partial(generated)],
    ids=["a text", "a number", "a generator", "a coroutine", "a partial of a generator"],
)
def test_what_cannot_be_traced_is_refused_when_it_is_given(function: Any) -> None:
    for compiled in (fc.compile, fc.compile(plan="strict")):
        with pytest.raises(fc.TraceError, match="a function"):
            compiled(function)


def test_a_plan_lists_transfers_with_kind_bytes_bound_and_line(tmp_path: Path) -> None:
    def f(x: fc.Tensor, w: fc.Tensor) -> fc.Tensor:
        return (x @ w).to_global(sbp=fc.B)

    def program() -> fc.Plan:
        x, w = fc.ones((8, 6), sbp=fc.S(1)), fc.ones((6, 4), sbp=fc.S(0))
        step = fc.compile(f)
        plan = step.plan(x, w)
        assert (step(x, w).numpy() == 6).all()
        return plan

    plans = fc.launch.run(program, ranks=4)
    plan = plans[0]
    assert {other.text() for other in plans} == {plan.text()}
    (transfer,) = plan.transfers
    assert transfer.kind == "all_reduce"
    assert transfer.bytes == transfer.bound == 2 * 3 * 8 * 4 * 4
    assert transfer.where == f"{HERE}:{f.__code__.co_firstlineno + 1}"
    assert (transfer.shape, str(transfer.dtype)) == ((8, 4), "float32")
    assert (transfer.source.sbp, transfer.target.sbp) == ((fc.P,), (fc.B,))
    assert plan.bytes_moved == transfer.bytes and plan.messages == transfer.messages
    assert str(transfer) in plan.explain()
    assert plan.peak_bytes >= 8 * 4 * 4
    plan.save(tmp_path / "plan.txt")
    loaded = fc.Plan.load(tmp_path / "plan.txt")
    assert loaded == plan and loaded.diff(plan) == ""


def test_plans_that_differ_say_in_which_lines() -> None:
    x = fc.ones((3,))
    diff = fc.compile(lambda x: fc.exp(x)).plan(x).diff(fc.compile(lambda x: fc.tanh(x)).plan(x))
    assert any(line.startswith("-") and "exp" in line for line in diff.splitlines())
    assert any(line.startswith("+") and "tanh" in line for line in diff.splitlines())


def test_asking_for_a_plan_runs_and_stores_nothing() -> None:
    state = fc.zeros(())

    @fc.compile
    def f(x: fc.Tensor) -> fc.Tensor:
        state.assign(state + x)
        return state

    f.plan(fc.ones(()))
    assert state.item() == 0
    assert f(fc.ones(())).item() == 1


@pytest.mark.parametrize("read", [lambda x: x.item(), lambda x: x.numpy(), lambda x: x.to_local(), bool, float])
def test_a_traced_tensor_has_no_value(read: Any) -> None:
    with pytest.raises(fc.TraceError, match=r"inside fc\.compile"):
        fc.compile(lambda x: (read(x.sum()), x)[1])(fc.ones((2,)))
    assert fc.compile(lambda x: x.sum())(fc.ones((2,))).item() == 2


def test_a_traced_tensor_that_outlives_its_trace_is_an_error() -> None:
    kept: list[fc.Tensor] = []

    @fc.compile
    def f(x: fc.Tensor) -> fc.Tensor:
        kept.append(x * 2)
        return x

    x = f(fc.ones((2,)))
    for use in (lambda: kept[0] + 1, lambda: x + kept[0], lambda: kept[0].numpy(), lambda: fc.exp(kept[0])):
        with pytest.raises(fc.TraceError):
            use()
    with pytest.raises(fc.TraceError, match="another"):
        fc.compile(lambda y: y + kept[0])(x)


def test_a_function_that_fails_leaves_no_trace_behind() -> None:
    with pytest.raises(KeyError):
        fc.compile(lambda x: {}[x.shape])(fc.ones((2,)))
    assert (fc.ones((2,)) + 1).numpy().tolist() == [2, 2]


def test_a_compiled_function_inside_another_is_part_of_it() -> None:
    inner = fc.compile(lambda x: x * 2)
    outer = fc.compile(lambda x: inner(x) + 1)
    assert outer(fc.asarray([3.0])).item() == 7


def test_equal_python_values_of_different_types_are_traced_apart() -> None:
    f = fc.compile(lambda x, value: fc.full((1,), value))
    x = fc.ones((1,))
    assert [str(f(x, value).dtype) for value in (1, 1.0, True)] == ["int64", "float32", "bool"]


def test_a_compiled_function_can_be_differentiated_from_outside() -> None:
    f = fc.compile(lambda x: (x * x).sum())
    assert fc.grad(f)(fc.asarray([3.0])).item() == 6
    x = fc.asarray([3.0]).requires_grad_()
    f(x).backward()
    assert x.grad is not None and x.grad.item() == 6


def test_a_negative_zero_is_not_taken_for_zero() -> None:
    def signs(x: fc.Tensor) -> fc.Tensor:
        return fc.concat([1 / (x * 0.0), 1 / (x * -0.0), fc.full((1,), 0.0), 1 / fc.full((1,), -0.0)])

    for f in (signs, fc.compile(signs)):
        assert f(fc.ones((1,))).numpy().tolist() == [np.inf, -np.inf, 0, -np.inf]


@pytest.mark.parametrize("read", ["item", "numpy", "to_local"])
def test_reading_a_value_from_outside_while_tracing_is_a_trace_error(read: str) -> None:
    weight = fc.asarray([2.0])
    scaled = fc.compile(lambda x: x * float(np.max(getattr(weight, read)())))
    with pytest.raises(fc.TraceError, match=read):
        scaled(fc.ones((1,)))


@pytest.mark.parametrize("transform", [fc.grad, fc.vmap, fc.checkpoint], ids=["grad", "vmap", "checkpoint"])
def test_what_is_made_of_a_compiled_function_is_itself_and_not_that_function(transform: Any) -> None:
    def f(x: Any) -> Any:
        return (x * x).sum()

    x = fc.asarray(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(fc.compile(transform(fc.compile(f)))(x).numpy(), transform(f)(x).numpy())


def test_a_rank_that_only_gives_gives() -> None:
    def program() -> tuple[float, Any]:
        x = fc.asarray(X, placement=fc.Placement([1]), sbp="B")
        f = fc.compile(lambda x: (x.to_global(fc.Placement([0]), "B") ** 2).sum())
        value = f(x).to_global(fc.Placement(2), "B").item()
        return value, fc.grad(f)(x).to_global(fc.Placement(2), "B").numpy()

    for value, gradient in fc.launch.run(program, ranks=2):
        assert value == pytest.approx((X**2).sum())
        np.testing.assert_allclose(gradient, 2 * X)


def test_an_argument_that_is_none_is_not_taken_for_the_tensor_beside_it() -> None:
    @fc.compile
    def f(a: fc.Tensor | None, b: fc.Tensor | None) -> fc.Tensor:
        return fc.asarray(2.0) * b if a is None and b is not None else -a  # type: ignore[operator]  # one is given

    x = fc.asarray([1.0, 3.0])
    np.testing.assert_array_equal(f(None, x).numpy(), [2, 6])
    np.testing.assert_array_equal(f(x, None).numpy(), [-1, -3])
