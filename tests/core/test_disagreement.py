"""Ranks that call a compiled function with different arguments are told which, by every rank, and where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.graph import Value
from flowcore.op import Type


def scaled(x: fc.Tensor, scale: float = 1.0) -> fc.Tensor:
    return fc.sum(fc.exp(x) * scale)


def parts(shape: tuple[int, ...], dtype: str = "float32", sbp: str = "S0") -> fc.Tensor:
    """A tensor that may differ between ranks, which have done nothing else that differs."""
    layout = fc.Layout(fc.Placement(fc.world_size()), sbp).of(len(shape))
    held = tuple(stop - start for start, stop in layout.box(shape, fc.rank()))
    return fc.Tensor(Value(Type(shape, np.dtype(dtype)), layout.placement, layout.sbp), np.ones(held, dtype))


DIFFERENT: dict[str, tuple[Callable[[int], tuple[Any, ...]], str, str]] = {
    "the shape": (lambda r: (parts((4 + r, 3)),), "x=float32[4,3]", "x=float32[5,3]"),
    "the dtype": (lambda r: (parts((4, 3), ("float32", "int64")[r]),), "x=float32[4,3]", "x=int64[4,3]"),
    "the layout": (lambda r: (parts((4, 3), sbp=("S0", "S1")[r]),), ":S0", ":S1"),
    "a number": (lambda r: (parts((4, 3)), 0.5 + r), "scale=0.5", "scale=1.5"),
}


def told(call: Callable[[Any], Any], hosts: int) -> list[fc.FlowcoreError]:
    """What each of two ranks raises where they call a compiled function."""

    def run() -> fc.FlowcoreError:
        with pytest.raises(fc.FlowcoreError) as caught:
            call(fc.compile(scaled))
        return caught.value

    return fc.launch.run(run, ranks=2, hosts=hosts, timeout=20)


@pytest.mark.parametrize("hosts", [1, 2])
@pytest.mark.parametrize("is_known", [False, True], ids=["both trace", "one knows its arguments"])
@pytest.mark.parametrize("what", DIFFERENT)
def test_the_argument_that_differs_is_named_with_both_values_and_the_line(
    what: str, is_known: bool, hosts: int
) -> None:
    make, first, second = DIFFERENT[what]

    def call(function: Any) -> None:
        if is_known:
            function(*make(0))
        function(*make(fc.rank())).item()

    for error in told(call, hosts):
        assert type(error) is fc.DivergenceError
        said = str(error).partition("rank 1 says")
        assert "scaled(x=" in said[0] and first in said[0], said
        assert "scaled(x=" in said[2] and second in said[2], said
        assert said[0].count("test_disagreement.py:") == said[2].count("test_disagreement.py:") == 1


@pytest.mark.parametrize("make", [tuple, object], ids=["without objects", "with an object, which lies elsewhere"])
def test_functions_that_differ_inside_are_told_by_the_operator(make: Callable[[], Any]) -> None:
    def call(_: Any) -> None:
        fc.compile(lambda x, _: fc.sum(fc.exp(x) if fc.rank() else fc.tanh(x)))(parts((4, 3)), make())

    for error in told(call, 1):
        assert type(error) is fc.DivergenceError and "exp" in str(error) and "tanh" in str(error)
