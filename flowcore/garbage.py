"""Python's search for cyclic garbage, put off while much is made that stays.

It goes over all objects again and again as their number grows: a quarter of the time in which a step is compiled.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class _Search:
    """Put off as long as some thread wants that; then as it was before the first of them."""

    def __init__(self) -> None:
        self.lock, self.count, self.was_on = Lock(), 0, False

    def stop(self) -> None:
        with self.lock:
            if self.count == 0:
                self.was_on = gc.isenabled()
                gc.disable()
            self.count += 1

    def go_on(self) -> None:
        with self.lock:
            self.count -= 1
            if self.count == 0 and self.was_on:
                gc.enable()


_search = _Search()


@contextmanager
def none_searched() -> Iterator[None]:
    """Inside, and while a function runs that it decorates, Python does not look for cyclic garbage."""
    _search.stop()
    try:
        yield
    finally:
        _search.go_on()
