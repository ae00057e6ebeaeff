"""Paths over several layouts are taken where hosts make them cheaper, and only there; their values are right."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from flowcore.comm.path import Path, _find, choose_path, find_paths
from flowcore.comm.price import seconds
from flowcore.comm.views import refined, views
from flowcore.placement.layout import Layout, box_size
from flowcore.placement.machine import Link, Machine
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import SBP, B, P, Partial, Split, Window
from tests.comm.laws import run_on_threads
from tests.comm.tensors import Array, gather, mesh, random_tensor, scatter

FOUR: tuple[SBP, ...] = (B, P, Split(0), Split(1))
BLOCKS, TURNS = Machine(hosts=(0, 0, 0, 0, 1, 1, 1, 1)), Machine(hosts=(0, 1) * 4)
SLOW = Machine(between=Link(50e-6, 1e-7), hosts=(0, 0, 1, 1))


def run(path: Path, blocks: dict[int, Array]) -> dict[int, Array]:
    """The target blocks, leg by leg on threads that count."""
    for leg in path.legs:
        blocks = run_on_threads(leg, blocks)
    return blocks


def pairs(here: Placement, there: Placement) -> list[tuple[Layout, Layout]]:
    """Every pair of layouts without maxima and minima."""
    sources, targets = (product(FOUR, repeat=place.ndim) for place in (here, there))
    return [(Layout(here, a), Layout(there, b)) for a, b in product(sources, targets)]


def test_on_one_host_the_direct_plan_is_the_path() -> None:
    for a, b in pairs(mesh(2, 4), mesh(2, 4)):
        for machine in (Machine(), Machine(hosts=(3,) * 8)):
            assert len(choose_path((1024, 1024), "f4", a, b, machine).legs) == 1


def test_an_all_reduce_over_two_hosts_goes_by_the_hosts() -> None:
    source, target = Layout(mesh(8), P), Layout(mesh(8), B)
    best, *rest = find_paths((1024, 1024), "f4", source, target, BLOCKS)
    (direct,) = [path for path in rest if len(path.legs) == 1]
    print(f"{best}: {best.seconds * 1e6:.0f} us, {best.between_hosts} bytes between hosts")
    print(f"direct: {direct.seconds * 1e6:.0f} us, {direct.between_hosts} bytes between hosts")
    assert [leg.kind for leg in best.legs] == ["reduce_scatter", "all_reduce", "all_gather"]
    assert best.bytes_moved == direct.bytes_moved
    assert best.between_hosts == direct.between_hosts // 4
    assert best.seconds < direct.seconds / 2


def test_a_small_tensor_goes_directly() -> None:
    for a, b in pairs(mesh(4), mesh(4)):
        assert len(choose_path((2, 2), "f4", a, b, Machine(step=1e-3, hosts=(0, 0, 1, 1))).legs) == 1


@pytest.mark.parametrize(
    "machine", [BLOCKS, TURNS, Machine(hosts=(0, 1, 1, 1, 1, 0, 0, 0))], ids=lambda m: str(m.hosts)
)
@pytest.mark.parametrize(
    ("here", "there"),
    [(mesh(8), mesh(8)), (mesh(2, 4), mesh(2, 4)), (mesh(4), mesh(4, first=4)), (mesh(2, 2), mesh(8)),
     (mesh(4, 2), Placement([7, 0, 5, 2]))],
    ids=str,
)  # fmt: skip
def test_a_path_is_never_dearer_and_always_right(here: Placement, there: Placement, machine: Machine) -> None:
    shape, saved, long = (61, 90), 0.0, 0
    value = random_tensor(shape, "f4")
    cases = pairs(here, there)
    for a, b in cases[:: 1 + (len(cases) > 64)]:
        paths = find_paths(shape, "f4", a, b, machine)
        best, direct = paths[0], next(path for path in paths if len(path.legs) == 1)
        assert best.seconds == min(path.seconds for path in paths) <= direct.seconds
        assert best is direct or best.seconds < direct.seconds
        saved, long = saved + direct.seconds - best.seconds, long + (len(best.legs) > 1)
        if len(best.legs) > 1:
            assert np.array_equal(gather(shape, b, run(best, scatter(value, a))), value), str(best)
            check_account(best)
    print(f"{long} transitions of {len(cases)} in several legs, {saved * 1e6:.0f} us less")


def test_windows_are_read_between_hosts_too() -> None:
    shape, window = (24, 16), Window(0, 24, 1, 1, -1, 1)
    value = random_tensor(shape, "f4")
    for source, other in product(product(FOUR, repeat=2), (B, Split(1))):
        a, b = Layout(mesh(2, 2), source), Layout(mesh(2, 2), (window, other))
        path = choose_path(shape, "f4", a, b, SLOW)
        for rank, block in run(path, scatter(value, a)).items():
            np.testing.assert_array_equal(block, value[tuple(slice(*side) for side in b.box(shape, rank))])


def check_account(path: Path) -> None:
    """The figures of a path are those of its legs, and no block on the way is larger than source and target."""
    assert sum(path.sent.values()) == sum(path.received.values()) == path.bytes_moved
    assert path.seconds == sum(seconds(leg, path.machine) for leg in path.legs)
    shape = path.legs[0].shape
    ends = path.legs[0].source, path.legs[-1].target
    room = max(box_size(box) for end in ends for box in end.boxes(shape).values())
    for leg in path.legs[:-1]:
        assert max(box_size(box) for box in leg.target.boxes(shape).values()) <= room
    assert set(path.peak_temporary) == set(path.ranks)


@pytest.mark.parametrize("op", ["max", "min"])
def test_maxima_and_minima_go_by_the_hosts_too(op: str) -> None:
    source, target = Layout(mesh(4), Partial(op)), Layout(mesh(4), B)
    path = choose_path((64, 64), "i8", source, target, SLOW)
    value = random_tensor((64, 64), "i8")
    assert len(path.legs) > 1
    assert np.array_equal(gather((64, 64), target, run(path, scatter(value, source))), value)


def test_sums_are_equal_from_run_to_run() -> None:
    source, target = Layout(mesh(4), P), Layout(mesh(4), B)
    path = choose_path((64, 64), "f4", source, target, SLOW)
    blocks = {rank: np.random.default_rng(rank).standard_normal((64, 64)).astype("f4") for rank in range(4)}
    first, again = run(path, blocks), run(path, blocks)
    assert len(path.legs) == 3
    assert all(np.array_equal(first[rank], again[rank]) for rank in range(4))
    assert np.array_equal(first[0], (blocks[0] + blocks[1]) + (blocks[2] + blocks[3]))


def test_every_search_ends_with_the_same_path() -> None:
    for a, b in pairs(mesh(2, 4), mesh(8))[::6]:
        texts = {str(_find.__wrapped__((64, 60), np.dtype("f4"), a, b, TURNS, 1.0)[0]) for _ in range(2)}
        assert len(texts) == 1


def test_a_view_gives_every_rank_its_block() -> None:
    hosts = (0, 0, 1, 1, 2, 2)
    assert [str(place) for place, _ in refined(mesh(6), hosts)] == [
        "[0 1 2 3 4 5|x_hosts=3,x_ranks=2]",
        "[0 2 4 1 3 5|x_ranks=2,x_hosts=3]",
    ]
    assert [str(view) for view in views((6, 5), Layout(mesh(6), Split(0)), hosts)] == [
        "[0 1 2 3 4 5|x_hosts=3,x_ranks=2]:S0,S0"
    ]
    assert len(views((6, 5), Layout(mesh(6), P), hosts)) == 2
    assert not views((8, 5), Layout(mesh(6), Split(0)), hosts)  # 2,2,1,1,1,1 rows are not 3,3,2 in halves: 2,1,2,1,1,1
    assert not refined(mesh(6), (0, 0, 0, 0, 1, 1))
    assert not refined(mesh(2, 3), (0, 0, 1, 1, 2, 2))
    assert len(refined(mesh(2, 4), (0, 0, 1, 1, 0, 0, 1, 1))) == 2
