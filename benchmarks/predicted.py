"""The seconds that a plan predicts for a training step beside those that the step takes, on this machine as measured.

    flowcore run -n 2 benchmarks/predicted.py
    flowcore run -n 2 benchmarks/predicted.py gpt --steps 10

Machine figures are measured first (as `flowcore bench comm` does), the plan is made for them. A ratio above 1: the step
takes longer than predicted. The prediction knows the arithmetic of products, the bytes that kernels touch, and
meetings; it knows neither caches nor how far a kernel is from the fastest one.
"""

from __future__ import annotations

import argparse
import time
from itertools import cycle, islice
from statistics import median

import in_flowcore
import workloads

from flowcore.comm.calibrate import measure
from flowcore.planned import Plan
from flowcore.world import current

WARM = 3


def plan_of() -> Plan:
    """The plan of the largest step compiled so far."""
    kept = [found.plan for function in current().compiled for found in function.variants(current())]
    plan: Plan = max(kept, key=lambda plan: len(plan.graph.nodes))
    return plan


def compare(model: str, steps: int) -> None:
    """Print a line on rank 0."""
    world = current()
    world.compiled.clear()
    step, rank = in_flowcore.train(workloads.WORKLOADS[model], world.size)
    taken = []
    for number in islice(cycle(range(workloads.BATCHES)), steps + WARM):
        began = time.perf_counter()
        step(number)
        taken.append(time.perf_counter() - began)
    told, found = plan_of().step_seconds, median(taken[WARM:])
    parts = ", ".join(f"{name} {getattr(told, name) * 1e3:.2f}" for name in ("computing", "meeting", "waiting"))
    if rank == 0:
        print(
            f"{model:10} {world.size} ranks: predicted {told.total * 1e3:8.2f} ms ({parts}), "
            f"measured {found * 1e3:8.2f} ms, ratio {found / told.total:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help=f"of {', '.join(workloads.WORKLOADS)} (default: mlp gpt)")
    parser.add_argument("--steps", type=int, default=10)
    chosen = parser.parse_args()
    current().machine = measure(current().transport)
    for name in chosen.models or ("mlp", "gpt"):
        compare(name, chosen.steps)
