"""A training step in steady state takes no memory for arrays, under a real `mpirun` too."""

from __future__ import annotations

from typing import Any

import pytest

import flowcore as fc
from flowcore.jit.store import is_available
from tests.examples.counted import counting
from tests.examples.steady import asked

pytestmark = [
    pytest.mark.mpi,
    pytest.mark.skipif(not is_available(), reason="without compiled loops numpy takes temporaries of a tile"),
]
ACROSS = {"model": 0}
"""Operators are split over all ranks."""
CASES: list[tuple[str, dict[str, Any]]] = [
    ("digits", {}), ("mlp", {"zero": 1}), ("mlp", {"zero": 3}), ("mlp", ACROSS), ("gpt", {}), ("gpt", {"zero": 3}),
    ("gpt", {**ACROSS, "sequence": True}), ("resnet", {}), ("wide_deep", {}),
    ("wide_deep", {"zero": 3}), ("wide_deep", {**ACROSS, "tables": "adagrad"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda part: str(part)[:24])
def test_a_step_in_steady_state_takes_no_memory(name: str, options: dict[str, Any]) -> None:
    if options.get("model") == 0:
        options = {**options, "model": fc.world_size()}
    if name == "gpt" and 4 % options.get("model", 1):
        pytest.skip("the tiny GPT has four heads")
    with counting():
        noted, plan = asked(name, options)
    assert noted.bytes == 0, f"rank {fc.rank()}: {noted}"
    assert plan.peak_bytes > 0
