"""What a step of each benchmark costs besides its kernels, as counts: calls before and after fusion, and of Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

import flowcore as fc
from flowcore.convolved import is_available
from flowcore.stretch import Stretch
from tests.sharing import programs

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SIZES = {"wide_deep": {"rows": 5000, "batch": 64}}
"""Sizes of fewer bytes, of which no count depends."""
JOINED = ("tiny", "mlp")
"""The models whose steps are compiled here: of the others that takes long."""


class Planned:
    """A compiled step that is planned where it would run."""

    def __init__(self, step: Any) -> None:
        self.step = step
        self.plan: fc.Plan | None = None

    def __call__(self, *batch: Any) -> fc.Tensor:
        self.plan = self.step.plan(*batch)
        return fc.zeros(())


def counted(name: str, trainer: Any, workload: Any) -> str:
    """The counts of the step of a model."""
    found: list[Planned] = []
    plain = fc.compile
    with patch.object(fc, "compile", lambda: lambda step: found.append(Planned(plain(step))) or found[0]):
        step, _ = trainer.train(replace(workload, **SIZES.get(name, {})), 1)
    step(0)
    (made,) = found
    assert made.plan is not None
    lines = [f"{name}: {made.plan.fusion}"]
    if name in JOINED:
        (program,) = programs(made.step)
        calls = [call for call in program.joined.calls if call is not None]
        kernels = [len(call.rows) for call in calls if isinstance(call, Stretch)]
        lines.append(f"  {len(calls)} calls of Python, {len(kernels)} of them for {sum(kernels)} kernels")
    return "\n".join(lines)


@pytest.mark.skipif(not is_available(), reason="numba, or a BLAS of numpy's that is known, is not installed")
def test_steps_take_as_many_calls_as_before(
    golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    found = [
        fc.launch.run(counted, ranks=1, args=(name, import_module("in_flowcore"), workload))[0]
        for name, workload in import_module("workloads").WORKLOADS.items()
    ]
    golden("overhead", "\n".join(found))
