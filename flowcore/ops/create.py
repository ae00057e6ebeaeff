"""Tensors made from nothing: constants and arithmetic progressions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import from_shape
from flowcore.dtypes import DType, as_dtype, float32, int64, scalar_dtype
from flowcore.errors import ShapeError
from flowcore.op import Array, Block, Op, Sample, Type, operator
from flowcore.ops.axes import letters
from flowcore.ops.cast import astype
from flowcore.ops.comparison import equal
from flowcore.ops.shape import reshape
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import P, SbpLike
from flowcore.placement.signature import Equation, Signature, derive
from flowcore.tensor import Tensor

__all__ = ["arange", "eye", "full", "linspace", "ones", "zeros"]


@operator
class Full(Op):
    """`value` everywhere; of a partial one the first term is `value`, the others are 0."""

    shape: tuple[int, ...]
    value: bool | int | float | complex
    dtype: str

    name: ClassVar[str] = "full"

    @property
    def made(self) -> DType:
        """The dtype of the result."""
        return np.dtype(self.dtype)

    def infer(self) -> tuple[Type, ...]:
        if any(length < 0 for length in self.shape):
            raise ShapeError(f"full of shape {self.shape}: lengths must not be negative")
        return (Type(self.shape, self.made),)

    def equation(self) -> Equation:
        return Equation((), (letters(len(self.shape)),))

    def rules(self, types: tuple[Type, ...], parts: int) -> tuple[Signature, ...]:
        return (*derive(self.equation(), self.algebra), Signature((), (P,)))

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        (block,) = outputs
        if block.first:
            return self if block.local == self.shape else replace(self, shape=block.local)
        return Full(block.local, 0, self.dtype)

    def kernel(self) -> Any:
        return np.full(self.shape, self.value, self.made)

    def vjp(self, dy: Any) -> Any:
        return ()

    def flops(self, *types: Type) -> int:
        return 0

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return self

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        cases = (((5, 7), -1.5, "float64"), ((3, 5, 4), -2, "int64"), ((), -1.0, "float32"), ((5, 7), True, "bool"))
        return tuple(Sample(cls(*case), ()) for case in cases)


@operator
class Arange(Op):
    """y[i] = start + step (offset + i), i < length."""

    start: int | float
    step: int | float
    length: int
    dtype: str
    offset: int = 0

    name: ClassVar[str] = "arange"

    def infer(self) -> tuple[Type, ...]:
        if self.length < 0:
            raise ShapeError(f"arange of length {self.length}: it must not be negative")
        return (Type((self.length,), np.dtype(self.dtype)),)

    def equation(self) -> Equation:
        return Equation((), ("a",))

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        ((start, stop),) = outputs[0].box
        return replace(self, length=stop - start, offset=self.offset + start)

    def kernel(self) -> Array:
        places = np.arange(self.offset, self.offset + self.length)
        result: Array = (places * self.step + self.start).astype(self.dtype)
        return result

    def vjp(self, dy: Any) -> Any:
        return ()

    def flops(self, *types: Type) -> int:
        return 0

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return self

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return (Sample(cls(-2, 3, 7, "int64"), ()), Sample(cls(0.5, -0.25, 5, "float32"), ()))


def full(
    shape: int | Sequence[int],
    value: bool | int | float | complex,
    *,
    dtype: Any = None,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """`value` everywhere; without dtype that of the Python scalar."""
    lengths = (shape,) if isinstance(shape, int) else tuple(shape)
    made = scalar_dtype(value, None) if dtype is None else as_dtype(dtype)
    return from_shape(Full(lengths, value, str(made)), lengths, placement, sbp)


def zeros(
    shape: int | Sequence[int], *, dtype: Any = float32, placement: Placement | None = None, sbp: SbpLike | None = None
) -> Tensor:
    """0 everywhere."""
    return full(shape, 0, dtype=float32 if dtype is None else dtype, placement=placement, sbp=sbp)


def ones(
    shape: int | Sequence[int], *, dtype: Any = float32, placement: Placement | None = None, sbp: SbpLike | None = None
) -> Tensor:
    """1 everywhere."""
    return full(shape, 1, dtype=float32 if dtype is None else dtype, placement=placement, sbp=sbp)


def arange(
    start: float,
    stop: float | None = None,
    step: float = 1,
    *,
    dtype: Any = None,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """start, start + step, … before `stop`; one argument alone is `stop`. Integers give int64, floats float32."""
    if stop is None:
        start, stop = 0, start
    if step == 0:
        raise ShapeError("arange with step 0 never ends: give another step")
    length = max(0, math.ceil((stop - start) / step))
    made = _number_dtype(start, stop, step) if dtype is None else as_dtype(dtype)
    return from_shape(Arange(start, step, length, str(made)), (length,), placement, sbp)


def _number_dtype(*values: float) -> DType:
    """The default dtype of Python numbers."""
    return int64 if all(isinstance(value, int) for value in values) else float32


def linspace(
    start: float,
    stop: float,
    count: int,
    *,
    dtype: Any = float32,
    endpoint: bool = True,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """`count` numbers at equal distances from `start` to `stop`, which is the last or, without `endpoint`, left out."""
    step = (stop - start) / max(1, count - endpoint)
    return from_shape(Arange(float(start), step, count, str(as_dtype(dtype))), (count,), placement, sbp)


def eye(
    rows: int,
    columns: int | None = None,
    *,
    k: int = 0,
    dtype: Any = float32,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """(rows, columns): 1 where column - row = k, else 0."""
    across = arange(rows if columns is None else columns, placement=placement)
    down = reshape(arange(k, k + rows, placement=placement), (rows, 1))
    result = astype(equal(down, across), dtype)
    return result if sbp is None else result.to_global(sbp=sbp)
