"""Discrete Fourier transforms along axes that are needed whole; every other axis may be split, and terms of a sum too.

y[k] = c Σ_j x[j] exp(∓2πi jk/n). `norm` says which direction is divided by n: "backward" the inverse, "forward" the
transform, "ortho" each by √n. The adjoint of a transform is thus the other direction with the other norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log2, prod
from typing import Any, ClassVar, Literal

import numpy as np

from flowcore.dtypes import complex64, complex128, complex_dtype, float32, float64, kind_of, real_dtype
from flowcore.errors import DTypeError, ShapeError
from flowcore.op import Array, Op, Sample, Type, operator
from flowcore.ops.axes import letters
from flowcore.ops.call import apply
from flowcore.ops.create import arange
from flowcore.ops.selection import where
from flowcore.ops.shape import reshape
from flowcore.placement.layout import Shape
from flowcore.placement.signature import Algebra, Equation
from flowcore.tensor import Tensor

Norm = Literal["backward", "ortho", "forward"]
OTHER: dict[Norm, Norm] = {"backward": "forward", "ortho": "ortho", "forward": "backward"}


@dataclass(frozen=True)
class Transform(Op):
    """A linear map of the elements along `axes`."""

    axes: tuple[int, ...]
    norm: Norm

    kinds: ClassVar[str] = "c"
    algebra: ClassVar[Algebra] = Algebra(linear=(frozenset({0}),))

    def made(self, x: Type) -> Type:
        """The type of the result."""
        return x

    def infer(self, x: Type, **_: Any) -> tuple[Type, ...]:
        if kind_of(x.dtype) not in self.kinds or real_dtype(x.dtype).itemsize < 4:
            wanted = "complex" if self.kinds == "c" else "real"
            raise DTypeError(f"{self.name} of {x.dtype}: takes {wanted} numbers, single or double; cast with astype")
        result = self.made(x)
        for axis in self.axes:
            if x.shape[axis] < 1 or result.shape[axis] < 1:
                raise ShapeError(
                    f"{self.name} of shape {x.shape} to {result.shape} along axes {self.axes}: lengths must not be 0"
                )
        return (result,)

    def equation(self, x: Type, **_: Any) -> Equation:
        term = "".join(name.upper() if axis in self.axes else name for axis, name in enumerate(letters(x.ndim)))
        return Equation((term,), (term,))

    def flops(self, *types: Type) -> int:
        return int(5 * types[0].size * log2(max(2, prod(types[0].shape[axis] for axis in self.axes))))

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return replace(self, axes=tuple(axis + 1 for axis in self.axes))


@operator
class Fourier(Transform):
    """The complex transform along `axes`, or its inverse."""

    inverse: bool = False

    name: ClassVar[str] = "fourier"

    def kernel(self, x: Array, **_: Any) -> Any:
        return (np.fft.ifftn if self.inverse else np.fft.fftn)(x, axes=self.axes, norm=self.norm)

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        return apply(Fourier(self.axes, OTHER[self.norm], not self.inverse), dy)

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        cases: tuple[tuple[Shape, tuple[int, ...], Norm, bool], ...] = (
            ((5, 7), (1,), "backward", False), ((3, 4, 5), (0, 2), "ortho", True), ((4,), (0,), "forward", False),
        )  # fmt: skip
        return (
            *(Sample(cls(axes, norm, inverse), (Type(shape, complex128),)) for shape, axes, norm, inverse in cases),
            Sample(cls((0,), "backward", True), (Type((5, 3), complex64),)),
        )


@operator
class RealFourier(Transform):
    """The first n // 2 + 1 elements of the transform of real x along one axis; the others are their conjugates."""

    name: ClassVar[str] = "real_fourier"
    kinds: ClassVar[str] = "f"

    def made(self, x: Type) -> Type:
        return Type(_with(x.shape, self.axes[0], x.shape[self.axes[0]] // 2 + 1), complex_dtype(x.dtype))

    def kernel(self, x: Array, **_: Any) -> Any:
        return np.fft.rfft(x, axis=self.axes[0], norm=self.norm)

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        length = x.shape[self.axes[0]]
        halved = dy / _copies(dy, self.axes[0], length)
        return apply(InverseRealFourier(self.axes, OTHER[self.norm], length), halved)

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        cases: tuple[tuple[Shape, int, Norm], ...] = (
            ((5, 7), 1, "backward"), ((3, 4, 5), 1, "ortho"), ((6,), 0, "forward"),
        )  # fmt: skip
        return (
            *(Sample(cls((axis,), norm), (Type(shape, float64),)) for shape, axis, norm in cases),
            Sample(cls((0,), "backward"), (Type((5, 3), float32),)),
        )


@operator
class InverseRealFourier(Transform):
    """The real inverse, of `length` elements along one axis, of the first length // 2 + 1 elements of a transform."""

    length: int

    name: ClassVar[str] = "inverse_real_fourier"

    def made(self, x: Type) -> Type:
        (axis,) = self.axes
        if x.shape[axis] != self.length // 2 + 1:
            raise ShapeError(
                f"{self.name} of shape {x.shape} to length {self.length}: axis {axis} must have {self.length // 2 + 1}"
            )
        return Type(_with(x.shape, axis, self.length), real_dtype(x.dtype))

    def kernel(self, x: Array, **_: Any) -> Any:
        return np.fft.irfft(x, n=self.length, axis=self.axes[0], norm=self.norm)

    def vjp(self, dy: Tensor, x: Tensor, **_: Any) -> Tensor:
        found = apply(RealFourier(self.axes, OTHER[self.norm]), dy)
        return found * _copies(found, self.axes[0], self.length)

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        cases: tuple[tuple[Shape, int, Norm, int], ...] = (
            ((5, 4), 1, "backward", 7), ((3, 4, 5), 1, "ortho", 6), ((4,), 0, "forward", 6),
        )  # fmt: skip
        return (
            *(Sample(cls((axis,), norm, n), (Type(shape, complex128),)) for shape, axis, norm, n in cases),
            Sample(cls((0,), "backward", 5), (Type((3, 5), complex64),)),
        )


def _copies(x: Tensor, axis: int, length: int) -> Tensor:
    """How often each element of the half x stands in a whole transform of `length`: the first and middle once."""
    places = arange(x.shape[axis], placement=x.placement)
    copies = where((places == 0) | (places * 2 == length), 1, 2).astype(real_dtype(x.dtype))
    return reshape(copies, (*(1,) * axis, x.shape[axis], *(1,) * (x.ndim - axis - 1)))


def _with(shape: Shape, axis: int, length: int) -> Shape:
    return (*shape[:axis], length, *shape[axis + 1 :])
