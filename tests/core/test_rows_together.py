"""Rows of tables beside the products of a model: gathered where they are read, their gradients computed alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.jit.store import is_available
from flowcore.lower import lower
from flowcore.pipeline import LOCAL

DRAW = np.random.default_rng(0)
ROWS, WIDTH, FIELDS, COUNT = 9, 4, 3, 6
TABLE = DRAW.normal(size=(ROWS, WIDTH))
IDS = DRAW.integers(-ROWS, ROWS, size=(COUNT, FIELDS))
FIRST, SECOND = DRAW.normal(size=(COUNT, 5)), DRAW.normal(size=(COUNT, 2))
FLAT = TABLE[IDS].reshape(COUNT, -1)
A, B = DRAW.normal(size=(6, 7)), DRAW.normal(size=(7, 5))


def flat(table: fc.Tensor, ids: fc.Tensor) -> fc.Tensor:
    return fc.take(table, ids, axis=0).reshape((COUNT, FIELDS * WIDTH))


GATHERED: dict[str, tuple[Callable[..., fc.Tensor], Any]] = {
    "in front": (lambda t, i, a, b: fc.concat([flat(t, i), a], axis=1), np.hstack([FLAT, FIRST])),
    "behind": (lambda t, i, a, b: fc.concat([a, flat(t, i)], axis=1), np.hstack([FIRST, FLAT])),
    "between": (lambda t, i, a, b: fc.concat([a, flat(t, i), b], axis=1), np.hstack([FIRST, FLAT, SECOND])),
    "added up": (lambda t, i, a, b: fc.sum(fc.take(t, i, axis=0), axis=1), TABLE[IDS].sum(axis=1)),
}
APART: dict[str, Callable[..., Any]] = {
    "rows read by others too": lambda t, i, a, b: [fc.concat([flat(t, i), a], axis=1), flat(t, i) * 2],
    "other columns known later": lambda t, i, a, b: fc.concat([flat(t, i), a @ a.mT @ a], axis=1),
    "one dimension of indices": lambda t, i, a, b: fc.sum(fc.take(t, i[:, 0], axis=0), axis=1),
}
ARGUMENTS = (TABLE, IDS, FIRST, SECOND)


def names(function: Callable[..., object], arguments: tuple[fc.Tensor, ...]) -> list[str]:
    """The operators that one rank runs for `function`."""
    plan = fc.compile(function).plan(*arguments)
    return [node.op.name for node in lower(plan.graph, 0, LOCAL).local.nodes]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", GATHERED)
def test_rows_are_gathered_into_what_is_made_of_them(case: str, dtype: str) -> None:
    function, wanted = GATHERED[case]
    given = tuple(fc.asarray(x.astype(dtype) if x.dtype.kind == "f" else x) for x in ARGUMENTS)
    assert ("take_together" in names(function, given)) == is_available()
    np.testing.assert_allclose(fc.compile(function)(*given).numpy(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", APART)
def test_rows_that_others_read_or_that_wait_are_taken_alone(case: str) -> None:
    given = tuple(map(fc.asarray, ARGUMENTS))
    assert "take_together" not in names(APART[case], given)


def test_ranks_that_hold_a_part_of_the_table_gather_zeros_for_the_rest() -> None:
    def main() -> None:
        table, *rest = (fc.asarray(x, sbp="S0" if x is TABLE else "B") for x in ARGUMENTS)
        for function, wanted in GATHERED.values():
            np.testing.assert_allclose(fc.compile(function)(table, *rest).numpy(), wanted, rtol=1e-12)

    fc.launch.run(main, ranks=3)


@pytest.mark.parametrize("wrong", [ROWS, -ROWS - 1])
def test_an_index_out_of_range_is_an_error_of_the_gathered_rows_too(wrong: int) -> None:
    ids = np.where(np.arange(IDS.size).reshape(IDS.shape) == 4, wrong, IDS)
    given = tuple(map(fc.asarray, (TABLE, ids, FIRST, SECOND)))
    for function, _ in GATHERED.values():
        with pytest.raises(fc.IndexingError, match=f"index {wrong}: the axis has {ROWS} rows"):
            fc.compile(function)(*given)


PARTS = [np.s_[:, :3], np.s_[:, 2:], np.s_[:4], np.s_[2:5, 1:4], np.s_[3:4, :1]]


@pytest.mark.parametrize("part", PARTS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_of_a_product_only_the_part_that_is_read_is_computed(part: Any, dtype: str) -> None:
    a, b = (x.astype(dtype) for x in (A, B))
    orders: dict[str, Callable[..., Any]] = {
        "plain": lambda x, y: x @ y, "first transposed": lambda x, y: x.mT @ y,
        "second transposed": lambda x, y: x @ y.mT, "turned": lambda x, y: (y.mT @ x.mT).mT,
    }  # fmt: skip
    operands = {"first transposed": (a.T.copy(), b), "second transposed": (a, b.T.copy())}
    for name, product in orders.items():
        given = tuple(map(fc.asarray, operands.get(name, (a, b))))

        def function(x: fc.Tensor, y: fc.Tensor, product: Callable[..., Any] = product) -> Any:
            return product(x, y)[part]

        assert "contract_part" in names(function, given)
        np.testing.assert_allclose(fc.compile(function)(*given).numpy(), (a @ b)[part], rtol=1e-5, atol=1e-5)


def test_a_product_that_is_read_as_a_whole_too_is_computed_once() -> None:
    given = tuple(map(fc.asarray, (A, B)))
    found = names(lambda x, y: [x @ y, (x @ y)[:, :2]], given)
    assert found.count("contract") == 1 and "contract_part" not in found
