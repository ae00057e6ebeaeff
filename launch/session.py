"""A function and a number of ranks → what it returned on every rank of a private world, in an ordinary session."""

import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, NoReturn, TypeVar

from flowcore.comm.errors import HangError
from flowcore.comm.threads import AT_ONCE, ThreadWorld
from flowcore.launch.errors import LaunchError
from flowcore.launch.processes import run_processes
from flowcore.placement.machine import Link, Machine
from flowcore.world import World, activate

Result = TypeVar("Result")
LONGEST = threading.TIMEOUT_MAX / 2
LAST_WORDS_SECONDS = 3.0
"""How long a failure waits for ranks that have not noticed it yet, because they compute."""


def run(
    fn: Callable[..., Result],
    ranks: int = 4,
    transport: str = "threads",
    timeout: float | None = None,
    args: Sequence[Any] = (),
    hosts: int = 1,
    link: Link | None = None,
) -> list[Result]:
    """What `fn(*args)` returned on each rank of a private world of `ranks` ranks, in rank order.

    `transport`: "threads" runs the ranks as threads of this process, "mpi" as processes under an MPI launcher; then
    `fn`, `args` and the results travel by pickle. An exception on any rank ends the run on all ranks and is raised
    here, with its rank in a note and in its attribute `rank`. After `timeout` seconds: HangError; without one, a slow
    rank is waited for, and ranks that wait for each other are told so at once.

    `hosts`: pretend as many, groups of neighbours that share no memory. `link`: what messages between these take, where
    ranks are threads (None: nothing); plans reckon with it.
    """
    if ranks < 1:
        raise LaunchError(f"ranks={ranks}: a world has at least 1 rank")
    if not 1 <= hosts <= ranks:
        raise LaunchError(f"hosts={hosts}: {ranks} ranks can pretend to be on 1 to {ranks} hosts")
    if link is not None and (transport != "threads" or hosts == 1):
        raise LaunchError("link= is for ranks that are threads and pretend to live on several hosts: give hosts=")
    match transport:
        case "threads":
            results, failures = run_threads(fn, ranks, timeout, args, hosts, link)
        case "mpi":
            results, failures = run_processes(fn, ranks, timeout, args, hosts)
        case _:
            raise LaunchError(f"transport {transport!r} is unknown: choose 'threads' or 'mpi'")
    if failures:
        raise_first(failures, ranks)
    return results


def run_threads(
    fn: Callable[..., Result], ranks: int, timeout: float | None, args: Sequence[Any], hosts: int, link: Link | None
) -> tuple[list[Result], dict[int, BaseException]]:
    """Run `fn` on threads; returns the results by rank, and what was raised by rank, in order of time."""
    lives = tuple(rank * hosts // ranks for rank in range(ranks))
    shared = ThreadWorld(ranks, LONGEST if timeout is None else min(timeout, LONGEST), lives, link or AT_ONCE)
    machine = Machine(between=link or Machine().between, hosts=lives if hosts > 1 else ())
    transports = [shared.transport(rank) for rank in range(ranks)]
    results: dict[int, Result] = {}
    failures: dict[int, BaseException] = {}
    ended: SimpleQueue[int] = SimpleQueue()

    def live(rank: int) -> None:
        try:
            with activate(World(transports[rank], machine)):
                results[rank] = fn(*args)
        except BaseException as error:
            failures[rank] = error
            transports[rank].fail(error)
        finally:
            transports[rank].close()
            ended.put(rank)

    for rank in range(ranks):
        threading.Thread(target=live, args=(rank,), name=f"rank {rank}", daemon=True).start()
    # a rank that waits for others is told of a failure, or gives up by itself; one that computes can only be left
    running = wait_for_all(ended, ranks, timeout, failures)
    if failures:
        return [], dict(failures)
    if running:
        raise HangError(f"ranks {running} of {ranks} still run after {timeout} s: give more time or mend the wait")
    return [results[rank] for rank in range(ranks)], {}


def wait_for_all(
    ended: SimpleQueue[int], ranks: int, timeout: float | None, failures: dict[int, BaseException]
) -> list[int]:
    """Wait until all ranks have ended, at most `timeout` seconds, and not for long after a failure; those that run."""
    running = set(range(ranks))
    end = time.monotonic() + (LONGEST if timeout is None else min(timeout, LONGEST))
    while running:
        try:
            running.remove(ended.get(timeout=max(0.0, end - time.monotonic())))
        except Empty:
            break
        if failures:
            end = min(end, time.monotonic() + LAST_WORDS_SECONDS)
    return sorted(running)


def raise_first(failures: dict[int, BaseException], ranks: int) -> NoReturn:
    """Raise the first failure in time; where several ranks failed alike, that of the lowest rank."""
    first = next(iter(failures.values()))
    rank = min(r for r, error in failures.items() if type(error) is type(first) and str(error) == str(first))
    error = failures[rank]
    error.add_note(f"raised on rank {rank} of {ranks}")
    error.rank = rank  # type: ignore[attr-defined]  # the caller reads it; exceptions take attributes
    raise error
