"""Measures α, β, γ of this machine over a transport, and keeps them in a file that later programs read.

Two ranks of a host, and two of different hosts where there are such, exchange small and large messages by the very code
that runs plans; every rank reduces and copies arrays larger than a cache, and multiplies matrices, all at once. Medians
are kept. The file is small JSON; one that cannot be read, or was written by another version or for another kind of
processor, is ignored with one warning. Rank 0's figures hold for the whole world, or ranks would plan different things.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from flowcore.comm.boxing import plan_boxing
from flowcore.comm.execute import execute
from flowcore.comm.transport import Transport
from flowcore.placement.layout import Layout
from flowcore.placement.machine import Link, Machine
from flowcore.placement.mesh import Placement

VERSION = 2
ROUNDS = 15
WARM_UP = 3
MESSAGES = 16
SMALL, LARGE = 8, 8 << 20
"""Bytes of a message of which only the latency counts, and of one of which it does not."""
WIDTH = 256
"""Rows and columns of the matrices that are multiplied."""


def measure(transport: Transport) -> Machine:
    """The machine as measured between the ranks of `transport`, equal on all of them; collective over the world.

    What no pair of ranks can show (other hosts, another rank at all) keeps its default.
    """
    everyone = tuple(range(transport.size))
    hosts = find_hosts(transport)
    machine = Machine(hosts=hosts)
    near, far = _pairs(hosts or (0,) * transport.size)
    within, step = _link(transport, near, machine.within, machine.step)
    between, _ = _link(transport, far, machine.between, machine.step)
    transport.barrier(everyone)
    a, b = (np.ones(LARGE // 4, np.float32) for _ in range(2))
    reduce = _median(lambda: np.add(a, b, out=a)) / LARGE
    copy = _median(lambda: np.copyto(a, b)) / LARGE
    square, product = np.ones((WIDTH, WIDTH), np.float32), np.empty((WIDTH, WIDTH), np.float32)
    flop = _median(lambda: np.matmul(square, square, out=product)) / (2 * WIDTH**3)
    told = transport.gather_objects(everyone, (reduce, copy, flop))
    reduces, copies, flops = zip(*told, strict=True)
    return Machine(within, between, max(reduces), max(copies), step, max(flops), hosts)


def find_hosts(transport: Transport) -> tuple[int, ...]:
    """The host of every rank, numbered from 0; () where all share one. Collective, unless the transport knows."""
    names = getattr(transport, "hosts", None)
    if names is None:
        names = transport.gather_objects(tuple(range(transport.size)), platform.node())
    number = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return tuple(number[name] for name in names) if len(number) > 1 else ()


def agree(transport: Transport, known: Machine | None) -> Machine:
    """The machine of this world: what rank 0 knows (by default: nothing), with the host of every rank. Collective."""
    hosts = find_hosts(transport)
    told = transport.gather_objects(tuple(range(transport.size)), known if transport.rank == 0 else None)
    return replace(told[0] or Machine(), hosts=hosts)


def _pairs(hosts: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two ranks of one host, and two of different hosts; () where there are none."""
    ranks = range(len(hosts))
    near = next(((a, b) for a in ranks for b in ranks[a + 1 :] if hosts[a] == hosts[b]), ())
    far = next(((a, b) for a in ranks for b in ranks[a + 1 :] if hosts[a] != hosts[b]), ())
    return near, far


def _link(transport: Transport, pair: tuple[int, ...], link: Link, step: float) -> tuple[Link, float]:
    """(the link between two ranks, what a step costs beside its messages), on every rank; as given where no pair is."""
    everyone = tuple(range(transport.size))
    found = None
    transport.barrier(everyone)
    if transport.rank in pair:
        peer = pair[0] + pair[1] - transport.rank
        one, many = (_exchange(transport, peer, count) for count in (1, MESSAGES))
        latency = max((many - one) / (MESSAGES - 1), 1e-9)
        small, large = (_swap(transport, pair, size) for size in (SMALL, LARGE))
        found = (latency, max((large - small) / LARGE, 1e-14), max(small - latency, 1e-9))
    told = [figures for figures in transport.gather_objects(everyone, found) if figures is not None]
    if not told:
        return link, step
    latency, per_byte, step = (max(column) for column in zip(*told, strict=True))
    return Link(latency, per_byte), step


def _exchange(transport: Transport, peer: int, count: int) -> float:
    """Seconds to send `count` small messages to `peer` and to receive as many."""
    given, taken = (np.zeros((count, SMALL), np.uint8) for _ in range(2))
    return _median(lambda: transport.exchange([(peer, row) for row in given], [(peer, row) for row in taken]))


def _swap(transport: Transport, pair: tuple[int, ...], size: int) -> float:
    """Seconds in which the ranks of `pair` swap blocks of `size` bytes by a plan."""
    source, target = Layout(Placement(pair), "S0"), Layout(Placement(pair[::-1]), "S0")
    plan = plan_boxing((2 * size,), np.uint8, source, target)
    block = np.zeros(size, np.uint8)
    return _median(lambda: execute(plan, transport, block))


def _median(call: Callable[[], object]) -> float:
    times = []
    for _ in range(WARM_UP + ROUNDS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return median(times[WARM_UP:])


def cache_file(environ: Mapping[str, str]) -> Path | None:
    """Where this user's figures lie; None where the environment names neither a cache nor a home."""
    cache, home = environ.get("XDG_CACHE_HOME"), environ.get("HOME")
    if not cache and not home:
        return None
    return (Path(cache) if cache else Path(str(home), ".cache")) / "flowcore" / "machine.json"


def save(machine: Machine, path: Path) -> None:
    """Write the figures of `machine`, not its hosts; the file is the old one or complete at any moment."""
    figures = {
        "version": VERSION,
        "processor": _processor(),
        "within": [machine.within.latency, machine.within.seconds_per_byte],
        "between": [machine.between.latency, machine.between.seconds_per_byte],
        "reduce_per_byte": machine.reduce_per_byte,
        "copy_per_byte": machine.copy_per_byte,
        "step": machine.step,
        "per_flop": machine.per_flop,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(figures, indent=1) + "\n")
    part.replace(path)


def load(path: Path | None) -> Machine | None:
    """The machine that `save` wrote; None where there is no file, and with a warning where it does not fit."""
    try:
        text = None if path is None else path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        _ignored(path, str(error))
        return None
    if text is None:
        return None
    try:
        return _read(json.loads(text))
    except (KeyError, TypeError, ValueError) as error:
        _ignored(path, str(error))
        return None


def _read(figures: Any) -> Machine:
    """The machine of a file's contents; ValueError, TypeError or KeyError where they are not what `save` writes."""
    if figures["version"] != VERSION:
        raise ValueError(f"version {figures['version']}, not {VERSION}")
    if figures["processor"] != _processor():
        raise ValueError(f"measured on {figures['processor']}, not on {_processor()}")
    links = (figures["within"], figures["between"])
    own = [figures[name] for name in ("reduce_per_byte", "copy_per_byte", "step", "per_flop")]
    for value in (*links[0], *links[1], *own):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise ValueError(f"{value!r} is no cost in seconds")
    near, far = (Link(float(latency), float(per_byte)) for latency, per_byte in links)
    reduce, copy, step, flop = map(float, own)
    return Machine(near, far, reduce, copy, step, flop)


def _ignored(path: Path | None, why: str) -> None:
    warnings.warn(f"{path} is ignored ({why}): run `flowcore bench comm` to measure again", stacklevel=2)


def _processor() -> str:
    return f"{platform.machine()} with {os.cpu_count()} cores"
