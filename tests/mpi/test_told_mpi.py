"""Processes on pretended hosts all raise the error of the one that met it: the same type and text, and who it was."""

from __future__ import annotations

from dataclasses import replace

import pytest

import flowcore as fc
from flowcore.comm.mpi import MpiTransport
from flowcore.comm.shared import join
from flowcore.placement.machine import Machine
from flowcore.world import World, activate
from tests.interruption import ending, said, step_between
from tests.refused import check, met

pytestmark = [
    pytest.mark.mpi,
    pytest.mark.skipif("fc.world_size() < 2", reason="nobody is told where nobody else is"),
]


@pytest.mark.parametrize("compiles", [True, False], ids=["compiled", "eager"])
@pytest.mark.parametrize("guilty", [0, -1], ids=["the first", "the last"])
@pytest.mark.parametrize("hosts", [0, 1, 2], ids=["messages", "one host", "two hosts"])
def test_what_one_rank_refuses_is_the_same_error_on_all(hosts: int, guilty: int, compiles: bool) -> None:
    size = fc.world_size()
    who = guilty % size
    placed = tuple(rank * hosts // size for rank in range(size)) if hosts else tuple(range(size))

    transport = MpiTransport(20)
    joined = join(transport, placed) if hosts else transport
    try:
        with activate(World(joined, replace(Machine(), hosts=placed))):  # type: ignore[arg-type]  # both are transports
            check("take", fc.rank(), who, size, met("take", who, compiles, 2))
    except BaseException as error:
        transport.fail(error)
        raise
    finally:
        joined.close()


@pytest.mark.parametrize("cut", [(0, 1), (1, 0), (0, 0)], ids=str)
def test_ranks_that_gave_up_a_meeting_diverge_typed_ever_after(cut: tuple[int, int]) -> None:
    size, rank = fc.world_size(), fc.rank()
    transport = MpiTransport(20)
    try:
        with activate(World(transport, replace(Machine(), hosts=tuple(range(size))))):
            step = step_between(range(size))
            right = said(step, 1.0)
            with ending(fc.IndexingError("9") if rank else ValueError("9"), {0: cut[0], 1: cut[1]}):
                found = [right, *(said(step, 2.0) for _ in range(5))]
    except BaseException as error:
        transport.fail(error)
        raise
    finally:
        transport.close()
    assert right == 600.0 * size and found[-1] == "DivergenceError"
    assert set(found[1:]) <= {"ValueError", "IndexingError", "DivergenceError"}
