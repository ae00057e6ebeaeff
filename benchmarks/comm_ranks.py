"""One rank of `comm.py`: every operation of the table, by flowcore, MPI, a memory copy and gloo, in turn.

A round runs each method in turn, the same number of times, between barriers; its time is that of the slowest rank. What
is reported is the median over the rounds. Operands are prepared before, results are dropped as in a training step.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from mpi4py import MPI

import flowcore as fc

WORLD = MPI.COMM_WORLD
Method = Callable[[], object]
ROUND_BYTES = 64 << 20
"""Bytes that a method moves in a round, at most 200 times."""


def tensor(shape: tuple[int, ...], placement: fc.Placement, sbp: Any, shared: bool) -> fc.Tensor:
    """A float32 tensor of ones (or of partial ones), its blocks in shared memory or not."""
    layout = fc.Layout(placement, sbp).of(len(shape))
    block = None
    if fc.rank() in placement:
        box = layout.box(shape, fc.rank())
        block = np.ones([stop - start for start, stop in box], np.float32)
    x = fc.from_local(block, placement, sbp, shape=shape, dtype="float32")
    return fc.share(x) if shared else x


def operations(size: int) -> Iterator[tuple[str, dict[str, Method]]]:
    """Every operation on `size` bytes, by method: flowcore with operands in shared and in private memory, MPI, …"""
    ranks, rank = WORLD.size, WORLD.rank
    n = size // 4 // ranks * ranks
    everyone, first, second = fc.Placement(ranks), fc.Placement([0]), fc.Placement([1])
    backwards = fc.Placement(list(range(ranks))[::-1])
    one, two, part = np.ones(n, np.float32), np.ones(n, np.float32), np.ones(n // ranks, np.float32)

    def moved(shape: tuple[int, ...], source: Any, sbp: Any, target: Any, to: Any) -> dict[str, Method]:
        shared, private = tensor(shape, source, sbp, True), tensor(shape, source, sbp, False)
        return {
            "flowcore": lambda: shared.to_global(target, to),
            "flowcore, private operands": lambda: private.to_global(target, to),
        }

    yield (
        "all-reduce",
        moved((n,), everyone, fc.P, everyone, fc.B)
        | {
            "MPI": lambda: WORLD.Allreduce(one, two),
            "MPI in place": lambda: WORLD.Allreduce(MPI.IN_PLACE, two),
            **gloo("all_reduce", two),
        },
    )
    yield (
        "reduce-scatter",
        moved((n,), everyone, fc.P, everyone, fc.S(0)) | {"MPI": lambda: WORLD.Reduce_scatter_block(one, part)},
    )
    yield "P to S(1)", moved((ranks, n // ranks), everyone, fc.P, everyone, fc.S(1))
    yield (
        "all-gather",
        moved((n,), everyone, fc.S(0), everyone, fc.B)
        | {"MPI": lambda: WORLD.Allgather(part, two), **gloo("all_gather_into_tensor", two, part)},
    )
    yield (
        "all-to-all",
        moved((ranks, n // ranks), everyone, fc.S(0), everyone, fc.S(1))
        | {"MPI": lambda: WORLD.Alltoall(part, two[: n // ranks])},
    )
    yield (
        "S(0) to other ranks",
        moved((n,), everyone, fc.S(0), backwards, fc.S(0))
        | {"MPI": lambda: WORLD.Sendrecv(part, ranks - 1 - rank, recvbuf=two[: n // ranks], source=ranks - 1 - rank)},
    )
    yield (
        "broadcast",
        moved((n,), first, fc.B, everyone, fc.B) | {"MPI": lambda: WORLD.Bcast(two), **gloo("broadcast", two, 0)},
    )
    yield (
        "send and receive",
        moved((n,), first, fc.B, second, fc.B) | {"MPI": lambda: pass_on(one, two)},
    )
    share = slice(rank * n // ranks, (rank + 1) * n // ranks)
    yield (
        "memory",
        {
            "copy": lambda: np.copyto(two[share], one[share]),
            "in place": lambda: np.add(one[share], two[share], out=one[share]),
        },
    )


def pass_on(given: Any, taken: Any) -> None:
    """From rank 0 to rank 1."""
    if WORLD.rank == 0:
        WORLD.Send(given, 1)
    elif WORLD.rank == 1:
        WORLD.Recv(taken, 0)


def gloo(name: str, *arguments: Any) -> dict[str, Method]:
    """The collective `name` of torch.distributed, where torch is installed."""
    if not find_spec("torch"):
        return {}
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        torch.set_num_threads(1)
        path = WORLD.bcast(f"/dev/shm/flowcore-bench-{os.getpid()}")
        dist.init_process_group("gloo", init_method=f"file://{path}", rank=WORLD.rank, world_size=WORLD.size)
        WORLD.Barrier()
        if WORLD.rank == 0:
            Path(path).unlink()
    given = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]
    call = getattr(dist, name)
    return {"gloo": lambda: call(*given)}


def measure(methods: dict[str, Method], size: int, rounds: int) -> dict[str, float]:
    """Microseconds of one call of each method: the median over the rounds of the slowest rank's time."""
    repeats = max(1, min(200, ROUND_BYTES // size))
    spent: dict[str, list[float]] = {name: [] for name in methods}
    for call in methods.values():
        for _ in range(3):
            call()
    for _ in range(rounds):
        for name, call in methods.items():
            WORLD.Barrier()
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            mine = (time.perf_counter() - start) / repeats * 1e6
            spent[name].append(WORLD.allreduce(mine, MPI.MAX))
    return {name: median(times) for name, times in spent.items()}


def main(sizes: list[int], rounds: int, path: str) -> None:
    """Measure and let rank 0 write {size: {operation: {method: µs}}} as JSON to `path`."""
    found: dict[int, dict[str, dict[str, float]]] = {}
    for size in sizes:
        found[size] = {}
        for name, methods in operations(size):
            found[size][name] = measure(methods, size, rounds)
        if WORLD.rank == 0:
            print(f"{size:>9} bytes on {WORLD.size} ranks done", file=sys.stderr, flush=True)
    if WORLD.rank == 0:
        Path(path).write_text(json.dumps({"mpi": MPI.Get_library_version(), "times": found}))


if __name__ == "__main__":
    main([int(word) for word in sys.argv[3:]], int(sys.argv[2]), sys.argv[1])
