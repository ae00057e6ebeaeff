"""Dot-product attention, y = softmax(q kᵀ · scale + mask) v, and its gradients, a few rows of the scores at a time.

The scores of all queries and keys are never held: the kernels take as many queries at once as fit a fixed budget, and
the gradients compute the scores of these again. A query whose every key is masked gives zeros. The leading dimensions
of the operands broadcast against each other. Programs without masks run compiled kernels (`flowcore.jit.attention`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar

import numpy as np

from flowcore.dispatch import asarray
from flowcore.dtypes import bool_, float64, is_real, widened
from flowcore.errors import DTypeError, ShapeError
from flowcore.grad import vjp
from flowcore.jit.launch import Launch
from flowcore.op import Array, Block, Op, Sample, Type, operator
from flowcore.ops.attention_launch import launch
from flowcore.ops.call import apply
from flowcore.ops.elementwise import broadcast_shape, sum_to
from flowcore.ops.selection import where
from flowcore.ops.shape import permute_dims
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
    is_turned: in all but the mask the last leading dimension (heads) stands behind that of queries or keys.
    """

    scale: float
    is_causal: bool
    first: int = 0
    is_turned: bool = False

    precision: ClassVar[str] = "narrow"
    makes_memory: ClassVar[bool] = True
    writes: ClassVar[bool] = True
    inner: ClassVar[tuple[str, ...]] = (ROWS + FEATURES, KEYS + FEATURES, KEYS + COLUMNS)
    """The last two letters of every operand but the mask, and not turned."""
    compiled: ClassVar[str] = ""
    """The name of its compiled kernel."""

    def check(self, types: Sequence[Type]) -> Shape:
        """The leading dimensions of the result; DTypeError or ShapeError where the operands do not fit."""
        own = types[: len(self.inner)]
        if any(type.dtype != types[0].dtype for type in own) or not is_real(types[0].dtype):
            shown = ", ".join(str(type.dtype) for type in own)
            raise DTypeError(f"attention of {shown}: operands must have one floating dtype; cast with astype")
        shown = ", ".join(str(type.shape) for type in types)
        fits = len({type.ndim for type in types}) == 1 and types[0].ndim >= 2 + self.is_turned
        if not fits:
            raise ShapeError(f"attention of {shown}: all operands need as many dimensions, and rows; reshape them")
        types = self.plain(types)
        q, k, v = types[:3]
        if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2] or k.shape[-2] == 0:
            raise ShapeError(
                f"attention of {shown}: queries and keys need equal features, keys and values equal numbers (not 0)"
            )
        for mask in types[len(self.inner) :]:
            if mask.shape[-2] not in (1, q.shape[-2]) or mask.shape[-1] != k.shape[-2]:
                raise ShapeError(f"attention of {shown}: the mask needs one element per query and key; broadcast it")
            if mask.dtype not in (bool_, q.dtype):
                raise DTypeError(f"attention of {q.dtype} with a mask of {mask.dtype}: it is bool or of that dtype")
        return broadcast_shape("attention", [type.shape[:-2] for type in types])

    def turn(self, dimensions: Any) -> Any:
        """The dimensions of an operand or result, or their letters, as they would stand if it were not turned.

        Or those that are not turned as they stand.
        """
        if not self.is_turned:
            return dimensions
        return dimensions[:-3] + dimensions[-2:-1] + dimensions[-3:-2] + dimensions[-1:]

    def plain(self, types: Sequence[Type]) -> list[Type]:
        """The types of the operands as if they were not turned."""
        count = len(self.inner)
        return [*(replace(type, shape=self.turn(type.shape)) for type in types[:count]), *types[count:]]

    def terms(self, types: Sequence[Type]) -> tuple[tuple[str, ...], str]:
        """The letters of the operands, and the leading ones of the result."""
        types = self.plain(types)
        lead = broadcast_equation([type.shape[:-2] for type in types], types[0].ndim - 2)
        masks = [("1" if type.shape[-2] != types[0].shape[-2] else ROWS) + KEYS for type in types[len(self.inner) :]]
        found = [outer + own for outer, own in zip(lead.inputs, (*self.inner, *masks), strict=True)]
        count = len(self.inner)
        return (*(self.turn(term) for term in found[:count]), *found[count:]), lead.outputs[0]

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        start = self.turn(inputs[0].start)[-2]
        return replace(self, first=self.first + start) if self.is_causal and start else self

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return self if all(flags) else None

    def flops(self, *types: Type) -> int:
        lead, (q, k, v) = self.check(types), self.plain(types)[:3]
        return 2 * prod(lead) * q.shape[-2] * k.shape[-2] * (q.shape[-1] + v.shape[-1])

    def launch(self, types: Sequence[Type]) -> Launch | None:
        if len(types) > len(self.inner):
            return None
        results = self.infer(*types)
        plain = tuple(replace(type, shape=self.turn(type.shape)) for type in (*types, *results))
        seen = (self.first + 1, 1) if self.is_causal else (plain[1].shape[-2], 0)
        return launch(self.compiled, plain, self.check(types), self.is_turned, self.scale, seen)

    def write(self, results: Sequence[Array | None], *arrays: Array) -> Any:
        found = self.kernel(*arrays)
        made = found if isinstance(found, tuple) else (found,)
        for place, result in zip(results, made, strict=True):
            if place is not None:
                np.copyto(place, result)
        memory = tuple(result if place is None else place for place, result in zip(results, made, strict=True))
        return memory if len(memory) > 1 else memory[0]

    def flat(self, arrays: Sequence[Array]) -> tuple[list[Array], Shape]:
        """The operands, leading dimensions broadcast to one, not turned, in the working dtype; and these dimensions."""
        turned = len(self.inner) if self.is_turned else 0
        plain = [array.swapaxes(-2, -3) if place < turned else array for place, array in enumerate(arrays)]
        lead = np.broadcast_shapes(*(array.shape[:-2] for array in plain))
        work = widened(arrays[0].dtype)
        whole = [
            np.broadcast_to(array, (*lead, *array.shape[-2:])).reshape(prod(lead), *array.shape[-2:]) for array in plain
        ]
        return [array if array.dtype == bool_ else array.astype(work, copy=False) for array in whole], lead

    def unflat(self, total: Array, lead: Shape, like: Array) -> Array:
        """`total`, as `flat` gives operands, in the order, the dtype and, by sums, the shape of `like`."""
        found = total.reshape(*lead, *total.shape[-2:])
        found = found.swapaxes(-2, -3) if self.is_turned else found
        axes = tuple(axis for axis, length in enumerate(like.shape) if length != found.shape[axis])
        return np.asarray(found.sum(axis=axes, keepdims=True) if axes else found, like.dtype)

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

    def unturned(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Operands or results as if they were not turned, or these turned; masks as they are."""
        count = len(self.inner) if self.is_turned else 0
        order = (*range(tensors[0].ndim - 3), -2, -3, -1)
        return [permute_dims(x, order) if place < count else x for place, x in enumerate(tensors)]


@operator
class Attention(AttentionLike):
    """y = softmax(q kᵀ · scale + mask) v; y: (…, queries, columns)."""

    name: ClassVar[str] = "attention"
    algebra: ClassVar[Algebra] = Algebra(linear=(frozenset({2}),))
    compiled: ClassVar[str] = "forward"

    def infer(self, *types: Type) -> tuple[Type, ...]:
        lead, (q, _, v) = self.check(types), self.plain(types)[:3]
        return (Type(self.turn((*lead, q.shape[-2], v.shape[-1])), q.dtype),)

    def equation(self, *types: Type) -> Equation:
        terms, lead = self.terms(types)
        return Equation(terms, (self.turn(lead + ROWS + COLUMNS),))

    def kernel(self, *arrays: Array) -> Any:
        given, lead = self.flat(arrays)
        q, _, v = given[:3]
        y = np.zeros((*q.shape[:2], v.shape[2]), q.dtype)
        for (part, rows, keys), weights in self.pieces(given):
            np.matmul(weights, v[part, keys], out=y[part, rows])
        found = y.reshape(*lead, *y.shape[1:]).astype(arrays[0].dtype, copy=False)
        return found.swapaxes(-2, -3) if self.is_turned else found

    def vjp(self, dy: Tensor, *inputs: Tensor) -> Any:
        mask = inputs[3:]
        if any(own.requires_grad for own in mask):
            _, pull = vjp(self.by_parts, *inputs)
            return tuple(pull(dy))
        grad = AttentionGrad(self.scale, self.is_causal, self.first, self.is_turned)
        return (*_several(grad, *inputs[:3], dy, *mask), *(None for _ in mask))

    def by_parts(self, *inputs: Tensor) -> Tensor:
        """The result by operators that can be differentiated."""
        q, k, v, *mask = self.unturned(inputs)
        return self.unturned([self.composed(q, k, *mask) @ v])[0]

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        shared = ((3, 1, 5, 2), (1, 2, 4, 2), (1, 1, 4, 3))
        turned = ((5, 2, 3), (4, 1, 3), (4, 2, 2))
        return _samples(cls, ((2, 5, 3), (2, 4, 3), (2, 4, 5)), (shared,), turned)


@operator
class AttentionGrad(AttentionLike):
    """The gradients of attention by q, k and v, given that of its result; on (q, k, v, dy, mask or none)."""

    name: ClassVar[str] = "attention_grad"
    inner: ClassVar[tuple[str, ...]] = (*AttentionLike.inner, ROWS + COLUMNS)
    compiled: ClassVar[str] = "backward"

    def infer(self, *types: Type) -> tuple[Type, ...]:
        self.check(types)
        return tuple(types[:3])

    def rules(self, types: tuple[Type, ...], parts: int) -> tuple[Signature, ...]:
        terms, _ = self.terms(types)
        found = [Signature((B,) * len(types), (B, B, B))]
        for letter in dict.fromkeys("".join(terms)):
            if letter.islower():
                inputs = tuple(_at(term, letter, B) for term in terms)
                found.append(Signature(inputs, tuple(_at(term, letter, Partial()) for term in terms[:3])))
        for place, results in ((2, (Partial(), Partial(), B)), (3, (Partial(), Partial(), Partial()))):
            inputs = tuple(Partial() if place == other else B for other in range(len(types)))
            found.append(Signature(inputs, results))
        return tuple(dict.fromkeys(found))

    def flops(self, *types: Type) -> int:
        (q, _, v), scores = self.plain(types)[:3], super().flops(*types)
        features, columns = q.shape[-1], v.shape[-1]
        return scores * (3 * features + 2 * columns) // max(features + columns, 1)

    def kernel(self, *arrays: Array) -> Any:
        given, lead = self.flat(arrays)
        q, k, v, dy = given[:4]
        dq, dk, dv = (np.zeros(x.shape, x.dtype) for x in (q, k, v))
        for (part, rows, keys), weights in self.pieces(given):
            dv[part, keys] += np.matmul(weights.swapaxes(1, 2), dy[part, rows])
            slopes = np.matmul(dy[part, rows], v[part, keys].swapaxes(1, 2))
            slopes -= np.einsum("nij,nij->ni", weights, slopes)[:, :, None]
            slopes *= weights
            slopes *= weights.dtype.type(self.scale)
            dq[part, rows] = np.matmul(slopes, k[part, keys])
            dk[part, keys] += np.matmul(slopes.swapaxes(1, 2), q[part, rows])
        return tuple(self.unflat(d, lead, like) for d, like in zip((dq, dk, dv), arrays[:3], strict=True))

    def vjp(self, cotangents: tuple[Tensor, ...], *inputs: Tensor) -> Any:
        numbers = [x for x in inputs if x.dtype != bool_]
        rest = [x for x in inputs if x.dtype == bool_]  # a mask that is no number has no gradient
        _, pull = vjp(lambda *given: self.by_parts(*given, *rest), *numbers)
        return (*pull(*cotangents), *(None for _ in rest))

    def by_parts(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The results by operators that can be differentiated."""
        q, k, v, dy, *mask = self.unturned(inputs)
        weights = self.composed(q, k, *mask)
        slopes = dy @ v.mT
        slopes = weights * (slopes - (weights * slopes).sum(axis=-1, keepdims=True)) * self.scale
        found = (sum_to(slopes @ k, q), sum_to(slopes.mT @ q, k), sum_to(weights.mT @ dy, v))
        return tuple(self.unturned(found))

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        # few, because so many operands have so many layouts; masks are those of attention itself
        return _samples(cls, ((2, 5, 3), (1, 4, 3), (1, 4, 2), (2, 5, 2)))[:1]


_several: Callable[..., tuple[Tensor, ...]] = apply  # type: ignore[assignment]  # this operator has several results


def _at(term: str, letter: str, otherwise: SBP) -> SBP:
    return Split(term.index(letter)) if letter in term else otherwise


def _samples(
    cls: type[Any],
    shapes: tuple[Shape, ...],
    others: tuple[tuple[Shape, ...], ...] = (),
    turned: tuple[Shape, ...] | None = None,
) -> tuple[Sample, ...]:
    """Causal with leading dimensions; without them with a mask, bool and added; `others`; and causal and `turned`."""

    def types(shapes: tuple[Shape, ...]) -> tuple[Type, ...]:
        return tuple(Type(shape, float64) for shape in shapes)

    single = types(tuple(shape[1:] for shape in shapes))
    masks = [(Type((5, 4), bool_), "bool"), (Type((1, 4), float64), "normal")]
    return (
        Sample(cls(0.5, True), types(shapes)),
        *(Sample(cls(0.5, False), (*single, mask), ("normal",) * len(shapes) + (draw,)) for mask, draw in masks),
        *(Sample(cls(0.5, False), types(more)) for more in others),
        *(() if turned is None else (Sample(cls(0.5, True, 1, True), types(turned)),)),
    )
