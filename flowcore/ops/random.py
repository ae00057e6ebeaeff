"""Random tensors as pure functions of a key: element i depends on (seed, counter, i) only, whoever draws it.

A key is two integers (seed, counter). The element at flat logical index i is made from the words that Philox gives for
block i // lanes of the stream, where a block of four 32-bit words makes `lanes` elements; a rank that holds a part of
the tensor draws the blocks that its elements fall in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import pi, prod
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import operands
from flowcore.dtypes import as_dtype, float32, int64
from flowcore.errors import DTypeError, ShapeError
from flowcore.jit.launch import Kernel, Launch
from flowcore.jit.source import NAMES
from flowcore.jit.store import is_available
from flowcore.op import Array, Block, Op, Sample, Type, operator
from flowcore.ops.axes import letters
from flowcore.ops.call import apply
from flowcore.ops.comparison import less
from flowcore.ops.philox import CHUNK, words_of
from flowcore.placement.layout import Shape
from flowcore.placement.signature import Equation
from flowcore.tensor import Tensor, TensorLike


@dataclass(frozen=True)
class Draw(Op):
    """y[k, i] = an element of `dtype` at logical index i under key k; key: (…, 2), y: (…, *shape).

    `shape`: what is drawn; it starts at `offset` in a whole of shape `logical` ((): it is the whole).
    """

    shape: tuple[int, ...]
    dtype: str
    offset: tuple[int, ...] = ()
    logical: tuple[int, ...] = ()

    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64")
    makes_memory: ClassVar[bool] = True
    writes: ClassVar[bool] = True

    def infer(self, key: Type) -> tuple[Type, ...]:
        if self.dtype not in self.dtypes:
            raise DTypeError(f"{self.name} of {self.dtype}: draws {' or '.join(self.dtypes)}; cast with astype")
        if key.dtype.kind not in "iu" or key.ndim == 0 or key.shape[-1] != 2:
            raise ShapeError(f"{self.name} with a key of {key}: a key is two integers (seed, counter)")
        return (Type(key.shape[:-1] + self.shape, np.dtype(self.dtype)),)

    def equation(self, key: Type) -> Equation:
        result = letters(key.ndim - 1 + len(self.shape))
        return Equation((result[: key.ndim - 1] + "Z",), (result,))

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        (block,) = outputs
        batch = len(block.shape) - len(self.shape)
        if block.local[batch:] == self.shape:
            return self
        offset = self.offset or (0,) * len(self.shape)
        moved = tuple(have + start for have, start in zip(offset, block.start[batch:], strict=True))
        return replace(self, shape=block.local[batch:], offset=moved, logical=self.logical or self.shape)

    def kernel(self, key: Array) -> Any:
        keys = key.reshape(-1, 2).astype(np.uint64).tolist()
        drawn = [self.draw(seed, counter) for seed, counter in keys]
        if len(drawn) == 1:
            return drawn[0].reshape(key.shape[:-1] + self.shape)
        return np.stack(drawn).reshape(key.shape[:-1] + self.shape) if drawn else self.nothing(key.shape[:-1])

    def write(self, results: Sequence[Array | None], key: Array) -> Any:
        (memory,), drawn = results, self.kernel(key)
        if memory is None:
            return drawn
        np.copyto(memory, drawn)
        return memory

    def nothing(self, batch: Shape) -> Array:
        """The result for no key."""
        return np.empty(batch + self.shape, self.dtype)

    def draw(self, seed: int, counter: int) -> Array:
        """`shape`: the elements of one stream."""
        if 0 in self.shape:
            return self.nothing(())
        bases, run = runs(self.shape, self.offset, self.logical)
        lanes = 16 // np.dtype(self.dtype).itemsize
        shift = bases % lanes
        count = (int(shift.max()) + run + lanes - 1) // lanes
        values, total = np.empty((len(bases), count * lanes), self.dtype), len(bases) * count
        for start in range(0, total, CHUNK):
            run_of, place = np.divmod(np.arange(start, min(start + CHUNK, total)), count)
            words = words_of(seed, counter, bases[run_of] // lanes + place)
            values.reshape(-1)[start * lanes :][: len(place) * lanes] = self.elements(words).reshape(-1)
        if len(bases) == 1:
            return values[0, shift[0] : shift[0] + run].reshape(self.shape)
        return np.take_along_axis(values, shift[:, None] + np.arange(run), axis=1).reshape(self.shape)

    def elements(self, words: Array) -> Array:
        """(…, 4) uint32 words → (…, lanes) elements."""
        raise NotImplementedError

    def vjp(self, dy: Tensor, key: Tensor) -> Any:
        return None

    def flops(self, *types: Type) -> int:
        return 10 * self.infer(*types)[0].size

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return self

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        cases: tuple[tuple[Shape, int, Shape], ...] = (
            ((5, 7), 0, (2,)),
            ((3, 5, 4), 1, (2,)),
            ((5, 3), 1, (3, 2)),
            ((), 0, (2,)),
        )
        return tuple(
            Sample(cls(shape, cls.dtypes[dtype]), (Type(key, int64),), ("key",)) for shape, dtype, key in cases
        )


def runs(shape: Shape, offset: Shape, logical: Shape) -> tuple[Array, int]:
    """The flat indices in `logical` at which the contiguous runs of a box begin, and how long each run is."""
    if not logical:
        return np.zeros(1, np.int64), prod(shape)
    inner = len(shape)
    while inner > 0 and shape[inner - 1] == logical[inner - 1]:
        inner -= 1
    outer = max(inner - 1, 0)
    bases = np.zeros((1,) * outer, np.int64)
    for axis in range(inner):
        stride = prod(logical[axis + 1 :])
        places = offset[axis] + (np.arange(shape[axis]) if axis < outer else np.zeros(1, np.int64))
        bases = bases + stride * places.reshape((-1,) + (1,) * max(outer - axis - 1, 0))
    return bases.reshape(-1), prod(shape[outer:])


def _unit(words: Array, dtype: str) -> Array:
    """Uniform in [0, 1), a multiple of 2^-24 in float32, of 2^-53 in float64."""
    if dtype == "float32":
        return (words >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)
    return (_long(words) >> np.uint64(11)).astype(np.float64) * 2**-53


def _long(words: Array) -> Array:
    """(…, 4) uint32 → (…, 2) uint64, the first of two words being the low one."""
    wide = words.astype(np.uint64)
    return wide[..., 0::2] | (wide[..., 1::2] << np.uint64(32))


@operator
class Uniform(Draw):
    """Uniform in [0, 1)."""

    name: ClassVar[str] = "uniform"

    def launch(self, types: Sequence[Type]) -> Launch | None:
        key, kind = types[0], NAMES[self.dtype]
        if key.dtype != int64 or 0 in self.shape or not is_available():
            return None
        bases, length = runs(self.shape, self.offset, self.logical)
        steps = np.diff(bases)
        if steps.size and (steps != steps[0]).any():
            return None
        step = int(steps[0]) if steps.size else 0
        kernel = Kernel(f"from flowcore.jit.philox import uniform_{kind} as loop", 5, ("i8", kind))
        return Launch(kernel, (len(bases), length, int(bases[0]), step, key.size // 2))

    def elements(self, words: Array) -> Array:
        return _unit(words, self.dtype)


@operator
class Normal(Draw):
    """Normal with mean 0 and variance 1: two of two uniforms (G. E. P. Box, M. E. Muller, 1958)."""

    name: ClassVar[str] = "normal"

    def elements(self, words: Array) -> Array:
        unit = _unit(words, self.dtype)
        radius = np.sqrt(-2 * np.log(1 - unit[..., 0::2]))
        angle = unit[..., 1::2] * unit.dtype.type(2 * pi)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(unit.shape)


@operator
class Bits(Draw):
    """All values of an unsigned integer, equally likely."""

    name: ClassVar[str] = "bits"
    dtypes: ClassVar[tuple[str, ...]] = ("uint32", "uint64")

    def elements(self, words: Array) -> Array:
        return words if self.dtype == "uint32" else _long(words)


def uniform(key: TensorLike, shape: Sequence[int], dtype: Any = float32) -> Tensor:
    """Uniform in [0, 1)."""
    return apply(Uniform(tuple(shape), str(as_dtype(dtype))), *operands(key))


def normal(key: TensorLike, shape: Sequence[int], dtype: Any = float32) -> Tensor:
    """Normal with mean 0 and variance 1."""
    return apply(Normal(tuple(shape), str(as_dtype(dtype))), *operands(key))


def bits(key: TensorLike, shape: Sequence[int], dtype: Any = "uint64") -> Tensor:
    """All values of uint32 or uint64, equally likely."""
    return apply(Bits(tuple(shape), str(as_dtype(dtype))), *operands(key))


def randint(key: TensorLike, low: int, high: int, shape: Sequence[int], dtype: Any = int64) -> Tensor:
    """Integers in low..high-1; the bias of the remainder is below (high - low) / 2^64."""
    if high <= low:
        raise ShapeError(f"randint from {low} below {high}: there is no such integer; give low < high")
    return ((bits(key, shape) % (high - low)).astype(int64) + low).astype(dtype)


def bernoulli(key: TensorLike, probability: TensorLike, shape: Sequence[int]) -> Tensor:
    """True with `probability`, which broadcasts to `shape`."""
    return less(uniform(key, shape), probability)
