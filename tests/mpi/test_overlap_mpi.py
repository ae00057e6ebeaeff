"""Processes on pretended hosts whose transfers are under way while they compute train as ranks that wait for each."""

from __future__ import annotations

from dataclasses import replace

import pytest

import flowcore as fc
from flowcore.comm.mpi import MpiTransport
from flowcore.comm.shared import join
from flowcore.comm.transport import Transport
from flowcore.local import Staged
from flowcore.placement.machine import Machine
from flowcore.world import World, activate, current
from tests.core.test_overlap import interrupted, model_and_step
from tests.interruption import cut_off
from tests.mpi.test_transport_mpi import run
from tests.sharing import programs

pytestmark = [
    pytest.mark.mpi,
    pytest.mark.skipif("fc.world_size() < 2", reason="two hosts have at least two ranks"),
]


def hosts() -> tuple[int, ...]:
    """Two hosts."""
    return tuple(rank * 2 // fc.world_size() for rank in range(fc.world_size()))


def world(transport: Transport, per_flop: float) -> World:
    """A world on two hosts, on a machine that computes so fast."""
    return World(transport, replace(Machine(), hosts=hosts(), per_flop=per_flop, copy_per_byte=per_flop))


def losses(zero: int, width: int) -> tuple[list[float], int]:
    """Those of some steps, and how many stages a step has."""
    step = fc.compile(model_and_step(zero, width)[1])
    found = [step().item() for _ in range(4)]
    (made,) = programs(step)
    return found, sum(isinstance(node.op, Staged) for node in made.local.nodes)


@pytest.mark.parametrize("way", ["messages", "shared memory"])
@pytest.mark.parametrize("zero", [0, 3])
def test_a_model_trains_alike(zero: int, way: str) -> None:
    transport = MpiTransport(60)
    transport = transport if way == "messages" else join(transport, hosts())  # type: ignore[assignment]  # both are transports
    with activate(world(transport, 0.0)):
        waiting, none = losses(zero, 300)
    with activate(world(transport, 1e-7)):
        beside, stages = losses(zero, 300)
    assert beside == pytest.approx(waiting, rel=1e-12)
    assert stages > none == 0


def test_a_rank_that_fails_while_messages_are_under_way_ends_all() -> None:
    def program(transport: Transport) -> None:
        with activate(world(transport, 1e-7)):
            interrupted(lambda rank: rank == 1)(True)

    error = run(program, "mpi", 60)
    assert isinstance(error, fc.FlowcoreError)
    assert "9" in str(error)


def test_after_an_error_of_all_ranks_the_next_step_is_right() -> None:
    with activate(world(join(MpiTransport(60), hosts()), 1e-7)):
        call = interrupted(lambda rank: True)
        found = [call(False)]
        for _ in range(3):
            with pytest.raises(fc.FlowcoreError, match="9"):
                call(True)
            found.append(call(False))
    assert len(set(found)) == 1
    assert current().size == fc.world_size()


@pytest.mark.parametrize("way", ["messages", "shared memory"])
def test_after_an_interruption_of_all_ranks_what_was_under_way_has_come_and_the_next_step_is_right(way: str) -> None:
    transport = MpiTransport(60)
    alone = tuple(range(fc.world_size()))
    transport = transport if way == "messages" else join(transport, alone)  # type: ignore[assignment]  # both are transports
    with activate(World(transport, replace(Machine(), hosts=alone))):
        for error in (KeyboardInterrupt(), ValueError("9")):
            found = cut_off(error, dict.fromkeys(alone, 1), alone, alone)
            first = 3 * 1200.0 * len(alone)
            assert found == [first, type(error).__name__, 3 * first]
