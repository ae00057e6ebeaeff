"""flowcore: distributed training in which a tensor is logical and data movement is an operator."""

from flowcore import _checkout as _checkout  # isort: skip
from flowcore import nn, optim, random
from flowcore.compile import compile
from flowcore.dispatch import asarray
from flowcore.dtypes import (
    bool_,
    complex64,
    complex128,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
