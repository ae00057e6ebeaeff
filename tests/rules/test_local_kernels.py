"""Operators of the graph of one rank alone: by `kernel`, by `write` and as compiled code they give what they should."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import flowcore
from flowcore.convolved import Convolved
from flowcore.convolved import is_available as has_convolution
from flowcore.fused import Fused
from flowcore.jit.source import Body, Step, Value
from flowcore.jit.store import is_available
from flowcore.jit.table import call
from flowcore.meeting_op import Collect
from flowcore.op import OPS, Array, Op, Sample, Type, as_tuple
from flowcore.ops.contract import Contract
from flowcore.ops.gather import Take
from flowcore.ops.row_updates import SubtractRows, UpdateRows
from flowcore.passes.lists import UpdateByLists
from flowcore.passes.parts import ContractPart
from flowcore.passes.tables import TakeTogether
from flowcore.passes.views import Packed
from flowcore.simulate import inputs_of, random_of

MOVES = {"move", "staged", "nudge", "inside", "post", "wait"}
"""Local operators that move data and compute nothing; see tests/comm and tests/core/test_overlap.py."""


@dataclass
class Case:
    """An operator on types, drawn as in a `Sample`, and the arrays that it should give."""

    op: Op
    types: tuple[Type, ...]
    wanted: Callable[..., Any]
    draw: tuple[str, ...] = ()
    needs: Callable[[], bool] = field(default=lambda: True)


def of(dtype: str, *shapes: tuple[int, ...]) -> tuple[Type, ...]:
    """Types of one dtype."""
    return tuple(Type(shape, np.dtype(dtype)) for shape in shapes)


def gathered(beside: tuple[int, int] | None, start: int = 0, total: int = -1) -> Iterator[Case]:
    """Rows of a table of 7, or of a part of it, beside each other and beside other columns, or added up."""
    for dtype in ("float32", "float64") if beside in ((2, 3), None) else ("float64",):
        columns = 6 if beside is None else 12 + sum(beside)
        result = of(dtype, (5, 3) if beside is None else (5, columns))[0]
        others = of(dtype, *((5, width) for width in beside or () if width))

        def wanted(table: Array, index: Array, *rest: Array, dtype: str = dtype) -> Array:
            whole = np.zeros((7, 3), dtype)
            whole[start : start + len(table)] = table
            rows = whole[index]
            if beside is None:
                return rows.sum(axis=(1, 2))  # type: ignore[no-any-return]  # of rows
            front = rest[: bool(beside[0])]
            return np.hstack([*front, rows.reshape(5, -1), *rest[len(front) :]])

        op, index = TakeTogether(Take(0, start=start, total=total), result, beside), of("int64", (5, 4))
        held = of(dtype, (7 if total < 0 else 3, 3))
        if beside is None:
            index = of("int64", (5, 2, 2))
        yield Case(op, (*held, *index, *others), wanted, ("normal", "index:7", *("normal" for _ in others)))


def updated(in_place: bool, is_repeated: bool) -> Iterator[Case]:
    """Rows of a part of a table changed by two lists, of which each row serves one index or two that follow."""
    held = (in_place,)
    by_two = UpdateRows(1, start=2, total=7, in_place=held * 2, formulas=("a + g * g", "b * b - g"))
    plain = SubtractRows(start=2, total=7, in_place=held)
    for update, tables, scalars in ((plain, 1, 1), (UpdateRows(0, 2, 7, held * 2, by_two.formulas), 2, 0)):
        given = of("float64", *((4, 3) for _ in range(tables)))
        rows = (2, 1, 3) if is_repeated else (2, 2, 3)
        lists = (*of("float64", rows), *of("int64", (2, 2)), *of("float64", (5, 3)), *of("int64", (5,)))

        def wanted(*arrays: Array, tables: int = tables) -> Any:
            olds, (first, at, second, places) = arrays[:tables], arrays[tables : tables + 4]
            sums = np.zeros((7, 3))
            np.add.at(sums, at, np.broadcast_to(first, (2, 2, 3)))
            np.add.at(sums, places, second)
            named = np.isin(np.arange(7), np.concatenate([at.ravel(), places]))[2:6, None]
            if tables == 1:
                return olds[0] - arrays[-1] * sums[2:6]
            news = olds[0] + sums[2:6] ** 2, olds[1] ** 2 - sums[2:6]
            return tuple(np.where(named, new, old) for new, old in zip(news, olds, strict=True))

        draw = (*("normal",) * (tables + 1), "index:7", "normal", "index:7", *("positive",) * scalars)
        types = (*given, *lists, *of("float64", *((),) * scalars))
        yield Case(UpdateByLists(update, 2, 0), types, wanted, draw)


def parts() -> Iterator[Case]:
    """Parts of products, small and large."""
    ranges: Any
    for formula, ranges, sizes in (
        ("mk,kn->mn", (("n", (0, 3)),), (4, 5, 6)),
        ("mk,nk->mn", (("m", (1, 3)), ("n", (0, 2))), (4, 5, 6)),
        ("mn,nk->mk", (("k", (0, 150)),), (130, 160, 140)),
    ):
        lengths = dict(zip("mkn", sizes, strict=True))
        given, result = formula.split("->")
        shapes = [tuple(lengths[letter] for letter in term) for term in given.split(",")]

        def wanted(a: Array, b: Array, formula: str = formula, ranges: Any = ranges, result: str = result) -> Array:
            known = dict(ranges)
            part = tuple(slice(*known[letter]) if letter in known else slice(None) for letter in result)
            return np.einsum(formula, a, b)[part]  # type: ignore[no-any-return]  # of one array

        for dtype in ("float32", "float64"):
            yield Case(ContractPart(Contract(formula), ranges), of(dtype, *shapes), wanted)


def convolved() -> Iterator[Case]:
    """A convolution of channels-last rows."""

    def wanted(x: Array, w: Array) -> Array:
        padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
        windows = np.stack([padded[:, p : p + 2 * 2 - 1 : 2] for p in range(0, 8, 2)], axis=1)  # n, p, k, c
        return np.einsum("npkc,ock->npo", windows, w)  # type: ignore[no-any-return]  # of one array

    yield Case(Convolved("y", False, (4,), (2,), (2,), (1,)), of("float64", (2, 9, 3), (5, 3, 2)), wanted,
               needs=has_convolution)  # fmt: skip


def fused() -> Iterator[Case]:
    """x · r, a row's sum of it, in new memory and in that of x."""
    values = Value("float64", "rc"), Value("float64", "c")
    steps = (
        Step("map", OPS["multiply"](), (0, 1), "float64", "rc"),
        Step("row", OPS["sum"]((1,)), (2,), "float64", "r", "rc"),  # type: ignore[call-arg]  # axes
    )
    for into in (-1, 0):
        body = Body(values, steps, (2, 3), (into, -1))
        op = Fused(body, 4, 9, ((1, 4), (1, 1)), ((4, 9), (4,)), (into, -1))
        yield Case(op, of("float64", (4, 9), (9,)), lambda x, r: (x * r, (x * r).sum(axis=1)))


