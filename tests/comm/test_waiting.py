"""Who can still go on, and what the others are told."""

from __future__ import annotations

import pytest

from flowcore.comm.errors import CommError, DivergenceError
from flowcore.comm.waiting import Ended, Failed, State, Waiting, explain, first_difference, hopeless


def waits(*peers: int) -> Waiting:
    return Waiting("a meeting", frozenset(peers), ("7 add train.py:3",))


@pytest.mark.parametrize(
    ("states", "lost"),
    [
        ({0: waits(1), 1: None}, set()),
        ({0: waits(1), 1: waits(2), 2: None}, set()),
        ({0: waits(1), 1: waits(0)}, {0, 1}),
        ({0: waits(1), 1: waits(2), 2: waits(0), 3: waits(0), 4: None}, {0, 1, 2, 3}),
        ({0: waits(1), 1: Ended()}, {0}),
        ({0: waits(1, 2), 1: None, 2: Failed("ValueError: no")}, {0}),
        ({0: None, 1: Ended()}, set()),
        ({0: waits(0)}, {0}),
    ],
)
def test_ranks_without_hope_are_those_that_no_running_rank_can_free(states: dict[int, State], lost: set[int]) -> None:
    assert hopeless(states) == lost


def test_a_circle_is_told_as_divergence_with_every_rank_of_it() -> None:
    error = explain(0, {0: waits(1), 1: waits(0), 2: None})
    assert type(error) is DivergenceError
    assert "rank 0 waits for rank 1 in a meeting at '7 add train.py:3'; rank 1 waits for rank 0" in str(error)


def test_a_failed_rank_is_named_with_its_exception() -> None:
    error = explain(0, {0: waits(1), 1: waits(2), 2: Failed("ValueError: no")})
    assert type(error) is CommError
    assert error.failed_rank == 2
    assert "rank 2 failed: ValueError: no" in str(error)


def test_the_first_failure_is_named_through_the_failures_it_causes() -> None:
    second = Failed.by(explain(1, {0: waits(1), 1: waits(2), 2: Failed("ValueError: no")}))
    error = explain(0, {0: waits(1), 1: second, 2: None})
    assert error.failed_rank == 2
    assert str(error).startswith("rank 2 failed: ValueError: no; rank 0 waits for rank 1")


def test_a_verdict_on_all_ranks_is_the_same_on_all() -> None:
    verdict = Failed.by(DivergenceError("ranks do different things"))
    assert str(explain(0, {0: waits(1), 1: verdict})) == "ranks do different things"


@pytest.mark.parametrize(
    ("logs", "text"),
    [
        ({0: ["3 add a.py:1", "4 mul a.py:2"], 1: ["3 add a.py:1", "4 sub a.py:9"]},
         "rank 0 says '4 mul a.py:2', rank 1 says '4 sub a.py:9'"),
        ({0: ["2 x", "3 y"], 2: ["3 y", "4 z"], 1: ["3 y"]}, "ranks 0, 1 say 'nothing', rank 2 says '4 z'"),
        ({0: ["5 add a.py:1"], 1: ["barrier"]}, "rank 0 says '5 add a.py:1', rank 1 says 'barrier'"),
        ({0: [], 1: []}, "before what their logs remember"),
    ],
)  # fmt: skip
def test_the_first_difference_of_logs_is_named(logs: dict[int, list[str]], text: str) -> None:
    assert text in str(first_difference(logs))
