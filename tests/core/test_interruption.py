"""After a step that was cut off while messages were under way the next is right, or all ranks are told why not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import flowcore as fc
from tests.interruption import cut_off, ending, one_way, said, step_between

ERRORS = {"an error": fc.IndexingError("9"), "an interruption": KeyboardInterrupt(), "an exception": ValueError("9")}
TWO, THREE = (0, 1), (0, 1, 2)
GROUPS = {"the same": (TWO, TWO), "a larger one": (TWO, THREE), "a smaller one": (THREE, TWO), "all": (THREE, THREE)}


def total(term: float, ranks: Sequence[int]) -> float:
    """What a step gives."""
    return 3 * 1200 * term * len(ranks)


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("error", ERRORS)
def test_where_all_ranks_of_a_step_are_cut_off_alike_the_next_is_right(error: str, groups: str) -> None:
    first, then = GROUPS[groups]

    def program() -> list[Any]:
        return cut_off(ERRORS[error], dict.fromkeys(first, 1), first, then)

    for rank, found in enumerate(fc.launch.run(program, ranks=3, hosts=3, timeout=20)):
        before = [total(1.0, first), type(ERRORS[error]).__name__] if rank in first else []
        assert found == before + ([total(3.0, then)] if rank in then else [])


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("bad", [{0: 0}, {1: 0}, {0: 0, 1: 1, 2: 1}], ids=["one rank", "another", "all, not at once"])
def test_where_ranks_are_not_cut_off_alike_none_computes_with_what_they_left(
    bad: dict[int, int], error: str, groups: str
) -> None:
    first, then = GROUPS[groups]

    def program() -> list[Any]:
        return cut_off(ERRORS[error], bad, first, then)

    for rank, found in enumerate(fc.launch.run(program, ranks=3, hosts=3, timeout=20)):
        told = found[2:] if rank in first else found
        assert all(each in ("DivergenceError", "CommError") for each in told), (rank, found)


@pytest.mark.parametrize("groups", GROUPS)
def test_what_was_sent_to_a_rank_that_was_cut_off_is_no_message_of_the_next_step(groups: str) -> None:
    first, then = GROUPS[groups]
    found = fc.launch.run(lambda: one_way(first, then), ranks=3, hosts=3, timeout=20)
    assert found[1][1] == "IndexingError"
    for rank in then:  # the ranks of the first step that went on are told what stopped it
        told = ("IndexingError",) if rank in first and rank != 1 else ("DivergenceError", "CommError")
        assert found[rank][-1] in told, (rank, found)


@pytest.mark.parametrize("error", ["an interruption", "an exception"])
def test_a_rank_that_is_cut_off_raises_that_though_a_peers_error_keeps_what_it_awaits_away(error: str) -> None:
    def program() -> list[Any]:
        step, rank = step_between(TWO), fc.rank()
        found: list[Any] = [said(step, 1.0)]
        with ending(fc.IndexingError("9") if rank else ERRORS[error], {0: 1, 1: 0}):
            found.append(said(step, 2.0))
        return found

    found = fc.launch.run(program, ranks=2, hosts=2, timeout=20)
    assert found == [[1200.0, type(ERRORS[error]).__name__], [1200.0, "IndexingError"]]


def test_a_peer_is_told_of_an_error_whichever_of_the_two_runs_on_first() -> None:
    def program() -> list[Any]:
        step, rank = step_between(TWO), fc.rank()
        found: list[Any] = [said(step, 1.0)]
        with ending(fc.IndexingError("9") if rank else ValueError("9"), {0: 0, 1: 1}):
            found.append(said(step, 2.0))
        return [*found, said(step, 3.0)]

    wanted = [[1200.0, "ValueError", "IndexingError"], [1200.0, "IndexingError", "DivergenceError"]]
    for _ in range(8):
        assert fc.launch.run(program, ranks=2, hosts=2, timeout=20) == wanted