def others() -> Iterator[Case]:
    """A value put together from terms, of which two are added up; elements packed."""
    index = ((slice(0, 2), slice(0, 3)), 1), ((slice(2, 4), slice(0, 3)), 2)
    op = Collect(of("float64", (5, 3))[0], index, ((2, "sum"),), (((slice(4, 5), slice(0, 3)), "sum"),))
    yield Case(op, of("float64", *((2, 3),) * 3), lambda a, b, c: np.vstack([a, b + c, np.zeros((1, 3))]))
    yield Case(Packed((3, 4)), of("float64", (4, 3)), lambda x: x.reshape(3, 4))


CASES = [
    *(case for beside in ((0, 0), (2, 0), (0, 3), (2, 3), None) for case in gathered(beside)),
    *(case for beside in ((2, 3), None) for case in gathered(beside, 2, 7)),
    *(case for held in (False, True) for repeated in (False, True) for case in updated(held, repeated)),
    *parts(), *convolved(), *fused(), *others(),
]  # fmt: skip
SHOWN = [f"{case.op.name}-{number}" for number, case in enumerate(CASES)]


def local_operators() -> set[str]:
    """The names of flowcore's operators that are not in the registry."""
    for module in pkgutil.walk_packages(flowcore.__path__, "flowcore."):
        if not module.name.startswith(("flowcore.launch", "flowcore.jit")) and "__main__" not in module.name:
            import_module(module.name)
    kinds, found = [Op], set[str]()
    while kinds:
        kind = kinds.pop()
        kinds.extend(kind.__subclasses__())
        if kind.name and kind.__module__.startswith("flowcore.") and OPS.get(kind.name) is not kind:
            found.add(kind.name)
    return found


def test_every_local_operator_has_a_case() -> None:
    assert local_operators() == {case.op.name for case in CASES} | MOVES


@pytest.mark.parametrize("case", CASES, ids=SHOWN)
def test_kernels_of_local_operators_give_what_they_promise_however_they_are_called(case: Case) -> None:
    if not case.needs():
        pytest.skip("its kernels cannot be compiled")
    sample = Sample(case.op, case.types, case.draw)
    given = inputs_of(sample, random_of(sample))
    wanted, promised = as_tuple(case.wanted(*given)), case.op.infer(*case.types)
    tolerance = 2e-4 if promised[0].dtype == np.float32 else 1e-10
    into = getattr(case.op, "into", getattr(getattr(case.op, "update", None), "into", (-1,) * len(promised)))

    def check(found: Any) -> None:
        for result, expected, type in zip(as_tuple(found), wanted, promised, strict=True):
            assert Type(result.shape, result.dtype) == type
            np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)

    def fresh() -> list[Array]:
        return [np.array(array) for array in given]

    def memory() -> list[Array]:
        return [np.full(type.shape, np.nan, type.dtype) for type in promised]

    check(case.op.kernel(*fresh()))
    arrays, places = fresh(), memory()
    check(case.op.write([None if source >= 0 else room for room, source in zip(places, into, strict=True)], *arrays))
    for number, (array, old) in enumerate(zip(arrays, given, strict=True)):
        assert number in into or np.array_equal(array, old), "an operand that lends no memory has changed"

    launch = case.op.launch(case.types) if is_available() else None
    if launch is None:
        return
    arrays, places = fresh(), memory()
    results = [arrays[source] if source >= 0 else room for room, source in zip(places, launch.into, strict=True)]
    new = [room for room, source in zip(places, launch.into, strict=True) if source < 0]
    kinds = launch.kernel.kinds[len(launch.kernel.kinds) - len(launch.scratch) :]
    scratch = [np.full(size, 1, kind.replace("b", "u")) for size, kind in zip(launch.scratch, kinds, strict=True)]
    assert call(launch.kernel, launch.numbers, [*arrays, *new, *scratch]) == 0
    check(tuple(results))
