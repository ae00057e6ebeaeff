"""What a training step of each example asks for in steady state, for the tests of all transports."""

from __future__ import annotations

from typing import Any

import flowcore as fc
from tests.allocations import Requests
from tests.examples import digits
from tests.examples.counted import last
from tests.examples.programs import TINY, example

SINGLE: list[tuple[str, int, dict[str, Any]]] = [(name, 1, {}) for name in ("digits", *TINY)]
SEVERAL: list[tuple[str, int, dict[str, Any]]] = [
    ("mlp", 3, {"zero": 1, "dtype": "float32"}), ("gpt", 2, {"zero": 3}), ("resnet", 2, {}),
    ("wide_deep", 2, {"zero": 3}),
]  # fmt: skip
HOSTS: list[tuple[str, int, dict[str, Any]]] = [
    ("mlp", 3, {"zero": 1}), ("gpt", 2, {"model": 2, "sequence": True}), ("wide_deep", 2, {"zero": 3}),
]  # fmt: skip
"""On two hosts, between which messages go."""
STEADY = 4
"""The step from which on all memory is there: the caller holds one loss while the next is computed."""


def asked(name: str, options: dict[str, Any]) -> tuple[Requests, fc.Plan]:
    """What this rank asks for in a step in steady state, and the plan of that step; inside `counted.counting`."""
    module = digits.example() if name == "digits" else example(name)
    train = module.train if name == "digits" else module.run
    train(module.Options(**{**TINY.get(name, {}), "quiet": True, "steps": STEADY + 1, "dtype": "float64", **options}))
    step = last()
    return step.found[STEADY], step.plan(*step.batch)
