"""Memory that nobody has written to holds nan, so that a result shows where it was read: `pytest --poison`.

Arrays get such memory (NEP 49), and a rank's arena is filled anew before a program runs in it, for nothing in it
outlives a run.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from flowcore.memory import Arena, Pool
from tests.allocations import ONES, filled

_run, _claim = threading.Thread.run, Arena.claim


def _filled_run(thread: threading.Thread) -> None:
    with filled():  # a thread begins with numpy's own handler
        _run(thread)


def _filled_claim(arena: Arena, pool: Pool) -> None:
    _claim(arena, pool)
    for register in arena._registers.values():
        memory: Any = register.base
        memory.fill(ONES)
        break


@contextmanager
def poisoned() -> Iterator[None]:
    """Inside, that is so on this thread, on those that start, and in all arenas."""
    with filled(), patch.object(threading.Thread, "run", _filled_run), patch.object(Arena, "claim", _filled_claim):
        yield
