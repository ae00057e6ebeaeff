"""An error leaves parameters and states as they were, wherever in the step it is raised, on every rank."""

from __future__ import annotations

import ast
import inspect
import textwrap

import numpy as np
import pytest

import flowcore as fc
from flowcore.op import OPS, Op
from flowcore.passes.checks import checks_first, may_raise

CHECKED = ("raise ", "positions(")


@pytest.mark.parametrize("name", OPS)
def test_an_operator_that_may_refuse_values_says_so(name: str) -> None:
    cls = OPS[name]
    if cls.kernel is Op.kernel or cls.bodies or name == "box":
        return
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls.kernel)))
    text = ast.unparse(tree)
    # an argmax of windows that lie outside depends on no value: it raises in every step or in none
    may = any(word in text for word in CHECKED) and name != "window_argmax"
    assert not may or cls.checks is not Op.checks


def trained(ranks: int, width: int) -> list[bool]:
    """Whether parameters and states are as before after a step that raised, and change in one that does not."""

    def program() -> bool:
        fc.manual_seed(0)
        model = fc.nn.Sequential(fc.nn.Linear(width, width), fc.nn.GELU(), fc.nn.Linear(width, width))
        opt = fc.optim.AdamW(model.parameters(), lr=0.1)

        @fc.compile
        def step(x: fc.Tensor, y: fc.Tensor, rows: fc.Tensor) -> fc.Tensor:
            loss = fc.nn.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            opt.zero_grad()
            # of a parameter that is updated: what may raise comes last in the program
            return loss + fc.take(model[0].weight * 2, rows, axis=0).sum()

        x, y = fc.ones((8, width), sbp=fc.S(0)), fc.asarray(np.arange(8), sbp=fc.S(0))

        def held() -> list[np.ndarray]:
            states = (state for each in opt.state.values() for state in each.values())
            return [tensor.numpy().copy() for tensor in (*model.parameters(), *states)]

        step(x, y, fc.asarray([0, 1]))
        before = held()
        with pytest.raises(fc.FlowcoreError):
            step(x, y, fc.asarray([0, width]))
        same = all(np.array_equal(a, b) for a, b in zip(before, held(), strict=True))
        step(x, y, fc.asarray([0, 1]))
        return same and not any(np.array_equal(a, b) for a, b in zip(before, held(), strict=True))

    return fc.launch.run(program, ranks=ranks)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("width", [8, 64])
def test_a_step_that_raises_changes_nothing(ranks: int, width: int) -> None:
    assert trained(ranks, width) == [True] * ranks


def test_what_may_raise_comes_first_with_what_it_needs() -> None:
    def f(x: fc.Tensor, rows: fc.Tensor) -> fc.Tensor:
        y = fc.exp(x) @ x
        return y.sum() + fc.take(x * 2, rows, axis=0).sum()

    graph = fc.compile(f).plan(fc.ones((3, 3)), fc.asarray([0])).graph
    names = [node.op.name for node in graph.nodes]
    (position,) = may_raise(graph)
    assert names[position] == "take" and position < names.index("exp")
    assert checks_first(graph) == graph


def test_what_has_been_checked_is_not_checked_again() -> None:
    table = fc.ones((5, 4)).requires_grad_()

    def f(rows: fc.Tensor, more: fc.Tensor) -> tuple[fc.Tensor, fc.Tensor]:
        total = fc.exp(fc.take(table, rows, axis=0)).sum() + fc.exp(fc.take(table, more, axis=0)).sum()
        total.backward()
        return total, table.grad

    graph = fc.compile(f).plan(fc.asarray([0, 1]), fc.asarray([[2, 3]])).graph
    names = [graph.nodes[position].op.name for position in may_raise(graph)]
    assert names == ["take", "take"] and "scatter_add" in [node.op.name for node in graph.nodes]
