"""Ranks as threads: what they exchange arrives, and what cannot go well is told at once, on every rank."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from flowcore.comm.errors import CommError
from flowcore.comm.solo import SoloTransport
from flowcore.comm.threads import ThreadWorld
from flowcore.comm.transport import Transport
from flowcore.placement.machine import Link
from tests.comm.programs import FAULTS, Program, expected, right_program


def run(program: Program, size: int, timeout: float = 60) -> list[BaseException | None]:
    """What `program` raised on every rank."""
    world = ThreadWorld(size, timeout)
    raised: list[BaseException | None] = [None] * size

    def live(rank: int) -> None:
        transport = world.transport(rank)
        try:
            program(transport)
        except BaseException as error:
            raised[rank] = error
            transport.fail(error)
        finally:
            transport.close()

    threads = [threading.Thread(target=live, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
        assert not thread.is_alive()
    return raised


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_right_program_runs(size: int) -> None:
    assert run(right_program, size) == [None] * size


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("program", FAULTS, ids=lambda program: program.__name__)
def test_a_fault_is_told_on_every_rank_in_time(program: Program, size: int) -> None:
    is_slow = program.__name__ == "slow_peer"
    raised = run(program, size, timeout=1 if is_slow else 60)
    for rank in range(size):
        wanted, error = expected(program, rank), raised[rank]
        if wanted is None:
            assert not isinstance(error, CommError)
        else:
            assert type(error) is wanted[0]
            assert wanted[1] in str(error).replace("a receive", "an exchange")


def test_a_received_array_is_a_copy() -> None:
    world = ThreadWorld(2)
    sent, taken = np.ones(3), np.zeros(3)
    world.transport(0).exchange([(1, sent)], [])
    sent[:] = 5
    world.transport(1).exchange([], [(0, taken)])
    assert taken.tolist() == [1, 1, 1]


def test_a_message_of_another_size_is_an_error() -> None:
    world = ThreadWorld(2)
    world.transport(0).exchange([(1, np.ones(3))], [])
    with pytest.raises(CommError, match="expected 32 bytes from rank 0, which sent 24"):
        world.transport(1).exchange([], [(0, np.ones(4))])


class Clock:
    """A time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_messages_between_hosts_take_their_time_beside_what_ranks_do(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("flowcore.comm.threads.time", clock)
    world = ThreadWorld(3, hosts=(0, 0, 1), link=Link(0.05, 1e-5))
    near, first, second = np.empty(1000), np.empty(1000), np.empty(1000)
    for peer in (1, 2, 2):
        world.transport(0).start([(peer, np.ones(1000))], [])
    world.transport(1).exchange([], [(0, near)])
    assert clock.now == 0
    begun = [world.transport(2).start([], [(0, into)]) for into in (first, second)]
    clock.sleep(0.1)
    for each, seconds in zip(begun, (0.13, 0.21), strict=True):
        world.transport(2).finish(each)
        assert clock.now == pytest.approx(seconds)
    assert near.all() and first.all() and second.all()


def test_every_transport_keeps_the_protocol() -> None:
    assert isinstance(ThreadWorld(1).transport(0), Transport)
    assert isinstance(SoloTransport(), Transport)


def test_one_rank_alone_meets_only_itself() -> None:
    solo = SoloTransport()
    solo.meet((0,), 5, list)
    assert solo.gather_objects((0,), "x") == ["x"]
    with pytest.raises(CommError, match="a world of one rank"):
        solo.barrier((0, 1))
