"""What flowcore costs beside the arithmetic: importing it, an eager addition, and a compiled training step, by stage.

    python benchmarks/overhead.py

Everything is measured in one run, in turn with numpy's own figure, as the median of several rounds.
"""

from __future__ import annotations

import subprocess
import sys
import time
import timeit
from collections.abc import Callable
from statistics import median

import in_flowcore
import numpy as np
import workloads

import flowcore as fc
from flowcore.dispatch import apply, operands
from flowcore.ops.arithmetic import Add
from flowcore.stretch import Stretch
from flowcore.world import current

ROUNDS = 9
IMPORT = "import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"


def seconds_to_import(module: str) -> float:
    """Seconds that a fresh interpreter takes to import `module`."""
    run = subprocess.run(
        [sys.executable, "-c", IMPORT.format(module=module)], capture_output=True, text=True, check=True
    )
    return float(run.stdout)


def microseconds(call: Callable[[], object], number: int = 5000) -> float:
    """Microseconds of processor time of one call: what other processes take of the machine is not in it."""
    return timeit.timeit(call, number=number, timer=time.process_time) / number * 1e6


def imports() -> None:
    """Print both import times and their ratio."""
    seconds_to_import("flowcore")  # the first import writes the bytecode
    pairs = [(seconds_to_import("numpy"), seconds_to_import("flowcore")) for _ in range(ROUNDS)]
    plain, ours = (median(column) for column in zip(*pairs, strict=True))
    ratio = median(mine / theirs for theirs, mine in pairs)
    print(f"import numpy {plain * 1e3:.0f} ms, import flowcore (numpy included) {ours * 1e3:.0f} ms: {ratio:.2f} ×")


def eager_add() -> None:
    """Print what a + b costs on one rank, and where the time goes."""
    x = np.ones((4, 4), np.float32)
    a, b = fc.asarray(x), fc.asarray(x)
    op, world = Add(), current()
    program = world.eager[(op, None, a.value, b.value)] if (a + b) is not None else None
    stages: dict[str, Callable[[], object]] = {
        "numpy: x + x": lambda: x + x,
        "flowcore: a + b": lambda: a + b,
        "  of which apply (look-up, run, wrap)": lambda: apply(op, a, b),
        "    of which the prepared program": lambda: program.run(world, [a.block, b.block]),
        "  of which the operands": lambda: operands(a, b),
    }
    rounds = [{name: microseconds(call) for name, call in stages.items()} for _ in range(ROUNDS)]
    for name in stages:
        print(f"{name:40} {median(found[name] for found in rounds):6.2f} µs")


def compiled_step() -> None:
    """Print what a compiled training step of the smallest MLP costs, and how much of it is not its kernels."""
    step, _ = in_flowcore.train(workloads.WORKLOADS["tiny"], 1)
    for number in range(workloads.BATCHES):
        step(number)
    variants = [each for function in current().compiled for each in function.variants(current())]
    joined = max((each.program.joined for each in variants), key=lambda joined: len(joined.calls))
    stretches = [call for call in joined.calls if isinstance(call, Stretch)]
    rows = sum(len(stretch.rows) for stretch in stretches)
    pairs = []
    for _ in range(ROUNDS):
        whole = microseconds(lambda: step(0), 1000)
        pairs.append((whole, sum(microseconds(stretch.table.run, 1000) for stretch in stretches)))
    whole, kernels = (median(column) for column in zip(*pairs, strict=True))
    outside = median(mine - theirs for mine, theirs in pairs)
    print(f"training step of the MLP 64-64-10, batch 32: {whole:.1f} µs, {kernels:.1f} µs of it in {rows} kernels")
    print(f"overhead per executed operator: {outside / max(rows, 1):.2f} µs")


if __name__ == "__main__":
    imports()
    eager_add()
    compiled_step()
