"""Functions of tensors → functions that also take arrays of numpy."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from flowcore.dispatch import asarray

P = ParamSpec("P")
R = TypeVar("R")


def takes_arrays(f: Callable[P, R]) -> Callable[P, R]:
    """`f`, with tensors for the arrays of numpy among its arguments."""

    @wraps(f)
    def taking(*arguments: Any, **options: Any) -> R:
        return f(*map(_adopted, arguments), **{name: _adopted(value) for name, value in options.items()})

    return taking


def _adopted(x: Any) -> Any:
    return asarray(x) if isinstance(x, np.ndarray) else x
