"""The dtypes of tensors: numpy's and bfloat16, with the array API's promotion; Python scalars are weak.

float16 and bfloat16 are *narrow*: numbers are stored in them, arithmetic is that of float32 (`passes.widen`). To numpy
bfloat16 is of kind "V", which no other dtype of a tensor is; `kind_of` says "f".
"""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import suppress
from typing import Any

import numpy as np

from flowcore.errors import DTypeError

__all__ = [
    "bfloat16",
    "bool_",
    "complex64",
    "complex128",
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]

DType = np.dtype[Any]

bool_ = np.dtype(np.bool_)
int8, int16, int32, int64 = (np.dtype(f"int{bits}") for bits in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64))
float16, float32, float64 = (np.dtype(f"float{bits}") for bits in (16, 32, 64))
complex64, complex128 = np.dtype("complex64"), np.dtype("complex128")
bfloat16: Any = "bfloat16"
"""The dtype; without ml_dtypes (the extra `bf16`) its name, which `as_dtype` refuses."""
with suppress(ImportError):
    import ml_dtypes

    bfloat16 = np.dtype(ml_dtypes.bfloat16)

ALL: tuple[DType, ...] = (
    bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float16, float32, float64, complex64, complex128,
    *([bfloat16] if isinstance(bfloat16, np.dtype) else []),
)  # fmt: skip
NARROW: tuple[DType, ...] = tuple(dtype for dtype in ALL if dtype.name in ("float16", "bfloat16"))
"""The dtypes whose arithmetic is that of float32."""
DEFAULTS: dict[str, DType] = {"b": bool_, "i": int64, "u": int64, "f": float32, "c": complex64}
"""What a Python scalar becomes where nothing else decides, by numpy kind."""


NAMES: dict[Any, DType] = {
    **{name: dtype for dtype in ALL for name in (dtype, dtype.name, dtype.type)},
    **{name: dtype for dtype in ALL if dtype.kind != "V" for name in (dtype.str, dtype.str[1:])},
    **{kind: DEFAULTS[np.dtype(kind).kind] for kind in (bool, int, float, complex)},
}


def as_dtype(dtype: Any) -> DType:
    """`dtype` (a dtype of numpy, its name or type, or a Python type) as a supported dtype, in native byte order."""
    found = NAMES.get(dtype) if isinstance(dtype, Hashable) else None
    if found is None and isinstance(dtype, np.dtype):
        found = NAMES.get(dtype.newbyteorder("="))
    if found is None:
        if isinstance(dtype, str) and dtype == "bfloat16":
            raise DTypeError("dtype bfloat16 needs ml_dtypes: install flowcore[bf16]")
        raise DTypeError(f"dtype {dtype!r} is not supported: use one of {', '.join(map(str, ALL))}")
    return found


def promote(*dtypes: DType) -> DType:
    """The dtype of a result that mixes `dtypes`: numpy's, but that beside floats integers take the floats' dtype.

    float16 beside bfloat16 gives float32, which holds both. DTypeError for uint64 beside signed integers, which no
    integer dtype holds together.
    """
    first = dtypes[0]
    if all(dtype == first for dtype in dtypes):
        return first
    floats = {dtype for dtype in dtypes if is_float(dtype)}
    if floats >= {float16, bfloat16}:
        floats = floats - {bfloat16} | {float32}
    found = np.result_type(*(floats or dtypes))
    if is_float(found) and not any(map(is_float, dtypes)):
        raise DTypeError(f"{' and '.join(map(str, dtypes))} have no common integer dtype: cast one with astype")
    return found


def scalar_dtype(value: bool | int | float | complex, like: DType | None) -> DType:
    """The dtype a Python scalar takes beside a tensor of dtype `like`: its own kind where `like` cannot hold it."""
    kind = np.dtype(type(value)).kind
    if like is None:
        return DEFAULTS[kind]
    order = "biufc".replace("u", "")
    rank = {"b": 0, "i": 1, "u": 1, "f": 2, "c": 3}
    if rank[kind] <= rank[kind_of(like)]:
        return like
    if kind == "c" and is_real(like):
        return complex128 if like == float64 else complex64
    return DEFAULTS[order[rank[kind]]]


def real_dtype(dtype: DType) -> DType:
    """The dtype of the parts of complex numbers, and of the absolute values of all others."""
    return np.dtype(f"float{dtype.itemsize * 4}") if dtype.kind == "c" else dtype


def is_float(dtype: DType) -> bool:
    """Whether `dtype` is real floating or complex, so that gradients exist."""
    return dtype.kind in "fcV"


def is_real(dtype: DType) -> bool:
    """Whether `dtype` is real floating."""
    return dtype.kind in "fV"


def kind_of(dtype: DType) -> str:
    """numpy's kind of `dtype`: "b", "i", "u", "f" or "c"."""
    return "f" if dtype.kind == "V" else dtype.kind


def limits(dtype: DType) -> Any:
    """What numpy calls finfo: eps, max, smallest_normal and so on of a floating dtype."""
    return ml_dtypes.finfo(dtype) if dtype.kind == "V" else np.finfo(dtype)


def widened(dtype: DType) -> DType:
    """The dtype of the arithmetic: float32 for narrow dtypes."""
    return float32 if dtype in NARROW else dtype


def complex_dtype(dtype: DType) -> DType:
    """The complex dtype whose parts hold numbers of the floating `dtype`."""
    return dtype if dtype.kind == "c" else complex128 if dtype == float64 else complex64


def zero_of(dtype: DType) -> Any:
    """What added to any number of `dtype` leaves it as it is: of floats -0.0, for -0.0 + 0.0 is 0.0."""
    return dtype.type({"f": -0.0, "c": complex(-0.0, -0.0)}.get(kind_of(dtype), 0))
