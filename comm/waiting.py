"""What ranks wait for → who can never go on, and why, as an error.

A rank is running, or it waits for a set of others, or it ended, or it failed. A waiting rank may still go on if every
rank it waits for may; a running rank may. Starting from the running ranks this grows to all that have hope; the rest
wait for ever: for a rank that ended or failed, or in a circle. Nothing else makes a rank hopeless, so a slow peer is
never mistaken for a lost one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field

from flowcore.comm.errors import CommError, DivergenceError, HangError, told
from flowcore.placement.errors import FlowcoreError

TAIL = 48
"""Lines of a rank's log that an error may need."""

REMEDY = "all ranks must run the same operations in the same order"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A rank that waits for `peers`; `what` says in which operation, `tail` the last lines of its log.

    `group`: the ranks of the meeting it waits in, empty where it waits for a message.
    """

    what: str
    peers: frozenset[int]
    tail: tuple[str, ...] = ()
    group: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """A rank whose program ended."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A rank whose program raised; `verdict`: what it said of all ranks, where it raised because ranks diverged.

    `root`: the rank whose failure made it raise, None where it is the first.
    """

    text: str
    verdict: str = ""
    root: int | None = None

    @classmethod
    def by(cls, exception: BaseException) -> Failed:
        """The state of a rank that raised `exception`."""
        if isinstance(exception, CommError) and exception.failed_rank is not None:
            return cls(exception.failed_text, root=exception.failed_rank)
        is_verdict = isinstance(exception, DivergenceError)
        return cls(f"{type(exception).__name__}: {exception}", str(exception) if is_verdict else "")


State = Waiting | Ended | Failed | None
"""None: the rank runs."""


@dataclass(frozen=True, slots=True)
class Stop:
    """An error that `rank` met by itself in something that `ranks` do together; `mark`: in what, the same on all."""

    rank: int
    ranks: tuple[int, ...]
    mark: int
    error: FlowcoreError


@dataclass
class Stops:
    """What stopped a rank, by an error of its own or of one that told it. met: the last of each group; known: marks."""

    met: dict[tuple[int, ...], Stop] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)

    def add(self, rank: int, ranks: tuple[int, ...], mark: int, error: FlowcoreError) -> None:
        """`rank`, which this is, raises `error`, which is kept without its frames."""
        self.known.add(mark)
        self.met[ranks] = Stop(rank if error.told_by is None else error.told_by, ranks, mark, copy(error))

    def tell(self, rank: int, said: Mapping[int, Sequence[Stop]], verdict: FlowcoreError) -> FlowcoreError:
        """What `rank` raises where it and its peers cannot go on as `verdict` says: what stopped a peer, if that did.

        A rank is told of an error once; what it does after that was not right before either.
        """
        for stops in said.values():
            for stop in stops:
                if rank in stop.ranks and stop.mark not in self.known:
                    self.known.add(stop.mark)
                    self.met[stop.ranks] = stop
                    error = told(stop.error, stop.rank)
                    error.__cause__ = verdict
                    return error
        return verdict


def hopeless(states: Mapping[int, State]) -> set[int]:
    """The waiting ranks that can never go on."""
    hopeful = {rank for rank, state in states.items() if state is None}
    waiting = {rank: state for rank, state in states.items() if isinstance(state, Waiting)}
    grew = True
    while grew:
        more = {rank for rank, state in waiting.items() if rank not in hopeful and state.peers <= hopeful}
        grew = bool(more)
        hopeful |= more
    return set(waiting) - hopeful


def explain(rank: int, states: Mapping[int, State]) -> CommError:
    """Why `rank`, one of the hopeless, can never go on."""
    reached = needed(rank, states)
    lines = [_sentence(at, states[at]) for at in sorted(reached)]
    for at in reached:
        state = states[at]
        if isinstance(state, Failed):
            if state.verdict:
                return DivergenceError(state.verdict)
            root = at if state.root is None else state.root
            error = CommError(f"rank {root} failed: {state.text}; rank {rank} {_doing(states[rank])} and cannot go on")
            error.failed_rank, error.failed_text = root, state.text
            return error
    return DivergenceError("; ".join(lines) + f": {REMEDY}")


def verdict(
    rank: int, states: Mapping[int, State], said: Mapping[int, Sequence[Stop]], stops: Stops
) -> FlowcoreError:
    """The error that `rank`, one of the hopeless, raises: that of a rank it depends on which stopped, or why not.

    said: where the ranks were stopped; stops: what of that `rank` knows.
    """
    found = explain(rank, states)
    if not isinstance(found, DivergenceError):
        return found
    return stops.tell(rank, {at: said.get(at, ()) for at in needed(rank, states)}, found)


def needed(rank: int, states: Mapping[int, State]) -> list[int]:
    """The ranks, none of which can go on, that `rank` depends on, itself the first."""
    lost = hopeless(states)
    reached: list[int] = []
    queue = [rank]
    while queue:
        at = queue.pop(0)
        state = states[at]
        if at in reached or not (isinstance(state, Ended | Failed) or at in lost):
            continue
        reached.append(at)
        if isinstance(state, Waiting):
            queue += sorted(state.peers)
    return reached


def hang(rank: int, seconds: float, state: Waiting) -> HangError:
    """The error of a rank that waited too long for peers that still run."""
    return HangError(
        f"rank {rank} has waited {seconds:g} s for {ranks_text(state.peers)} in {state.what}: "
        "they still run; raise the timeout if they need longer"
    )


def _sentence(rank: int, state: State) -> str:
    return f"rank {rank} has ended its program" if isinstance(state, Ended) else f"rank {rank} {_doing(state)}"


def _doing(state: State) -> str:
    if not isinstance(state, Waiting):
        return "runs"
    where = f" at '{state.tail[-1]}'" if state.tail else ""
    return f"waits for {ranks_text(state.peers)} in {state.what}{where}"


def ranks_text(ranks: Sequence[int] | frozenset[int]) -> str:
    """`rank 3`, or `ranks 0, 1, 4`."""
    ordered = sorted(ranks)
    return f"rank{'s' * (len(ordered) > 1)} {', '.join(map(str, ordered))}"


def first_difference(logs: Mapping[int, Sequence[str]]) -> DivergenceError:
    """The error for ranks whose digests differ: the first line on which their logs differ, and who says what.

    A line begins with its position in the program; a log without positions stands for any line. Lines that some log no
    longer holds are not compared.
    """
    numbered = {rank: {_position(line): line for line in log if _position(line) >= 0} for rank, log in logs.items()}
    start = max((min(lines) for lines in numbered.values() if lines), default=0)
    positions = sorted({position for lines in numbered.values() for position in lines if position >= start})
    for position in positions or (0,):
        said: dict[str, list[int]] = {}
        for rank, lines in numbered.items():
            other = "nothing" if lines or not logs[rank] else logs[rank][-1]
            said.setdefault(lines.get(position, other), []).append(rank)
        if len(said) > 1:
            parts = [f"{ranks_text(ranks)} say{'s' * (len(ranks) == 1)} '{line}'" for line, ranks in said.items()]
            return DivergenceError(f"ranks do different things: {', '.join(parts)}: {REMEDY}")
    return DivergenceError(
        f"{ranks_text(tuple(logs))} are about to do different things, before what their logs remember: {REMEDY}"
    )


def _position(line: str) -> int:
    """The number a line of a log begins with, -1 without one."""
    first = line.split(" ", 1)[0]
    return int(first) if first.isdigit() else -1
