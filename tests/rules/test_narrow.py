"""Every operator on float16 and bfloat16 gives what it gives in float32, rounded once."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.boxing_op import LAYOUT_OPERATORS
from flowcore.dispatch import apply, default_layout
from flowcore.dtypes import NARROW, is_real
from flowcore.errors import DTypeError
from flowcore.op import OPS, Array, Op, Sample, Type, as_tuple
from flowcore.simulate import inputs_of, random_of, samples

FLOATS = ("float32", "float64")


def has_floats(sample: Sample) -> bool:
    """Whether the sample computes with real floating numbers."""
    return any(is_real(type.dtype) for type in sample.types) or getattr(sample.op, "dtype", "") in FLOATS


SAMPLES = [sample for sample in samples(OPS, LAYOUT_OPERATORS) if has_floats(sample)]
SHOWN = [f"{sample.op.name}-{number}" for number, sample in enumerate(SAMPLES)]


def in_dtype(op: Op, dtype: str) -> Op:
    """`op`, its attribute that names a floating dtype changed to `dtype`."""
    named = [field.name for field in fields(op) if field.name == "dtype" and getattr(op, "dtype", "") in FLOATS]
    return replace(op, **dict.fromkeys(named, dtype))


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("sample", SAMPLES, ids=SHOWN)
def test_a_narrow_result_is_the_rounded_one_of_float32(sample: Sample, dtype: np.dtype[Any]) -> None:
    types = tuple(Type(type.shape, dtype if is_real(type.dtype) else type.dtype) for type in sample.types)
    op = in_dtype(sample.op, dtype.name)
    try:
        op.infer(*types)
    except DTypeError:
        return  # Fourier transforms, for which there is no complex dtype as narrow
    arrays = inputs_of(replace(sample, op=op, types=types), random_of(sample))
    with np.errstate(all="ignore"):
        wide = as_tuple(in_dtype(sample.op, "float32").kernel(*[_as(array, "float32") for array in arrays]))
        rounded = [_as(np.asarray(result), dtype) for result in wide]
    tensors = [fc.asarray(array) for array in arrays]
    found = apply(op, *tensors, layout=None if tensors else default_layout(None, None))
    for result, expected in zip(as_tuple(found), rounded, strict=True):
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result.numpy().astype(np.complex128), expected.astype(np.complex128))


def _as(array: Array, dtype: Any) -> Array:
    """A floating array as `dtype`, any other as it is."""
    return array.astype(dtype) if is_real(array.dtype) else array
