"""Small programs that ranks run over any transport, right and wrong ones, and the errors that every rank must get."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from flowcore.comm.errors import CommError, DivergenceError, HangError
from flowcore.comm.transport import Transport

Program = Callable[[Transport], object]


def log_of(*lines: str) -> Callable[[], tuple[str, ...]]:
    """A log of `lines`, numbered."""
    return lambda: tuple(f"{number} {line}" for number, line in enumerate(lines))


def everyone(transport: Transport) -> tuple[int, ...]:
    """All ranks."""
    return tuple(range(transport.size))


def different_operations(transport: Transport) -> None:
    """The last rank does something else."""
    is_last = transport.rank == transport.size - 1
    transport.meet(everyone(transport), int(is_last), log_of("add a.py:1", "mul a.py:3" if is_last else "sub a.py:2"))


def one_ends_early(transport: Transport) -> None:
    """Rank 1 does not come."""
    if transport.rank != 1:
        transport.meet(everyone(transport), 1, log_of("add a.py:1"))


def one_fails(transport: Transport) -> None:
    """Rank 1 raises."""
    if transport.rank == 1:
        raise ValueError("a bad number")
    transport.meet(everyone(transport), 1, log_of("add a.py:1"))


def circle(transport: Transport) -> None:
    """Every rank meets its neighbours, each in another group."""
    pairs = [(0, 1), (1, 0)] if transport.size == 2 else [(r, (r + 1) % transport.size) for r in range(transport.size)]
    transport.meet(pairs[transport.rank], 1, log_of(f"step{transport.rank} a.py:1"))


def meeting_against_barrier(transport: Transport) -> None:
    """Rank 0 meets, the others stand at a barrier."""
    if transport.rank == 0:
        transport.meet(everyone(transport), 1, log_of("add a.py:1"))
    else:
        transport.barrier(everyone(transport))


def receive_from_one_that_ended(transport: Transport) -> None:
    """Rank 0 waits for a message nobody sends."""
    if transport.rank == 0:
        transport.exchange([], [(1, np.zeros(3))])


def slow_peer(transport: Transport) -> None:
    """Rank 1 computes for longer than the timeout of 1 s."""
    if transport.rank == 1:
        time.sleep(2.5)
    else:
        transport.meet((0, 1) if transport.rank == 0 else (transport.rank,), 1, log_of("add a.py:1"))


FAULTS: dict[Program, dict[str, tuple[type[CommError], str]]] = {
    different_operations: {"all": (DivergenceError, "say")},
    one_ends_early: {"others": (DivergenceError, "rank 1 has ended its program")},
    one_fails: {"others": (CommError, "rank 1 failed: ValueError: a bad number")},
    circle: {"all": (DivergenceError, "waits for")},
    meeting_against_barrier: {"all": (DivergenceError, "'barrier'")},
    receive_from_one_that_ended: {"first": (DivergenceError, "in an exchange")},
    slow_peer: {"first": (HangError, "rank 0 has waited 1 s for rank 1")},
}


def expected(program: Program, rank: int) -> tuple[type[CommError], str] | None:
    """The error that `program` must raise on `rank`."""
    ((who, error),) = FAULTS[program].items()
    told = {"all": True, "others": rank != 1, "first": rank == 0}[who]
    return error if told else None


def right_program(transport: Transport) -> None:
    """Meetings of all and of some, objects, barriers, messages in order, and such as end in another order."""
    all_ranks, rank, size = everyone(transport), transport.rank, transport.size
    for number in range(50):
        transport.meet(all_ranks, number - 25, log_of())
    assert transport.gather_objects(all_ranks, {"rank": rank}) == [{"rank": other} for other in all_ranks]
    if rank < 2:
        assert transport.gather_objects((1, 0), rank) == [1, 0]
    transport.barrier(all_ranks)
    left, right = (rank - 1) % size, (rank + 1) % size
    taken = [np.empty(shape) for shape in ((3,), (2, 2), (), (0, 4))]
    given = [np.full(array.shape, rank * 10.0 + number) for number, array in enumerate(taken)]
    transport.exchange([(right, array) for array in given], [(left, array) for array in taken])
    assert [array.size == 0 or float(array.flat[0]) for array in taken] == [
        left * 10.0,
        left * 10.0 + 1,
        left * 10.0 + 2,
        True,
    ]
    transport.exchange([], [])
    late = [np.empty(size) for size in (2, 40_000, 3)]
    begun = [transport.start([(right, np.full(into.shape, rank + 0.5))], [(left, into)]) for into in late]
    transport.exchange([(right, given[0])], [(left, taken[0])])
    for number in (2, 0, 1):
        transport.finish(begun[number])
        assert (late[number] == left + 0.5).all()
    transport.barrier(all_ranks)
