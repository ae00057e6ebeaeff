"""MPI processes that do what they should, and those that do not: told on every rank within seconds."""

from __future__ import annotations

import time

import pytest

from flowcore.comm.errors import CommError
from flowcore.comm.mpi import MpiTransport
from flowcore.comm.transport import Transport
from tests.comm.programs import FAULTS, Program, expected, right_program

pytestmark = pytest.mark.mpi


def run(program: Program, timeout: float) -> BaseException | None:
    """What `program` raised on this rank, over a transport of its own."""
    transport = MpiTransport(timeout)
    try:
        program(transport)
    except BaseException as error:
        transport.fail(error)
        return error
    finally:
        transport.close()
    return None


def test_a_right_program_runs() -> None:
    error = run(right_program, 60)
    if error is not None:
        raise error


@pytest.mark.parametrize("program", FAULTS, ids=lambda program: program.__name__)
def test_a_fault_is_told_on_every_rank_in_time(program: Program) -> None:
    is_slow = program.__name__ == "slow_peer"
    start = time.monotonic()
    raised = run(program, timeout=1 if is_slow else 60)
    seconds = time.monotonic() - start
    transport = MpiTransport()
    wanted = expected(program, transport.rank)
    rank, size = transport.rank, transport.size
    transport.barrier(tuple(range(size)))
    if wanted is None:
        assert not isinstance(raised, CommError)
    else:
        assert type(raised) is wanted[0], f"rank {rank}: {raised!r}"
        assert wanted[1] in str(raised)
    assert seconds < 5


def test_a_peer_that_takes_its_time_is_waited_for() -> None:
    def program(transport: Transport) -> None:
        if transport.rank == 0:
            time.sleep(2)
        transport.barrier(tuple(range(transport.size)))

    assert run(program, 60) is None


def test_the_transport_keeps_the_protocol() -> None:
    assert isinstance(MpiTransport(), Transport)
