"""Steps that examples compile, with what every call of them asks for and what the rank's program holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import local
from typing import Any

import flowcore as fc
from flowcore.footprint import Footprint, measured
from tests.allocations import Requests, requests
from tests.sharing import programs


class Counted:
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

    @property
    def held(self) -> Footprint:
        """By the program of this very rank."""
        return measured(programs(self.step)[-1], fc.rank())


_here = local()


@contextmanager
def counting() -> Iterator[None]:
    """Inside, the steps that examples compile are counted, on the ranks of all threads."""
    plain = fc.compile
    fc.compile = lambda step, **options: Counted(plain(step, **options))  # type: ignore[assignment]  # as examples do
    try:
        yield
    finally:
        fc.compile = plain


def last() -> Counted:
    """The step that this rank compiled last."""
    found: Counted = _here.step
    return found
