"""Random tensors by rejection, as pure functions of a key and of parameters per element.

Element i at attempt t uses eight words of its own, those of Philox blocks 2i and 2i + 1 of the part t of the stream, so
that it is the same whoever draws it, and however often its neighbours were rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import lgamma
from typing import Any, ClassVar

import numpy as np

from flowcore.dtypes import DType, float64, int64
from flowcore.errors import DTypeError, ShapeError
from flowcore.op import Array, Block, Op, Sample, Type, operator
from flowcore.ops.axes import letters
from flowcore.ops.philox import words_of
from flowcore.placement.layout import Shape
from flowcore.placement.signature import Equation

__all__: list[str] = []

PART = 1 << 48
"""Blocks of one attempt: tensors have fewer elements than half of it."""
GREATEST = 2.0**62
"""Means of counts that fit int64."""


@dataclass(frozen=True, eq=False)
class Rejection(Op):
    """y[k, i] from parameter a[k, i] and random words under key k; key: (…, 2), a and y: (…, *shape).

    The elements start at `offset` in a whole of shape `logical` ((): they are the whole).
    """

    offset: tuple[int, ...] = ()
    logical: tuple[int, ...] = ()

    result: ClassVar[DType] = float64

    def infer(self, key: Type, a: Type) -> tuple[Type, ...]:
        if key.dtype.kind not in "iu" or key.ndim == 0 or key.shape[-1] != 2:
            raise ShapeError(f"{self.name} with a key of {key}: a key is two integers (seed, counter)")
        if a.shape[: key.ndim - 1] != key.shape[:-1]:
            raise ShapeError(f"{self.name} of {a} with keys of {key}: the leading lengths must be equal")
        if a.dtype != float64:
            raise DTypeError(f"{self.name} of {a.dtype}: its parameter is float64; cast with astype")
        return (Type(a.shape, self.result),)

    def equation(self, key: Type, a: Type) -> Equation:
        term = letters(a.ndim)
        return Equation((term[: key.ndim - 1] + "Z", term), (term,))

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        (block,) = outputs
        batch = len(inputs[0].shape) - 1
        if block.local[batch:] == block.shape[batch:]:
            return self
        offset = self.offset or (0,) * (len(block.shape) - batch)
        moved = tuple(have + start for have, start in zip(offset, block.start[batch:], strict=True))
        return replace(self, offset=moved, logical=self.logical or block.shape[batch:])

    def kernel(self, key: Array, a: Array) -> Any:
        result = np.empty(a.shape, self.result)
        for place in np.ndindex(key.shape[:-1]):
            seed, counter = key[place].astype(np.uint64).tolist()
            result[place] = self.draw(seed, counter, a[place])
        return result

    def draw(self, seed: int, counter: int, a: Array) -> Array:
        """The elements of one stream."""
        index, parameter = self.indices(a.shape), a.reshape(-1)
        result, left, attempt = np.empty(a.size, self.result), np.arange(a.size), 0
        while left.size:
            blocks = 2 * index[left, None] + np.arange(2) + attempt * PART
            words = words_of(seed, counter, blocks).reshape(-1, 8).astype(np.uint64)
            uniform = ((words[:, 0::2] << np.uint64(21)) ^ (words[:, 1::2] >> np.uint64(11))) & np.uint64(2**53 - 1)
            found, accepted = self.propose((uniform.astype(np.float64) + 0.5) * 2.0**-53, parameter[left])
            result[left[accepted]] = found[accepted]
            left, attempt = left[~accepted], attempt + 1
        return result.reshape(a.shape)

    def indices(self, shape: Shape) -> Array:
        """The flat index, in the whole, of every element of a block of `shape`."""
        if not self.logical:
            return np.arange(int(np.prod(shape)))
        places = [start + np.arange(length) for start, length in zip(self.offset, shape, strict=True)]
        whole: Array = np.ravel_multi_index(np.meshgrid(*places, indexing="ij"), self.logical)
        return whole.reshape(-1)

    def propose(self, uniform: Array, a: Array) -> tuple[Array, Array]:
        """Candidates, and whether each is accepted, from (n, 4) uniform numbers within (0, 1) and parameters (n,)."""
        raise NotImplementedError

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return self if all(flags) else None

    def flops(self, *types: Type) -> int:
        return 50 * types[1].size

    excluded: ClassVar[tuple[tuple[str, str], ...]] = ()

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        cases: tuple[tuple[Shape, Shape], ...] = (((2,), (5, 7)), ((3, 2), (3, 4)))
        return tuple(
            Sample(cls(), (Type(key, int64), Type(shape, float64)), ("key", "positive"), cls.excluded, is_unique=False)
            for key, shape in cases
        )


def _normal(uniform: Array) -> Array:
    """(n, 2) uniform → (n,) normal (G. E. P. Box, M. E. Muller, 1958)."""
    found: Array = np.sqrt(-2 * np.log(uniform[:, 0])) * np.cos(2 * np.pi * uniform[:, 1])
    return found


@operator
class Gamma(Rejection):
    """Gamma with finite shape parameter a > 0 and scale 1; nan elsewhere (G. Marsaglia, W. W. Tsang, 2000)."""

    name: ClassVar[str] = "random_gamma"

    def propose(self, uniform: Array, a: Array) -> tuple[Array, Array]:
        is_wrong = ~((a > 0) & np.isfinite(a))
        a = np.where(is_wrong, 1, a)
        is_small = a < 1  # drawn for a + 1, and times a power of a uniform number
        d = a + is_small - 1 / 3
        x = _normal(uniform[:, :2])
        v = (1 + x / np.sqrt(9 * d)) ** 3
        accepted = (v > 0) & (np.log(uniform[:, 2]) < x * x / 2 + d - d * v + d * np.log(np.where(v > 0, v, 1)))
        found = d * v * np.where(is_small, uniform[:, 3] ** (1 / np.where(is_small, a, 1)), 1)
        return np.where(is_wrong, np.nan, found), accepted | is_wrong


@operator
class Poisson(Rejection):
    """Poisson with mean a; -1 where a is no number from 0 to 2^62.

    Below 10 by inversion; above by transformed rejection (W. Hörmann, 1993, algorithm PTRS).
    """

    name: ClassVar[str] = "random_poisson"
    excluded: ClassVar[tuple[tuple[str, str], ...]] = (
        ("B,P(max)->P(max)", "for the small means of the sample only: above 10 more is not drawn for a greater mean"),
    )
    result: ClassVar[DType] = int64

    def propose(self, uniform: Array, a: Array) -> tuple[Array, Array]:
        is_right = (a >= 0) & (a < GREATEST)
        is_small = is_right & (a < 10)
        found, accepted = np.full(a.shape, -1, np.int64), ~is_right
        found[is_small], accepted[is_small] = _inverted(uniform[is_small, 0], a[is_small]), True
        is_large = is_right & ~is_small
        found[is_large], accepted[is_large] = _transformed(uniform[is_large], a[is_large])
        return found, accepted


def _inverted(uniform: Array, mean: Array) -> Array:
    """The least k with P(at most k) >= uniform."""
    found = np.zeros(mean.shape, np.int64)
    chance = np.exp(-mean)
    below, k = chance.copy(), 0
    while (beyond := uniform > below).any() and k < 200:  # far beyond what any number below 1 - 2^-54 needs
        k += 1
        chance = chance * mean / k
        below, found = below + chance, found + beyond
    return found


def _transformed(uniform: Array, mean: Array) -> tuple[Array, Array]:
    b = 0.931 + 2.53 * np.sqrt(mean)
    a = -0.059 + 0.02483 * b
    u, v = uniform[:, 0] - 0.5, uniform[:, 1]
    us = 0.5 - np.abs(u)
    k = np.floor((2 * a / us + b) * u + mean + 0.43)
    is_inside = (us >= 0.07) & (v <= 0.9277 - 3.6224 / (b - 2))
    is_outside = (k < 0) | ((us < 0.013) & (v > us))
    left = np.log(v) + np.log(1.1239 + 1.1328 / (b - 3.4)) - np.log(a / us**2 + b)
    logs = np.array([lgamma(number + 1) for number in np.maximum(k, 0)])
    right = -mean + k * np.log(mean) - logs
    return k.astype(np.int64), is_inside | (~is_outside & (left <= right))


@operator
class TruncatedNormal(Rejection):
    """Normal with mean 0 and variance 1, given that it lies in [a, a + width]."""

    width: float = 1.0

    name: ClassVar[str] = "random_truncated_normal"

    def propose(self, uniform: Array, a: Array) -> tuple[Array, Array]:
        normal = _normal(uniform[:, :2])
        # a narrow or a far interval is hit too rarely: there uniform candidates, by the ratio of densities
        is_wide = (self.width > 1.5) & (a < 0.5) & (a + self.width > -0.5)
        nearest = np.clip(0.0, a, a + self.width)
        start, span = (
            np.maximum(a, nearest - 12),
            np.minimum(a + self.width, nearest + 12) - np.maximum(a, nearest - 12),
        )
        flat = start + uniform[:, 2] * span
        accepted_flat = np.log(uniform[:, 3]) <= (nearest**2 - flat**2) / 2
        accepted_normal = (normal >= a) & (normal <= a + self.width)
        is_wrong = ~np.isfinite(a)
        found = np.where(is_wrong, np.nan, np.where(is_wide, normal, flat))
        return found, is_wrong | np.where(is_wide, accepted_normal, accepted_flat)
