"""What a training step of each example asks for in steady state, for the tests of all transports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import local
from typing import Any

import flowcore as fc
from tests.allocations import Requests, requests
from tests.examples import digits
from tests.examples.programs import TINY, example

SINGLE: list[tuple[str, int, dict[str, Any]]] = [(name, 1, {}) for name in ("digits", *TINY)]
SEVERAL: list[tuple[str, int, dict[str, Any]]] = [
    ("mlp", 3, {"zero": 1, "dtype": "float32"}), ("gpt", 2, {"zero": 3}), ("resnet", 2, {}),
    ("wide_deep", 2, {"zero": 3}),
]  # fmt: skip
STEADY = 4
"""The step from which on all memory is there: the caller holds one loss while the next is computed."""


class _Counted:
    """A compiled step that notes what every call asks for."""

    def __init__(self, step: Callable[..., Any]) -> None:
        self.step, self.plan = step, step.plan  # type: ignore[attr-defined]  # a compiled function has one
        self.found: list[Requests] = []
        _here.step = self

    def __call__(self, *batch: Any) -> Any:
        self.batch = batch
        with requests() as noted:
            loss = self.step(*batch)
        self.found.append(noted)
        return loss


_here = local()


@contextmanager
def counting() -> Iterator[None]:
    """Inside, the steps that examples compile are counted, on the ranks of all threads."""
    plain = fc.compile
    fc.compile = lambda step, **options: _Counted(plain(step, **options))  # type: ignore[assignment]  # as examples do
    try:
        yield
    finally:
        fc.compile = plain


def asked(name: str, options: dict[str, Any]) -> tuple[Requests, fc.Plan]:
    """What this rank asks for in a step in steady state, and the plan of that step; inside `counting`."""
    module = digits.example() if name == "digits" else example(name)
    train = module.train if name == "digits" else module.run
    train(module.Options(**{**TINY.get(name, {}), "quiet": True, "steps": STEADY + 1, "dtype": "float64", **options}))
    step: _Counted = _here.step
    return step.found[STEADY], step.plan(*step.batch)
