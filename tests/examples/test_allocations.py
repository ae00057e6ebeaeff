"""A training step in steady state takes no memory for arrays: every example, on one rank and on several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import flowcore as fc
from flowcore.jit.store import is_available
from tests.allocations import Requests, requests
from tests.examples import digits
from tests.examples.programs import TINY, example

CASES = [("mlp", 1, {}), ("digits", 1, {})]
STEADY = 4
"""The step from which on all memory is there: the caller holds one loss while the next is computed."""


def steady(name: str, options: dict[str, Any]) -> Requests:
    """What this rank asks for in the last step of a run."""
    module = digits.example() if name == "digits" else example(name)
    train = module.train if name == "digits" else module.run
    given = module.Options(**{**TINY.get(name, {}), "quiet": True, "steps": STEADY + 1, **options})
    found: list[Requests] = []

    def compile(step: Callable[..., Any]) -> Any:
        compiled = plain(step)

        def call(*batch: Any) -> Any:
            with requests() as noted:
                loss = compiled(*batch)
            found.append(noted)
            return loss

        call.plan = compiled.plan  # type: ignore[attr-defined]  # as a compiled function has it
        return call

    plain, fc.compile = fc.compile, compile  # type: ignore[assignment]  # for this run
    try:
        train(given)
    finally:
        fc.compile = plain
    return found[STEADY]


@pytest.mark.skipif(not is_available(), reason="without compiled loops numpy takes temporaries of a tile each")
@pytest.mark.parametrize(("name", "ranks", "options"), CASES, ids=lambda part: str(part)[:24])
def test_a_step_in_steady_state_takes_no_memory(name: str, ranks: int, options: dict[str, Any]) -> None:
    noted = steady(name, options)
    assert noted.bytes == 0, str(noted)


def test_what_an_array_takes_is_counted() -> None:
    import numpy as np

    with requests() as noted:
        x = np.zeros(3)
        y = x[1:].reshape(2, 1)
        z = x + y
    assert (noted.bytes, len(noted.found), z.shape) == (24 + 48, 2, (2, 3))
