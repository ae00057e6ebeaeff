"""Planning is fast: it stands between an eager user and every new transition. Limits are in CPU time, with slack."""

from __future__ import annotations

import time

import numpy as np
import pytest

from flowcore.comm.boxing import _make
from flowcore.placement.cost import received_bytes
from flowcore.placement.layout import Layout
from tests.comm.tensors import mesh

PAIRS = [("S0,S1", "S1,S0"), ("S0,S0", "S1,S1"), ("S0,S0", "B,B"), ("P,P", "B,B"), ("P,S0", "S0,B"), ("P,P", "S0,S0")]


@pytest.mark.parametrize(("side", "seconds"), [(2, 0.001), (8, 0.010), (32, 0.100)])
def test_a_plan_is_made_in_time(side: int, seconds: float) -> None:
    for a, b in PAIRS:
        source, target = Layout(mesh(side, side), a), Layout(mesh(side, side), b)
        spent = []
        for _ in range(3 if side == 32 else 10):
            start = time.process_time()
            _make((1024, 1024), np.dtype("f4"), source, target).for_rank(1)
            spent.append(time.process_time() - start)
        print(f"{side}x{side} {a} -> {b}: {min(spent) * 1e3:.2f} ms")
        assert min(spent) < seconds


def test_the_cost_model_takes_microseconds() -> None:
    for a, b in PAIRS:
        source, target = Layout(mesh(2, 2), a), Layout(mesh(2, 2), b)
        batches = []
        for _ in range(5):
            start = time.process_time()
            for _ in range(200):
                received_bytes.__wrapped__((1024, 1024), 4, source, target)
            batches.append((time.process_time() - start) / 200)
        spent = min(batches)
        print(f"{a} -> {b}: {spent * 1e6:.1f} us")
        assert spent < 100e-6
