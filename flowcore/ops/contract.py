"""Sums of products of two operands: y[…] = Σ a[…] b[…], as matrix products.

Every letter stands in at least two of the three terms, so that the gradient of a contraction is a contraction. The
letters fall into four groups: batch (in all three), rows (a and y), columns (b and y), summed (a and b); with each
group as one dimension, the contraction is a batched matrix product of views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, ClassVar

import numpy as np

from flowcore.dtypes import NARROW, bool_, complex128, float32, float64, int64
from flowcore.errors import DTypeError, ShapeError
from flowcore.jit import onednn
from flowcore.jit.launch import Launch
from flowcore.jit.library import gemm_addresses
from flowcore.jit.product import launch as product_launch
from flowcore.jit.source import NAMES
from flowcore.jit.store import is_available
from flowcore.op import Array, Op, Sample, Type, function, operator
from flowcore.ops.axes import axis_of, letters, whole_number, whole_numbers
from flowcore.ops.call import apply
from flowcore.ops.cast import aligned, astype
from flowcore.ops.complex import conj
from flowcore.ops.elementwise import broadcast_shape
from flowcore.ops.shape import reshape
from flowcore.placement.layout import Shape
from flowcore.placement.signature import Algebra, Equation, parse_equation
from flowcore.tensor import Tensor, TensorLike

__all__ = ["contract", "matmul", "tensordot"]


@dataclass(frozen=True, slots=True)
class Grouping:
    """How a contraction is a matrix product: orders of letters, and how many letters each group has.

    `a`, `b`: the axes of the operands in the orders batch, rows, summed and batch, summed, columns; `y`: the axes of
    the product in the order of the result. `is_plain`: every group but batch has one letter, so that no reshape is due.
    """

    a: tuple[int, ...]
    b: tuple[int, ...]
    y: tuple[int, ...]
    batch: int
    rows: int
    summed: int
    columns: int

    @property
    def is_plain(self) -> bool:
        return self.rows == self.summed == self.columns == 1


@lru_cache(maxsize=4096)
def grouping(equation: Equation) -> Grouping:
    """The grouping of `equation`."""
    (a, b), (y,) = equation.inputs, equation.outputs
    batch = [letter for letter in y if letter in a and letter in b]
    rows = [letter for letter in a if letter in y and letter not in b]
    columns = [letter for letter in b if letter in y and letter not in a]
    summed = [letter for letter in a if letter in b and letter not in y]
    product = [*batch, *rows, *columns]
    return Grouping(
        tuple(a.index(letter) for letter in (*batch, *rows, *summed)),
        tuple(b.index(letter) for letter in (*batch, *summed, *columns)),
        tuple(product.index(letter) for letter in y),
        len(batch), len(rows), len(summed), len(columns),
    )  # fmt: skip


def multiply(a: Array, b: Array, out: Array | None = None) -> Array:
    """The matrix product, in `out` if given; of narrow numbers in float32, each result rounded once."""
    if a.dtype not in NARROW:
        return np.asarray(np.matmul(a, b, out=out))
    made = np.empty((*a.shape[:-1], b.shape[-1]), a.dtype) if out is None else out
    if not onednn.multiply(a, b, made):
        made[...] = np.matmul(a.astype(float32), b.astype(float32))
    return made


def product(group: Grouping, a: Array, b: Array) -> Array:
    """The contraction grouped so, as one batched matrix product; the result may be a transposed view."""
    a, b = a.transpose(group.a), b.transpose(group.b)
    if group.is_plain:
        return np.asarray(multiply(a, b).transpose(group.y))
    batch = a.shape[: group.batch]
    rows = a.shape[group.batch : group.batch + group.rows]
    summed = prod(a.shape[group.batch + group.rows :])
    columns = b.shape[group.batch + group.summed :]
    found = multiply(a.reshape(*batch, prod(rows), summed), b.reshape(*batch, summed, prod(columns)))
    return np.asarray(found.reshape(batch + rows + columns).transpose(group.y))


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(order.index(axis) for axis in range(len(order)))


def product_into(result: Array, group: Grouping, a: Array, b: Array) -> Array:
    """`product` in the memory of `result`, which has the shape of the contraction."""
    a, b = a.transpose(group.a), b.transpose(group.b)
    order = _inverse(group.y)
    if group.is_plain:
        multiply(a, b, result.transpose(order))
        return result
    if order != tuple(range(len(order))):
        result[...] = product(group, a.transpose(np.argsort(group.a)), b.transpose(np.argsort(group.b)))
        return result
    batch = a.shape[: group.batch]
    rows, summed = prod(a.shape[group.batch : group.batch + group.rows]), prod(a.shape[group.batch + group.rows :])
    columns = prod(b.shape[group.batch + group.summed :])
    multiply(a.reshape(*batch, rows, summed), b.reshape(*batch, summed, columns), result.reshape(*batch, rows, columns))
    return result


@operator
class Contract(Op):
    """y[…] = Σ a[…] b[…] over the letters that y lacks, as in `bmk,kn->bmn`."""

    formula: str

    name: ClassVar[str] = "contract"
    makes_memory: ClassVar[bool] = True
    writes: ClassVar[bool] = True
    algebra: ClassVar[Algebra] = Algebra(linear=(frozenset({0}), frozenset({1})), reduction="sum")

    def equation(self, *types: Type) -> Equation:
        return _parsed(self.formula)

    def infer(self, a: Type, b: Type) -> tuple[Type, ...]:
        equation = _parsed(self.formula)
        if a.dtype != b.dtype or a.dtype == bool_:
            raise DTypeError(f"contract of {a.dtype} and {b.dtype}: takes numbers of one dtype; cast with astype")
        lengths: dict[str, int] = {}
        for term, type in zip(equation.inputs, (a, b), strict=True):
            if len(term) != type.ndim:
                raise ShapeError(
                    f"contract {self.formula} of {a.shape} and {b.shape}: {term} names {len(term)} dimensions"
                )
            for letter, length in zip(term, type.shape, strict=True):
                if lengths.setdefault(letter, length) != length:
                    raise ShapeError(
                        f"contract {self.formula} of {a.shape} and {b.shape}: {letter} is both {lengths[letter]} and "
                        f"{length}; both operands need the same length there, transpose or reshape one"
                    )
        return (Type(tuple(lengths[letter] for letter in equation.outputs[0]), a.dtype),)

    def takes_narrow(self, types: Sequence[Type]) -> bool:
        return onednn.is_fast(str(types[0].dtype))

    def kernel(self, a: Array, b: Array) -> Any:
        return product(grouping(_parsed(self.formula)), a, b)

    def launch(self, types: Sequence[Type]) -> Launch | None:
        a, b = types
        kind = NAMES.get(str(a.dtype), "")
        if not (kind in gemm_addresses() and is_available()):
            return None
        (first, second), (result,) = _parsed(self.formula).inputs, _parsed(self.formula).outputs
        lengths = dict(zip(first + second, a.shape + b.shape, strict=True))
        return product_launch(first, second, result, lengths, kind)

    def prepare(self, memory: Sequence[Array | None]) -> Callable[..., Any]:
        group, (result,) = grouping(_parsed(self.formula)), memory
        if result is None or not group.is_plain:
            return super().prepare(memory)
        made, first, second = result, group.a, group.b
        target = made.transpose(_inverse(group.y))

        def call(a: Array, b: Array) -> Array:
            multiply(a.transpose(first), b.transpose(second), target)
            return made

        return call

    def write(self, results: Sequence[Array | None], *arrays: Any) -> Any:
        group = grouping(_parsed(self.formula))
        return product(group, *arrays) if results[0] is None else product_into(results[0], group, *arrays)

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        equation = _parsed(self.formula)
        (first, second), (result,) = equation.inputs, equation.outputs
        return contract(f"{result},{second}->{first}", dy, conj(b)), contract(
            f"{first},{result}->{second}", conj(a), dy
        )

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        equation = _parsed(self.formula)
        new = next(letter for letter in letters(26) if letter not in equation.letters)
        first, second = (new * flag + term for flag, term in zip(flags, equation.inputs, strict=True))
        return Contract(f"{first},{second}->{new}{equation.outputs[0]}")

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        cases: tuple[tuple[str, Shape, Shape], ...] = (
            ("mk,kn->mn", (5, 7), (7, 4)), ("mk,nk->mn", (5, 7), (3, 7)), ("km,kn->nm", (7, 5), (7, 2)),
            ("bmk,kn->bmn", (2, 5, 4), (4, 3)), ("bmk,bkn->bmn", (2, 5, 4), (2, 4, 3)), ("k,k->", (7,), (7,)),
            ("m,n->mn", (5,), (7,)), ("mk,k->m", (5, 7), (7,)), ("bhqd,bhkd->bhqk", (2, 3, 5, 4), (2, 3, 2, 4)),
            ("bmn,bmk->nk", (2, 3, 5), (2, 3, 4)),
        )  # fmt: skip
        floats = tuple(Sample(cls(formula), (Type(a, float64), Type(b, float64))) for formula, a, b in cases)
        others = (
            Sample(cls("mk,kn->mn"), (Type((5, 7), dtype), Type((7, 4), dtype)))
            for dtype in (int64, float32, complex128)
        )
        return (*floats, *others)


@lru_cache(maxsize=4096)
def _parsed(formula: str) -> Equation:
    equation = parse_equation(formula)
    terms = (*equation.inputs, *equation.outputs)
    shown = f"contract {formula!r}"
    if len(equation.inputs) != 2 or len(equation.outputs) != 1 or not all(term.islower() for term in terms if term):
        raise ShapeError(f"{shown}: write two operands and a result in lower-case letters, as mk,kn->mn")
    if any(len(set(term)) != len(term) for term in terms):
        raise ShapeError(f"{shown}: a letter stands twice in one term; give every dimension its own")
    alone = [letter for letter in equation.letters if sum(letter in term for term in terms) < 2]
    if alone:
        raise ShapeError(f"{shown}: {alone[0]} stands in one term only; sum or broadcast that operand first")
    return equation


def contract(formula: str, a: TensorLike, b: TensorLike, /) -> Tensor:
    """Σ a[…] b[…] over the letters that the result lacks, as in `bmk,kn->bmn`."""
    return apply(Contract(formula), *aligned(a, b))


@function
def matmul(a: TensorLike, b: TensorLike, /) -> Tensor:
    """The matrix product of a (…, m, k) and b (…, k, n) with broadcasting of the batch dimensions.

    A one-dimensional operand is a row on the left, a column on the right, and leaves no dimension in the result.
    """
    first, second = aligned(a, b)
    if first.dtype == bool_:
        return astype(matmul(astype(first, int64), second), bool_)
    if first.ndim == 0 or second.ndim == 0:
        raise ShapeError(f"matmul of {first.shape} and {second.shape}: operands need a dimension; use multiply")
    rows, columns = "m" * (first.ndim > 1), "n" * (second.ndim > 1)
    cores = (len(rows) + 1, len(columns) + 1)
    shapes = [x.shape[: x.ndim - core] for x, core in zip((first, second), cores, strict=True)]
    batch = broadcast_shape("matmul", shapes)
    (left, a), (right, b) = (_trimmed(x, core, batch) for x, core in zip((first, second), cores, strict=True))
    return contract(f"{a}{rows}k,{b}k{columns}->{letters(len(batch))}{rows}{columns}", left, right)


def _trimmed(x: Tensor, core: int, batch: Shape) -> tuple[Tensor, str]:
    """`x` without the batch dimensions along which it is broadcast to `batch`, and the letters of those it keeps."""
    own = x.shape[: x.ndim - core]
    lead = len(batch) - len(own)
    kept = [place for place, length in enumerate(own) if length == batch[lead + place]]
    shape = (*(own[place] for place in kept), *x.shape[x.ndim - core :])
    return reshape(x, shape), "".join(letters(len(batch))[lead + place] for place in kept)


@function
def tensordot(
    a: TensorLike, b: TensorLike, /, *, axes: int | tuple[int | Sequence[int], int | Sequence[int]] = 2
) -> Tensor:
    """Σ a b over pairs of axes: the last `axes` of a with the first of b, or those named for a and for b."""
    first, second = aligned(a, b)
    if not isinstance(axes, Iterable):
        axes = whole_number(axes, "tensordot over axes")
        if not 0 <= axes <= min(first.ndim, second.ndim):
            raise ShapeError(f"tensordot of {first.shape} and {second.shape} over {axes} axes: both need so many")
        axes = (range(first.ndim - axes, first.ndim), range(axes))
    named = [whole_numbers(group, "tensordot over axis") for group in axes]
    ours = [axis_of(axis, first.ndim, "tensordot") for axis in named[0]]
    theirs = [axis_of(axis, second.ndim, "tensordot") for axis in named[1]]
    if not len(ours) == len(theirs) == len(set(ours)) == len(set(theirs)):
        raise ShapeError(f"tensordot over axes {axes}: name as many of a as of b, each once")
    names = letters(first.ndim + second.ndim)
    left, right = names[: first.ndim], list(names[first.ndim :])
    for mine, other in zip(ours, theirs, strict=True):
        right[other] = left[mine]
    result = "".join(letter for letter in (*left, *right) if (letter in left) != (letter in right))
    return contract(f"{left},{''.join(right)}->{result}", first, second)
