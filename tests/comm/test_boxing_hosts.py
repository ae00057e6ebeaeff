"""Where ranks live on several hosts, a rank takes what replicas hold from its own host, and nothing else changes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from flowcore.comm.boxing import BoxingPlan, plan_boxing
from flowcore.placement.layout import Box, Layout, box_size, intersect
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import B, P, Split
from tests.comm.laws import run_on_threads
from tests.comm.tensors import gather, mesh, random_tensor, scatter

SIGNATURES = list(product((B, P, Split(0), Split(1)), repeat=2))
HOSTS = {"in blocks": (0, 0, 0, 0, 1, 1, 1, 1), "in turn": (0, 1) * 4, "uneven": (0, 2, 2, 2, 1, 2, 0, 2)}


def across(plan: BoxingPlan, hosts: tuple[int, ...]) -> int:
    """Bytes between hosts."""
    at, total = np.array(hosts), 0
    for step in plan.steps:
        total += int(step.sizes()[at[step.source] != at[step.target]].sum()) * plan.dtype.itemsize
    return total


def least_across(plan: BoxingPlan, hosts: tuple[int, ...]) -> int:
    """Bytes of what ranks need and nobody on their host holds, each rank served by itself."""
    held, total = plan.source.boxes(plan.shape), 0
    cells: set[Box] = set(held.values())
    for rank, box in plan.target.boxes(plan.shape).items():
        near = {other for holder, other in held.items() if hosts[holder] == hosts[rank]}
        total += sum(box_size(common) for cell in cells - near if (common := intersect(box, cell)) is not None)
    return total * plan.dtype.itemsize


@pytest.mark.parametrize("hosts", HOSTS)
@pytest.mark.parametrize("there", [mesh(2, 4), Placement([[7, 0], [3, 5]]), mesh(2, 2)], ids=str)
def test_replicas_serve_their_own_host(there: Placement, hosts: str) -> None:
    shape, where = (13, 17), HOSTS[hosts]
    value, saved = random_tensor(shape, "f4"), 0
    for a, b in product(SIGNATURES, SIGNATURES):
        source, target = Layout(mesh(2, 4), a), Layout(there, b)
        plain, plan = plan_boxing(shape, "f4", source, target), plan_boxing(shape, "f4", source, target, where)
        assert plan.bytes_moved == plain.bytes_moved == plan.bound
        assert plan.received == plain.received
        saved += across(plain, where) - across(plan, where)
        if P not in (*a, *b):
            assert across(plan, where) == least_across(plan, where) <= across(plain, where)
        if a in ((B, Split(0)), (P, B), (Split(1), B)):
            found = gather(shape, target, run_on_threads(plan, scatter(value, source)))
            assert np.array_equal(found, value)
    print(f"{saved} bytes less between hosts")
    assert saved >= 0


def test_the_replicas_of_a_host_share_the_sending() -> None:
    # ranks 0-3 hold all on host 0; on host 1 rank 4 holds all, 5-7 nothing
    source, target = Layout(Placement([0, 1, 2, 3, 4]), B), Layout(Placement([5, 6, 7, 8]), Split(0))
    plan = plan_boxing((120,), "f4", source, target, (0, 0, 0, 0, 1, 1, 1, 1, 2))
    assert plan.sent[4] == 90 * 4
    assert sum(plan.sent[rank] for rank in range(4)) in (0, 30 * 4)
