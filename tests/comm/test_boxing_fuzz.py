"""Any shape, any two layouts, any two placements: right values, bytes at the bound, the sending shared out."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowcore.comm.walk import simulate
from flowcore.placement.layout import Layout
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import B, Partial, Split
from tests.comm.laws import check_senders, least_received
from tests.comm.tensors import check_boxing

EXAMPLES = 3000


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
