"""How long planning one change of layout takes, over every pair of layouts: median and worst.

    python benchmarks/planning.py

CPU time of the calling thread, the best of a few rounds, caches empty. "plan" is the plan in one go, with one rank's
part of it; "path" also searches for ways over other layouts, which happens where ranks live on several hosts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import product
from statistics import median

import numpy as np

import flowcore as fc
from flowcore.comm.boxing import _large_plan, _plan, plan_boxing
from flowcore.comm.path import _find, choose_path
from flowcore.comm.slices import Grid
from flowcore.placement.machine import Machine
from flowcore.placement.sbp import NdSbp

Pair = tuple[NdSbp, NdSbp]
PARTS = (fc.B, fc.P, fc.S(0), fc.S(1))
RANKS_PER_HOST = 8
LIMITS = {64: 10.0, 1024: 100.0}
"""Milliseconds that a plan in one go may take at most, by ranks."""


def milliseconds(call: Callable[[], object], rounds: int) -> float:
    """The least CPU time of `call` with empty caches."""
    times = []
    for _ in range(rounds):
        for cached in (_plan, _large_plan, _find, Grid.of):
            cached.cache_clear()
        start = time.thread_time()
        call()
        times.append((time.thread_time() - start) * 1e3)
    return min(times)


def measure(mesh: tuple[int, ...], shape: tuple[int, ...], is_path: bool) -> None:
    """Print median and worst over the pairs of layouts on a mesh."""
    place = fc.Placement(np.arange(np.prod(mesh)).reshape(mesh))
    machine = Machine(hosts=tuple(rank // RANKS_PER_HOST for rank in range(place.size)))
    signatures = list(product(PARTS, repeat=len(mesh)))
    pairs = list(product(signatures, signatures))[:: 9 if is_path and place.size > 64 else 1]
    found: list[tuple[float, Pair]] = []
    for a, b in pairs:
        source, target = fc.Layout(place, a), fc.Layout(place, b)

        def plan(source: fc.Layout = source, target: fc.Layout = target) -> None:
            if is_path:
                choose_path(shape, "f4", source, target, machine)
            else:
                plan_boxing(shape, "f4", source, target).for_rank(1)

        found.append((milliseconds(plan, 1 if is_path else 3), (a, b)))
    worst, (a, b) = max(found, key=lambda entry: entry[0])
    middle = median(time for time, _ in found)
    names = f"{','.join(map(str, a))} -> {','.join(map(str, b))}"
    sizes = " x ".join(map(str, mesh))
    what = "path" if is_path else "plan"
    over = sum(time > LIMITS[place.size] for time, _ in found)
    limit = f"{over} above {LIMITS[place.size]:.0f} ms"
    figures = f"median {middle:7.2f} ms  worst {worst:7.2f} ms"
    print(f"{what}  {sizes:9} {shape!s:13} {len(pairs):4} pairs  {figures}  {limit}, {names}", flush=True)


if __name__ == "__main__":
    for is_path in (False, True):
        for mesh, shape in product(((64,), (8, 8), (1024,), (32, 32)), ((1024, 1024), (1031, 1027))):
            measure(mesh, shape, is_path)
