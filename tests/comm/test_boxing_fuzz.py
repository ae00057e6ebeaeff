"""Any shape, any two layouts, any two placements: right values, bytes at the bound, the sending shared out."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowcore.comm.path import find_paths
from flowcore.comm.walk import simulate
from flowcore.placement.layout import Layout
from flowcore.placement.machine import Link, Machine
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import B, Partial, Split
from tests.comm.laws import check_senders, least_received
from tests.comm.tensors import check_boxing, gather, random_tensor, scatter

EXAMPLES = 3000
PATHS = 500


@st.composite
def layouts(draw: st.DrawFn, ndim: int) -> Layout:
    """A layout on 1 to 3 mesh axes over any of 10 ranks."""
    shape = draw(st.sampled_from([(1,), (2,), (3,), (4,), (2, 2), (2, 3), (3, 2), (1, 4), (2, 2, 2)]))
    ranks = draw(st.permutations(range(10)))[: int(np.prod(shape))]
    sbp: Any = st.sampled_from([B, Partial(), Partial("max"), Partial("min"), *map(Split, range(ndim))])
    return Layout(Placement(np.reshape(ranks, shape)), tuple(draw(sbp) for _ in shape))


@st.composite
def transitions(draw: st.DrawFn) -> tuple[tuple[int, ...], Layout, Layout]:
    shape = tuple(draw(st.lists(st.integers(0, 9), max_size=3)))
    source, target = draw(layouts(len(shape))), draw(layouts(len(shape)))
    if draw(st.booleans()) and len(source.sbp) == len(target.sbp):
        target = Layout(source.placement, target.sbp)
    return shape, source, target


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(transitions(), st.sampled_from([np.float64, np.int32]))
def test_any_change_is_right(case: tuple[tuple[int, ...], Layout, Layout], dtype: type) -> None:
    plan = check_boxing(*case, dtype, simulate)
    least_received(plan)
    check_senders(plan)


@settings(max_examples=PATHS, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(transitions(), st.lists(st.integers(0, 2), min_size=10, max_size=10))
def test_any_path_is_right(case: tuple[tuple[int, ...], Layout, Layout], hosts: list[int]) -> None:
    shape, source, target = case
    machine = Machine(between=Link(20e-6, 1e-6), step=1e-6, hosts=tuple(hosts))
    paths = find_paths(shape, "i4", source, target, machine)
    value = random_tensor(shape, "i4")
    blocks = scatter(value, source)
    for leg in paths[0].legs:
        blocks = simulate(leg, blocks)
    assert sorted(blocks) == sorted(target.placement.ranks)
    assert np.array_equal(gather(shape, target, blocks), value), str(paths[0])
    assert paths[0].seconds <= min(path.seconds for path in paths if len(path.legs) == 1)
