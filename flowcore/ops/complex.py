"""Complex numbers: their parts and their conjugate; real tensors pass through.

The gradient g of a real loss L with respect to a complex z is the one with dL = Re Σ conj(g) dz: z - εg descends, as in
PyTorch. So y = f(z) with f analytic passes dy on as dy · conj(f'(z)), and a linear map by its adjoint.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import filled, operands
from flowcore.dtypes import real_dtype
from flowcore.op import Array, Type, function, operator
from flowcore.ops.alias import fresh
from flowcore.ops.call import apply
from flowcore.ops.elementwise import Elementwise
from flowcore.placement.layout import Layout
from flowcore.placement.signature import Algebra
from flowcore.tensor import Tensor, TensorLike

__all__ = ["conj", "conjugate", "imag", "real"]

LINEAR = Algebra(linear=(frozenset({0}),))


class Part(Elementwise):
    """A real linear function of complex numbers."""

    kinds: ClassVar[str] = "c"
    algebra: ClassVar[Algebra] = LINEAR

    def infer(self, *types: Any, **_: Any) -> tuple[Type, ...]:
        return (Type(types[0].shape, real_dtype(self.common(types))),)


@operator
class Real(Part):
    """y = Re x."""

    name: ClassVar[str] = "real"

    def kernel(self, x: Array) -> Any:
        return x.real

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return dy.astype(x.dtype)


@operator
class Imag(Part):
    """y = Im x."""

    name: ClassVar[str] = "imag"

    def kernel(self, x: Array) -> Any:
        return x.imag

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return dy.astype(x.dtype) * 1j


@operator
class Conj(Elementwise):
    """y = Re x - i Im x."""

    name: ClassVar[str] = "conj"
    kinds: ClassVar[str] = "c"
    algebra: ClassVar[Algebra] = LINEAR

    def kernel(self, x: Array) -> Any:
        return np.conj(x)

    def vjp(self, dy: Tensor, x: Tensor) -> Tensor:
        return conj(dy)


@function
def real(x: TensorLike, /) -> Tensor:
    """The real part, elementwise; a real x itself."""
    (tensor,) = operands(x)
    return apply(Real(), tensor) if tensor.dtype.kind == "c" else fresh(tensor)


@function
def imag(x: TensorLike, /) -> Tensor:
    """The imaginary part, elementwise; of a real x 0."""
    (tensor,) = operands(x)
    return apply(Imag(), tensor) if tensor.dtype.kind == "c" else filled(tensor.shape, 0, tensor.dtype, _whole(tensor))


def _whole(x: Tensor) -> Layout:
    """Replicated where x lies."""
    return Layout(x.placement, "B")


@function
def conj(x: TensorLike, /) -> Tensor:
    """The complex conjugate, elementwise; a real x itself."""
    (tensor,) = operands(x)
    return apply(Conj(), tensor) if tensor.dtype.kind == "c" else fresh(tensor)


conjugate = conj
