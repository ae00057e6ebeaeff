"""Bad input is a typed error whatever the function; and every function compiles to what it gives eagerly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowcore as fc
from tests.array_api.table import DTYPES, Row, operands
from tests.array_api.test_values import ROWS, Case, difference

NAMES = sorted({row.name for row in ROWS if row.draws})
DATA_DEPENDENT = {"nonzero", "unique_values", "unique_counts", "unique_inverse", "unique_all"}
FIRST: dict[str, Row] = {row.name: row for row in reversed(ROWS)}
KINDS = {name: {kind for row in ROWS if row.name == name for kind in row.kinds} for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_other_dtypes_work_as_numpys_or_are_typed_errors(name: str) -> None:
    row = FIRST[name]
    for kind in set(DTYPES) - KINDS[name]:
        case = Case(row, row.calls[0], row.shapes[0], DTYPES[kind][-1], "B")
        with np.errstate(all="ignore"):
            arrays = case.arrays()
        try:
            found = case.run(fc, [fc.asarray(array) for array in arrays])
        except fc.FlowcoreError:
            continue
        assert isinstance(found, fc.Tensor)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_tensor_is_a_typed_error(name: str) -> None:
    row = FIRST[name]
    case = Case(row, row.calls[0], row.shapes[0], DTYPES[row.kinds[0]][-1], "B")
    for stranger in ("text", None, np.array(["a"]), object()):
        with pytest.raises(fc.FlowcoreError):
            case.run(fc, [stranger] * len(row.draws))


@pytest.mark.parametrize("name", sorted(name for name in NAMES if len(FIRST[name].draws) == 2))
def test_shapes_that_do_not_fit_are_typed_errors(name: str) -> None:
    row = FIRST[name]
    call = next(call for call in reversed(row.calls) if "x" in call and "y" in call)
    case = Case(row, call, ((5, 7), (4, 6)), DTYPES[row.kinds[0]][-1], "B")
    tensors = [fc.asarray(array) for array in case.arrays()]
    try:
        case.run(fc, tensors)
    except fc.FlowcoreError:
        return
    assert name in {"isin", "searchsorted", "take", "linalg.outer", "meshgrid"}, "no shapes of these misfit"


@pytest.mark.parametrize("name", NAMES)
def test_functions_compile_to_what_they_give_eagerly(name: str) -> None:
    row = FIRST[name]
    case = Case(row, row.calls[-1], row.shapes[min(1, len(row.shapes) - 1)], DTYPES[row.kinds[-1]][-1], "B")
    arrays = operands(row, case.shapes, case.dtype, np.random.default_rng(0))

    def run(*tensors: Any) -> Any:
        return case.run(fc, list(tensors))

    if name in DATA_DEPENDENT:
        with pytest.raises(fc.TraceError):
            fc.compile(run)(*arrays)
    else:
        found, expected = fc.compile(run)(*arrays).numpy(), run(*map(fc.asarray, arrays)).numpy()
        assert difference(found, expected, 10.0) == ""
