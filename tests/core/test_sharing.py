"""Ranks that read each other's registers compute what ranks that exchange messages do, and never at the wrong time."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.comm.threads import ThreadTransport
from flowcore.fused import Fused
from flowcore.jit.store import is_available
from flowcore.meeting_op import Wait
from tests.sharing import (
    HOLDERS,
    blocks,
    compared,
    meetings,
    model_and_step,
    programs,
    trained,
    trained_with_holder,
    transitions,
)

GRIDS = {
    "four in a row": (4, [0, 1, 2, 3], 1),
    "in another order": (3, [2, 0, 1], 1),
    "two by two": (4, [[0, 2], [1, 3]], 2),
}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(
    ("shape", "dtype"), [((8, 6), "float32"), ((5, 7), "int32"), ((3, 1), "float64"), ((0, 5), "float32")]
)
def test_every_change_of_layout_is_that_of_messages(grid: str, shape: tuple[int, ...], dtype: str) -> None:
    ranks, mesh, axes = GRIDS[grid]
    fc.launch.run(lambda: compared(lambda: transitions(fc.Placement(mesh), shape, dtype, axes)), ranks=ranks)


@pytest.mark.parametrize("options", [{}, {"shard_states": "data"}], ids=["replicas", "sharded states"])
@pytest.mark.parametrize("ranks", [2, 3])
def test_gradients_are_summed_where_they_lie(ranks: int, options: dict[str, Any]) -> None:
    alone, _ = fc.launch.run(lambda: trained(), ranks=1)[0]
    for losses, (program,) in fc.launch.run(lambda: trained(**options), ranks=ranks):
        np.testing.assert_allclose(losses, alone, rtol=1e-5)
        assert program.sharing is not None
        assert meetings(program) == 1 + len(options)  # for all gradients; for the slices of all parameters
        views = {number for i in program.instructions if isinstance(i.node.op, Wait) for number in i.outputs}
        readers = [i.node.op for i in program.instructions if views & set(i.inputs)]
        if is_available():
            assert any(isinstance(op, Fused) and "sqrt" in op.text() for op in readers)


def test_a_host_keeps_one_copy_of_what_its_ranks_replace_part_by_part() -> None:
    def run() -> list[Any]:
        model, step = model_and_step()
        compiled = fc.compile(step)
        compiled()
        before = [block.ctypes.data for block in blocks(model)]
        for _ in range(3):
            compiled()
        assert [block.ctypes.data for block in blocks(model)] == before
        assert not any(block.flags.writeable for block in blocks(model))
        return blocks(model)

    first, second = fc.launch.run(run, ranks=2)
    assert all(np.shares_memory(one, other) for one, other in zip(first, second, strict=True))


def test_a_host_keeps_a_parameter_whole_of_which_each_rank_holds_a_part() -> None:
    def run() -> list[Any]:
        model, step = model_and_step(is_split=True)
        compiled = fc.compile(step)
        losses = [compiled().item() for _ in range(4)]
        (program,) = programs(compiled)
        assert len(program.sharing.parts) == 4 and not any(view.key < 0 for view in _views(program))
        (own,) = {part.shape[0] for part in blocks(model)[:1]}
        assert own == 20 and not any(block.flags.writeable for block in blocks(model))
        _, plain = model_and_step(is_split=True)
        np.testing.assert_allclose(losses, [plain().item() for _ in range(4)], rtol=1e-5)
        return blocks(model)

    first, second = fc.launch.run(run, ranks=2)
    for one, other in zip(first, second, strict=True):
        assert other.ctypes.data == one.ctypes.data + one.nbytes


def _views(program: Any) -> list[Any]:
    return [view for each in program.instructions if isinstance(each.node.op, Wait) for view in each.node.op.views]


@pytest.mark.parametrize("is_split", [False, True], ids=["replicas", "parts"])
@pytest.mark.parametrize("holder", HOLDERS)
def test_what_one_rank_holds_of_a_parameter_stays_as_it_was(holder: str, is_split: bool) -> None:
    alone = fc.launch.run(trained_with_holder, ranks=2, args=(holder, 9, is_split))
    held = fc.launch.run(trained_with_holder, ranks=2, args=(holder, 1, is_split))
    for found, expected in zip(held, alone, strict=True):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_what_lay_in_shared_memory_before_says_nothing_of_registers(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ThreadTransport.windows

    def used(transport: ThreadTransport, ranks: tuple[int, ...], size: int) -> list[Any]:
        made = plain(transport, ranks, size)
        np.frombuffer(made[ranks.index(transport.rank)], np.uint8)[:] = 255
        transport.gather_objects(ranks, None)
        return made

    def run() -> bool:
        _, step = model_and_step()
        compiled = fc.compile(step)
        for _ in range(4):
            compiled()
        (program,) = programs(compiled)
        common = program.sharing.common
        assert 0 < len(common.commons) < common.count
        return any(flags.any() for turn in common.flags for flags in turn)

    monkeypatch.setattr(ThreadTransport, "windows", used)
    assert fc.launch.run(run, ranks=2) == [False, False]


def test_what_a_step_returns_of_its_parameters_outlives_the_next() -> None:
    def run() -> None:
        mesh = fc.Placement(fc.world_size(), ["data"])
        weight = fc.nn.Parameter(fc.ones((40, 30), placement=mesh, sbp="B"))
        x = fc.full((6, 40), 2.0, placement=mesh, sbp="S0")

        @fc.compile
        def step() -> list[fc.Tensor]:
            before = [fc.expand_dims(weight, axis=0), weight.detach()[3:]]
            grad = fc.grad(lambda w: fc.sum((x @ w) ** 2))(weight).to_global(sbp="S0")
            with fc.no_grad():
                weight.assign((weight.to_global(sbp="S0") - grad * 1e-4).to_global(sbp="B"))
            return [*before, fc.reshape(weight, (-1,)), weight[1:] * 2]

        found = [step() for _ in range(4)]
        (program,) = programs(step)
        assert len(program.sharing.common.commons) == 1
        values = [1.0]
        for results in found:
            values.append(values[-1] - 1e-4 * 2 * 6 * 4 * 40 * values[-1])
            for result, wanted in zip(results, (*[values[-2]] * 2, values[-1], 2 * values[-1]), strict=True):
                np.testing.assert_allclose(result.to_local(), wanted, rtol=1e-5)

    fc.launch.run(run, ranks=2)


def test_programs_and_assignments_take_turns_with_the_same_parameters() -> None:
    def run(is_split: bool) -> list[list[float]]:
        found = []
        for is_compiled in (False, True):
            model, step = model_and_step(is_split=is_split)
            steps = [partial(fc.compile(step) if is_compiled else step, scale) for scale in (1.0, 0.5)]
            losses = []
            for number in range(8):
                losses.append(steps[number // 2 % 2]().item())
                if number == 4:
                    weight = next(iter(model.parameters()))
                    with fc.no_grad():
                        weight.assign(weight * 0.5)
                if number == 6:
                    step()
            found.append(losses)
        return found

    for is_split in (False, True):
        for eager, compiled in fc.launch.run(run, ranks=2, args=(is_split,)):
            np.testing.assert_allclose(compiled, eager, rtol=1e-5)


def test_a_rank_that_fails_between_its_meetings_is_named_by_the_others() -> None:
    def run() -> None:
        mesh = fc.Placement(fc.world_size())
        x = fc.from_local(np.ones((400, 300), "float32"), mesh, "P")
        index = fc.from_local(np.full(3, 2 if fc.rank() else 9), mesh, "S0")
        rows = fc.from_local(np.ones((4, 2), "float32"), mesh, "B")

        @fc.compile
        def step(x: fc.Tensor, rows: fc.Tensor, index: fc.Tensor) -> tuple[fc.Tensor, fc.Tensor]:
            total = fc.exp(x.to_global(sbp="S0"))
            picked = fc.take(rows, index, axis=0)
            return total + 1, fc.sum(picked * 2).to_global(sbp="B")

        step(x, rows, index)

    with pytest.raises(fc.FlowcoreError) as caught:
        fc.launch.run(run, ranks=3, timeout=20)
    assert "9" in str(caught.value)


def test_ranks_go_on_together_after_an_error_that_one_of_them_met() -> None:
    def run() -> list[str]:
        mesh = fc.Placement(fc.world_size())
        index = fc.from_local(np.full(3, 2 if fc.rank() else 9), mesh, "S0")
        rows = fc.from_local(np.ones((4, 2), "float32"), mesh, "B")

        @fc.compile
        def step(rows: fc.Tensor, index: fc.Tensor) -> fc.Tensor:
            return fc.sum(fc.take(rows, index, axis=0) * 2).to_global(sbp="B") + 1

        found = []
        for _ in range(2):
            with pytest.raises(fc.IndexingError, match="index 9") as caught:
                step(rows, index)
            found.append(f"{type(caught.value).__name__} of rank {caught.value.told_by}")
        return found

    told = ["IndexingError of rank 0"] * 2  # rank 1 would have waited for rank 0, which met it by itself
    assert fc.launch.run(run, ranks=2, timeout=20) == [["IndexingError of rank None"] * 2, told]


def test_a_rank_that_is_told_of_an_error_has_written_over_nothing() -> None:
    def run() -> list[float]:
        mesh = fc.Placement(fc.world_size())
        count = fc.asarray(np.zeros(300), placement=mesh)
        rows = fc.asarray(np.ones((4, 3)), placement=mesh)

        @fc.compile
        def step(index: fc.Tensor) -> fc.Tensor:
            total = fc.sum(fc.take(rows, index, axis=0)).to_global(sbp="B")
            count.assign(count + 1)
            return total

        found = []
        for number in range(4):
            try:
                step(fc.from_local(np.full(3, 9 if number == 2 and fc.rank() else 1), mesh, "S0"))
            except fc.IndexingError:
                found.append(-1.0)
            found.append(count.to_local()[0].item())
        return found

    assert fc.launch.run(run, ranks=2, timeout=20) == [[1, 2, -1, 2, 3]] * 2


def test_no_rank_writes_its_part_of_what_the_host_has_in_common_before_it_is_told_of_errors() -> None:
    def run() -> list[float]:
        mesh = fc.Placement(fc.world_size())
        table = fc.asarray(np.zeros((256, 256)), placement=mesh)
        rows = fc.asarray(np.ones((4, 3)), placement=mesh)

        @fc.compile
        def step(index: fc.Tensor) -> fc.Tensor:
            total = fc.sum(fc.take(rows, index, axis=0)).to_global(sbp="B")
            table.assign((table.to_global(sbp="S0") + 1).to_global(sbp="B"))
            return total

        with pytest.raises((fc.IndexingError, fc.DivergenceError)):
            for number in range(4):
                step(fc.from_local(np.full(3, 9 if number == 2 and fc.rank() else 1), mesh, "S0"))
        return np.unique(table.to_local()).tolist()

    assert fc.launch.run(run, ranks=2, timeout=20) == [[2], [2]]


def test_arguments_of_ever_more_rows_do_not_keep_a_window_and_an_arena_each() -> None:
    def run() -> tuple[int, int]:
        mesh = fc.Placement(fc.world_size())
        step = fc.compile(lambda x: fc.sum(fc.exp(x.to_global(sbp="S0")) * 2))
        for rows in range(1000, 2000, 50):
            step(fc.from_local(np.ones((rows, 8)), mesh, "P"))
        made = programs(step)
        windows = {id(made.sharing._windows[fc.rank()]) for made in made if made.sharing}
        pools = {id(next(iter(made.arena.registers.values())).base) for made in made if made.arena.places}
        return len(windows), len(pools)

    for windows, pools in fc.launch.run(run, ranks=2):
        assert 1 <= windows <= 3 and pools <= 3


def test_programs_take_turns_in_the_same_windows() -> None:
    def run() -> list[Any]:
        mesh = fc.Placement(fc.world_size())
        x = fc.from_local(np.full((40, 30), fc.rank() + 1.0), mesh, "P")
        f = fc.compile(lambda x: fc.exp(x.to_global(sbp="S0") * 0.5) + 1)
        g = fc.compile(lambda x: (x.to_global(sbp="S1") - 1, fc.sum(x, axis=0).to_global(sbp="B") * 2))
        first, *second = f(x).numpy(), *(part.numpy() for part in g(x))
        for _ in range(3):
            np.testing.assert_array_equal(f(x).numpy(), first)
            for part, wanted in zip(g(x), second, strict=True):
                np.testing.assert_array_equal(part.numpy(), wanted)
        return [first[0, 0], second[0][0, 0], second[1][0]]

    for found in fc.launch.run(run, ranks=3):
        np.testing.assert_allclose(found, [np.exp(3) + 1, 5, 480])
