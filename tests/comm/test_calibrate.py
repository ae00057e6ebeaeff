"""The figures of a machine: measured over a transport, kept in a file, equal on every rank."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowcore.comm.calibrate import agree, cache_file, find_hosts, load, measure, save
from flowcore.comm.solo import SoloTransport
from flowcore.comm.threads import ThreadTransport, ThreadWorld
from flowcore.placement.machine import Link, Machine
from tests.comm.laws import threads

ODD = Machine(Link(1e-6, 2e-10), Link(3e-5, 4e-9), 5e-11, 6e-11, 7e-6)


def on_threads(call: Callable[[ThreadTransport], Any], size: int, hosts: tuple[int, ...] | None = None) -> list[Any]:
    """What `call` returns on every rank; with `hosts` the transport says who lives where."""
    world = ThreadWorld(size, timeout=30)
    transports = [world.transport(rank) for rank in range(size)]
    for transport in transports:
        if hosts is not None:
            transport.hosts = hosts  # type: ignore[attr-defined]  # transports that know hosts have this attribute
    running = [threads().submit(call, transport) for transport in transports]
    return [future.result() for future in running]


def test_a_machine_of_one_host_is_measured_alike_on_every_rank() -> None:
    found = on_threads(measure, 3)
    assert len(set(found)) == 1
    machine = found[0]
    assert machine.hosts == () and machine.between == Machine().between
    assert machine.within != Machine().within
    figures = (machine.within.latency, machine.within.seconds_per_byte, machine.step)
    assert all(0 < figure < 1 for figure in (*figures, machine.reduce_per_byte, machine.copy_per_byte))


def test_links_between_hosts_are_measured_where_there_are_several() -> None:
    machine = on_threads(measure, 3, hosts=("a", "b", "b"))[2]  # type: ignore[arg-type]  # any names will do
    assert machine.hosts == (0, 1, 1)
    assert machine.between != Machine().between and machine.within != Machine().within


def test_a_rank_alone_keeps_the_defaults_of_links() -> None:
    machine = measure(SoloTransport())
    assert (machine.within, machine.between, machine.step) == (Machine().within, Machine().between, Machine().step)


def test_all_ranks_take_what_the_first_knows() -> None:
    def call(transport: ThreadTransport) -> Machine:
        return agree(transport, replace(ODD, step=transport.rank * 1.0))

    assert on_threads(call, 3, hosts=(0, 0, 4)) == [replace(ODD, step=0.0, hosts=(0, 0, 1))] * 3
    assert on_threads(lambda transport: agree(transport, None), 2) == [Machine()] * 2


def test_hosts_are_numbered_in_order_of_ranks() -> None:
    assert on_threads(find_hosts, 4, hosts=(7, 3, 7, 3)) == [(0, 1, 0, 1)] * 4
    assert on_threads(find_hosts, 2, hosts=(7, 7)) == [()] * 2


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "new" / "machine.json"
    save(replace(ODD, hosts=(0, 1)), path)
    assert load(path) == ODD
    save(Machine(), path)
    assert load(path) == Machine()
    assert [file.name for file in path.parent.iterdir()] == ["machine.json"]


@pytest.mark.parametrize(
    "change",
    [
        "not json",
        "",
        "[1]",
        "3",
        {"version": 0},
        {"version": None},
        {"processor": "abacus with 10 beads"},
        {"within": [1e-6]},
        {"within": [1e-6, 1e-9, 1e-9]},
        {"within": 5},
        {"between": ["fast", 1]},
        {"step": -1.0},
        {"step": True},
        {"reduce_per_byte": float("nan")},
        {"copy_per_byte": float("inf")},
    ],
    ids=str,
)
def test_a_file_that_does_not_fit_is_ignored_with_one_warning(change: Any, tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    save(ODD, path)
    path.write_text(change if isinstance(change, str) else json.dumps(json.loads(path.read_text()) | change))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert load(path) is None
    assert len(told) == 1
    assert "flowcore bench comm" in str(told[0].message)


def test_a_file_without_a_figure_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    save(ODD, path)
    figures = json.loads(path.read_text())
    del figures["step"]
    path.write_text(json.dumps(figures))
    with pytest.warns(UserWarning, match="is ignored"):
        assert load(path) is None


def test_no_file_is_no_machine_and_no_warning(tmp_path: Path) -> None:
    assert load(tmp_path / "machine.json") is None
    assert load(None) is None


@pytest.mark.parametrize(
    ("environ", "path"),
    [({}, None), ({"HOME": "/h"}, "/h/.cache/flowcore/machine.json"),
     ({"HOME": "/h", "XDG_CACHE_HOME": "/c"}, "/c/flowcore/machine.json")],
)  # fmt: skip
def test_the_file_lies_in_the_users_cache(environ: dict[str, str], path: str | None) -> None:
    assert cache_file(environ) == (None if path is None else Path(path))
