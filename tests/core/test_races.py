"""The proof that no rank of a host reads what another may be writing sees every fault that is planted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.lives import unsafe
from flowcore.passes.show import Shown
from flowcore.races import Footprint, races
from tests.sharing import (
    model_and_step,
    programs,
    trained,
)


def footprints(**options: Any) -> dict[int, Footprint]:
    """What the ranks of a training step do to the memory they share."""
    found = fc.launch.run(lambda: trained(1, **options)[1][0].sharing.shown.footprint, ranks=3)
    assert races(dict(enumerate(found))) == []
    return dict(enumerate(found))


def moved(footprint: Footprint, position: int, **wanted: Any) -> Footprint:
    """The footprint with the accesses that have these attributes at another place of the program."""
    return replace(footprint, accesses=tuple(
        replace(access, position=position) if all(getattr(access, k) == v for k, v in wanted.items()) else access
        for access in footprint.accesses
    ))  # fmt: skip


def test_the_proof_sees_a_meeting_that_is_missing() -> None:
    every = footprints(shard_states="data")
    for first in (0, 2):
        less = {
            rank: replace(one, meetings=(*one.meetings[:first], *one.meetings[first + 2 :]))
            for rank, one in every.items()
        }
        found = races(less)
        assert any("before that is written" in text for text in found)
        assert any("when that may be overwritten" in text for text in found) == (first == 0)
    alone = replace(every[0], meetings=())
    assert any("meet differently" in text for text in races({**every, 0: alone}))


@pytest.mark.parametrize(
    ("kind", "shift", "text"),
    [("read", -2, "before that is written"), ("write", 10**6, "before that is written"), ("early", 10**6, "be over")],
)
def test_the_proof_sees_what_is_done_too_early_or_too_late(kind: str, shift: int, text: str) -> None:
    every = footprints(shard_states="data")
    wait = every[0].waits[(0, 1, 2)][0]
    assert any(text in found for found in races({**every, 0: moved(every[0], wait + shift, kind=kind)}))


def test_the_proof_sees_memory_that_is_written_twice() -> None:
    every = footprints(shard_states="data")
    first = next(access for access in every[0].accesses if access.kind == "write" and access.memory[1])
    again = replace(every[1], accesses=(*every[1].accesses, replace(first, position=every[1].meetings[-2][0] - 1)))
    assert any("at once" in text for text in races({**every, 1: again}))


def chained() -> Shown:
    """What a rank shows in a chain of sums over ranks."""
    mesh = fc.Placement(fc.world_size())
    draw = np.random.default_rng(0)
    weights = [fc.asarray(draw.normal(size=(36, 36)) / 6, placement=mesh).to_global(sbp="S0") for _ in range(5)]
    x = fc.asarray(draw.normal(size=(24, 36)), placement=mesh).to_global(sbp="S1")

    @fc.compile
    def step(x: fc.Tensor) -> fc.Tensor:
        for weight in weights:
            x = fc.tanh((x @ weight).to_global(sbp="S1"))
        return x

    wanted = x.numpy()
    for weight in weights:
        wanted = np.tanh(wanted @ weight.numpy())
    np.testing.assert_allclose(step(x).numpy(), wanted)
    (program,) = programs(step)
    assert program.sharing is not None
    return program.sharing.shown


def test_a_window_is_used_again_once_peers_have_read_it_and_the_proof_sees_each_meeting_that_says_so() -> None:
    found = fc.launch.run(chained, ranks=3)
    for shown in found:
        assert shown.apart is not None and len(shown.footprint.posts[0, 1, 2]) == 5
        assert (shown.apart.size, shown.size) == (5 * (24 * 36 * 8), 2 * (24 * 36 * 8))
    every = {rank: shown.footprint for rank, shown in enumerate(found)}
    assert races(every) == []
    for first in range(0, 10, 2):
        less = {
            rank: replace(one, meetings=(*one.meetings[:first], *one.meetings[first + 2 :]))
            for rank, one in every.items()
        }
        assert races(less)
    # a peer that reads a value longer than it says
    late = {**every, 1: moved(every[1], every[1].waits[0, 1, 2][3] + 1, kind="read", key=min(every[1].keys))}
    assert any("when that may be written over" in text for text in races(late))
    # and one that says so: the others keep the value, and no more of them
    settled = [shown.settled(late) for shown in found]
    assert [shown.size // (24 * 36 * 8) for shown in settled] == [3, 2, 3]
    assert not races({**{rank: shown.footprint for rank, shown in enumerate(settled)}, 1: late[1]})


def test_memory_is_not_used_twice_where_no_proof_says_that_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowcore.sharing.races", lambda every: [*filter(_overlaps, every.values())])
    for shown in fc.launch.run(chained, ranks=2):
        assert shown.apart is None and shown.size == 5 * (24 * 36 * 8) and not _overlaps(shown.footprint)


def _overlaps(footprint: Footprint) -> bool:
    places = sorted(start for start, _ in footprint.keys.values())
    return len(set(places)) < len(places)


def test_the_proof_sees_a_part_written_while_peers_read_the_whole() -> None:
    def run() -> Footprint:
        step = fc.compile(model_and_step(is_split=True)[1])
        step()
        return programs(step)[0].sharing.shown.footprint

    every = dict(enumerate(fc.launch.run(run, ranks=3)))
    assert races(every) == []
    less = {rank: replace(one, meetings=()) for rank, one in every.items()}
    assert any("when that may be overwritten" in text for text in races(less))
    late = {**every, 1: moved(every[1], 10**6, kind="early")}
    assert any("when that may be overwritten" in text for text in races(late))
    in_common = {access.memory[1] - 1 for access in every[0].accesses if access.memory[1]}
    assert unsafe(every) == set() and unsafe(late) == unsafe(less) == in_common != set()


def gathered() -> tuple[Footprint, int]:
    """What a rank does in a chain of gathers of pieces, and the bytes of its window."""
    mesh = fc.Placement(fc.world_size())
    draw = np.random.default_rng(0).normal(size=(25, 25)) / 5
    x = fc.asarray(draw, placement=mesh).to_global(sbp="S0")

    @fc.compile
    def step(x: fc.Tensor) -> fc.Tensor:
        y = x
        for _ in range(4):
            y = fc.tanh(x @ fc.exp(y).to_global(sbp="B"))
        return y

    wanted = draw
    for _ in range(4):
        wanted = np.tanh(draw @ np.exp(wanted))
    np.testing.assert_allclose(step(x).numpy(), wanted)
    (program,) = programs(step)
    assert program.sharing is not None
    return program.sharing.shown.footprint, program.sharing.shown.size


def test_pieces_are_made_where_all_ranks_read_the_whole_and_the_proof_sees_one_that_comes_too_early() -> None:
    found = fc.launch.run(gathered, ranks=3)
    one = 25 * 25 * 8 + 56  # up to a cache line
    assert [size for _, size in found] == [2 * one, 0, 0]
    every = {rank: footprint for rank, (footprint, _) in enumerate(found)}
    assert races(every) == []
    last = max(access.position for access in every[1].accesses if access.kind == "write")
    for position, text in ((0, "when that may be written over"), (10**6, "before that is written")):
        accesses = tuple(
            replace(each, position=position) if (each.kind, each.position) == ("write", last) else each
            for each in every[1].accesses
        )
        assert any(text in line for line in races({**every, 1: replace(every[1], accesses=accesses)}))


def test_a_whole_stays_while_peers_read_their_pieces_of_it() -> None:
    def run() -> tuple[Footprint, bool]:
        mesh = fc.Placement(fc.world_size())
        draw = np.random.default_rng(0).normal(size=(24, 24)) / 5
        x = fc.asarray(draw, placement=mesh).to_global(sbp="S0")

        @fc.compile
        def step(x: fc.Tensor) -> fc.Tensor:
            piece = fc.exp(x)
            read = x @ piece.to_global(sbp="B")
            late = piece * fc.sum((read.mT @ read).to_global(sbp="B"))
            return (late.mT @ late).to_global(sbp="B") * 2.0

        read = draw @ np.exp(draw)
        late = np.exp(draw) * np.sum(read.T @ read)
        np.testing.assert_allclose(step(x).numpy(), late.T @ late * 2)
        (program,) = programs(step)
        assert program.sharing is not None
        return program.sharing.shown.footprint, program.sharing.shown.apart is not None

    found = fc.launch.run(run, ranks=2)
    assert races({rank: footprint for rank, (footprint, _) in enumerate(found)}) == []
    assert all(is_used_again for _, is_used_again in found)
