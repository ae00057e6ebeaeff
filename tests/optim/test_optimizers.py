"""Optimizers against formulas written out in numpy, over ten steps, eager and compiled, on several ranks."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import flowcore as fc

Array = np.ndarray[Any, Any]
START = np.random.default_rng(3).normal(size=(5, 3))
GRADS = np.random.default_rng(4).normal(size=(10, 5, 3))


def np_sgd(lr: float, momentum: float = 0, dampening: float = 0, decay: float = 0, nesterov: bool = False) -> Any:
    def path() -> Iterator[Array]:
        p, b = START, None
        for g in GRADS:
            d = g + decay * p
            if momentum:
                b = d if b is None else momentum * b + (1 - dampening) * d
                d = d + momentum * b if nesterov else b
            p = p - lr * d
            yield p

    return path


def np_adam(
    lr: float, betas: tuple[float, float], eps: float, decay: float, decoupled: bool, amsgrad: bool = False
) -> Any:
    def path() -> Iterator[Array]:
        p, m, v, top = START, np.zeros_like(START), np.zeros_like(START), np.zeros_like(START)
        for t, g in enumerate(GRADS, 1):
            if decoupled:
                p = p * (1 - lr * decay)
            else:
                g = g + decay * p
            m = betas[0] * m + (1 - betas[0]) * g
            v = betas[1] * v + (1 - betas[1]) * g * g
            top = np.maximum(top, v) if amsgrad else v
            p = p - lr / (1 - betas[0] ** t) * m / (np.sqrt(top) / np.sqrt(1 - betas[1] ** t) + eps)
            yield p

    return path


Case = tuple[Callable[..., fc.optim.Optimizer], dict[str, Any], Callable[[], Iterator[Array]]]
SGD, Adam, AdamW = fc.optim.SGD, fc.optim.Adam, fc.optim.AdamW
CASES: dict[str, Case] = {
    "sgd": (SGD, {"lr": 0.1}, np_sgd(0.1)),
    "sgd_decay": (SGD, {"lr": 0.1, "weight_decay": 0.2}, np_sgd(0.1, decay=0.2)),
    "sgd_momentum": (SGD, {"lr": 0.1, "momentum": 0.9}, np_sgd(0.1, 0.9)),
    "sgd_dampening": (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}, np_sgd(0.1, 0.9, 0.3)),
    "sgd_nesterov": (
        SGD,
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        np_sgd(0.1, 0.9, 0, 0.1, True),
    ),
    "adam": (Adam, {"lr": 0.01}, np_adam(0.01, (0.9, 0.999), 1e-8, 0, False)),
    "adam_decay": (
        Adam,
        {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.1, "eps": 1e-4},
        np_adam(0.01, (0.8, 0.9), 1e-4, 0.1, False),
    ),
    "amsgrad": (Adam, {"lr": 0.01, "amsgrad": True}, np_adam(0.01, (0.9, 0.999), 1e-8, 0, False, True)),
    "adamw": (AdamW, {"lr": 0.01, "weight_decay": 0.1}, np_adam(0.01, (0.9, 0.999), 1e-8, 0.1, True)),
}


def run(name: str, compiled: bool, layout: str, **options: Any) -> list[Array]:
    """The parameter after each step, its gradient being that of (p · g).sum()."""
    make, given, _ = CASES[name]
    p = fc.asarray(START, sbp=layout)
    p.requires_grad = True
    opt = make([p], **given, **options)

    def step(g: fc.Tensor) -> None:
        (p * g).sum().backward()
        opt.step()
        opt.zero_grad()

    act = fc.compile(step) if compiled else step
    found = []
    for g in GRADS:
        act(fc.asarray(g, sbp="S1"))
        assert p.grad is None
        found.append(p.numpy())
    return found


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize(("ranks", "layout"), [(1, "B"), (2, "B"), (3, "S0")])
@pytest.mark.parametrize("name", CASES)
def test_ten_steps_follow_the_formula(name: str, ranks: int, layout: str, compiled: bool) -> None:
    expected = list(CASES[name][2]())
    for path in fc.launch.run(run, ranks=ranks, args=(name, compiled, layout)):
        np.testing.assert_allclose(path, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_split_states_give_the_same_steps(compiled: bool) -> None:
    expected = list(CASES["adamw"][2]())

    def check() -> list[Array]:
        return run("adamw", compiled, "B", shard_states="x")

    for path in fc.launch.run(check, ranks=2):
        np.testing.assert_allclose(path, expected, rtol=1e-9, atol=1e-12)


def test_split_states_lie_split_and_parameters_whole() -> None:
    def check() -> None:
        p = fc.asarray(START).requires_grad_()
        opt = fc.optim.Adam([p], shard_states="x")
        (p * 2).sum().backward()
        opt.step()
        assert p.sbp == (fc.B,)
        assert {state.sbp for state in opt.state[id(p)].values()} == {(fc.S(0),)}
        assert [state.to_local().shape[0] for state in opt.state[id(p)].values()] == [5 // 2 + (fc.rank() == 0)] * 2

    fc.launch.run(check, ranks=2)


def test_a_parameter_without_gradient_stays_and_counts_no_step() -> None:
    p, q = (fc.asarray(START).requires_grad_() for _ in range(2))
    opt = fc.optim.Adam([p, q], lr=0.01)
    for with_q in (False, True):
        ((p * 2).sum() + (q * 3).sum() if with_q else (p * 2).sum()).backward()
        opt.step()
        opt.zero_grad()
    assert opt.param_groups[0].counts.numpy().tolist() == [2, 1]
    np.testing.assert_allclose(q.numpy(), START - 0.01, rtol=1e-6)


def test_the_rate_changes_without_a_new_trace() -> None:
    p = fc.asarray(START).requires_grad_()
    opt = fc.optim.SGD([p], lr=1.0)
    traces = []

    @fc.compile
    def step() -> None:
        traces.append(1)
        p.sum().backward()
        opt.step()
        opt.zero_grad()

    expected = START
    for lr in (1.0, 0.5, 0.25):
        opt.lr = lr
        step()
        expected = expected - lr
        np.testing.assert_allclose(p.numpy(), expected)
    assert len(traces) == 1 and opt.lr == 0.25


def test_a_changed_option_is_traced_anew() -> None:
    p = fc.asarray(START).requires_grad_()
    opt = fc.optim.SGD([p], lr=1.0)

    @fc.compile
    def step() -> None:
        p.sum().backward()
        opt.step()
        opt.zero_grad()

    step()
    opt.param_groups[0].options["weight_decay"] = 0.5
    step()
    np.testing.assert_allclose(p.numpy(), (START - 1) - (1 + 0.5 * (START - 1)))


def test_groups_have_their_own_options() -> None:
    p, q = (fc.asarray(START).requires_grad_() for _ in range(2))
    opt = fc.optim.SGD([{"params": [p]}, {"params": [q], "lr": 0.5, "weight_decay": 1.0}], lr=0.1)
    (p + q).sum().backward()
    opt.step()
    np.testing.assert_allclose(p.numpy(), START - 0.1)
    np.testing.assert_allclose(q.numpy(), START - 0.5 * (1 + START))


@pytest.mark.parametrize("name", ["sgd_momentum", "adamw", "amsgrad"])
def test_a_saved_optimizer_goes_on_as_if_never_stopped(name: str) -> None:
    make, given, _ = CASES[name]

    def steps(opt: fc.optim.Optimizer, p: fc.Tensor, grads: Array) -> None:
        for g in grads:
            (p * g).sum().backward()
            opt.step()
            opt.zero_grad()

    p = fc.asarray(START).requires_grad_()
    opt = make([p], **given)
    steps(opt, p, GRADS[:4])
    q = fc.asarray(p.numpy()).requires_grad_()
    other = make([q], **given)
    other.load_state_dict(opt.state_dict())
    steps(opt, p, GRADS[4:])
    steps(other, q, GRADS[4:])
    np.testing.assert_array_equal(p.numpy(), q.numpy())


def test_a_module_placed_anew_keeps_its_optimizer() -> None:
    def check() -> Array:
        fc.manual_seed(0)
        model = fc.nn.Linear(4, 2)
        opt = fc.optim.Adam(model.parameters(), lr=0.1)
        for sbp in ("B", "S0", "S1"):
            model.place(fc.Placement.grid(), {"weight": sbp})
            model(fc.ones((3, 4))).sum().backward()
            opt.step()
            opt.zero_grad()
        return model.weight.numpy()

    whole = fc.launch.run(check, ranks=1)[0]
    for found in fc.launch.run(check, ranks=2):
        np.testing.assert_allclose(found, whole, rtol=1e-5)


def test_mistakes_are_named() -> None:
    p = fc.asarray(START).requires_grad_()
    with pytest.raises(fc.FlowcoreError, match="no parameters"):
        fc.optim.SGD([])
    with pytest.raises(fc.FlowcoreError, match="twice"):
        fc.optim.SGD([p, p])
    with pytest.raises(fc.FlowcoreError, match="nesterov"):
        fc.optim.SGD([p], nesterov=True)
    with pytest.raises(fc.FlowcoreError, match="betas"):
        fc.optim.Adam([p], betas=(0.9, 1.0))
    with pytest.raises(fc.FlowcoreError, match="unknown options"):
        fc.optim.SGD([{"params": [p], "decay": 1}])
    with pytest.raises(fc.CheckpointError, match="groups"):
        fc.optim.SGD([p]).load_state_dict(fc.optim.SGD([p, fc.asarray(START)]).state_dict())
    opt = fc.optim.SGD([p])
    with pytest.raises(fc.TraceError, match="outside the compiled function"):
        fc.compile(lambda: setattr(opt, "lr", 1.0))()
