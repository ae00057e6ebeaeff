"""Every layout becomes every window: each rank gets the rows it reads, and no byte above the bound moves."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from flowcore.comm.boxing import plan_boxing
from flowcore.comm.walk import simulate
from flowcore.placement.cost import received_bytes
from flowcore.placement.errors import PlacementError
from flowcore.placement.layout import Box, Layout, box_size, intersect, local_range, parse_layout, window_range
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import SBP, B, P, Partial, S, Window
from tests.comm.tensors import ONE_AXIS, mesh, random_tensor, scatter

WINDOWS = (
    Window(0, 11, 1, 1, -1, 1),  # a kernel of 3
    Window(0, 4, 3, 1, -2, 4),  # stride 3, a kernel of 7
    Window(0, 22, 1, 2, -2, 2),  # the gradient of stride 2
    Window(0, 2, 5, 1, 0, 0),  # rows that nobody reads
    Window(0, 11, 1, 1, -7, 7),  # several neighbours
    Window(0, 3, 0, 1, 0, 10),  # all rows wherever there is a result, on one rank perhaps none
)
SHAPE = (11, 3)


def reads(window: Window, length: int, parts: int, index: int) -> set[int]:
    """The rows that a part reads, by the definition."""
    first, last = local_range(window.rows, parts, index)
    if first == last:
        return set()
    low, high = first * window.step + window.low, (last - 1) * window.step + window.high
    return {row for row in range(length) if low <= row * window.per <= high}


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_a_window_has_the_rows_of_its_definition(window: Window) -> None:
    for parts, length in product(range(1, 8), (0, 1, 11)):
        for index in range(parts):
            assert set(range(*window_range(window, length, parts, index))) == reads(window, length, parts, index)


def placements() -> list[tuple[Placement, Placement]]:
    """Pairs of meshes of one axis in every relation."""
    return [(mesh(p), there) for p in (2, 3, 4) for there in (mesh(p), mesh(p + 1, first=1), mesh(3, first=8))]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_every_layout_becomes_the_window(window: Window) -> None:
    for (here, there), source in product(placements(), ONE_AXIS):
        check(Layout(here, source), Layout(there, window))


@pytest.mark.parametrize("window", WINDOWS[:3], ids=str)
def test_every_layout_becomes_the_window_on_two_axes(window: Window) -> None:
    four: tuple[SBP, ...] = (B, S(0), S(1), P)
    grid = mesh(2, 3)
    for source, other in product(product(four, four), (B, S(0), S(1), P)):
        check(Layout(grid, source), Layout(grid, (window, other)))
        check(Layout(grid, source), Layout(Placement([[5, 7], [0, 2], [1, 9]]), (other, window)))
        check(Layout(mesh(4), source[0]), Layout(grid, (other, window)))


def check(source: Layout, target: Layout) -> None:
    """Values, and bytes in the plan, in the cost model and by brute force."""
    value = random_tensor(SHAPE, np.float64)
    plan = plan_boxing(SHAPE, "f8", source, target)
    blocks = simulate(plan, scatter(value, source))
    partial = [axis for axis, part in enumerate(target.sbp) if isinstance(part, Partial)]
    boxes, sums = target.boxes(SHAPE), {}
    for rank, at in target.placement.coordinates():
        group = tuple(index for axis, index in enumerate(at) if axis not in partial)
        sums[group] = sums.get(group, 0) + blocks[rank]
    for rank, at in target.placement.coordinates():
        group = tuple(index for axis, index in enumerate(at) if axis not in partial)
        np.testing.assert_array_equal(sums[group], value[tuple(slice(*side) for side in boxes[rank])])
    assert plan.bytes_moved == plan.bound == received_bytes(SHAPE, 8, source, target)
    if not source.is_partial and not target.is_partial:
        held = source.boxes(SHAPE)
        assert plan.bytes_moved == 8 * sum(lacking(box, held.get(rank)) for rank, box in boxes.items())


def lacking(needed: Box, held: Box | None) -> int:
    """Elements of `needed` that are not in `held`."""
    common = None if held is None else intersect(needed, held)
    return box_size(needed) - (0 if common is None else box_size(common))


def test_a_halo_is_the_rows_of_the_neighbours() -> None:
    plan = plan_boxing((16, 5), "f8", Layout(mesh(4), S(0)), Layout(mesh(4), Window(0, 16, 1, 1, -2, 2)))
    assert plan.kind == "halo"
    assert plan.bytes_moved == 6 * 2 * 5 * 8
    assert plan.messages == 6


def test_windows_are_read_back_from_their_text() -> None:
    for window in WINDOWS:
        layout = Layout(mesh(2, 2), (window, S(1)))
        assert parse_layout(str(layout)) == layout


def test_nothing_is_moved_from_a_window() -> None:
    with pytest.raises(PlacementError, match="in which operators read but no tensor lies"):
        plan_boxing(SHAPE, "f8", Layout(mesh(2), WINDOWS[0]), Layout(mesh(2), B))
