"""Shared memory within a host: every change of layout is right, and memory is used again only when nobody sees it."""

from __future__ import annotations

import errno
import os
from itertools import product

import numpy as np
import pytest

from flowcore.comm.arena import NoRoom
from flowcore.comm.boxing import plan_boxing
from flowcore.comm.carrier import lease_of
from flowcore.comm.walk import simulate
from flowcore.placement.layout import Layout
from flowcore.placement.mesh import Placement
from tests.comm.carriers import Host
from tests.comm.tensors import ONE_AXIS, check_boxing, mesh, scatter

SMALL = (0, 4096)


@pytest.fixture(scope="module")
def host() -> Host:
    return Host(5)


@pytest.mark.parametrize("small", SMALL)
@pytest.mark.parametrize("there", [mesh(3), Placement([2, 0, 1]), mesh(2, first=1), mesh(2, first=3)], ids=str)
def test_every_pair_on_one_axis_is_right(host: Host, there: Placement, small: int) -> None:
    for a, b in product(ONE_AXIS, ONE_AXIS):
        for shape in ((5, 7), (2, 4)):
            check_boxing(
                shape, Layout(mesh(3), a), Layout(there, b), run=lambda plan, blocks: host.run(plan, blocks, small)
            )


@pytest.mark.parametrize("small", SMALL)
def test_pairs_on_two_axes_are_right(host: Host, small: int) -> None:
    signatures = list(product(ONE_AXIS, repeat=2))[::3]
    for a, b in product(signatures, signatures):
        check_boxing(
            (5, 4), Layout(mesh(2, 2), a), Layout(mesh(2, 2), b), run=lambda p, blocks: host.run(p, blocks, small)
        )


def test_results_are_those_of_messages_bit_for_bit(host: Host) -> None:
    rng = np.random.default_rng(0)
    for shape, small in (((40, 7), 4096), ((300, 501), 0)):
        plan = plan_boxing(shape, "f4", Layout(mesh(4), "P"), Layout(mesh(4), "B"))
        blocks = {rank: rng.normal(size=shape).astype("f4") for rank in range(4)}
        expected = simulate(plan, blocks)
        for _ in range(2):
            for rank, block in host.run(plan, blocks, small).items():
                assert block.tobytes() == expected[rank].tobytes()


def test_a_broadcast_tensor_is_held_once_and_nobody_can_write_to_it(host: Host) -> None:
    source = Layout(mesh(3), "S0")
    blocks = scatter(np.arange(12.0).reshape(6, 2), source)
    found = host.run(plan_boxing((6, 2), "f8", source, Layout(mesh(3), "B")), blocks, small=0)
    assert np.shares_memory(found[0], found[1]) and np.shares_memory(found[0], found[2])
    for block in found.values():
        with pytest.raises(ValueError, match="read-only"):
            block[0, 0] = 5
    blocks[0][...] = -1
    assert found[1][0, 0] == 0


def test_gathering_what_lies_side_by_side_copies_nothing(host: Host) -> None:
    there, back = Layout(mesh(3), "S0"), Layout(mesh(3), "B")
    blocks = scatter(np.arange(14.0).reshape(7, 2), Layout(mesh(3), "S1"))
    split = host.run(plan_boxing((7, 2), "f8", Layout(mesh(3), "S1"), there), blocks, small=0)
    whole = host.run(plan_boxing((7, 2), "f8", there, back), split, small=0)
    for rank in range(3):
        assert np.array_equal(whole[rank], np.arange(14.0).reshape(7, 2))
        assert np.shares_memory(whole[rank], split[0]) and np.shares_memory(whole[rank], split[2])


def test_a_slot_is_used_again_only_when_nobody_sees_it(host: Host) -> None:
    plan = plan_boxing((64, 9), "f8", Layout(mesh(3), "P"), Layout(mesh(3), "B"))
    kept = []
    for number in range(12):
        found = host.run(plan, dict.fromkeys(range(3), np.full((64, 9), float(number))), small=0)
        kept.append(found[number % 3][3:, 2])
        del found
    for number, view in enumerate(kept):
        assert (view == 3 * number).all()
    del view
    kept.clear()
    used = [carrier.arena.bytes_made for carrier in host.carriers]
    for number in range(12):
        found = host.run(plan, dict.fromkeys(range(3), np.full((64, 9), float(number))), small=0)
        assert (found[1] == 3 * number).all()
    assert used == [carrier.arena.bytes_made for carrier in host.carriers]


def test_what_is_copied_in_part_is_not_taken_for_the_whole(host: Host) -> None:
    for there in ("S0", "B"):
        for count in (1, 2):
            plan = plan_boxing((6, 2), "f8", Layout(mesh(count), "S0"), Layout(mesh(3), there))
            blocks = scatter(np.arange(12.0).reshape(6, 2), Layout(mesh(count), "S0"))
            for _ in range(2):
                for rank, block in host.run(plan, blocks, small=0).items():
                    box = plan.target.box((6, 2), rank)
                    assert np.array_equal(block, np.arange(12.0).reshape(6, 2)[slice(*box[0])])


def test_views_of_shared_blocks_are_read_where_they_are(host: Host) -> None:
    plan = plan_boxing((8, 4), "f8", Layout(mesh(2), "P"), Layout(mesh(2), "B"))
    found = host.run(plan, dict.fromkeys(range(2), np.arange(32.0).reshape(8, 4)), small=0)
    halves = {rank: found[rank][4 * rank : 4 * rank + 4] for rank in range(2)}
    assert lease_of(halves[1]) is not None
    del found
    again = host.run(plan_boxing((8, 4), "f8", Layout(mesh(2), "S0"), Layout(mesh(2), "B")), halves, small=0)
    assert np.array_equal(again[0], 2 * np.arange(32.0).reshape(8, 4))
    assert np.shares_memory(again[0], halves[1])
    halves[1] = halves[1].copy()
    mixed = host.run(plan_boxing((8, 4), "f8", Layout(mesh(2), "S0"), Layout(mesh(2), "B")), halves, small=0)
    assert np.array_equal(mixed[1], 2 * np.arange(32.0).reshape(8, 4))
    assert not np.shares_memory(mixed[0], halves[0])


def test_where_memory_is_short_every_rank_is_told_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(2)
    plan = plan_boxing((1 << 20,), "f8", Layout(mesh(2), "P"), Layout(mesh(2), "B"))
    blocks = {rank: np.ones(1 << 20) for rank in range(2)}
    small = plan_boxing((64,), "f8", Layout(mesh(2), "P"), Layout(mesh(2), "B"))
    host.run(small, {rank: np.ones(64) for rank in range(2)}, small=0)

    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(NoRoom):
            host.run(plan, blocks, small=0)
        assert (host.run(small, {rank: np.ones(64) for rank in range(2)}, small=0)[0] == 2).all()
    assert all(carrier.is_full for carrier in host.carriers)
    assert (host.run(plan, blocks, small=0)[1] == 2).all()


def test_sharing_a_tensor_holds_equal_blocks_once_and_slices_side_by_side(host: Host) -> None:
    for sbp, is_one in (("B", True), ("S0", True), ("S1", False), ("P", False)):
        layout = Layout(mesh(3), sbp)
        blocks = scatter(np.arange(18.0).reshape(6, 3), layout)
        found = host.run(plan_boxing((6, 3), "f8", layout, layout), blocks, small=-1, moves=False)
        leases = [lease_of(found[rank]) for rank in range(3)]
        assert len({lease.counters for lease in leases if lease is not None}) == (1 if is_one else 3)
        assert all(np.array_equal(found[rank], blocks[rank]) for rank in range(3))
