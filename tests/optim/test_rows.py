"""Steps that change the rows of a batch only: against formulas, on all layouts, in place, and never a table at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.passes.rows import keep_rows

Array = np.ndarray[Any, Any]
ROWS, WIDTH = 6, 3
START = np.random.default_rng(3).normal(size=(ROWS, WIDTH))
IDS = np.random.default_rng(4).integers(-ROWS, ROWS - 2, size=(8, 2, 4))
GRADS = np.random.default_rng(5).normal(size=(8, 2, 4, WIDTH))


def summed(ids: Array, rows: Array) -> tuple[Array, Array]:
    """The rows that are named, and the sum of the gradients of each."""
    whole = np.zeros_like(START)
    np.add.at(whole, ids % ROWS, rows)
    return np.unique(ids % ROWS), whole


def np_sgd(lr: float) -> Iterator[Array]:
    p = START.copy()
    for ids, rows in zip(IDS, GRADS, strict=True):
        p = p - lr * summed(ids, rows)[1]
        yield p


def np_adagrad(lr: float, decay: float, initial: float, eps: float) -> Iterator[Array]:
    p, s = START.copy(), np.full_like(START, initial)
    for t, (ids, rows) in enumerate(zip(IDS, GRADS, strict=True)):
        g = summed(ids, rows)[1]
        s = s + g * g
        p = p - lr / (1 + t * decay) * g / (np.sqrt(s) + eps)
        yield p


def np_sparse_adam(lr: float, betas: tuple[float, float], eps: float) -> Iterator[Array]:
    p, m, v = START.copy(), np.zeros_like(START), np.zeros_like(START)
    for t, (ids, rows) in enumerate(zip(IDS, GRADS, strict=True), 1):
        named, g = summed(ids, rows)
        m[named] = betas[0] * m[named] + (1 - betas[0]) * g[named]
        v[named] = betas[1] * v[named] + (1 - betas[1]) * g[named] ** 2
        step = lr * np.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)
        p[named] -= step * m[named] / (np.sqrt(v[named]) + eps)
        yield p.copy()


CASES: dict[str, tuple[Callable[..., fc.optim.Optimizer], dict[str, Any], list[Array]]] = {
    "sgd": (fc.optim.SGD, {"lr": 0.1}, list(np_sgd(0.1))),
    "adagrad": (
        fc.optim.Adagrad,
        {"lr": 0.1, "lr_decay": 0.2, "initial_accumulator_value": 0.3},
        list(np_adagrad(0.1, 0.2, 0.3, 1e-10)),
    ),
    "sparse_adam": (
        fc.optim.SparseAdam,
        {"lr": 0.1, "betas": (0.8, 0.9)},
        list(np_sparse_adam(0.1, (0.8, 0.9), 1e-8)),
    ),
}


def run(name: str, compiled: bool, layout: str, parts: int) -> list[Array]:
    """The table after each step, its gradient being the sum of GRADS at IDS, taken in `parts` lookups."""
    make, given, _ = CASES[name]
    table = fc.nn.Embedding(ROWS, WIDTH, dtype="float64", sparse=True)
    table.weight.assign(fc.asarray(START))
    table.place(fc.Placement.grid(x=-1), {"weight": layout})
    opt = make(table.parameters(), **given)

    def step(ids: fc.Tensor, g: fc.Tensor) -> None:
        width = ids.shape[1] // parts
        cuts = [slice(start, start + width) for start in range(0, ids.shape[1], width)]
        total = fc.sum(fc.stack([(table(ids[:, cut]) * g[:, cut]).sum() for cut in cuts]))
        total.backward()
        opt.step()
        opt.zero_grad()

    act, found = fc.compile(step) if compiled else step, []
    for ids, g in zip(IDS, GRADS, strict=True):
        act(fc.asarray(ids, sbp="S0"), fc.asarray(g, sbp="S0"))
        found.append(table.weight.numpy())
    return found


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize(("ranks", "layout", "parts"), [(1, "B", 1), (2, "B", 2), (3, "S0", 1), (2, "S1", 2)])
@pytest.mark.parametrize("name", CASES)
def test_steps_follow_the_formula(name: str, ranks: int, layout: str, parts: int, compiled: bool) -> None:
    for path in fc.launch.run(run, ranks=ranks, args=(name, compiled, layout, parts)):
        np.testing.assert_allclose(path, CASES[name][2], rtol=1e-9, atol=1e-12)


def descent(table: fc.Tensor, ids: fc.Tensor, rate: fc.Tensor) -> fc.Tensor:
    """One step of gradient descent on the squares of rows that are looked up twice."""

    def loss(t: fc.Tensor) -> fc.Tensor:
        return fc.sum(fc.take(t, ids, axis=0) * fc.take(t, ids[:1], axis=0))

    return table - fc.grad(loss)(table) * rate


def test_a_step_written_by_hand_makes_no_gradient_of_the_size_of_the_table() -> None:
    table, ids, rate = fc.asarray(START), fc.asarray(IDS[0]), fc.asarray(np.array(0.1))
    compiled = fc.compile(descent)
    graph = keep_rows(compiled.graph(table, ids, rate))
    large = [n.op.name for n in graph.nodes if any(type.shape == table.shape for type in graph.types(n.outputs))]
    assert large == ["alias", "subtract_rows"]
    np.testing.assert_allclose(compiled(table, ids, rate).numpy(), descent(table, ids, rate).numpy(), rtol=1e-12)


@pytest.mark.parametrize("rate", [0.0, -0.0, -0.5, np.inf, np.nan])
def test_any_rate_gives_what_subtracting_the_table_gives(rate: float) -> None:
    start = np.where(START > 0, START, -0.0)
    arguments = [fc.asarray(x) for x in (start, IDS[0], np.array(rate))]
    with np.errstate(all="ignore"):
        found, wanted = (f(*arguments).numpy() for f in (fc.compile(descent), descent))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert (np.signbit(found) == np.signbit(wanted))[wanted == wanted].all()


def test_the_table_is_written_where_it_lies_and_its_old_value_kept_for_whoever_holds_it() -> None:
    table = fc.nn.Embedding(ROWS, WIDTH, dtype="float64", sparse=True)
    opt = fc.optim.SparseAdam(table.parameters())

    @fc.compile
    def step(ids: fc.Tensor) -> fc.Tensor:
        loss = (table(ids) * table(ids)).sum()
        loss.backward()
        opt.step()
        opt.zero_grad()
        return loss

    step(fc.asarray(IDS[0]))
    held = [table.weight, *opt.state[id(table.weight)].values()]
    blocks = [tensor.block.__array_interface__["data"] for tensor in held]
    step(fc.asarray(IDS[1]))
    assert blocks == [tensor.block.__array_interface__["data"] for tensor in held]
    kept, before = table.weight.detach(), table.weight.numpy()
    step(fc.asarray(IDS[2]))
    np.testing.assert_array_equal(kept.numpy(), before)
    assert (table.weight.numpy() != before).any()


def lookup(**options: Any) -> tuple[fc.nn.Embedding, fc.Tensor]:
    table = fc.nn.Embedding(ROWS, WIDTH, **options)
    return table, table(fc.asarray(IDS[0])).sum()


@pytest.mark.parametrize(
    ("make", "options"),
    [(fc.optim.Adam, {}), (fc.optim.SGD, {"momentum": 0.9}), (fc.optim.Adagrad, {"weight_decay": 0.1})],
)
def test_an_optimizer_that_changes_all_rows_refuses_a_sparse_table(make: Any, options: dict[str, Any]) -> None:
    table, loss = lookup(sparse=True)
    loss.backward()
    with pytest.raises(fc.FlowcoreError, match="changes all rows of a sparse parameter"):
        make(table.parameters(), **options).step()


def test_sparse_adam_refuses_a_gradient_of_which_it_does_not_know_the_rows() -> None:
    table, loss = lookup()
    (loss + (table.weight * 2).sum()).backward()
    with pytest.raises(fc.FlowcoreError, match="not known by its rows"):
        fc.optim.SparseAdam(table.parameters()).step()


def test_an_index_out_of_range_names_it() -> None:
    from flowcore.ops.row_updates import update_rows

    with pytest.raises(fc.IndexingError, match="index 6"):
        update_rows(["a - g"], [fc.asarray(START)], fc.asarray([0, 6]), fc.asarray(START[:2]))


@pytest.mark.parametrize("formula", ["a - h", "__import__('os')", "a.real", "b - g", "a; g"])
def test_a_formula_is_arithmetic_of_what_it_is_given(formula: str) -> None:
    from flowcore.ops.row_updates import update_rows

    with pytest.raises(fc.FlowcoreError, match="it is arithmetic of"):
        update_rows([formula], [fc.asarray(START)], fc.asarray([0, 1]), fc.asarray(START[:2]))
