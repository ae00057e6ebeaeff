"""Meshes keep the order of their ranks, and refuse what is no grid of distinct ranks."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowcore.placement.errors import PlacementError
from flowcore.placement.mesh import Placement, parse_placement


@given(st.permutations(range(6)), st.sampled_from([(6,), (2, 3), (3, 2), (1, 6), (6, 1)]))
def test_the_order_of_ranks_is_kept(ranks: list[int], shape: tuple[int, ...]) -> None:
    grid: Any = ranks if len(shape) == 1 else [ranks[i : i + shape[1]] for i in range(0, 6, shape[1])]
    placement = Placement(grid)
    assert placement.ranks == tuple(ranks)
    assert placement.shape == shape
    assert [placement.index(rank) for rank in ranks] == list(range(6))
    assert dict(placement.coordinates()) == {rank: placement.coordinate(rank) for rank in ranks}
    assert parse_placement(str(placement)) == placement
    assert pickle.loads(pickle.dumps(placement)) == placement


@given(st.sampled_from([(4,), (2, 3), (2, 2, 2)]))
def test_groups_along_an_axis_partition_the_ranks(shape: tuple[int, ...]) -> None:
    count = 1
    for length in shape:
        count *= length
    ranks: Any = list(range(count))
    for length in reversed(shape[1:]):
        ranks = [ranks[i : i + length] for i in range(0, len(ranks), length)]
    placement = Placement(ranks)
    for axis, length in enumerate(shape):
        groups = placement.groups(axis)
        assert all(len(group) == length for group in groups)
        assert sorted(rank for group in groups for rank in group) == list(range(count))


def test_splitting_along_an_axis_gives_one_placement_per_index() -> None:
    rows = Placement([[0, 2], [1, 3]], axes=("data", "model")).split("data")
    assert [row.ranks for row in rows] == [(0, 2), (1, 3)]
    assert rows[0].axes == ("model",)


@pytest.mark.parametrize(
    ("ranks", "rule"),
    [([0, 0], "stands twice"), ([0, -1], "out of range"), ([], "at least one"), (0, "at least one"),
     ([[0, 1], [2]], "same length"), ([0, [1]], "mixes"), ("01", "pass an int"), (True, "not a bool"),
     (1.5, "pass an int")],
    ids=str,
)  # fmt: skip
def test_ranks_that_make_no_grid_are_a_placement_error(ranks: Any, rule: str) -> None:
    with pytest.raises(PlacementError, match=rule):
        Placement(ranks)


@pytest.mark.parametrize("axes", [("a",), ("a", "a"), ("a", "1b"), ("a", "b", "c"), ("a", "")], ids=str)
def test_axis_names_that_do_not_fit_are_a_placement_error(axes: tuple[str, ...]) -> None:
    with pytest.raises(PlacementError):
        Placement([[0, 1], [2, 3]], axes=axes)


def test_an_unknown_axis_or_rank_is_a_placement_error() -> None:
    placement = Placement(2)
    with pytest.raises(PlacementError, match="unknown mesh axis 'y'"):
        placement.axis("y")
    with pytest.raises(PlacementError, match="rank 5 is not in"):
        placement.coordinate(5)


@pytest.mark.parametrize("text", ["", "[]", "[0 1]", "[0 1|x=3]x", "[a|x=1]"])
def test_text_that_is_no_placement_is_a_placement_error(text: str) -> None:
    with pytest.raises(PlacementError):
        parse_placement(text)
