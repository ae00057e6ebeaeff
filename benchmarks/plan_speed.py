"""How long planning takes: training steps of small networks on meshes of one and two axes, in a world without data.

    python benchmarks/plan_speed.py [--only NAME] [--mesh 2x2]

Per step: its operators, the candidates the planner chose from and the changes of layout it priced, over all searches
(also those for the bodies of loops); CPU milliseconds, caches empty, of tracing, of everything from there to the
physical graph (and of the searches in it), of the digest by which ranks compare plans, and of rank 0's program; the
bytes that the plan moves, and the digest.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import _lru_cache_wrapper, wraps
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

import gpt  # noqa: E402  # found by the line above
import training  # noqa: E402  # found by the line above

import flowcore as fc  # noqa: E402  # in its turn
from flowcore import pipeline, plan, region  # noqa: E402  # in its turn
from flowcore.comm.solo import SoloTransport  # noqa: E402  # in its turn
from flowcore.comm.transport import Buffers  # noqa: E402  # in its turn
from flowcore.compile import CompiledFunction  # noqa: E402  # in its turn
from flowcore.graph import Graph  # noqa: E402  # in its turn
from flowcore.lower import lower  # noqa: E402  # in its turn
from flowcore.placement import cost  # noqa: E402  # in its turn
from flowcore.placement.machine import Machine  # noqa: E402  # in its turn
from flowcore.world import World, activate  # noqa: E402  # in its turn
from tests.networks.test_reference import CASES, CHANNELS, COLUMNS, HEADS  # noqa: E402  # in its turn

Mesh = dict[str, int]
Step = Callable[[], Graph]
STAGES = ("trace", "compile", "search", "digest", "program")
MESHES: tuple[Mesh, ...] = ({"data": 4}, {"data": 2, "model": 2}, {"data": 2, "model": 4})


class First(SoloTransport):
    """Rank 0 of several that never come: it meets nobody, and what it receives is whatever lies there."""

    def __init__(self, size: int) -> None:
        self.size = size

    def exchange(self, sends: Buffers, receives: Buffers) -> None:
        """Return at once."""

    def barrier(self, ranks: tuple[int, ...]) -> None:
        """Return at once."""


class Traced(Exception):
    """What a function was traced to, in the place of running it."""


class Tracing(CompiledFunction[Any, Any]):
    """A compiled function that stops once it is traced."""

    def _planned(self, world: World, called: str, logical: Graph, updates: Any) -> Any:
        raise Traced(logical)


def traced(step: Callable[..., Any], *arguments: Any) -> Graph:
    """The logical graph of `step`."""
    try:
        Tracing(step, "greedy")(*arguments)
    except Traced as found:
        graph: Graph = found.args[0]
    return graph


def network(name: str, split: dict[str, Any]) -> Callable[[Mesh], Step]:
    """A network of the tests, forward and backward; `split`: its parameters on a mesh with an axis for the model."""

    def prepare(mesh: Mesh) -> Step:
        case, place = CASES[name], fc.Placement.grid(**mesh)
        model = case.model()
        model.place(place, split if "model" in mesh else {})
        x = fc.asarray(np.ones(case.shape), placement=place, sbp={"data": fc.S(0)})

        def step(x: fc.Tensor) -> fc.Tensor:
            y = model(x)
            (y * y * y).sum().backward()
            return y  # type: ignore[no-any-return]  # `case.model` makes any module

        return lambda: traced(step, x)

    return prepare


def language_model(mesh: Mesh) -> Step:
    """A step of examples/gpt.py with two blocks."""
    options = gpt.Options(layers=2, width=64, context=32, **mesh)
    place = training.mesh_of(options)
    model = gpt.GPT(options, 512)
    training.place(model, place, options, gpt.SPLITS)
    opt = training.optimizer(model, options)
    x, y = next(gpt.batches(np.arange(200) % 512, place, options))

    def step(x: fc.Tensor, y: fc.Tensor) -> fc.Tensor:
        loss = fc.nn.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        opt.zero_grad()
        return loss

    return lambda: traced(step, x, y)


STEPS = {
    "resnet block": network("resnet block", CHANNELS),
    "neural ode": network("neural ode", COLUMNS),
    "transformer block": network("transformer block", {**COLUMNS, **HEADS}),
    "gpt": language_model,
}


class Meter:
    """CPU seconds by stage, and what the planner was asked."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.steps = self.candidates = 0

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, its seconds counted; those of a stage within another count in both."""

        @wraps(call)
        def measured(*arguments: Any, **options: Any) -> Any:
            start = time.thread_time()
            try:
                return call(*arguments, **options)
            finally:
                self.seconds[name] += time.thread_time() - start

        return measured

    def counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call` on a planner's problem, whose size is counted."""

        @wraps(call)
        def measured(problem: Any) -> Any:
            self.steps += len(problem.steps)
            self.candidates += sum(len(step.candidates) for step in problem.steps)
            return call(problem)

        return measured


def forget() -> None:
    """Empty every cache of a function."""
    for found in gc.get_objects():
        if isinstance(found, _lru_cache_wrapper):
            found.cache_clear()


def measure(name: str, mesh: Mesh) -> str:
    """One line of the table."""
    meter, greedy = Meter(), plan.greedy
    with activate(World(First(int(np.prod(list(mesh.values())))))):
        step = STEPS[name](mesh)
        forget()
        logical = meter.timed("trace", step)()
    plan.greedy = meter.timed("search", meter.counted(greedy))
    try:
        graph = meter.timed("compile", pipeline.physical)(logical, Machine())
    finally:
        plan.greedy = greedy
    priced = cost.received_bytes.cache_info().misses
    digest = meter.timed("digest", lambda: graph.digest)() & 0xFFFFFFFF
    meter.timed("program", lower)(graph, 0, pipeline.LOCAL)
    sizes = "x".join(map(str, mesh.values()))
    times = ", ".join(f"{stage} {meter.seconds[stage] * 1e3:.0f} ms" for stage in STAGES)
    return (
        f"{name:18} {sizes:4} {len(logical.nodes):5} operators, {meter.candidates:6} candidates of {meter.steps:5} "
        f"steps, {priced:5} priced; {times}; {region.moved_bytes(graph)} B, {digest:08x}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=STEPS, help="one step")
    parser.add_argument("--mesh", help="one mesh, as 2x2")
    chosen = parser.parse_args()
    for mesh in MESHES:
        for name in STEPS:
            if chosen.only in (None, name) and chosen.mesh in (None, "x".join(map(str, mesh.values()))):
                print(measure(name, mesh), flush=True)
