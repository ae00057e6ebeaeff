"""Indexing, searching and statistics between processes: what the tests on threads check, from two layouts."""

from __future__ import annotations

import pytest

import flowcore as fc
from tests.ops import test_indexing, test_searching, test_statistics

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize("layout", [fc.S(0), fc.P], ids=str)
def test_reading_and_writing_agree_with_numpy(layout: object) -> None:
    test_indexing.walk(layout)


@pytest.mark.parametrize("name", ["sort down", "nonzero", "unique_all", "search"])
def test_searching_agrees_with_numpy(name: str) -> None:
    test_searching.check_all(name)


@pytest.mark.parametrize("name", ["prod", "var", "cumulative_sum from 0", "diff"])
def test_statistics_agree_with_numpy(name: str) -> None:
    test_statistics.check_all(name)
