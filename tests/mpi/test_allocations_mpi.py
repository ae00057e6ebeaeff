"""A training step in steady state takes no memory for arrays, under a real `mpirun` too."""

from __future__ import annotations

from typing import Any

import pytest

import flowcore as fc
from flowcore.jit.store import is_available
from tests.examples.steady import asked, counting

pytestmark = [
    pytest.mark.mpi,
    pytest.mark.skipif(not is_available(), reason="without compiled loops numpy takes temporaries of a tile"),
]
CASES: list[tuple[str, dict[str, Any]]] = [
    ("digits", {}), ("mlp", {"zero": 1}), ("gpt", {}), ("gpt", {"zero": 3}), ("resnet", {}), ("wide_deep", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda part: str(part)[:24])
def test_a_step_in_steady_state_takes_no_memory(name: str, options: dict[str, Any]) -> None:
    with counting():
        noted, plan = asked(name, options)
    assert noted.bytes == 0, f"rank {fc.rank()}: {noted}"
    assert plan.peak_bytes > 0
