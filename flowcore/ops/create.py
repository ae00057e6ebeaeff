"""Tensors made from nothing: constants and arithmetic progressions."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from flowcore.comm.reduction import identity
from flowcore.dispatch import asarray, check_number, from_shape, held, located
from flowcore.dtypes import DType, as_dtype, complex64, float32, int64, scalar_dtype
from flowcore.errors import ShapeError
from flowcore.op import Array, Block, Op, Sample, Type, operator
from flowcore.ops.axes import lengths_of, letters, whole_number
from flowcore.ops.cast import astype
from flowcore.ops.comparison import equal
from flowcore.ops.shape import broadcast_to, reshape
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import P, SbpLike
from flowcore.placement.signature import Equation, Signature, derive
from flowcore.tensor import Tensor, TensorLike

__all__ = ["arange", "empty", "eye", "full", "linspace", "ones", "zeros"]


@operator
class Full(Op):
    """`value` everywhere; of a partial one the first term is `value`, the others leave it as it is."""

    shape: tuple[int, ...]
    value: bool | int | float | complex
    dtype: str

    name: ClassVar[str] = "full"
    loop: ClassVar[str] = "literal"
    makes_memory: ClassVar[bool] = True

    @property
    def made(self) -> DType:
        """The dtype of the result."""
        return np.dtype(self.dtype)

    def infer(self) -> tuple[Type, ...]:
        if any(length < 0 for length in self.shape):
            raise ShapeError(f"full of shape {self.shape}: lengths must not be negative")
        if math.prod(self.shape) * self.made.itemsize > sys.maxsize:
            raise ShapeError(f"full of shape {self.shape}: it would have more bytes than can be counted; ask for less")
        return (Type(self.shape, self.made),)

    def equation(self) -> Equation:
        return Equation((), (letters(len(self.shape)),))

    def rules(self, types: tuple[Type, ...], parts: int) -> tuple[Signature, ...]:
        return (*derive(self.equation(), self.algebra), Signature((), (P,)))

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        (block,) = outputs
        if block.first:
            return self if block.local == self.shape else replace(self, shape=block.local)
        return Full(block.local, identity("sum", self.made).item(), self.dtype)

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
    loop: ClassVar[str] = "index"

    def infer(self) -> tuple[Type, ...]:
        if self.length < 0:
            raise ShapeError(f"arange of length {self.length}: it must not be negative")
        most = 2**64 if self.dtype == "uint64" else 2**63
        if self.length >> 60 or any(isinstance(each, int) and abs(each) >= most for each in (self.start, self.step)):
            raise ShapeError(f"arange of {self.length} from {self.start} by {self.step}: give numbers of 64 bits")
        return (Type((self.length,), np.dtype(self.dtype)),)

    def equation(self) -> Equation:
        return Equation((), ("a",))

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        ((start, stop),) = outputs[0].box
        return replace(self, length=stop - start, offset=self.offset + start)

    def kernel(self) -> Array:
        places = np.arange(self.offset, self.offset + self.length)
        if self.dtype == "uint64":  # modulo 2^64, where int64 would overflow
            wrapped = places.astype(np.uint64) * np.uint64(self.step % 2**64)
            return wrapped + np.uint64(self.start % 2**64)
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


@operator
class Linspace(Op):
    """y[i] = start + (stop - start) (offset + i) / gaps, i < length; stop where the quotient is 1."""

    start: int | float | complex
    stop: int | float | complex
    gaps: int
    length: int
    dtype: str
    offset: int = 0

    name: ClassVar[str] = "linspace"

    def infer(self) -> tuple[Type, ...]:
        if self.length < 0:
            raise ShapeError(f"linspace of {self.length} numbers: it must not be negative")
        return (Type((self.length,), np.dtype(self.dtype)),)

    def equation(self) -> Equation:
        return Equation((), ("a",))

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        ((start, stop),) = outputs[0].box
        return replace(self, length=stop - start, offset=self.offset + start)

    def kernel(self) -> Array:
        places = np.arange(self.offset, self.offset + self.length)
        # halves, so that the distance of two finite numbers is finite
        half, ways = self.stop / 2 - self.start / 2, places / max(1, self.gaps)
        line = self.start + half * ways + half * ways
        if np.dtype(self.dtype).kind in "iu":
            line = np.floor(line)
        result = line.astype(self.dtype)
        result[(places == self.gaps) & (places > 0)] = self.stop
        return result

    def vjp(self, dy: Any) -> Any:
        return ()

    def flops(self, *types: Type) -> int:
        return 0

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return self

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return (Sample(cls(-2.0, 3.5, 6, 7, "float64"), ()), Sample(cls(0, 9, 5, 5, "int64"), ()))


def full(
    shape: int | Sequence[int],
    fill_value: TensorLike,
    *,
    dtype: Any = None,
    device: Any = None,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """`fill_value`, a number or a tensor without dimensions, everywhere; without dtype in that of the number."""
    lengths = lengths_of(shape)
    place = located(device, placement)
    if isinstance(fill_value, Tensor | np.ndarray):
        value = asarray(fill_value, dtype=dtype, placement=place)
        return asarray(broadcast_to(value, lengths), placement=place, sbp=sbp)
    if isinstance(fill_value, np.generic):
        dtype, fill_value = fill_value.dtype if dtype is None else dtype, fill_value.item()
    check_number(fill_value)
    made = scalar_dtype(fill_value, None) if dtype is None else as_dtype(dtype)
    return from_shape(Full(lengths, held(fill_value, made), str(made)), lengths, place, sbp)


def zeros(
    shape: int | Sequence[int],
    *,
    dtype: Any = None,
    device: Any = None,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """0 everywhere."""
    return full(shape, 0, dtype=float32 if dtype is None else dtype, device=device, placement=placement, sbp=sbp)


def ones(
    shape: int | Sequence[int],
    *,
    dtype: Any = None,
    device: Any = None,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """1 everywhere."""
    return full(shape, 1, dtype=float32 if dtype is None else dtype, device=device, placement=placement, sbp=sbp)


def empty(
    shape: int | Sequence[int],
    *,
    dtype: Any = None,
    device: Any = None,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """A tensor to be assigned to; until then 0 everywhere, because a value never depends on what was in memory."""
    return zeros(shape, dtype=dtype, device=device, placement=placement, sbp=sbp)


def arange(
    start: float,
    /,
    stop: float | None = None,
    step: float = 1,
    *,
    dtype: Any = None,
    device: Any = None,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """start, start + step, … before `stop`; one argument alone is `stop`. Integers give int64, floats float32."""
    if stop is None:
        start, stop = 0, start
    start, stop, step = (value.item() if isinstance(value, np.generic) else value for value in (start, stop, step))
    length = _count(start, stop, step)
    made = _number_dtype(start, stop, step) if dtype is None else as_dtype(dtype)
    return from_shape(Arange(start, step, length, str(made)), (length,), located(device, placement), sbp)


def _count(start: float, stop: float, step: float) -> int:
    """How many numbers there are from `start` in steps of `step` before `stop`."""
    if step == 0:
        raise ShapeError("arange with step 0 never ends: give another step")
    if all(isinstance(value, int) for value in (start, stop, step)):
        return max(0, -int((start - stop) // step))  # exact also beyond what floats can count
    if not all(map(math.isfinite, (start, stop, step))):
        raise ShapeError(f"arange from {start} to {stop} by {step} has no length: give finite numbers")
    return max(0, math.ceil((stop - start) / step))


def _number_dtype(*values: float) -> DType:
    """The default dtype of Python numbers."""
    return int64 if all(isinstance(value, int) for value in values) else float32


def linspace(
    start: complex,
    stop: complex,
    /,
    num: int,
    *,
    dtype: Any = None,
    device: Any = None,
    endpoint: bool = True,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """`num` numbers at equal distances from `start` to `stop`, which is the last or, without `endpoint`, left out."""
    first, last = (value.item() if isinstance(value, np.generic) else value for value in (start, stop))
    is_complex = isinstance(first, complex) or isinstance(last, complex)
    made = (complex64 if is_complex else float32) if dtype is None else as_dtype(dtype)
    count = whole_number(num, "linspace of a number of")
    op = Linspace(held(first, made), held(last, made), count - endpoint, count, str(made))
    return from_shape(op, (count,), located(device, placement), sbp)


def eye(
    n_rows: int,
    n_cols: int | None = None,
    /,
    *,
    k: int = 0,
    dtype: Any = None,
    device: Any = None,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """(n_rows, n_cols): 1 where column - row = k, else 0."""
    place, (rows, columns) = located(device, placement), lengths_of((n_rows, n_rows if n_cols is None else n_cols))
    if min(rows, columns) < 0:
        raise ShapeError(f"eye of shape {(rows, columns)}: lengths must not be negative")
    offset = max(-rows, min(columns, whole_number(k, "eye of diagonal")))
    across = arange(columns, placement=place)
    down = reshape(arange(offset, offset + rows, placement=place), (rows, 1))
    result = astype(equal(down, across), float32 if dtype is None else dtype)
    return result if sbp is None else result.to_global(sbp=sbp)
