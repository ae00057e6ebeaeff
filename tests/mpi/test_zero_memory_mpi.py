"""A step of ZeRO 3 on ranks that are processes holds what theory says, and the plan says what it holds."""

from __future__ import annotations

import pytest

import flowcore as fc
from flowcore.comm.shared import SharedTransport
from flowcore.jit.store import is_available
from flowcore.world import World, activate, current
from tests.zero import Sizes, measured

pytestmark = [
    pytest.mark.mpi,
    pytest.mark.skipif(not is_available(), reason="without compiled loops tiles take memory of their own"),
]


def test_the_peak_of_zero_three_is_within_a_tenth_of_theory() -> None:
    if fc.world_size() != 2 or not isinstance(current().transport, SharedTransport):
        pytest.skip("theory is that of two ranks of one host")
    sizes = Sizes(layers=8, width=256, rows=512)
    with activate(World(current().transport)):  # programs of one world share memory, that of other tests too
        theory, found = sizes.theory(ranks=2), measured(sizes)
    assert theory <= found.plan <= 1.1 * theory
    assert found.asked == 0
    assert abs(found.held - found.plan) <= 4096  # shared memory comes in pages
