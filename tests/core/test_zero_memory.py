"""A step of ZeRO 3 holds what theory says, and the plan says what it holds."""

from __future__ import annotations

import pytest

import flowcore as fc
from flowcore.jit.store import is_available
from tests.zero import Sizes, measured

ROUNDED = 1024
"""Bytes that ends of pools and a few counters may make."""
pytestmark = pytest.mark.skipif(not is_available(), reason="without compiled loops tiles take memory of their own")


def test_the_peak_of_zero_three_is_within_a_tenth_of_theory() -> None:
    sizes = Sizes(layers=8, width=384, rows=768)
    theory = sizes.theory(ranks=2)
    for found in fc.launch.run(measured, ranks=2, args=(sizes,)):
        assert theory <= found.plan <= 1.1 * theory
        assert found.asked == 0
        assert abs(found.held - found.plan) <= ROUNDED
