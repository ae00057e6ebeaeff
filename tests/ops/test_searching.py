"""Sorting, searching, sets and segments against numpy, on one rank and on three, from every layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc

RANDOM = np.random.default_rng(0)
NAN = np.array([[2.0, np.nan, -0.0, 0.0], [np.inf, 1.0, np.nan, 1.0], [3.0, 0.0, 2.0, -np.inf]], np.float32)
INPUTS: dict[str, Any] = {
    "floats": RANDOM.normal(size=(3, 5, 4)),
    "ties": RANDOM.integers(-2, 3, (5, 7)),
    "nan": NAN,
    "bytes": RANDOM.integers(0, 256, (4, 6)).astype(np.uint8),
    "bool": RANDOM.random((3, 5)) < 0.5,
    "empty": np.zeros((3, 0, 2)),
    "complex": np.round(RANDOM.normal(size=(3, 2)) + 1j * RANDOM.normal(size=(3, 2))),
    "0-d": np.array(3.0),
}
LAYOUTS = (fc.B, fc.S(0), fc.S(1), fc.P)
KNOWN = np.array([-1, 0, 0, 2])


def descending(x: Any, axis: int) -> Any:
    """The stable order from the greatest on."""
    return x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)


CASES: dict[str, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "sort": ("floats ties nan bytes bool empty", lambda x: fc.sort(x), lambda x: np.sort(x, kind="stable")),
    "sort 0": ("floats ties nan bytes bool empty", lambda x: fc.sort(x, axis=0),
               lambda x: np.sort(x, axis=0, kind="stable")),
    "sort down": ("floats ties nan bytes bool empty", lambda x: fc.sort(x, axis=1, descending=True),
                  lambda x: np.take_along_axis(x, descending(x, 1), 1)),
    "argsort": ("floats ties nan bytes bool empty", lambda x: fc.argsort(x), lambda x: np.argsort(x, kind="stable")),
    "argsort down": ("floats ties nan bytes bool", lambda x: fc.argsort(x, axis=-2, descending=True),
                     lambda x: descending(x, -2)),
    "top_k": ("floats ties nan bytes", lambda x: fc.top_k(x, 3),
              lambda x: (np.take_along_axis(x, descending(x, -1)[..., :3], -1), descending(x, -1)[..., :3])),
    "bottom_k": ("floats ties nan", lambda x: fc.top_k(x, 2, axis=0, largest=False),
                 lambda x: (np.sort(x, axis=0, kind="stable")[:2], np.argsort(x, axis=0, kind="stable")[:2])),
    "argmax": ("floats ties nan bytes bool 0-d", lambda x: fc.argmax(x), lambda x: np.argmax(x)),
    "argmin 0": ("floats ties nan bytes bool", lambda x: fc.argmin(x, axis=0, keepdims=True),
                 lambda x: np.argmin(x, axis=0, keepdims=True)),
    "nonzero": ("floats ties nan bytes bool empty complex", lambda x: fc.nonzero(x), lambda x: np.nonzero(x)),
    "count": ("floats ties nan bytes bool empty complex 0-d", lambda x: fc.count_nonzero(x),
              lambda x: np.array(np.count_nonzero(x))),
    "count 0": ("floats ties nan bytes bool empty", lambda x: fc.count_nonzero(x, axis=0, keepdims=True),
                lambda x: np.count_nonzero(x, axis=0, keepdims=True)),
    "search": ("ties bytes empty 0-d", lambda x: fc.searchsorted(fc.asarray(KNOWN).astype(x.dtype), x),
               lambda x: np.searchsorted(KNOWN.astype(x.dtype), x)),
    "search in": ("bytes", lambda x: fc.searchsorted(x[:, 0], x, side="right", sorter=fc.argsort(x[:, 0])),
                  lambda x: np.searchsorted(x[:, 0], x, side="right", sorter=np.argsort(x[:, 0]))),
    "isin": ("ties bytes nan empty", lambda x: fc.isin(x, [1, 2, 0]), lambda x: np.isin(x, [1, 2, 0])),
    "isin inverted": ("ties", lambda x: fc.isin(x, x[0], invert=True), lambda x: np.isin(x, x[0], invert=True)),
    "unique_all": ("floats ties nan bytes bool empty complex 0-d", lambda x: fc.unique_all(x), lambda x: _unique(x)),
    "unique_counts": ("ties nan", lambda x: fc.unique_counts(x), lambda x: (_unique(x)[0], _unique(x)[3])),
    "unique_inverse": ("ties nan", lambda x: fc.unique_inverse(x), lambda x: (_unique(x)[0], _unique(x)[2])),
    "unique_values": ("ties nan", lambda x: fc.unique_values(x), lambda x: _unique(x)[0]),
}  # fmt: skip


def _unique(x: Any) -> Any:
    found = np.unique(x, return_index=True, return_inverse=True, return_counts=True, equal_nan=False)
    return (*found[:2], found[2].reshape(x.shape), found[3])


def same(found: Any, expected: Any, note: str) -> None:
    """Same shapes, dtypes and values, of one or several results."""
    found, expected = (value if isinstance(value, tuple) else (value,) for value in (found, expected))
    for one, other in zip(found, expected, strict=True):
        got, other = one.numpy(), np.asarray(other)
        assert (got.shape, got.dtype) == (other.shape, other.dtype), note
        np.testing.assert_array_equal(got, other, err_msg=note)
        if got.dtype.kind == "f":
            np.testing.assert_array_equal(np.signbit(got), np.signbit(other), err_msg=note)


def check_all(name: str) -> None:
    """One case on all its inputs, from every layout that these can have."""
    inputs, ours, theirs = CASES[name]
    for key in inputs.split():
        x = INPUTS[key]
        for layout in LAYOUTS:
            is_exact = layout == fc.P and x.dtype.kind in "iu"  # terms of floats round
            if layout == fc.B or is_exact or (isinstance(layout, fc.S) and layout.axis < x.ndim):
                same(ours(fc.asarray(x).to_global(sbp=layout)), theirs(x), f"{name} of {key} from {layout}")


@pytest.mark.parametrize("name", CASES)
def test_functions_agree_with_numpy_on_every_layout(name: str) -> None:
    check_all(name)
    fc.launch.run(lambda: check_all(name), ranks=3, transport="threads")


@pytest.mark.parametrize("dtype", ["float32", "int8", "bool"])
@pytest.mark.parametrize("largest", [True, False])
def test_the_few_first_of_many_are_those_of_a_sort(dtype: str, largest: bool) -> None:
    x = RANDOM.integers(-5, 6, (4, 300)).astype(dtype)
    for k in (0, 1, 7, 37, 300):
        for axis, array in ((1, x), (0, x.T)):
            order = descending(array, axis) if largest else np.argsort(array, axis=axis, kind="stable")
            expected = order[:, :k] if axis else order[:k]
            values, indices = fc.top_k(array, k, axis=axis, largest=largest)
            np.testing.assert_array_equal(indices.numpy(), expected)
            np.testing.assert_array_equal(values.numpy(), np.take_along_axis(array, expected, axis))


SEGMENTS = np.array([2, 0, 2, 2, 0])
ROWS = RANDOM.integers(-4, 5, (5, 3)).astype(float)
UFUNCS = {"sum": (np.add, 0.0), "max": (np.maximum, -np.inf), "min": (np.minimum, np.inf)}


@pytest.mark.parametrize("name", UFUNCS)
def test_segments_are_reduced_where_their_rows_lie(name: str) -> None:
    ufunc, identity = UFUNCS[name]
    expected = np.full((4, 3), identity)
    ufunc.at(expected, SEGMENTS, ROWS)
    segment = getattr(fc, f"segment_{name}")

    def program() -> None:
        for layout in (fc.B, fc.S(0), fc.S(1)):
            rows, ids = fc.asarray(ROWS, sbp=layout), fc.asarray(SEGMENTS, sbp=fc.S(0) if layout == fc.S(0) else fc.B)
            same(segment(rows, ids, 4), expected, str(layout))
            whole = segment(fc.asarray(ROWS * -0.0), SEGMENTS, 4)  # zeros keep or lose their sign alike
            same(segment(rows * -0.0, ids, 4), whole.numpy(), str(layout))
            same(segment(rows.mT, ids, 4, axis=1), expected.T, str(layout))
        plan = fc.compile(lambda x, i: segment(x, i, 4)).plan(
            fc.asarray(ROWS, sbp=fc.S(0)), fc.asarray(SEGMENTS, sbp=fc.S(0))
        )
        assert not plan.transfers

    fc.launch.run(program, ranks=3, transport="threads")


def test_scattering_into_a_tensor_keeps_what_stands_there() -> None:
    table = RANDOM.normal(size=(4, 3))
    for name, ufunc in (("add", np.add), ("max", np.maximum), ("min", np.minimum)):
        expected = table.copy()
        ufunc.at(expected, SEGMENTS, ROWS)
        found = getattr(fc, f"scatter_{name}")(fc.asarray(table), SEGMENTS, ROWS)
        np.testing.assert_allclose(found.numpy(), expected)


def test_segments_that_tie_share_the_gradient() -> None:
    x = fc.asarray(np.array([1.0, 3.0, 3.0, 2.0]))
    gradient = fc.grad(lambda x: fc.segment_max(x, np.array([0, 1, 1, 0]), 2).sum())(x)
    np.testing.assert_array_equal(gradient.numpy(), [0.0, 0.5, 0.5, 1.0])


def test_unique_values_pass_gradients_to_the_first() -> None:
    x = fc.asarray(np.array([2.0, 1.0, 2.0]))
    np.testing.assert_array_equal(fc.grad(lambda x: (fc.unique_values(x) ** 2).sum())(x).numpy(), [4.0, 2.0, 0.0])


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (lambda x: fc.sort(x, axis=2), fc.ShapeError), (lambda x: fc.sort(x + 1j), fc.DTypeError),
        (lambda x: fc.argmax(x[:0], axis=0), fc.ShapeError), (lambda x: fc.top_k(x, 5), fc.ShapeError),
        (lambda x: fc.nonzero(x.sum()), fc.ShapeError), (lambda x: fc.searchsorted(x, x), fc.ShapeError),
        (lambda x: fc.searchsorted(x[0], x, side="middle"), fc.ShapeError),
        (lambda x: fc.segment_sum(x, np.array([0, 3]), 3), IndexError),
        (lambda x: fc.segment_max(x, np.array([0]), 3), fc.ShapeError),
        (lambda x: fc.compile(fc.unique_values)(x), fc.TraceError),
    ],
)  # fmt: skip
def test_bad_arguments_are_typed_errors(act: Callable[[Any], Any], error: type[Exception]) -> None:
    with pytest.raises(fc.FlowcoreError) as caught:
        act(fc.asarray(np.ones((2, 3))))
    assert isinstance(caught.value, error)
