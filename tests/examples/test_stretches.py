"""A training step on one rank is one table of compiled kernels: Python calls nothing between them."""

from __future__ import annotations

import pytest

import flowcore as fc
from flowcore.jit.library import has_gemm
from flowcore.jit.store import is_available
from flowcore.runtime import Program
from flowcore.stretch import Stretch
from flowcore.world import current
from tests.examples.programs import example


def largest() -> Program:
    """The program of most instructions that this rank has compiled."""
    programs: list[Program] = [each.program for f in current().compiled for each in f.variants(current())]
    return max(programs, key=lambda program: len(program.instructions))


SIZES = {
    "mlp": {"hidden": 32, "batch": 64},
    "gpt": {"layers": 1, "heads": 4, "width": 32, "context": 16, "vocabulary": 200, "batch": 4},
}
"""So large that chains of operators are joined."""


def calls_of_a_step(name: str) -> list[str]:
    """What Python calls in a step of an example: "stretch", or the operator."""
    module = example(name)
    current().compiled = set()  # which keeps what the example lets go of
    module.run(module.Options(**{**SIZES[name], "quiet": True, "steps": 2}))
    joined = largest().joined
    pairs = [(call, each) for call, each in zip(joined.calls, joined.instructions, strict=True) if call]
    return [
        "stretch" if isinstance(call, Stretch) else each.node.op.text() if each.node else "" for call, each in pairs
    ]


@pytest.mark.skipif(not (is_available() and has_gemm()), reason="numba, or a BLAS that is known, is not installed")
@pytest.mark.parametrize("name", list(SIZES))
def test_a_training_step_is_one_stretch_of_compiled_kernels(name: str) -> None:
    (calls,) = fc.launch.run(calls_of_a_step, ranks=1, args=(name,))
    assert calls == ["stretch"]
