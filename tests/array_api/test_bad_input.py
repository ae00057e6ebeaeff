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
    for kind in sorted(set(DTYPES) - KINDS[name]):
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


X = np.arange(6.0).reshape(2, 3)
BAD: list[tuple[str, type[Exception]]] = [
    ("fc.astype(X, None)", fc.DTypeError), ("fc.finfo('a')", fc.DTypeError), ("fc.asarray({1, 2})", fc.DTypeError),
    ("fc.asarray([1, [2]])", fc.ShapeError), ("fc.asarray([0, 2**63 + 1])", fc.DTypeError),
    ("fc.asarray([300], dtype='uint8')", fc.DTypeError), ("fc.asarray([1j], dtype='float32')", fc.DTypeError),
    ("fc.concat([])", fc.ShapeError), ("fc.stack([])", fc.ShapeError), ("fc.reshape(X, (-1, -1))", fc.ShapeError),
    ("fc.permute_dims(X, (0, 0))", fc.ShapeError), ("fc.moveaxis(X, (0, 0), (0, 1))", fc.ShapeError),
    ("fc.expand_dims(X, (0, 0))", fc.ShapeError), ("fc.squeeze(X, 0)", fc.ShapeError),
    ("fc.unstack(fc.asarray(1))", fc.IndexingError), ("fc.roll(X, (1, 2))", fc.ShapeError),
    ("fc.roll(X, (1, 2), axis=(0, 1, 0))", fc.ShapeError), ("fc.repeat(X, [1, 2])", fc.ShapeError),
    ("fc.repeat(X, -1)", fc.ShapeError), ("fc.repeat(X, 1.5)", fc.DTypeError), ("fc.tile(X, (-1,))", fc.ShapeError),
    ("fc.tril(fc.ones(3))", fc.ShapeError), ("fc.eye(-1)", fc.ShapeError), ("fc.zeros(-1)", fc.ShapeError),
    ("fc.zeros((2.5,))", fc.DTypeError), ("fc.arange(0, 1, 0)", fc.ShapeError), ("fc.arange(fc.inf)", fc.ShapeError),
    ("fc.linspace(0, 1, -1)", fc.ShapeError), ("fc.linspace(0, 1, 2.5)", fc.DTypeError),
    ("fc.full(3, 'a')", fc.DTypeError), ("fc.full(3, None)", fc.DTypeError), ("fc.result_type()", fc.DTypeError),
    ("fc.meshgrid(X)", fc.ShapeError), ("fc.meshgrid(X[0], indexing='yx')", fc.ShapeError),
    ("fc.where(X, X, X)", fc.DTypeError), ("fc.positive(fc.asarray(True))", fc.DTypeError),
    ("fc.ones(3).T", fc.ShapeError), ("fc.ones(3).to_device('tpu')", fc.PlacementError),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error"), BAD, ids=[call for call, _ in BAD])
def test_bad_arguments_are_errors_of_their_kind(call: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        eval(call, {"fc": fc, "X": fc.asarray(X)})


def test_unusual_arguments_that_mean_something() -> None:
    x = fc.asarray(X)
    np.testing.assert_array_equal(fc.where(True, x, 0.0).numpy(), X)
    np.testing.assert_array_equal(fc.asarray(X.astype(">f8")).numpy(), X)
    assert 1.0 in x and 7.0 not in x and fc.asarray(()).shape == (0,) and fc.meshgrid() == []
    assert fc.zeros((np.int64(2), 3)).shape == (2, 3) and fc.full(2, np.float64(1)).dtype == "float64"
    assert fc.zeros(1, dtype="f8").dtype == fc.float64 and fc.zeros(1, dtype=float).dtype == fc.float32
