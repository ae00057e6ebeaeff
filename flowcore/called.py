"""What functions can be compiled, and a call of one as text, by which ranks that disagree name what differs."""

from __future__ import annotations

import re
from collections.abc import Callable
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction, signature
from typing import Any

import numpy as np

from flowcore.errors import TraceError
from flowcore.planned import Plan
from flowcore.tensor import Tensor
from flowcore.tree import replaced

SHOWN = 80
"""The most characters of an argument."""
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class _Shown(str):
    """Text that stands for itself in the text of a tree."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def call_text(function: Callable[..., Any], name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> str:
    """As in `step(x=float32[4,3] [0 1|x=2]:S0, scale=2.0)`: of tensors type and layout, of all else the value."""
    try:
        given = signature(function).bind(*arguments, **options).arguments
    except (TypeError, ValueError):  # what has no signature, or is about to fail for that
        given = {**{str(place): value for place, value in enumerate(arguments)}, **options}
    return f"{name}({', '.join(f'{key}={_text(value)}' for key, value in given.items())})"


def _text(value: Any) -> str:
    # where an object lies differs between ranks that agree
    text = ADDRESS.sub("", repr(replaced(value, (Tensor, np.ndarray), _kind)))
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _kind(value: Any) -> _Shown:
    if isinstance(value, Tensor):
        return _Shown(f"{value.value.type} {value.value.layout}")
    return _Shown(f"{value.dtype}[{','.join(map(str, value.shape))}]")


def numbered(done: list[str], call: str, plan: Plan) -> list[str]:
    """What ranks have `done`, `call` and the lines of `plan`: by their positions ranks find the first that differs."""
    first = int(done[-1].split(" ", 1)[0]) + 1 if done else 0
    return [*done, *(f"{at} {line.strip()}" for at, line in enumerate([call, *plan.text().splitlines()], first))]


def traceable(function: Any) -> Any:
    """`function`; TraceError unless a call of it runs it to its end, so that there is something to trace."""
    if not callable(function):
        raise TraceError(f"fc.compile of {function!r}: give it a function; options have names, as in plan='strict'")
    if isgeneratorfunction(function) or iscoroutinefunction(function) or isasyncgenfunction(function):
        raise TraceError(
            f"fc.compile of {function!r}: generators and coroutines run after the call: give it a function that returns"
        )
    return function
