"""Ranks of a host that change one table: each its rows, by what all of them gave, read where it was written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.jit.store import is_available
from flowcore.passes.lists import UpdateByLists
from tests.sharing import Array, programs

ROWS, WIDTH, FIELDS, COUNT, STEPS = 3001, 4, 3, 8, 3
DRAW = np.random.default_rng(0)
START = np.where(DRAW.random((ROWS, WIDTH)) < 0.5, -0.0, DRAW.normal(size=(ROWS, WIDTH)))
IDS = np.where(DRAW.random((STEPS, COUNT, FIELDS)) < 0.5, DRAW.integers(-4, 4, (STEPS, COUNT, FIELDS)), 0)
IDS += DRAW.integers(ROWS - 4, size=IDS.shape) * (DRAW.random(IDS.shape) < 0.5)
FACTORS = DRAW.normal(size=(STEPS, COUNT, FIELDS, WIDTH))
KINDS: dict[str, Any] = {
    "sgd": lambda p: fc.optim.SGD(p, lr=0.1),
    "adagrad": lambda p: fc.optim.Adagrad(p, lr=0.1),
    "sparse_adam": lambda p: fc.optim.SparseAdam(p, lr=0.1),
}


def trained(kind: str, is_sum: bool, axes: dict[str, int]) -> tuple[list[Array], list[UpdateByLists], list[Any]]:
    """The table after every step, the operators that change it by lists, and the program's common registers."""
    mesh = fc.Placement.grid(**axes)
    table = fc.nn.Embedding(ROWS, WIDTH, dtype="float64", sparse=True).place(mesh)
    table.weight.assign(fc.asarray(START, placement=mesh))
    opt = KINDS[kind](table.parameters())

    @fc.compile
    def step(ids: fc.Tensor, by: fc.Tensor) -> fc.Tensor:
        rows = table(ids)
        found = fc.sum(fc.sum(rows, axis=1) * by[:, 0]) if is_sum else fc.sum(rows * rows * by)
        found.backward()
        opt.step()
        opt.zero_grad()
        return found

    path = []
    for ids, by in zip(IDS, FACTORS, strict=True):
        step(*(fc.asarray(x, placement=mesh, sbp={"data": fc.S(0)}) for x in (ids, by)))
        path.append(table.weight.numpy())
    (program,) = programs(step)
    common = [] if program.sharing is None else list(program.sharing.common.commons)
    return path, [n.op for n in program.local.nodes if isinstance(n.op, UpdateByLists)], common


@pytest.mark.parametrize("axes", [{"data": 2}, {"data": 3}, {"data": 2, "model": 2}], ids=str)
@pytest.mark.parametrize("is_sum", [False, True], ids=["rows", "sums of rows"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_table_becomes_what_it_becomes_on_one_rank(kind: str, is_sum: bool, axes: dict[str, int]) -> None:
    ((wanted, *_),) = fc.launch.run(trained, ranks=1, args=(kind, is_sum, {"data": 1}))
    ranks = int(np.prod([*axes.values()]))
    found = fc.launch.run(trained, ranks=ranks, args=(kind, is_sum, axes))
    for path, by_lists, common in found:
        np.testing.assert_allclose(path, wanted, rtol=1e-9, atol=1e-12)
        for mine, first in zip(path, found[0][0], strict=True):
            assert mine.tobytes() == first.tobytes()
        assert common, "the host keeps one table"
        if is_available() and "model" not in axes:
            assert [op.lists for op in by_lists] == [ranks]


def test_ranks_of_several_hosts_divide_among_those_of_theirs_alone() -> None:
    ((wanted, *_),) = fc.launch.run(trained, ranks=1, args=("sgd", False, {"data": 1}))
    for path, _, common in fc.launch.run(trained, ranks=2, hosts=2, args=("sgd", False, {"data": 2})):
        np.testing.assert_allclose(path, wanted, rtol=1e-9, atol=1e-12)
        assert not common


@pytest.mark.parametrize("rate", [0.0, -0.5, np.inf, np.nan, 0.5])
def test_any_rate_changes_all_rows_as_subtracting_the_table_does(rate: float) -> None:
    def main() -> Array:
        mesh = fc.Placement.grid(data=-1)
        weight = fc.asarray(START, placement=mesh)

        @fc.compile
        def step(ids: fc.Tensor, by: fc.Tensor, factor: fc.Tensor) -> None:
            loss = lambda t: fc.sum(fc.take(t, ids, axis=0) * by)  # noqa: E731  # as brief as its formula
            weight.assign(weight - fc.grad(loss)(weight) * factor)

        given = (fc.asarray(x[0], placement=mesh, sbp="S0") for x in (IDS, FACTORS))
        with np.errstate(all="ignore"):
            step(*given, fc.asarray(np.array(rate), placement=mesh))
        return weight.numpy()

    whole = np.zeros_like(START)
    np.add.at(whole, IDS[0] % ROWS, FACTORS[0])
    with np.errstate(all="ignore"):
        wanted = START - rate * whole
    for found in fc.launch.run(main, ranks=2):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
        assert (np.signbit(found) == np.signbit(wanted))[(wanted == wanted) & (wanted == 0)].all() or rate == 0.5


@pytest.mark.parametrize("guilty", [0, 1, 2])
def test_an_index_that_one_rank_finds_bad_is_the_same_error_on_all_and_the_next_step_is_as_ever(guilty: int) -> None:
    def main() -> tuple[str, list[str], int | None, bool]:
        mesh = fc.Placement.grid(data=-1)
        table = fc.nn.Embedding(ROWS, WIDTH, dtype="float64", sparse=True).place(mesh)
        opt = fc.optim.SGD(table.parameters(), lr=0.1)

        @fc.compile
        def step(ids: fc.Tensor) -> fc.Tensor:
            loss = fc.sum(table(ids) * table(ids))
            loss.backward()
            opt.step()
            opt.zero_grad()
            return loss

        ids = np.arange(12).reshape(6, 2)
        bad = np.where(np.arange(6)[:, None] == 2 * guilty, ROWS + 5, ids)
        losses = [step(fc.asarray(ids, placement=mesh, sbp="S0")).item()]
        before = table.weight.numpy()
        with pytest.raises(fc.IndexingError) as caught:
            step(fc.asarray(bad, placement=mesh, sbp="S0"))
        is_kept = bool((table.weight.numpy() == before).all())
        losses.append(step(fc.asarray(ids, placement=mesh, sbp="S0")).item())
        assert losses[1] < losses[0]
        return str(caught.value), caught.value.__notes__, caught.value.told_by, is_kept

    for rank, (text, notes, told_by, is_kept) in enumerate(fc.launch.run(main, ranks=3)):
        assert f"index {ROWS + 5}: the axis has {ROWS} rows; give indices in" in text and is_kept
        assert "test_row_lists.py" in notes[0]
        assert told_by == (None if rank == guilty else guilty)
        assert notes[1:] == ([] if rank == guilty else [f"on rank {guilty}, which told the others"])
