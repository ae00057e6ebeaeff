"""Beside its source and target blocks a rank needs at most the staging buffer, by prediction and as allocated."""

from __future__ import annotations

import tracemalloc
from itertools import product

import numpy as np
import pytest

from flowcore.comm.boxing import plan_boxing
from flowcore.comm.execute import execute
from flowcore.comm.solo import SoloTransport
from flowcore.comm.steps import STAGING
from flowcore.comm.transport import Buffers
from flowcore.placement.layout import Layout, box_shape
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import B, P, Partial, Split
from tests.comm.tensors import mesh

ALLOWANCE = 256 << 10
"""Bytes for the Python objects of a walk."""
SIGNATURES = list(product((B, P, Split(0), Split(1)), repeat=2))


class Silence(SoloTransport):
    """A transport on which nothing arrives: what a rank allocates does not depend on values."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def exchange(self, sends: Buffers, receives: Buffers) -> None:
        """Nothing."""


@pytest.mark.parametrize("shape", [(3001, 2003), (7, 900_001), (900_001, 7)], ids=str)
@pytest.mark.parametrize("there", [mesh(2, 2), Placement([[3, 1], [2, 0]]), mesh(2, 3, first=2)], ids=str)
def test_no_rank_is_predicted_to_need_more(there: Placement, shape: tuple[int, ...]) -> None:
    worst = 0
    for a, b in product(SIGNATURES, SIGNATURES):
        plan = plan_boxing(shape, "f8", Layout(mesh(2, 2), a), Layout(there, b))
        worst = max(worst, *plan.peak_temporary.values())
    print(f"{len(SIGNATURES) ** 2} transitions of {np.prod(shape) * 8 >> 20} MiB, at most {worst / 2**20:.2f} MiB")
    assert worst <= STAGING


@pytest.mark.parametrize("there", [mesh(2, 2), mesh(2, 2, first=2)], ids=str)
def test_no_rank_allocates_more(there: Placement) -> None:
    shape, worst = (2001, 1003), 0
    for a, b in [*[*product(SIGNATURES, SIGNATURES)][::5], ((P, Partial("max")), (B, B))]:
        plan = plan_boxing(shape, "f8", Layout(mesh(2, 2), a), Layout(there, b))
        predicted = plan.peak_temporary
        for rank in (2, plan.ranks[-1]):
            mine = plan.for_rank(rank)
            block = None if mine.held is None else np.zeros(box_shape(mine.held))
            tracemalloc.start()
            with np.errstate(all="ignore"):
                result = execute(plan, Silence(rank), block)
            used = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            beside = used - (0 if result is None or result is block else result.nbytes)
            worst = max(worst, beside)
            assert beside <= predicted[rank] + ALLOWANCE, plan.text()
    assert worst <= STAGING + ALLOWANCE
