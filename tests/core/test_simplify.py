"""Folding and simplification: the value stays what it was, bit for bit, and what can go is gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flowcore as fc
from flowcore.graph import Graph
from flowcore.passes.cse import cse
from flowcore.passes.dce import dce
from flowcore.passes.fold import fold
from flowcore.passes.inline import inline
from flowcore.passes.simplify import simplify
from flowcore.staging import replay

Array = np.ndarray[Any, Any]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, np.inf, -np.inf, np.nan, 1e-310, 1e-45, 3e38, 1e308]
CONSTANTS = [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, np.inf, np.nan]


def cleaned(graph: Graph) -> Graph:
    """`graph` after the passes on trial."""
    return dce(cse(simplify(fold(cse(inline(graph))))))


def nodes(graph: Graph) -> str:
    """The operators of a graph, in order."""
    return " ".join(node.op.name for node in graph.nodes)


def values(graph: Graph, arrays: Sequence[Array]) -> list[Array]:
    """What a graph gives for these inputs, operator by operator."""
    with np.errstate(all="ignore"):
        return [tensor.numpy() for tensor in replay(graph, [fc.asarray(array) for array in arrays])]


def assert_same(found: Array, wanted: Array) -> None:
    """Equal bit for bit, but for which nan it is."""
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    np.testing.assert_array_equal(found, wanted)
    numbers = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(found)[numbers], np.signbit(wanted)[numbers])


Step = Callable[[Callable[[st.SearchStrategy[Any]], Any], fc.Tensor, fc.Tensor], fc.Tensor]
SHAPE = (2, 3)
STEPS: dict[str, Step] = {
    "add": lambda draw, a, b: a + b,
    "subtract": lambda draw, a, b: a - b,
    "multiply": lambda draw, a, b: a * b,
    "divide": lambda draw, a, b: a / b,
    "scale": lambda draw, a, b: a * draw(st.sampled_from(CONSTANTS)),
    "shift": lambda draw, a, b: a + draw(st.sampled_from(CONSTANTS)),
    "less": lambda draw, a, b: a - draw(st.sampled_from(CONSTANTS)),
    "over": lambda draw, a, b: a / draw(st.sampled_from(CONSTANTS)),
    "first power": lambda draw, a, b: a**1,
    "negative": lambda draw, a, b: -a,
    "constant": lambda draw, a, b: fc.full(SHAPE, draw(st.sampled_from(CONSTANTS)), dtype=a.dtype),
    "where": lambda draw, a, b: fc.where(fc.full((), draw(st.booleans()), dtype="bool"), a, b),
    "condition": lambda draw, a, b: fc.where(a > b, a, b),
    "reshape": lambda draw, a, b: a.reshape((6,)).reshape((3, 2)).reshape(SHAPE),
    "transpose": lambda draw, a, b: fc.permute_dims(fc.permute_dims(a, (1, 0)), (1, 0)),
    "broadcast": lambda draw, a, b: fc.broadcast_to(a[:1], SHAPE) * b,
    "one": lambda draw, a, b: fc.permute_dims(fc.reshape(a, (1, 2, 3)), (1, 0, 2)).reshape(SHAPE),
    "wider": lambda draw, a, b: a.astype("float64").astype(a.dtype),
    "narrower": lambda draw, a, b: a.astype("float32").astype(a.dtype),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(max_examples=150)
@given(data=st.data())
def test_any_graph_keeps_its_value(dtype: str, data: st.DataObject) -> None:
    choices = st.lists(st.tuples(st.sampled_from(list(STEPS)), st.integers(0, 9), st.integers(0, 9)), max_size=8)
    steps = data.draw(choices)
    with np.errstate(all="ignore"):
        drawn = st.lists(st.sampled_from(SPECIAL), min_size=6, max_size=6)
        arrays = [np.array(data.draw(drawn)).astype(dtype).reshape(SHAPE) for _ in range(2)]

    def f(x: fc.Tensor, y: fc.Tensor) -> fc.Tensor:
        held = [x, y]
        for name, one, other in steps:
            held.append(STEPS[name](data.draw, held[-1 - one % len(held)], held[-1 - other % len(held)]))
        return held[-1] + 0.5

    graph = fc.compile(f).graph(*map(fc.asarray, arrays))
    after = cleaned(graph)
    assert len(after.nodes) <= len(graph.nodes) + len(steps)
    (found,), (wanted,) = values(after, arrays), values(graph, arrays)
    assert_same(found, wanted)


X = np.array([[1.5, -0.0, np.inf], [np.nan, 1e-310, -2.0]])
GONE: dict[str, tuple[Callable[[fc.Tensor], fc.Tensor], str]] = {
    "x * 1": (lambda x: 1 * x * 1.0, ""),
    "x / 1": (lambda x: x / 1, ""),
    "x - 0.0": (lambda x: x - 0.0, ""),
    "x + -0.0": (lambda x: x + -0.0, ""),
    "x ** 1": (lambda x: x**1, ""),
    "x ** 2": (lambda x: x**2, "multiply"),
    "a double negative": (lambda x: fc.negative(-x), ""),
    "x * -1": (lambda x: x * -1, "negative"),
    "x - (-x)": (lambda x: x - (-x), "add"),
    "x + (-x)": (lambda x: x + (-x), "subtract"),
    "where(True)": (lambda x: fc.where(fc.full((), True, dtype="bool"), x, x * 3), ""),
    "reshape to itself": (lambda x: x.reshape((3, 2)).reshape((2, 3)), ""),
    "one reshape": (lambda x: x.reshape((3, 2)).reshape((6, 1)), "reshape"),
    "two transposes": (lambda x: fc.permute_dims(fc.permute_dims(x, (1, 0)), (1, 0)), ""),
    "a transpose of ones": (lambda x: fc.permute_dims(x.reshape((2, 1, 3)), (1, 0, 2)), "reshape"),
    "casts there and back": (lambda x: x.astype("complex128").real, "cast real"),
    "a cast to itself": (lambda x: x.astype("float32").astype("float64").astype("float64"), "cast cast"),
    "a wider cast": (lambda x: (x > 0).astype("int32").astype("int64").astype("int8"), "full greater cast cast"),
    "two broadcasts": (lambda x: fc.broadcast_to(fc.broadcast_to(x[:1, :1], (1, 3)), (4, 3)), "slice broadcast_to"),
    "a broadcast read": (lambda x: x * fc.broadcast_to(x[:1], (2, 3)), "slice multiply"),
    "constants": (lambda x: x * (fc.full((2, 3), 2.0, dtype="float64") * 3 + 1), "full multiply"),
    "the gradient of a square": (lambda x: fc.grad(lambda z: fc.sum(z**2))(x), "full multiply"),
}


@pytest.mark.parametrize("name", GONE)
def test_what_can_go_is_gone(name: str) -> None:
    f, wanted = GONE[name]
    graph = fc.compile(f).graph(fc.asarray(X))
    after = cleaned(graph)
    assert nodes(after) == wanted
    for found, value in zip(values(after, [X]), values(graph, [X]), strict=True):
        assert_same(found, value)


KEPT: dict[str, Callable[[fc.Tensor], fc.Tensor]] = {
    "x + 0.0 of -0.0": lambda x: x + 0.0,
    "x * 0 of nan": lambda x: x * 0,
    "x - x of inf": lambda x: x - x,
    "scalings that overflow": lambda x: x * 1e200 * 1e200 * 1e-200,
    "a narrower cast": lambda x: x.astype("float32").astype("float64"),
    "integers that floats cannot hold": lambda x: fc.full((2, 3), 2**53 + 1, dtype="int64") * (x > 0).astype("int64"),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_would_change_a_value_stays(name: str) -> None:
    graph = fc.compile(KEPT[name]).graph(fc.asarray(X))
    after = cleaned(graph)
    assert after.nodes
    for found, value in zip(values(after, [X]), values(graph, [X]), strict=True):
        assert_same(found, value)


def noisy(x: fc.Tensor, w: fc.Tensor) -> fc.Tensor:
    """A loss whose gradient a person would write shorter than the chain rule does."""
    y = fc.permute_dims(fc.permute_dims(x @ w, (1, 0)) * 1.0, (1, 0))
    return fc.mean((y - 0.0) ** 2 + fc.negative(-y))


def test_the_gradient_of_a_loss_is_what_a_person_would_write() -> None:
    f = fc.compile(lambda x, w: fc.grad(noisy, 1)(x, w))
    graph = f.graph(fc.ones((4, 3)), fc.ones((3, 2)))
    # (2 y + 1) / 8, multiplied by x
    names = [node.op.name for node in cleaned(graph).nodes if node.op.name != "full"]
    assert names == ["contract", "multiply", "multiply", "add", "contract"]


def both(x: fc.Tensor, w: fc.Tensor) -> fc.Tensor:
    """The same transfers asked for twice, of equal values that are computed twice."""
    one, other = ((x * 2).to_global(sbp="B") for _ in range(2))
    return one @ w.to_global(sbp="B") + other @ w.to_global(sbp="B")


def test_equal_boxings_are_one() -> None:
    def plan() -> fc.Plan:
        return fc.compile(both).plan(fc.asarray(np.ones((4, 4)), sbp="S0"), fc.asarray(np.ones((4, 4)), sbp="S1"))

    found = fc.launch.run(plan, ranks=2)[0]
    assert len(found.transfers) == 2 == len({str(transfer.source) for transfer in found.transfers})
