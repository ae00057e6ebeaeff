"""What dtypes are and become, and what this namespace offers, as the array API asks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowcore.dispatch import located
from flowcore.dtypes import (
    ALL,
    DEFAULTS,
    NARROW,
    DType,
    as_dtype,
    float32,
    int64,
    is_float,
    kind_of,
    limits,
    promote,
    real_dtype,
    scalar_dtype,
)
from flowcore.errors import DTypeError
from flowcore.op import MAX_DIMENSIONS
from flowcore.placement.mesh import Placement
from flowcore.tensor import Tensor
from flowcore.world import current

__all__ = [
    "__array_api_version__", "__array_namespace_info__", "can_cast", "e", "finfo", "iinfo", "inf", "isdtype", "nan",
    "newaxis", "pi", "result_type",
]  # fmt: skip

__array_api_version__ = "2024.12"

e, inf, nan, newaxis, pi = math.e, math.inf, math.nan, None, math.pi

KINDS = {
    "bool": "b",
    "signed integer": "i",
    "unsigned integer": "u",
    "integral": "iu",
    "real floating": "f",
    "complex floating": "c",
    "numeric": "iufc",
}
"""The array API's kinds of dtypes as numpy's."""


@dataclass(frozen=True)
class FloatInfo:
    """The limits of a floating dtype; of a complex one those of its parts."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: DType


@dataclass(frozen=True)
class IntegerInfo:
    """The limits of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: DType


def finfo(type: Any, /) -> FloatInfo:
    """The limits of a floating dtype, or that of a tensor."""
    dtype = _dtype_of(type)
    if not is_float(dtype):
        raise DTypeError(f"finfo of {dtype}: takes floating dtypes; use iinfo for integers")
    found = limits(dtype)
    eps, highest, lowest, normal = map(float, (found.eps, found.max, found.min, found.smallest_normal))
    return FloatInfo(int(found.bits), eps, highest, lowest, normal, real_dtype(dtype))


def iinfo(type: Any, /) -> IntegerInfo:
    """The limits of an integer dtype, or that of a tensor."""
    dtype = _dtype_of(type)
    if dtype.kind not in "iu":
        raise DTypeError(f"iinfo of {dtype}: takes integer dtypes; use finfo for floats")
    found = np.iinfo(dtype)
    return IntegerInfo(int(found.bits), int(found.max), int(found.min), dtype)


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether `dtype` is (of) `kind`: a dtype, one of the array API's names of kinds, or a tuple of these."""
    asked = as_dtype(dtype)
    for one in kind if isinstance(kind, tuple) else (kind,):
        if isinstance(one, str) and one not in KINDS:
            raise DTypeError(f"unknown kind of dtypes {one!r}: use one of {', '.join(KINDS)}")
        if kind_of(asked) in KINDS[one] if isinstance(one, str) else asked == as_dtype(one):
            return True
    return False


def can_cast(from_: Any, to: Any, /) -> bool:
    """Whether every value of `from_` (a dtype, or that of a tensor) is one of `to`."""
    return bool(np.can_cast(_dtype_of(from_), as_dtype(to)))


def result_type(*arrays_and_dtypes: Any) -> DType:
    """The dtype of a result that mixes tensors, dtypes and Python scalars."""
    scalars = [item for item in arrays_and_dtypes if isinstance(item, bool | int | float | complex)]
    dtypes = [_dtype_of(item) for item in arrays_and_dtypes if not isinstance(item, bool | int | float | complex)]
    if not dtypes and not scalars:
        raise DTypeError("result_type of nothing: pass a tensor or a dtype")
    found = promote(*dtypes) if dtypes else None
    for scalar in scalars:
        found = scalar_dtype(scalar, found)
    return as_dtype(found)


def _dtype_of(item: Any) -> DType:
    return as_dtype(item.dtype if isinstance(item, Tensor | np.ndarray | np.generic) else item)


class NamespaceInfo:
    """What `__array_namespace_info__` gives: capabilities, devices and dtypes."""

    def capabilities(self) -> dict[str, Any]:
        """Data-dependent shapes work eagerly, and are an error inside `fc.compile`."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": MAX_DIMENSIONS}

    def default_device(self) -> Placement:
        """Where tensors are created that name no place: the placement of `fc.use`, or the whole world."""
        return current().defaults[-1].placement

    def devices(self) -> list[Placement]:
        """The default placement; every other placement of ranks of the world is a device as well."""
        return [self.default_device()]

    def default_dtypes(self, *, device: Any = None) -> dict[str, DType]:
        """What Python scalars become."""
        located(device, None)
        return {
            "real floating": float32,
            "complex floating": DEFAULTS["c"],
            "integral": int64,
            "indexing": int64,
        }

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, DType]:
        """The dtypes of `kind`, as `isdtype` takes it (None: all that the array API names)."""
        located(device, None)
        named = {dtype.name: dtype for dtype in ALL if dtype not in NARROW}
        return {name: dtype for name, dtype in named.items() if kind is None or isdtype(dtype, kind)}


def __array_namespace_info__() -> NamespaceInfo:
    """What this namespace offers."""
    return NamespaceInfo()
