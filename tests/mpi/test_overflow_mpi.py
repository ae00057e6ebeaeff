"""Where gradients overflow on one process, every process skips the step, over every transport."""

from __future__ import annotations

import pytest

import flowcore as fc
from flowcore.world import World, activate
from tests.mpi.transports import TRANSPORTS
from tests.overflow import STRATEGIES, check

pytestmark = pytest.mark.mpi
CASES = [*((strategy, "plain") for strategy in STRATEGIES), ("ZeRO-1", "clipped"), ("ZeRO-3", "accumulated")]


@pytest.mark.parametrize("way", TRANSPORTS)
def test_a_step_that_overflows_on_one_rank_is_none_on_all(way: str) -> None:
    if (way == "two hosts") != (fc.world_size() == 4):
        pytest.skip("two hosts of two ranks are four ranks; of one host there are fewer")
    transport = TRANSPORTS[way](60)
    try:
        for strategy, variant in CASES:
            with activate(World(transport)):
                check(strategy, variant)
    finally:
        transport.close()
