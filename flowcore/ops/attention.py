"""Dot-product attention, y = softmax(q kᵀ · scale + mask) v, and its gradients, a few rows of the scores at a time.

The scores of all queries and keys are never held: the kernels take as many queries at once as fit a fixed budget, and
the gradients compute the scores of these again. A query whose every key is masked gives zeros. The leading dimensions
of the operands broadcast against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import asarray
from flowcore.dtypes import bool_, float64, is_real
from flowcore.errors import DTypeError, ShapeError
from flowcore.grad import vjp
from flowcore.op import Array, Block, Op, Sample, Type, operator
from flowcore.ops.call import apply
from flowcore.ops.elementwise import broadcast_shape, sum_to
from flowcore.ops.selection import where
from flowcore.ops.unary import exp
from flowcore.placement.layout import Shape
from flowcore.placement.sbp import SBP, B, Partial, Split
from flowcore.placement.signature import Algebra, Equation, Signature, broadcast_equation
from flowcore.tensor import Tensor

__all__: list[str] = []

SCORES = 1 << 20
"""Bytes of scores that are held at once (at least those of one query)."""
ROWS, KEYS, FEATURES, COLUMNS = "y", "Z", "X", "w"
"""The letters of queries, keys, features of both, columns of values: keys and features are needed whole."""


@dataclass(frozen=True)
class AttentionLike(Op):
    """An operator on (q, k, v, …, mask or none).

    q: (…, queries, features), k: (…, keys, features), v: (…, keys, columns); mask: (…, queries, keys), bool (whether a
    query sees a key) or added to the scores. is_causal: query number `first` + i sees the keys up to that number.
    """

    scale: float
    is_causal: bool
    first: int = 0

    precision: ClassVar[str] = "narrow"
    inner: ClassVar[tuple[str, ...]] = (ROWS + FEATURES, KEYS + FEATURES, KEYS + COLUMNS)
    """The last two letters of every operand but the mask."""

    def check(self, types: Sequence[Type]) -> Shape:
        """The leading dimensions of the result; DTypeError or ShapeError where the operands do not fit."""
        q, k, v = types[:3]
        own = types[: len(self.inner)]
        if any(type.dtype != q.dtype for type in own) or not is_real(q.dtype):
            shown = ", ".join(str(type.dtype) for type in own)
            raise DTypeError(f"attention of {shown}: operands must have one floating dtype; cast with astype")
        fits = len({type.ndim for type in types}) == 1 and q.ndim >= 2
        shown = ", ".join(str(type.shape) for type in types)
        if not fits or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2] or k.shape[-2] == 0:
            raise ShapeError(
                f"attention of {shown}: queries and keys need equal features, keys and values equal numbers (not 0), "
                f"and all as many dimensions"
            )
        for mask in types[len(self.inner) :]:
            if mask.shape[-2] not in (1, q.shape[-2]) or mask.shape[-1] != k.shape[-2]:
                raise ShapeError(f"attention of {shown}: the mask needs one element per query and key; broadcast it")
            if mask.dtype not in (bool_, q.dtype):
                raise DTypeError(f"attention of {q.dtype} with a mask of {mask.dtype}: it is bool or of that dtype")
        return broadcast_shape("attention", [type.shape[:-2] for type in types])

    def terms(self, types: Sequence[Type]) -> tuple[tuple[str, ...], str]:
        """The letters of the operands, and the leading ones of the result."""
        lead = broadcast_equation([type.shape[:-2] for type in types], types[0].ndim - 2)
        inner = list(self.inner)
        for mask in types[len(self.inner) :]:
            inner.append(("1" if mask.shape[-2] != types[0].shape[-2] else ROWS) + KEYS)
        return tuple(outer + own for outer, own in zip(lead.inputs, inner, strict=True)), lead.outputs[0]

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        start = inputs[0].start[-2]
        return replace(self, first=self.first + start) if self.is_causal and start else self

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return self if all(flags) else None

    def flops(self, *types: Type) -> int:
        lead, (q, k, v) = self.check(types), types[:3]
        return 2 * prod(lead) * q.shape[-2] * k.shape[-2] * (q.shape[-1] + v.shape[-1])

    def pieces(self, arrays: Sequence[Array]) -> Iterator[tuple[Any, Array]]:
        """((part of the leading dimensions, queries, keys), the softmax of their scores), within the budget.

        Leading dimensions are one; `arrays` as `flat` gives them.
        """
        q, k, mask = arrays[0], arrays[1], arrays[len(self.inner)] if len(arrays) > len(self.inner) else None
        count, queries, keys = q.shape[0], q.shape[1], k.shape[1]
        room = max(1, SCORES // (keys * q.itemsize))
        by_query, by_lead = max(1, min(queries, room)), max(1, room // max(queries, 1))
        for lead in range(0, count, by_lead):
            for row in range(0, queries, by_query):
                rows = slice(row, min(row + by_query, queries))
                seen = min(keys, max(self.first + rows.stop, 0)) if self.is_causal else keys
                part = slice(lead, lead + by_lead), rows, slice(0, seen)
                yield part, self._weights(q[part[0], rows], k[part[0], :seen], mask, part)

    def _weights(self, q: Array, k: Array, mask: Array | None, part: tuple[slice, slice, slice]) -> Array:
        scores: Array = np.matmul(q, k.swapaxes(1, 2))
        scores *= q.dtype.type(self.scale)
        if mask is not None:
            own = mask[part[0], part[1] if mask.shape[1] != 1 else slice(None), part[2]]
            if mask.dtype == bool_:
                np.copyto(scores, -np.inf, where=~own)
            else:
                scores += own
        if self.is_causal:
            number = self.first + np.arange(part[1].start, part[1].stop)
            np.copyto(scores, -np.inf, where=np.arange(scores.shape[2]) > number[:, None])
        if scores.shape[2] == 0:
            return scores
        greatest = scores.max(axis=2, keepdims=True)
        scores -= np.where(np.isneginf(greatest), 0, greatest).astype(scores.dtype)
        np.exp(scores, out=scores)
        total = scores.sum(axis=2, keepdims=True)
        scores /= np.where(total == 0, total.dtype.type(1), total)
        return scores

    def composed(self, q: Tensor, k: Tensor, *mask: Tensor) -> Tensor:
        """The softmax of all scores, by operators that can be differentiated."""
        scores = q @ k.mT * self.scale
        lowest = asarray(np.array(-np.inf, scores.dtype), placement=scores.placement)
        for own in mask:
            scores = where(own, scores, lowest) if own.dtype == bool_ else scores + own
        if self.is_causal:
            number = self.first + np.arange(q.shape[-2])
            seen = asarray(np.arange(k.shape[-2]) <= number[:, None], placement=scores.placement)
            scores = where(seen, scores, lowest)
        greatest = scores.detach().max(axis=-1, keepdims=True)
        powers = exp(scores - where(greatest == lowest, 0, greatest))
        total = powers.sum(axis=-1, keepdims=True)
        return powers / where(total == 0, 1, total)


def flat(arrays: Sequence[Array]) -> tuple[list[Array], Shape]:
    """The operands with leading dimensions broadcast to one, in the working dtype; and these dimensions."""
    lead = np.broadcast_shapes(*(array.shape[:-2] for array in arrays))
    work = np.float32 if arrays[0].dtype == np.float16 else arrays[0].dtype
    whole = [
        np.broadcast_to(array, (*lead, *array.shape[-2:])).reshape(prod(lead), *array.shape[-2:]) for array in arrays
    ]
    return [array if array.dtype == bool_ else array.astype(work, copy=False) for array in whole], lead


def unbroadcast(total: Array, lead: Shape, like: Array) -> Array:
    """`total`, whose leading dimensions are one, summed to the shape and dtype of `like`."""
    found = total.reshape(*lead, *total.shape[-2:])
    axes = tuple(axis for axis, length in enumerate(like.shape[:-2]) if length != lead[axis])
    return np.asarray(found.sum(axis=axes, keepdims=True) if axes else found, like.dtype)


@operator
class Attention(AttentionLike):
    """y = softmax(q kᵀ · scale + mask) v; y: (…, queries, columns)."""

    name: ClassVar[str] = "attention"
    algebra: ClassVar[Algebra] = Algebra(linear=(frozenset({2}),))

    def infer(self, *types: Type) -> tuple[Type, ...]:
        return (Type((*self.check(types), types[0].shape[-2], types[2].shape[-1]), types[0].dtype),)

    def equation(self, *types: Type) -> Equation:
        terms, lead = self.terms(types)
        return Equation(terms, (lead + ROWS + COLUMNS,))

    def kernel(self, *arrays: Array) -> Any:
        given, lead = flat(arrays)
        y = np.zeros((prod(lead), arrays[0].shape[-2], arrays[2].shape[-1]), given[0].dtype)
        for (part, rows, keys), weights in self.pieces(given):
            np.matmul(weights, given[2][part, keys], out=y[part, rows])
        return y.reshape(*lead, *y.shape[1:]).astype(arrays[0].dtype, copy=False)

    def vjp(self, dy: Tensor, *inputs: Tensor) -> Any:
        q, k, v, *mask = inputs
        if any(own.requires_grad for own in mask):
            _, pull = vjp(lambda q, k, v, mask: self.composed(q, k, mask) @ v, q, k, v, *mask)
            return tuple(pull(dy))
        options = (self.scale, self.is_causal, self.first)
        dq = apply(AttentionQueryGrad(*options), q, k, v, dy, *mask)
        dk, dv = _both(AttentionKeyGrad(*options), q, k, v, dy, *mask)
        return (dq, dk, dv, *(None for _ in mask))

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return _samples(cls, ((2, 5, 3), (2, 4, 3), (2, 4, 5)), (((3, 1, 5, 2), (1, 2, 4, 2), (1, 1, 4, 3)),))


class AttentionGrad(AttentionLike):
    """A gradient of attention: an operator on (q, k, v, dy, mask or none)."""

    inner: ClassVar[tuple[str, ...]] = (*AttentionLike.inner, ROWS + COLUMNS)

    def given(self, dy: Tensor, weights: Tensor, v: Tensor) -> Tensor:
        """The gradient by the scores, by operators that can be differentiated."""
        by_weight = dy @ v.mT
        return weights * (by_weight - (weights * by_weight).sum(axis=-1, keepdims=True)) * self.scale

    def by_scores(self, weights: Array, dy: Array, v: Array) -> Array:
        """The gradient by q kᵀ of some queries."""
        by_weight = np.matmul(dy, v.swapaxes(1, 2))
        by_weight -= np.einsum("nij,nij->ni", weights, by_weight)[:, :, None]
        by_weight *= weights
        by_weight *= weights.dtype.type(self.scale)
        return np.asarray(by_weight)

    def again(self, f: Callable[..., Any], cotangents: Any, inputs: Sequence[Tensor]) -> Any:
        """The gradients through `f` of these inputs; a mask that is no number has none."""
        numbers = [x for x in inputs if x.dtype != bool_]
        rest = [x for x in inputs if x.dtype == bool_]
        _, pull = vjp(lambda *given: f(*given, *rest), *numbers)
        return (*pull(*cotangents), *(None for _ in rest))


@operator
class AttentionQueryGrad(AttentionGrad):
    """The gradient of attention by q, given that of its result."""

    name: ClassVar[str] = "attention_query_grad"
    algebra: ClassVar[Algebra] = Algebra(linear=(frozenset({2}), frozenset({3})), reduction="sum")

    def infer(self, *types: Type) -> tuple[Type, ...]:
        self.check(types)
        return (types[0],)

    def equation(self, *types: Type) -> Equation:
        terms, _ = self.terms(types)
        return Equation(terms, (terms[0],))

    def kernel(self, *arrays: Array) -> Any:
        given, lead = flat(arrays)
        _, k, v, dy = given[:4]
        dq = np.zeros(given[0].shape, given[0].dtype)
        for (part, rows, keys), weights in self.pieces(given):
            dq[part, rows] = np.matmul(self.by_scores(weights, dy[part, rows], v[part, keys]), k[part, keys])
        return unbroadcast(dq, lead, arrays[0])

    def vjp(self, ddq: Tensor, *inputs: Tensor) -> Any:
        def f(q: Tensor, k: Tensor, v: Tensor, dy: Tensor, *mask: Tensor) -> Tensor:
            return sum_to(self.given(dy, self.composed(q, k, *mask), v) @ k, q)

        return self.again(f, (ddq,), inputs)

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return _samples(cls, ((2, 5, 3), (1, 4, 3), (1, 4, 5), (2, 5, 5)))[:2]


@operator
class AttentionKeyGrad(AttentionGrad):
    """The gradients of attention by k and by v, given that of its result."""

    name: ClassVar[str] = "attention_key_grad"

    def infer(self, *types: Type) -> tuple[Type, ...]:
        self.check(types)
        return types[1], types[2]

    def rules(self, types: tuple[Type, ...], parts: int) -> tuple[Signature, ...]:
        terms, _ = self.terms(types)
        found = [Signature((B,) * len(types), (B, B))]
        for letter in dict.fromkeys("".join(terms)):
            if letter.islower():
                inputs = tuple(_at(term, letter, B) for term in terms)
                found.append(Signature(inputs, tuple(_at(term, letter, Partial()) for term in terms[1:3])))
        for place, results in ((2, (Partial(), B)), (3, (Partial(), Partial()))):
            inputs = tuple(Partial() if place == other else B for other in range(len(types)))
            found.append(Signature(inputs, results))
        return tuple(dict.fromkeys(found))

    def kernel(self, *arrays: Array) -> Any:
        given, lead = flat(arrays)
        q, k, v, dy = given[:4]
        dk, dv = np.zeros(k.shape, k.dtype), np.zeros(v.shape, v.dtype)
        for (part, rows, keys), weights in self.pieces(given):
            dv[part, keys] += np.matmul(weights.swapaxes(1, 2), dy[part, rows])
            by_scores = self.by_scores(weights, dy[part, rows], v[part, keys])
            dk[part, keys] += np.matmul(by_scores.swapaxes(1, 2), q[part, rows])
        return unbroadcast(dk, lead, arrays[1]), unbroadcast(dv, lead, arrays[2])

    def vjp(self, cotangents: tuple[Tensor, Tensor], *inputs: Tensor) -> Any:
        def f(q: Tensor, k: Tensor, v: Tensor, dy: Tensor, *mask: Tensor) -> tuple[Tensor, Tensor]:
            weights = self.composed(q, k, *mask)
            return sum_to(self.given(dy, weights, v).mT @ q, k), sum_to(weights.mT @ dy, v)

        return self.again(f, cotangents, inputs)

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        # few, because so many operands have so many layouts; masks are those of the other two operators
        return _samples(cls, ((2, 5, 3), (1, 4, 3), (1, 4, 2), (2, 5, 2)))[:1]


_both: Callable[..., tuple[Tensor, Tensor]] = apply  # type: ignore[assignment]  # this operator has two results


def _at(term: str, letter: str, otherwise: SBP) -> SBP:
    return Split(term.index(letter)) if letter in term else otherwise


def _samples(
    cls: type[Any], shapes: tuple[Shape, ...], others: tuple[tuple[Shape, ...], ...] = ()
) -> tuple[Sample, ...]:
    """Causal with leading dimensions; without them with a mask, bool and added; and `others`."""
    plain = tuple(Type(shape, float64) for shape in shapes)
    single = tuple(Type(shape[1:], float64) for shape in shapes)
    masks = [(Type((5, 4), bool_), "bool"), (Type((1, 4), float64), "normal")]
    return (
        Sample(cls(0.5, True), plain),
        *(Sample(cls(0.5, False), (*single, mask), ("normal",) * len(shapes) + (draw,)) for mask, draw in masks),
        *(Sample(cls(0.5, False), tuple(Type(shape, float64) for shape in more)) for more in others),
    )
