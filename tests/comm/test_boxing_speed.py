"""Planning is fast because it is made of whole-array operations: what it does in Python hardly grows with the ranks.

Counted are calls of functions; `benchmarks/planning.py` measures times.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import product
from types import FrameType
from typing import Any

import numpy as np
import pytest

from flowcore.comm import path
from flowcore.comm.boxing import BoxingPlan, _make, plan_boxing
from flowcore.comm.slices import Grid
from flowcore.placement.cost import received_bytes
from flowcore.placement.layout import Layout
from flowcore.placement.machine import Machine
from flowcore.placement.sbp import B, P, Split
from tests import allocations
from tests.comm.tensors import mesh

FOUR = (B, P, Split(0), Split(1))
PAIRS = [("S0,S1", "S1,S0"), ("S0,S0", "S1,S1"), ("S0,S0", "B,B"), ("P,P", "B,B"), ("P,S0", "S0,B"), ("P,P", "S0,S0")]


def calls(run: Callable[[], object]) -> int:
    """How many functions, of Python and C, `run` calls; what `pytest --poison` does to memory is none of them."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call") and frame.f_code.co_filename != allocations.__file__

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_a_plan_takes_few_calls_however_many_ranks_there_are(a: str, b: str) -> None:
    for side in (4, 32):
        source, target = Layout(mesh(side, side), a), Layout(mesh(side, side), b)
        Grid.of.cache_clear()
        found = calls(lambda source=source, target=target: _make((1031, 1027), np.dtype("f4"), source, target))
        print(f"{side}x{side} {a} -> {b}: {found} calls")
        assert found < 1000


@pytest.mark.parametrize("side", [2, 8])
def test_the_cost_model_takes_a_few_calls_for_each_rank(side: int) -> None:
    for a, b in PAIRS:
        source, target = Layout(mesh(side, side), a), Layout(mesh(side, side), b)
        found = calls(lambda source=source, target=target: received_bytes.__wrapped__((1024, 1024), 4, source, target))
        print(f"{side}x{side} {a} -> {b}: {found} calls")
        assert found < 100 + 80 * side * side


def test_a_search_looks_at_few_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    def plan(*arguments: Any) -> BoxingPlan:
        nonlocal looked
        looked += 1
        return plan_boxing(*arguments)

    monkeypatch.setattr(path, "plan_boxing", plan)
    machine, most = Machine(hosts=tuple(rank // 8 for rank in range(64))), 0
    for place, step in ((mesh(64), 1), (mesh(8, 8), 9)):
        sides = list(product(FOUR, repeat=place.ndim))
        for a, b in list(product(sides, sides))[::step]:
            looked = 0
            path._find.__wrapped__((1031, 1027), np.dtype("f4"), Layout(place, a), Layout(place, b), machine, 1.0)
            most = max(most, looked)
    print(f"at most {most} plans")
    assert most < 64
