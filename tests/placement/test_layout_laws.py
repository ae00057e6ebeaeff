"""The laws of layouts, for any tensor and any mesh: splits partition, copies coincide, terms have full shape."""

from __future__ import annotations

from itertools import pairwise, product
from math import prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowcore.placement.errors import PlacementError
from flowcore.placement.layout import Box, Layout, box_shape, box_size, intersect, local_range, parse_layout, whole
from flowcore.placement.mesh import Placement, parse_placement
from flowcore.placement.sbp import B, Broadcast, Partial, S, Split, nd_sbp, parse_nd_sbp, parse_sbp

shapes = st.lists(st.integers(0, 7), max_size=4).map(tuple)
sizes = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)


def nested(ranks: list[int], shape: tuple[int, ...]) -> Any:
    """`ranks` as nested lists."""
    if len(shape) == 1:
        return ranks
    inner = prod(shape[1:])
    return [nested(ranks[start : start + inner], shape[1:]) for start in range(0, len(ranks), inner)]


@st.composite
def layouts(draw: st.DrawFn, ndim: int) -> Layout:
    """Any layout of a tensor of `ndim` dimensions on ranks in any order."""
    mesh = draw(sizes)
    ranks = draw(st.permutations(range(prod(mesh) + 3)))[: prod(mesh)]
    sbp = st.sampled_from([B, Partial(), Partial("max"), Partial("min"), *map(Split, range(-ndim, ndim))])
    return Layout(Placement(nested(list(ranks), mesh)), tuple(draw(sbp) for _ in mesh))


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[int, ...], Layout]:
    shape = draw(shapes)
    return shape, draw(layouts(len(shape)))


@given(st.integers(0, 100), st.integers(1, 12))
def test_ranges_partition_in_order_and_the_first_take_the_remainder(length: int, parts: int) -> None:
    ranges = [local_range(length, parts, index) for index in range(parts)]
    assert ranges[0][0] == 0
    assert ranges[-1][1] == length
    assert all(a[1] == b[0] for a, b in pairwise(ranges))
    lengths = [stop - start for start, stop in ranges]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] - lengths[-1] <= 1


@given(cases())
def test_boxes_along_each_axis_partition_or_coincide(case: tuple[tuple[int, ...], Layout]) -> None:
    shape, layout = case
    boxes = layout.boxes(shape)
    layout = layout.of(len(shape))
    for axis, part in enumerate(layout.sbp):
        if any(isinstance(later, Split) for later in layout.sbp[axis + 1 :]):
            continue  # inner splits divide what this axis gives: the last one is judged, the others through it
        for line in layout.placement.groups(axis):
            along = [boxes[rank] for rank in line]
            if not isinstance(part, Split):
                assert len(set(along)) == 1
                continue
            assert all(intersect(a, b) is None for i, a in enumerate(along) for b in along[:i])
            others = [box[: part.axis] + box[part.axis + 1 :] for box in along]
            assert len(set(others)) == 1
            assert all(a[part.axis][1] == b[part.axis][0] for a, b in pairwise(along))


@given(cases())
def test_every_element_is_held_once_per_copy_and_term(case: tuple[tuple[int, ...], Layout]) -> None:
    shape, layout = case
    copies = prod(
        size for size, part in zip(layout.placement.shape, layout.sbp, strict=True) if not isinstance(part, Split)
    )
    assert sum(map(box_size, layout.boxes(shape).values())) == copies * prod(shape)
    for element in list(product(*map(range, shape)))[:20]:
        holders = [rank for rank, box in layout.boxes(shape).items() if contains(box, element)]
        assert len(holders) == copies


@given(cases())
def test_without_splits_every_block_has_the_full_shape(case: tuple[tuple[int, ...], Layout]) -> None:
    shape, layout = case
    flat = Layout(layout.placement, tuple(B if isinstance(part, Split) else part for part in layout.sbp))
    assert set(flat.boxes(shape).values()) == {whole(shape)}


@given(cases())
def test_a_nested_split_divides_what_the_outer_one_gave(case: tuple[tuple[int, ...], Layout]) -> None:
    shape, layout = case
    if not shape or layout.placement.ndim < 2:
        return
    nested_layout = Layout(layout.placement, (S(0),) * layout.placement.ndim)
    outer = Layout(layout.placement, (S(0),) + (B,) * (layout.placement.ndim - 1))
    for rank, box in nested_layout.boxes(shape).items():
        assert intersect(box, outer.box(shape, rank)) == box or not box_size(box)


@given(cases())
def test_text_is_read_back(case: tuple[tuple[int, ...], Layout]) -> None:
    _, layout = case
    assert parse_layout(str(layout)) == layout
    assert parse_placement(str(layout.placement)) == layout.placement
    assert parse_nd_sbp(",".join(map(str, layout.sbp))) == layout.sbp


@given(cases())
def test_box_and_boxes_agree(case: tuple[tuple[int, ...], Layout]) -> None:
    shape, layout = case
    for rank, box in layout.boxes(shape).items():
        assert layout.box(shape, rank) == box
        assert all(0 <= length <= full for length, full in zip(box_shape(box), shape, strict=True))


@pytest.mark.parametrize("text", ["", "S", "s0", "S(a)", "P(mean)", "B0", "S0 B", "Q", "S(1"])
def test_unknown_sbp_text_is_a_placement_error(text: str) -> None:
    with pytest.raises(PlacementError, match="unknown sbp"):
        parse_sbp(text)


@pytest.mark.parametrize(
    ("sbp", "rule"),
    [(("S0",), "give one per axis"), ({"rows": "S0"}, "unknown mesh axis 'rows'"), (5, "unknown sbp"),
     ((B, 7), "unknown sbp"), (S(0), "give one per axis")],
)  # fmt: skip
def test_an_sbp_that_does_not_fit_the_mesh_is_a_placement_error(sbp: Any, rule: str) -> None:
    with pytest.raises(PlacementError, match=rule):
        nd_sbp(sbp, ("data", "model"))


@pytest.mark.parametrize("dimension", [2, -3, 100])
def test_a_split_beyond_the_tensor_is_a_placement_error(dimension: int) -> None:
    with pytest.raises(PlacementError, match="does not have"):
        Layout(Placement(2), S(dimension)).of(2)


@pytest.mark.parametrize("index", [-1, 3])
def test_a_part_outside_the_axis_is_a_placement_error(index: int) -> None:
    with pytest.raises(PlacementError, match="outside"):
        local_range(10, 3, index)


@pytest.mark.parametrize("bad", [True, "0", 1.5])
def test_a_split_dimension_is_an_int(bad: Any) -> None:
    with pytest.raises(PlacementError, match="must be an int"):
        Split(bad)


def test_a_single_b_fits_every_mesh() -> None:
    assert nd_sbp("B", ("a", "b", "c")) == (Broadcast(),) * 3


def contains(box: Box, element: tuple[int, ...]) -> bool:
    """Whether `element` lies in `box`."""
    return all(start <= at < stop for (start, stop), at in zip(box, element, strict=True))
