"""One training process of the benchmark: a model trained by flowcore or by a rival, timed, as a file of JSON.

    python benchmarks/contenders.py NAME MODEL STEPS THREADS RANKS FOLDER

Every process writes to FOLDER/RANK.json the losses of the first steps, the median seconds of a step (by the clock, and
of processor time of all its threads), the seconds from before the framework is imported to the first loss, the most
memory that was resident, and its share of the resident memory at the end: pages that several processes map count
once, in parts.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import workloads

WARM = 3
KEPT_LOSSES = 6
CONTENDERS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "flowcore": ("in_flowcore", {}),
    "flowcore bf16": ("in_flowcore", {"precision": "bf16"}),
    "torch": ("in_torch", {}),
    "torch channels-last": ("in_torch", {"is_channels_last": True}),
    "torch.compile": ("in_torch", {"is_compiled": True}),
    "torch bf16": ("in_torch", {"precision": "bf16"}),
    "torch DDP": ("in_torch", {"way": "ddp"}),
    "torch FSDP2": ("in_torch", {"way": "fsdp"}),
    "torch tensor parallel": ("in_torch", {"way": "tensor"}),
    "jax": ("in_jax", {}),
}
"""The module that trains, and its options."""


def shared_bytes() -> int:
    """This process's share of the memory that is resident now; 0 where the system does not tell."""
    path = Path("/proc/self/smaps_rollup")
    lines = path.read_text().splitlines() if path.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def main(name: str, model: str, steps: int, threads: int, ranks: int, folder: Path) -> None:
    """Train and write what was measured."""
    if threads * ranks == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    began = time.perf_counter()
    module, options = CONTENDERS[name]
    step, rank = import_module(module).train(workloads.WORKLOADS[model], ranks, **options)
    losses, seconds, busy = [step(0)], list[float](), list[float]()
    first = time.perf_counter() - began
    for number in islice(cycle(range(workloads.BATCHES)), 1, steps + WARM):
        start, worked = time.perf_counter(), time.process_time()
        losses.append(step(number))
        seconds.append(time.perf_counter() - start)
        busy.append(time.process_time() - worked)
    times = {"seconds": median(seconds[WARM:] or [0.0]), "busy": median(busy[WARM:] or [0.0]), "first": first}
    memory = {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "share": shared_bytes()}
    (folder / f"{rank}.json").write_text(json.dumps({"losses": losses[:KEPT_LOSSES], **memory, **times}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *(int(text) for text in sys.argv[3:6]), Path(sys.argv[6]))
