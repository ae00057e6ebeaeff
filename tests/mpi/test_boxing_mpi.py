"""Changes of layout between MPI processes: right values, and exactly the traffic that was predicted."""

from __future__ import annotations

import errno
import os
import warnings
from itertools import product
from typing import Any

import numpy as np
import pytest

from flowcore.comm import collectives, mpi
from flowcore.comm.boxing import plan_boxing
from flowcore.comm.counting import CountingTransport
from flowcore.comm.execute import execute
from flowcore.comm.mpi import MpiTransport
from flowcore.comm.shared import join
from flowcore.comm.transport import Transport
from flowcore.dtypes import NARROW
from flowcore.placement.layout import Layout
from flowcore.placement.mesh import Placement
from tests.comm.tensors import ONE_AXIS, gather, mesh, random_tensor, scatter
from tests.mpi.transports import TRANSPORTS

pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> Transport:
    return TRANSPORTS[request.param](60)


def check(transport: Transport, shape: tuple[int, ...], source: Layout, target: Layout, dtype: str) -> None:
    value = random_tensor(shape, dtype)
    plan = plan_boxing(shape, dtype, source, target)
    if isinstance(transport, CountingTransport):
        transport.reset()
    rank, everyone = transport.rank, tuple(range(transport.size))
    block = None
    if rank in plan.ranks:
        block = execute(plan, transport, scatter(value, source).get(rank))
        if isinstance(transport, CountingTransport):
            assert transport.bytes_sent == plan.sent[rank]
            assert transport.bytes_received == plan.received[rank]
    blocks = dict(enumerate(transport.gather_objects(everyone, block)))
    found = gather(shape, target, {rank: blocks[rank] for rank in target.placement.ranks})
    assert np.array_equal(found, value), plan.text()


@pytest.mark.parametrize("shape", [(5, 7), (0, 3), (64, 96)])
def test_every_pair_on_one_axis_is_right(transport: Transport, shape: tuple[int, ...]) -> None:
    size = transport.size
    for a, b in product(ONE_AXIS, ONE_AXIS):
        for there in (mesh(size), Placement(list(range(size))[::-1]), mesh(1, first=size - 1), mesh(size - 1)):
            check(transport, shape, Layout(mesh(size), a), Layout(there, b), "f8")
            check(transport, shape, Layout(there, a), Layout(mesh(size), b), "f8")


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_numbers_of_16_bits_are_moved_and_reduced(transport: Transport, dtype: Any) -> None:
    layouts = [Layout(mesh(transport.size), sbp) for sbp in ONE_AXIS]
    for source, target in product(layouts, layouts):
        check(transport, (5, 7), source, target, dtype.name)
    check(transport, (600, 500), layouts[3], layouts[0], dtype.name)


def test_two_axes_are_right(transport: Transport) -> None:
    if transport.size != 4:
        pytest.skip("needs 4 ranks")
    signatures = list(product(ONE_AXIS, repeat=2))[::2]
    for a, b in product(signatures, signatures):
        check(transport, (6, 5), Layout(mesh(2, 2), a), Layout(mesh(2, 2), b), "i4")


@pytest.mark.parametrize(("source", "target"), [("P", "B"), ("P", "S1"), ("S0", "S1"), ("S1", "B"), ("P", "P(max)")])
def test_a_large_change_in_rounds_is_right(transport: Transport, source: str, target: str) -> None:
    size = transport.size
    check(transport, (1500, 1700), Layout(mesh(size), source), Layout(mesh(size), target), "f8")


def test_an_all_gather_of_slices_is_one_collective(transport: Transport) -> None:
    ranks = list(range(transport.size))
    for order in (ranks, ranks[::-1]):
        source, target = Layout(Placement(order), "S0"), Layout(Placement(order), "B")
        assert (plan_boxing((7, 3), "f4", source, target).gathered is None) is (transport.size == 2)
        check(transport, (7, 3), source, target, "f4")
    assert plan_boxing((7, 3), "f4", Layout(mesh(3), "S1"), Layout(mesh(3), "B")).gathered is None


def test_messages_longer_than_mpi_can_count_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = TRANSPORTS["mpi"](60)
    monkeypatch.setattr(mpi, "CHUNK", 1000)
    monkeypatch.setattr(collectives, "LONGEST", 5000)
    size = transport.size
    for source, target in (("S0", "B"), ("P", "B"), ("S0", "S1")):
        check(transport, (70, 33), Layout(mesh(size), source), Layout(mesh(size), target), "f8")


def test_without_room_in_shared_memory_mpi_moves_the_data_and_warns_once(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = join(MpiTransport(60))
    size = transport.size
    check(transport, (9, 9), Layout(mesh(size), "P"), Layout(mesh(size), "B"), "f8")

    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            check(transport, (900, 903), Layout(mesh(size), "P"), Layout(mesh(size), "B"), "f8")
            check(transport, (900, 903), Layout(mesh(size), "S0"), Layout(mesh(size), "S1"), "f8")
    (warning,) = caught
    assert "goes through plain MPI" in str(warning.message)


def test_without_any_shared_memory_ranks_use_plain_mpi(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    inner = MpiTransport(60)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        transport = join(inner)
    assert transport is inner
    assert len(caught) == (inner.rank == 0)
