"""Under --poison, what reads memory that nobody has written to gives nan: of arrays, on every thread, and in arenas."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Thread

import numpy as np
import pytest

import flowcore as fc
from flowcore.memory import Arena
from flowcore.world import current
from tests.poison import poisoned


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    with poisoned():
        yield


def test_fresh_memory_holds_nan_on_every_thread() -> None:
    found = []

    def program() -> None:
        found.extend([np.isnan(np.empty(size)).all() for size in (3, 10**5)])
        assert not np.zeros(1000).any()

    program()
    other = Thread(target=program)
    other.start()
    other.join()
    assert found == [True] * 4


def test_an_arena_holds_nan_before_every_run() -> None:
    f = fc.compile(lambda x: fc.sum(fc.exp(x @ x) @ x, axis=0))
    x = fc.asarray(np.eye(64))
    first = f(x).numpy()
    arena: Arena = f.variants(current())[0].program.arena
    assert arena.places and not any(np.isnan(register).all() for register in arena._registers.values())
    arena.claim(current().memory)
    assert all(np.isnan(register).all() for register in arena._registers.values())
    np.testing.assert_array_equal(f(x).numpy(), first)
