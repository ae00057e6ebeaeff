"""The training examples as modules, and the strategies under which the tests run them at tiny sizes."""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import flowcore as fc
from flowcore.comm.solo import SoloTransport
from flowcore.comm.transport import Buffers
from flowcore.compile import CompiledFunction
from flowcore.footprint import Footprint
from flowcore.graph import Graph
from flowcore.pipeline import physical
from flowcore.placement.machine import Machine
from flowcore.world import World, activate
from tests.allocations import Requests
from tests.examples.counted import counting, last

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
STEPS = 20
TINY: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": 12, "batch": 10},
    "gpt": {"layers": 1, "heads": 4, "width": 8, "context": 6, "vocabulary": 200, "batch": 5},
    "resnet": {"width": 4, "pixels": 8, "batch": 6},
    "wide_deep": {"rows": 1000, "width": 4, "fields": 3, "hidden": 8, "batch": 10},
}
STRATEGIES: dict[str, tuple[int, dict[str, Any]]] = {
    "data": (3, {}),
    "data4": (4, {}),
    "model": (2, {"model": 2}),
    "data_model": (4, {"data": 2, "model": 2}),
    "zero1": (3, {"zero": 1}),
    "zero2": (2, {"zero": 2}),
    "zero3": (2, {"zero": 3}),
    "zero3_model": (4, {"data": 2, "model": 2, "zero": 3}),
}
CASES = [
    *((name, strategy, *case) for name in TINY for strategy, case in STRATEGIES.items()),
    ("gpt", "sequence", 2, {"model": 2, "sequence": True}),
    ("resnet", "spatial", 3, {"model": 3, "spatial": True}),
    ("gpt", "eager", 2, {"eager": True}),
    ("wide_deep", "columns", 3, {"model": 3, "columns": True}),
    *(
        ("wide_deep", f"{tables}_{strategy}", ranks, {"tables": tables, **options})
        for tables in ("adagrad", "sparse_adam")
        for strategy, ranks, options in (("data", 2, {}), ("model", 3, {"model": 3}), ("zero3", 2, {"zero": 3}))
    ),
]


class First(SoloTransport):
    """Rank 0 of several that never come: it meets nobody, and what it receives is whatever lies there."""

    def __init__(self, size: int) -> None:
        self.size = size

    def meet(self, ranks: tuple[int, ...], digest: int, lines: Callable[[], list[str]]) -> None:
        """Return at once."""

    def exchange(self, sends: Buffers, receives: Buffers) -> None:
        """Return at once."""

    def barrier(self, ranks: tuple[int, ...]) -> None:
        """Return at once."""

    def gather_objects(self, ranks: Sequence[int], value: Any) -> list[Any]:
        """All ranks gave the same."""
        return [value] * len(ranks)


@cache
def example(name: str) -> ModuleType:
    """The module of an example; beside it stands what it shares with the others."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(EXAMPLES))


@cache
def watched(name: str, ranks: int, **options: Any) -> list[tuple[Any, Requests | None, Footprint | None]]:
    """Per rank what a quiet run in float64 gives, what its last step asked for, and what its program holds.

    None for what is not compiled.
    """
    module = example(name)
    given = module.Options(**{**TINY[name], "steps": STEPS, "dtype": "float64", "quiet": True, **options})

    def run() -> tuple[Any, Requests | None, Footprint | None]:
        report = module.run(given)
        return (report, None, None) if report.plan is None else (report, last().found[-1], last().held)

    with counting():
        return fc.launch.run(run, ranks=ranks)


def reports(name: str, ranks: int, **options: Any) -> list[Any]:
    """What a quiet run in float64 gives on every rank."""
    return [report for report, *_ in watched(name, ranks, **options)]


def reference(name: str, options: Mapping[str, Any]) -> list[float]:
    """The losses of one rank, operator by operator, with those of `options` that choose what is trained, not how."""
    same = {key: value for key, value in options.items() if key == "tables"}
    return list(reports(name, 1, eager=True, **same)[0].losses)


@cache
def planned(name: str, ranks: int, hosts: tuple[int, ...] = (), **options: Any) -> fc.Plan:
    """The plan of a step of an example, without training it."""
    logical, updates = _step(name, ranks, **options)
    machine = Machine(hosts=hosts)
    return fc.Plan(physical(logical, machine), machine, updates)


class _Traced(Exception):
    """What a step was traced to, in the place of planning it."""


@cache
def _step(name: str, ranks: int, **options: Any) -> tuple[Graph, tuple[tuple[int, int], ...]]:
    """The logical graph of a step of an example, and which outputs replace which inputs, in a world without data."""

    def stop(compiled: Any, world: World, called: str, logical: Graph, updates: Any) -> Any:
        raise _Traced(logical, updates)

    module = example(name)
    given = module.Options(**{**TINY[name], "steps": 1, "dtype": "float64", "quiet": True, **options})
    with activate(World(First(ranks))), patch.object(CompiledFunction, "_planned", stop):
        try:
            module.run(given)
        except _Traced as found:
            logical, updates = found.args
            return logical, updates
    raise AssertionError(f"{name} compiled no step")
