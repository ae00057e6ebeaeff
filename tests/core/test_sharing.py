"""Ranks that read each other's registers compute what ranks that exchange messages do, and never at the wrong time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.fused import Fused
from flowcore.jit.store import is_available
from flowcore.meeting_op import Wait
from flowcore.races import Footprint, races
from tests.sharing import compared, meetings, trained, transitions

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
    stride = 5 if axes == 2 else 1
    fc.launch.run(lambda: compared(lambda: transitions(fc.Placement(mesh), shape, dtype, axes, stride)), ranks=ranks)


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


def footprints(**options: Any) -> dict[int, Footprint]:
    """What the ranks of a training step do to the memory they share."""
    found = fc.launch.run(lambda: trained(1, **options)[1][0].sharing.footprint, ranks=3)
    return dict(enumerate(found))


def test_the_proof_sees_a_meeting_that_is_missing() -> None:
    every = footprints(shard_states="data")
    assert races(every) == []
    alone = {rank: replace(one, meetings=()) for rank, one in every.items()}
    assert any("before that has written it" in text for text in races(alone))
    first = {**every, 0: alone[0]}
    assert any("meet differently" in text for text in races(first))


def test_the_proof_sees_what_is_read_too_early_and_written_too_late() -> None:
    every = footprints()
    (_, wait) = every[0].meetings
    early = replace(every[0], accesses=tuple(
        access if access.key is None else replace(access, position=wait[0] - 2) for access in every[0].accesses
    ))  # fmt: skip
    assert any("before that has written it" in text for text in races({**every, 0: early}))
    late = replace(every[0], accesses=tuple(
        replace(access, position=wait[0] + 1) if access.key is None else access for access in every[0].accesses
    ))  # fmt: skip
    assert any("before that has written it" in text for text in races({**every, 0: late}))


def test_the_proof_sees_memory_that_is_used_again_too_soon() -> None:
    every = footprints()
    first = next(access for access in every[0].accesses if access.key is None)
    again = replace(every[0], accesses=(*every[0].accesses, replace(first, position=10**6)))
    assert any("at once" in text or "before that" in text for text in races({**every, 0: again}))


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


def test_ranks_that_go_on_after_an_error_of_one_are_told_that_they_differ() -> None:
    def run() -> str:
        mesh = fc.Placement(fc.world_size())
        index = fc.from_local(np.full(3, 2 if fc.rank() else 9), mesh, "S0")
        rows = fc.from_local(np.ones((4, 2), "float32"), mesh, "B")

        @fc.compile
        def step(rows: fc.Tensor, index: fc.Tensor) -> fc.Tensor:
            return fc.sum(fc.take(rows, index, axis=0) * 2).to_global(sbp="B") + 1

        for _ in range(2):
            try:
                step(rows, index)
            except fc.CommError as error:
                return type(error).__name__
            except fc.FlowcoreError:
                continue
        return "nothing"

    assert set(fc.launch.run(run, ranks=2, timeout=20)) == {"DivergenceError"}


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
