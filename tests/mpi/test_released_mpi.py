"""Functions that are compiled in a loop and let go of use the shared memory of the first again."""

from __future__ import annotations

import pytest

import flowcore as fc
from flowcore.comm.shared import SharedTransport
from flowcore.world import World, activate, current
from tests.released import NOTHING, SHAPE, compiled_in_a_loop

pytestmark = pytest.mark.mpi


def test_fifty_functions_that_were_let_go_of_leave_nothing() -> None:
    transport = current().transport
    if fc.world_size() == 1 or not isinstance(transport, SharedTransport) or transport._carrier is None:
        pytest.skip("no ranks that share memory")
    arena = transport._carrier.arena
    with activate(World(transport)):  # programs of one world share memory, that of other tests too
        found, made, are_gone = compiled_in_a_loop(50, lambda: arena.bytes_made)
    assert found == [NOTHING] * 50 and are_gone
    # a rank may ask for memory just before a peer has let go of it: a few slots more, not some for each function
    assert made[-1] - made[0] < 10 * 4 * SHAPE[0] * SHAPE[1]
