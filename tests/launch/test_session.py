"""`launch.run`: what every rank returned, and one rank's exception as everybody's end, over both transports."""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import flowcore as fc
from flowcore.launch.errors import LaunchError
from flowcore.launch.session import run
from flowcore.placement.machine import Link
from flowcore.world import current

# an id that is just "mpi" would make pytest-mpi take the test for one of its own
over_both = pytest.mark.parametrize("transport", ["threads", "mpi"], ids=["over threads", "over mpi"])

PATIENCE = 60
"""Seconds for which a rank of these tests computes, or waits for others, where nobody ends it."""


def wait_for_all() -> None:
    """A collective operation of the whole world."""
    current().transport.barrier(tuple(range(fc.world_size())))


class StubbornError(Exception):
    """An exception that cannot be rebuilt from its arguments."""

    def __init__(self, first: str, *, second: str) -> None:
        super().__init__(f"{first} and {second}")


@over_both
@pytest.mark.parametrize("ranks", [1, 3])
def test_the_results_stand_in_rank_order(ranks: int, transport: str) -> None:
    def live(offset: int) -> tuple[int, int]:
        wait_for_all()
        return fc.rank() + offset, fc.world_size()

    assert run(live, ranks, transport, timeout=60, args=(10,)) == [(10 + rank, ranks) for rank in range(ranks)]


def compute_until(released: Path, ended: Path) -> None:
    """Compute until `released` exists, however long that takes, and say so in `ended`."""
    end = time.monotonic() + PATIENCE
    while not released.exists() and time.monotonic() < end:
        time.sleep(0.01)
    ended.touch()


@over_both
def test_an_exception_on_one_rank_is_told_to_those_that_wait_and_raised_with_its_rank(
    transport: str, tmp_path: Path
) -> None:
    def live() -> None:
        if fc.rank() == 2:
            raise ValueError("the third rank is unwell")
        try:
            wait_for_all()
        except fc.CommError as error:
            (tmp_path / f"told {fc.rank()}").write_text(str(error))
            raise

    with pytest.raises(ValueError, match="the third rank is unwell") as caught:
        run(live, 4, transport, timeout=PATIENCE)
    assert caught.value.rank == 2  # type: ignore[attr-defined]
    assert "raised on rank 2 of 4" in caught.value.__notes__
    told = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert sorted(told) == ["told 0", "told 1", "told 3"]
    assert all("rank 2" in text for text in told.values()), told


@over_both
def test_an_exception_does_not_wait_for_a_rank_that_computes(transport: str, tmp_path: Path) -> None:
    released, ended = tmp_path / "released", tmp_path / "ended"

    def live() -> None:
        if fc.rank() == 1:
            raise ValueError("the second rank is unwell")
        compute_until(released, ended)

    with pytest.raises(ValueError, match="the second rank is unwell"):
        run(live, 2, transport)
    assert not ended.exists()
    released.touch()


def test_of_ranks_that_fail_alike_the_lowest_is_named() -> None:
    def live() -> None:
        time.sleep(0.2 / (1 + fc.rank()))
        raise KeyError("the same on every rank")

    with pytest.raises(KeyError) as caught:
        run(live, 3)
    assert caught.value.rank == 0  # type: ignore[attr-defined]


@over_both
def test_ranks_that_do_not_end_are_a_hang_error(transport: str, tmp_path: Path) -> None:
    released, ended = tmp_path / "released", tmp_path / "ended"

    def live() -> None:
        if fc.rank() == 0:
            compute_until(released, ended)

    with pytest.raises(fc.HangError, match=r"still run after 1\.5 s"):
        run(live, 2, transport, timeout=1.5)
    assert not ended.exists()
    released.touch()


def test_threads_that_wait_for_each_other_are_told_though_there_is_no_timeout() -> None:
    def live() -> None:
        current().transport.barrier((0, 1) if fc.rank() == 0 else (0, 1, 2))

    with pytest.raises(fc.DivergenceError, match="all ranks must run the same operations"):
        run(live, 3)


@over_both
def test_a_world_has_at_least_one_rank(transport: str) -> None:
    with pytest.raises(LaunchError, match="at least 1 rank"):
        run(fc.rank, 0, transport)


@over_both
def test_ranks_can_pretend_to_live_on_several_hosts(transport: str) -> None:
    def live() -> tuple[int, ...]:
        return current().transport.hosts  # type: ignore[attr-defined,no-any-return]  # ranks of a host share memory

    assert run(live, 4, transport, timeout=60, hosts=2) == [(0, 0, 1, 1)] * 4


@pytest.mark.parametrize("options", [{"hosts": 3}, {"hosts": 0}, {"link": Link(1, 0)}], ids=str)
def test_hosts_that_cannot_be_are_an_error(options: dict[str, Any]) -> None:
    with pytest.raises(LaunchError, match="hosts="):
        run(fc.rank, 2, **options)


def test_an_unknown_transport_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(LaunchError, match="'pigeons' is unknown: choose 'threads' or 'mpi'"):
        run(fc.rank, 2, "pigeons")


def test_mpi_ranks_are_processes_that_see_this_session_s_modules(capsys: pytest.CaptureFixture[str]) -> None:
    def live() -> int:
        sys.stdout.write("hello\n")
        return os.getpid()

    pids = run(live, 2, "mpi", timeout=60)
    assert len({*pids, os.getpid()}) == 3
    assert capsys.readouterr().out.splitlines() == ["hello", "hello"]


def test_an_exception_that_does_not_travel_is_told_in_words() -> None:
    def live() -> None:
        raise StubbornError("one", second="two")

    with pytest.raises(LaunchError, match="StubbornError: one and two") as caught:
        run(live, 1, "mpi", timeout=60)
    assert "in live" in "".join(caught.value.__notes__)


def test_what_cannot_be_pickled_is_an_error_before_anything_starts() -> None:
    with pytest.raises(LaunchError, match="cannot be pickled"):
        run(print, 1, "mpi", args=(threading.Lock(),))


def test_a_rank_that_dies_without_a_word_is_an_error(tmp_path: Path) -> None:
    def live() -> Any:
        if fc.rank() == 1:
            os._exit(9)
        return None

    with pytest.raises(LaunchError, match=r"ranks \[.*1\] of 2 ended without a result, exit code 9"):
        run(live, 2, "mpi", timeout=60)
