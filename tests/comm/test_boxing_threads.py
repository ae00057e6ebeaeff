"""Plans run by ranks that really run at once: right values, and exactly the traffic that was predicted."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from flowcore.comm.boxing import plan_boxing
from flowcore.comm.execute import execute
from flowcore.comm.threads import ThreadWorld
from flowcore.placement.errors import PlacementError
from flowcore.placement.layout import Layout
from flowcore.placement.mesh import Placement
from tests.comm.laws import run_on_threads
from tests.comm.tensors import ONE_AXIS, check_boxing, mesh


@pytest.mark.parametrize("there", [mesh(3), Placement([2, 0, 1]), mesh(2, first=1), mesh(2, first=3)], ids=str)
def test_one_axis_on_threads(there: Placement) -> None:
    for a, b in product(ONE_AXIS, ONE_AXIS):
        check_boxing((5, 7), Layout(mesh(3), a), Layout(there, b), run=run_on_threads)


def test_two_axes_on_threads() -> None:
    signatures = list(product(ONE_AXIS, repeat=2))[::3]
    for a, b in product(signatures, signatures):
        check_boxing((5, 4), Layout(mesh(2, 2), a), Layout(mesh(2, 2), b), run=run_on_threads)


def test_rounds_on_threads() -> None:
    check_boxing((1500, 1700), Layout(mesh(3), "P"), Layout(mesh(3), "B"), run=run_on_threads)


def test_what_changes_nothing_returns_the_very_block() -> None:
    plan = plan_boxing((4,), "f8", Layout(mesh(1), "S0"), Layout(mesh(1), "B"))
    block = np.arange(4.0)
    assert execute(plan, ThreadWorld(1).transport(0), block) is block


def test_a_result_shares_no_memory_with_the_block() -> None:
    plan = plan_boxing((4, 4), "f8", Layout(mesh(1), "B"), Layout(mesh(1), "P"))
    block = np.ones((4, 4))
    result = execute(plan, ThreadWorld(1).transport(0), block)
    assert result is not None
    assert not np.shares_memory(result, block)
    assert result.flags.c_contiguous


def test_a_block_that_is_not_of_the_layout_is_refused() -> None:
    plan = plan_boxing((4, 4), "f8", Layout(mesh(2), "S0"), Layout(mesh(2), "B"))
    with pytest.raises(PlacementError, match=r"holds float64\[2, 4\]"):
        execute(plan, ThreadWorld(2).transport(0), np.ones((4, 4)))
