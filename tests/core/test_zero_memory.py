"""A step of ZeRO 3 holds what theory says, and the plan says what it holds."""

from __future__ import annotations

import pytest

import flowcore as fc
from flowcore.jit.store import is_available
from tests.zero import TABLE, Sizes, measured

ROUNDED = 1024
"""Bytes that ends of pools and a few counters may make."""
pytestmark = pytest.mark.skipif(not is_available(), reason="without compiled loops tiles take memory of their own")


@pytest.mark.parametrize(("sizes", "most"), TABLE.items(), ids=str)
def test_the_peak_of_zero_three_is_near_theory_and_what_ranks_hold(sizes: Sizes, most: float) -> None:
    theory, found = sizes.theory(ranks=2), fc.launch.run(measured, ranks=2, args=(sizes,))
    for each in found:
        assert theory <= each.plan <= most * theory
        assert each.asked == 0
        assert each.held <= each.plan + ROUNDED
    assert abs(max(each.held for each in found) - found[0].plan) <= ROUNDED
