"""MPI processes that do what they should, and those that do not: told on every rank."""

from __future__ import annotations

import time

import numpy as np
import pytest

from flowcore.comm.errors import CommError
from flowcore.comm.mpi import MpiTransport
from flowcore.comm.transport import Transport
from tests.comm.programs import FAULTS, Program, expected, one_fails, right_program
from tests.mpi.transports import TRANSPORTS

pytestmark = pytest.mark.mpi


WAYS = ("mpi", "shared")


def run(program: Program, way: str, timeout: float) -> BaseException | None:
    """What `program` raised on this rank, over a transport of its own."""
    transport = TRANSPORTS[way](timeout)
    try:
        program(transport)
    except BaseException as error:
        transport.fail(error)
        return error
    finally:
        transport.close()
    return None


@pytest.mark.parametrize("way", WAYS)
def test_a_right_program_runs(way: str) -> None:
    error = run(right_program, way, 60)
    if error is not None:
        raise error


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("program", FAULTS, ids=lambda program: program.__name__)
def test_a_fault_is_told_on_every_rank_in_time(program: Program, way: str) -> None:
    is_slow = program.__name__ == "slow_peer"
    raised = run(program, way, timeout=1 if is_slow else 60)
    transport = TRANSPORTS["mpi"](60)
    wanted = expected(program, transport.rank)
    rank, size = transport.rank, transport.size
    transport.barrier(tuple(range(size)))
    if wanted is None:
        assert not isinstance(raised, CommError)
    else:
        assert type(raised) is wanted[0], f"rank {rank}: {raised!r}"
        assert wanted[1] in str(raised)


@pytest.mark.parametrize("way", WAYS)
def test_a_peer_that_takes_its_time_is_waited_for(way: str) -> None:
    def program(transport: Transport) -> None:
        transport.barrier(tuple(range(transport.size)))
        if transport.rank == 0:
            time.sleep(2)
        transport.barrier(tuple(range(transport.size)))

    assert run(program, way, 60) is None


@pytest.mark.parametrize("move", ["exchange", "all_gather"])
def test_ranks_that_wait_for_a_slow_one_in_a_transfer_are_no_circle(move: str) -> None:
    def program(transport: Transport) -> None:
        assert isinstance(transport, MpiTransport)
        ranks, rank = tuple(range(transport.size)), transport.rank
        transport.barrier(ranks)
        if rank == 0:
            time.sleep(2)
        block, out = np.full(4, rank), np.empty((transport.size, 4), np.int64)
        if move == "exchange":
            transport.exchange([(peer, block) for peer in ranks], [(peer, out[peer]) for peer in ranks])
        else:
            transport.all_gather_v(ranks, block, out, (32,) * transport.size)
        assert (ranks == out.T).all()

    transport = MpiTransport(60)
    program(transport)
    transport.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_fault_after_the_ranks_have_met_is_told_as_well(way: str) -> None:
    def program(transport: Transport) -> None:
        for _ in range(3):
            transport.barrier(tuple(range(transport.size)))
        one_fails(transport)

    raised = run(program, way, 60)
    assert isinstance(raised, CommError | ValueError)
    assert "a bad number" in str(raised)


@pytest.mark.parametrize("way", TRANSPORTS)
def test_every_transport_keeps_the_protocol(way: str) -> None:
    assert isinstance(TRANSPORTS[way](60), Transport)
