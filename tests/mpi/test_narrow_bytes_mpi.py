"""What a step in a narrow precision sends over MPI is, byte for byte, what its plan and theory say."""

from __future__ import annotations

import pytest

import flowcore as fc
from flowcore.comm.counting import CountingTransport
from flowcore.comm.mpi import MpiTransport
from flowcore.world import World, activate
from tests.narrow_bytes import TABLE, step_of, theory

pytestmark = pytest.mark.mpi


def test_bytes_that_are_sent_are_those_of_theory() -> None:
    transport = CountingTransport(MpiTransport(60))
    everyone = tuple(range(fc.world_size()))
    try:
        with activate(World(transport)):
            for row in TABLE[::4]:
                step = step_of(*row)
                step()
                transport.reset()
                step()
                sent = sum(transport.gather_objects(everyone, transport.bytes_sent))
                assert sent == step.plan().bytes_moved == theory(*row, len(everyone)), row
    finally:
        transport.close()
