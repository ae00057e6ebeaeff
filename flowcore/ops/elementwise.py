"""The base of every elementwise operator: numpy broadcasting, dtype rules, and the cast between dtypes.

An elementwise primitive takes operands of one dtype; public functions cast first (`aligned`, `floating`), so that a
change of dtype is an operator of its own, with its own algebra: casting a wider sum of integers is not linear, because
integers wrap around.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import apply, operands
from flowcore.dtypes import DType, as_dtype, bool_, float32, float64, int64, is_float, promote
from flowcore.errors import DTypeError, ShapeError
from flowcore.op import Array, Block, Op, Sample, Type, function, operator
from flowcore.placement.layout import Shape
from flowcore.placement.signature import Algebra, Equation, broadcast_equation
from flowcore.tensor import Tensor, TensorLike

KINDS = {"b": "bool", "i": "signed integer", "u": "unsigned integer", "f": "real floating", "c": "complex"}
SAMPLE_DTYPES = {"b": bool_, "i": int64, "f": float64}
SHAPES: dict[int, tuple[tuple[Shape, ...], ...]] = {
    1: (((5, 7),), ((3, 5, 4),), ((),)),
    2: (((5, 7), (5, 7)), ((5, 7), (7,)), ((5, 1), (3, 1, 7))),
    3: (((5, 7), (5, 7), (5, 7)), ((5, 1), (7,), ())),
}
"""Shapes of the operands in samples, by how many there are."""


def broadcast_shape(name: str, shapes: Sequence[Shape]) -> Shape:
    """The shape to which `shapes` broadcast against each other; ShapeError where they do not."""
    first = shapes[0]
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

    kinds: ClassVar[str] = "iufc"
    """The numpy kinds of dtypes it takes."""
    result: ClassVar[DType | None] = None
    """The dtype of the result; None: that of the operands."""
    wraps: ClassVar[bool] = False
    """Whether integers can overflow: it is then not monotone for them."""
    draws: ClassVar[tuple[str, ...]] = ("normal",)
    """How samples draw each operand."""
    excluded: ClassVar[tuple[tuple[str, str], ...]] = ()

    def infer(self, *types: Type) -> tuple[Type, ...]:
        dtype = self.common(types)
        return (Type(broadcast_shape(self.name, [type.shape for type in types]), self.result or dtype),)

    def common(self, types: Sequence[Type]) -> DType:
        """The one dtype of the operands; DTypeError where they differ or it is not of `kinds`."""
        dtype = types[0].dtype
        if any(type.dtype != dtype for type in types):
            shown = " and ".join(str(type.dtype) for type in types)
            raise DTypeError(f"{self.name} of {shown}: operands must have one dtype; cast with astype")
        if dtype.kind not in self.kinds:
            accepted = ", ".join(KINDS[kind] for kind in self.kinds)
            raise DTypeError(f"{self.name} of {dtype}: takes {accepted}; cast with astype")
        return dtype

    def equation(self, *types: Type) -> Equation:
        return broadcast_equation([type.shape for type in types], max(type.ndim for type in types))

    def properties(self, *types: Type) -> Algebra:
        wraps = self.wraps and types[0].dtype.kind in "iu"
        return replace(self.algebra, monotone=()) if wraps else self.algebra

    def vjp(self, dy: Tensor, *inputs: Tensor) -> Any:
        return (None,) * len(inputs)

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return self

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return elementwise_samples(cls())


def elementwise_samples(op: Elementwise) -> tuple[Sample, ...]:
    """Every shape of `SHAPES` in the widest dtype `op` takes, and the first shape in its other dtypes."""
    shapes = SHAPES[len(op.draws)]
    widest, *others = (SAMPLE_DTYPES[kind] for kind in "fib" if kind in op.kinds)
    cases = [(widest, case) for case in shapes] + [(dtype, shapes[0]) for dtype in others]
    if op.kinds.count("f"):
        cases.append((float32, shapes[0]))
    return tuple(
        Sample(op, tuple(Type(shape, dtype) for shape in case), op.draws, op.excluded) for dtype, case in cases
    )


@operator
class Cast(Elementwise):
    """y = x in another dtype, as numpy's astype.

    Linear between floats up to rounding, and from integers to integers no wider (both count modulo a power of two);
    monotone where every value keeps its order: not where integers wrap around.
    """

    dtype: str

    name: ClassVar[str] = "cast"
    kinds: ClassVar[str] = "biufc"

    def infer(self, *types: Type) -> tuple[Type, ...]:
        (x,) = types
        if x.dtype.kind == "c" and self.target.kind != "c":
            raise DTypeError(f"cast of {x.dtype} to {self.dtype} would drop the imaginary part; take real or abs first")
        return (Type(x.shape, self.target),)

    @property
    def target(self) -> DType:
        """The dtype of the result."""
        return np.dtype(self.dtype)

    def properties(self, *types: Type) -> Algebra:
        (x,) = types
        source, target = x.dtype, self.target
        narrower = source.kind in "iu" and target.kind in "iu" and target.itemsize <= source.itemsize
        keeps_order = source.kind == "b" or source.kind != "c" and target.kind == "f" or np.can_cast(source, target)
        return Algebra(
            linear=(frozenset({0}),) if narrower or is_float(source) and is_float(target) else (),
            monotone=(1,) if keeps_order and target.kind not in "bc" else (),
        )

    def kernel(self, x: Array) -> Array:
        return x.astype(self.target)

    def vjp(self, dy: Tensor, *inputs: Tensor) -> Any:
        (x,) = inputs
        return astype(dy, x.dtype) if is_float(x.dtype) else None

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        return self

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        pairs = (
            ("float64", "float32"), ("float32", "float64"), ("float64", "int64"), ("float64", "complex128"),
            ("int64", "float64"), ("int64", "int32"), ("int32", "int64"), ("int64", "bool"), ("bool", "float32"),
            ("bool", "int64"), ("float64", "bool"),
        )  # fmt: skip
        draws = {"b": "bool", "f": "normal", "i": "normal"}
        return tuple(
            Sample(cls(target), (Type((5, 7), np.dtype(source)),), (draws[np.dtype(source).kind],))
            for source, target in pairs
        )


@function
def astype(x: TensorLike, dtype: Any, /, *, copy: bool = True) -> Tensor:
    """x in another dtype; x itself where it has that dtype (tensors are values: `copy` changes nothing)."""
    (tensor,) = operands(x)
    target = as_dtype(dtype)
    return tensor if tensor.dtype == target else apply(Cast(str(target)), tensor)


def aligned(*values: TensorLike) -> tuple[Tensor, ...]:
    """`values` as tensors of their common dtype."""
    tensors = operands(*values)
    dtype = promote(*(tensor.dtype for tensor in tensors))
    return tuple(tensor if tensor.dtype == dtype else astype(tensor, dtype) for tensor in tensors)


def floating(*values: TensorLike) -> tuple[Tensor, ...]:
    """`values` as tensors of their common floating dtype; integers and booleans become float32."""
    tensors = aligned(*values)
    return tensors if is_float(tensors[0].dtype) else tuple(astype(tensor, float32) for tensor in tensors)


def sum_to(dy: Tensor, like: Tensor) -> Tensor:
    """`dy` summed over the dimensions along which `like` was broadcast: the transpose of broadcasting."""
    if dy.shape == like.shape:
        return dy
    lead = dy.ndim - like.ndim
    stretched = tuple(
        axis for axis in range(dy.ndim) if axis < lead or like.shape[axis - lead] == 1 and dy.shape[axis] != 1
    )
    return dy.sum(axis=stretched).reshape(like.shape)
