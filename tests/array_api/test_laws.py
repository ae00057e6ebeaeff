"""Indexing, assignment and ranges on drawn arrays and keys, against numpy and the standard's own words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.array_api import make_strategies_namespace

import flowcore as fc

xps = make_strategies_namespace(fc)
few = settings(max_examples=60)
SHAPES = xps.array_shapes(min_dims=0, min_side=0, max_side=4)
FILLED = xps.array_shapes(min_dims=0, min_side=1, max_side=4)


def plain(value: Any) -> Any:
    """A tensor as an array, anything else as it is."""
    return value.numpy() if isinstance(value, fc.Tensor) else value


@few
@given(st.data())
def test_reading_by_a_key_is_numpys(data: st.DataObject) -> None:
    x = data.draw(xps.arrays(xps.scalar_dtypes(), FILLED))
    key = data.draw(xps.indices(x.shape, allow_newaxis=True))
    found = x[key]
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found.numpy(), x.numpy()[key])


@few
@given(st.data())
def test_writing_by_a_key_changes_that_element_alone(data: st.DataObject) -> None:
    x = data.draw(xps.arrays(xps.scalar_dtypes(), FILLED))
    key = data.draw(xps.indices(x.shape, max_dims=0))
    value = data.draw(xps.from_dtype(x.dtype) | xps.arrays(x.dtype, ()))
    changed, expected = fc.asarray(x, copy=True), x.numpy()
    changed[key] = value
    expected[key] = plain(value)
    before = x.numpy()
    np.testing.assert_array_equal(changed.numpy(), expected)
    np.testing.assert_array_equal(x.numpy(), before)


@few
@given(st.data())
def test_masks_fit_where_lengths_are_equal_or_zero(data: st.DataObject) -> None:
    x = data.draw(xps.arrays(xps.scalar_dtypes(), SHAPES))
    shrunk = st.tuples(*(st.sampled_from([length, 0]) for length in x.shape))
    mask = data.draw(xps.arrays(fc.bool, st.just(x.shape) | shrunk | SHAPES))
    if mask.ndim > x.ndim or any(mine not in (whole, 0) for mine, whole in zip(mask.shape, x.shape, strict=False)):
        with pytest.raises(IndexError):
            x[mask]
    else:
        lead = int(np.sum(mask.numpy())) if mask.shape == x.shape[: mask.ndim] else 0
        assert x[mask].shape == (lead, *x.shape[mask.ndim :])


@few
@given(st.data())
def test_writing_by_a_mask_is_numpys(data: st.DataObject) -> None:
    x = data.draw(xps.arrays(xps.scalar_dtypes(), SHAPES))
    mask = data.draw(xps.arrays(fc.bool, x.shape))
    value = data.draw(xps.from_dtype(x.dtype) | xps.arrays(x.dtype, ()))
    changed, expected = fc.asarray(x, copy=True), x.numpy()
    changed[mask] = value
    expected[mask.numpy()] = plain(value)
    np.testing.assert_array_equal(changed.numpy(), expected)


@few
@given(st.data())
def test_expand_dims_takes_the_axes_there_are(data: st.DataObject) -> None:
    x = data.draw(xps.arrays(xps.scalar_dtypes(), SHAPES))
    axis = data.draw(st.integers(-2 * x.ndim - 2, 2 * x.ndim))
    if -x.ndim - 1 <= axis <= x.ndim:
        assert fc.expand_dims(x, axis=axis).shape == np.expand_dims(x.numpy(), axis).shape
    else:
        with pytest.raises(IndexError):
            fc.expand_dims(x, axis=axis)


@few
@given(st.data())
def test_linspace_begins_and_ends_exactly(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([fc.float32, fc.float64]))
    number = st.floats(allow_nan=False, allow_infinity=False, width=8 * dtype.itemsize)  # type: ignore[arg-type]
    start, stop, count = data.draw(number), data.draw(number), data.draw(st.integers(0, 9))
    closed = fc.linspace(start, stop, count + 1, dtype=dtype).numpy()
    assert closed[0] == start and (count == 0 or closed[-1] == stop)
    np.testing.assert_array_equal(fc.linspace(start, stop, count, dtype=dtype, endpoint=False).numpy(), closed[:-1])


@few
@given(st.data())
def test_arange_has_the_length_of_the_standard(data: st.DataObject) -> None:
    number = st.integers(-100, 100) | st.floats(-100, 100, allow_nan=False)
    start, stop, step = data.draw(number), data.draw(number), data.draw(number.filter(lambda s: abs(s) > 0.01))
    assert fc.arange(start, stop, step).shape == (max(0, math.ceil((stop - start) / step)),)


@few
@given(st.data())
def test_clip_is_numpys_in_the_dtype_of_x(data: st.DataObject) -> None:
    x = data.draw(xps.arrays(xps.real_dtypes(), SHAPES))
    bound = st.none() | xps.from_dtype(x.dtype, **({"allow_nan": False} if x.dtype.kind == "f" else {}))
    low, high = data.draw(bound), data.draw(bound)
    assume(low is None or high is None or low <= high)
    found = fc.clip(x, low, high)
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found.numpy(), x.numpy() if low is high is None else np.clip(x.numpy(), low, high))


@few
@given(st.data())
def test_lists_of_numbers_become_what_they_are(data: st.DataObject) -> None:
    x = data.draw(xps.arrays(xps.scalar_dtypes(), SHAPES))
    np.testing.assert_array_equal(fc.asarray(x.numpy().tolist(), dtype=x.dtype).numpy().reshape(x.shape), x.numpy())
