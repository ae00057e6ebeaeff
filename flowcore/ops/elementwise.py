"""The base of every elementwise operator: numpy broadcasting and dtype rules.

An elementwise primitive takes operands of one dtype; public functions cast first (`cast.aligned`, `cast.floating`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from flowcore.dtypes import DType, bool_, complex128, float32, float64, int64, kind_of
from flowcore.errors import DTypeError, ShapeError
from flowcore.op import MAX_DIMENSIONS, Array, Op, Sample, Type
from flowcore.placement.layout import Shape
from flowcore.placement.signature import Algebra, Equation, broadcast_equation
from flowcore.tensor import Tensor

KINDS = {"b": "bool", "i": "signed integer", "u": "unsigned integer", "f": "real floating", "c": "complex"}
SAMPLE_DTYPES = {"b": bool_, "i": int64, "f": float64, "c": complex128}
SHAPES: dict[int, tuple[tuple[Shape, ...], ...]] = {
    1: (((5, 7),), ((3, 5, 4),), ((),)),
    2: (((5, 7), (5, 7)), ((5, 7), (7,)), ((5, 1), (3, 1, 7))),
    3: (((5, 7), (5, 7), (5, 7)), ((5, 1), (7,), ())),
}
"""Shapes of the operands in samples, by how many there are."""


def broadcast_shape(name: str, shapes: Sequence[Shape]) -> Shape:
    """The shape to which `shapes` broadcast against each other; ShapeError where they do not."""
    first = shapes[0]
    if any(len(shape) > MAX_DIMENSIONS for shape in shapes):
        raise ShapeError(f"{name} of {max(map(len, shapes))} dimensions: there can be {MAX_DIMENSIONS}; reshape it")
    if all(shape == first for shape in shapes):
        return first
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        shown = " and ".join(map(str, shapes))
        raise ShapeError(
            f"{name} of shapes {shown}: lengths must be equal or 1, counted from the right; reshape or slice an operand"
        ) from None


class Elementwise(Op):
    """y[…] = f(a[…], b[…], …), with broadcasting."""

    ufunc: ClassVar[np.ufunc]
    """What the kernel applies, unless a subclass says otherwise."""
    loop: ClassVar[str] = "map"
    kinds: ClassVar[str] = "iufc"
    """The numpy kinds of dtypes it takes."""
    result: ClassVar[DType | None] = None
    """The dtype of the result; None: that of the operands."""
    wraps: ClassVar[bool] = False
    """Whether integers can overflow: it is then not monotone for them."""
    draws: ClassVar[tuple[str, ...]] = ("normal",)
    """How samples draw each operand."""
    excluded: ClassVar[tuple[tuple[str, str], ...]] = ()

    def infer(self, *types: Any, **_: Any) -> tuple[Type, ...]:
        dtype = self.common(types)
        return (Type(broadcast_shape(self.name, [type.shape for type in types]), self.result or dtype),)

    def common(self, types: Sequence[Type]) -> DType:
        """The one dtype of the operands; DTypeError where they differ or it is not of `kinds`."""
        dtype = types[0].dtype
        if any(type.dtype != dtype for type in types):
            shown = " and ".join(str(type.dtype) for type in types)
            raise DTypeError(f"{self.name} of {shown}: operands must have one dtype; cast with astype")
        if kind_of(dtype) not in self.kinds:
            accepted = ", ".join(KINDS[kind] for kind in self.kinds)
            raise DTypeError(f"{self.name} of {dtype}: takes {accepted}; cast with astype")
        return dtype

    def equation(self, *types: Any, **_: Any) -> Equation:
        return broadcast_equation([type.shape for type in types], max(type.ndim for type in types))

    def properties(self, *types: Any, **_: Any) -> Algebra:
        wraps = self.wraps and types[0].dtype.kind in "iu"
        return replace(self.algebra, monotone=()) if wraps else self.algebra

    def kernel(self, *arrays: Any, **_: Any) -> Any:
        return self.ufunc(*arrays)

    def write(self, results: Sequence[Array | None], *arrays: Any) -> Any:
        return self.ufunc(*arrays, out=results[0])

    def new_results(self, numbers: Sequence[int]) -> Sequence[int]:
        # the kernel of the class is one call of its ufunc; a kernel of its own may come with a write of its own
        kind = type(self)
        return numbers if kind.kernel is Elementwise.kernel or kind.write is not Elementwise.write else ()

    def vjp(self, dy: Any, *inputs: Any, **_: Any) -> Any:
        return (None,) * len(inputs)

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return self

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return elementwise_samples(cls())


def elementwise_samples(op: Elementwise) -> tuple[Sample, ...]:
    """Every shape of `SHAPES` in the widest dtype `op` takes, and the first shape in its other dtypes."""
    shapes = SHAPES[len(op.draws)]
    widest, *others = (SAMPLE_DTYPES[kind] for kind in "ficb" if kind in op.kinds)
    cases = [(widest, case) for case in shapes] + [(dtype, shapes[0]) for dtype in others]
    if op.kinds.count("f"):
        cases.append((float32, shapes[0]))
    return tuple(
        Sample(op, tuple(Type(shape, dtype) for shape in case), op.draws, op.excluded) for dtype, case in cases
    )


def sum_to(dy: Tensor, like: Tensor) -> Tensor:
    """`dy` summed over the dimensions along which `like` was broadcast: the transpose of broadcasting."""
    if dy.shape == like.shape:
        return dy
    lead = dy.ndim - like.ndim
    stretched = tuple(
        axis for axis in range(dy.ndim) if axis < lead or (like.shape[axis - lead] == 1 and dy.shape[axis] != 1)
    )
    return dy.sum(axis=stretched).reshape(like.shape)
