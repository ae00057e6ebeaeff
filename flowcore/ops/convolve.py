"""Convolution: one form in three tensors, of which each is the result of an operator on the other two.

With i = p·stride + k·dilation − before along every spatial dimension, and sums over all other letters too,

    Σ x[n,g,c,i] w[g,o,c,k] y[n,g,o,p]

is linear in x, w and y. What multiplies y is the convolution of x with w; what multiplies x is its gradient by x, which
is the transposed convolution of y; what multiplies w is its gradient by w. So the gradients of each of the three are
the others, and the indices at which x does not exist count as zeros.

The letters that are not spatial obey the laws of index equations. Of a spatial dimension, a part of the result needs
windows of the operands; the offset between the indices of blocks is an attribute, so every part is computed alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import Any, ClassVar

from flowcore.dtypes import bool_, complex128, float64
from flowcore.errors import DTypeError, ShapeError
from flowcore.op import Array, Block, Op, Sample, Type, operator
from flowcore.ops.axes import letters
from flowcore.ops.call import apply
from flowcore.ops.complex import conj
from flowcore.ops.patches import form_product
from flowcore.ops.windows import Steps, split_or_window
from flowcore.placement.layout import Shape
from flowcore.placement.sbp import SBP, B, Partial, Split
from flowcore.placement.signature import Algebra, Equation, Signature, derive, parse_equation
from flowcore.tensor import Tensor

__all__: list[str] = []

SPATIAL = {"x": "XYZ", "y": "PQR", "w": "KLM"}
"""The letters of the spatial dimensions of each tensor, capital because equations never split them."""


@operator
class Convolve(Op):
    """The result named last in `roles`, of the form in x, w and y, given the other two.

    `formula` names the dimensions that are not spatial, which come first, as `ngc,goc->ngo`; `lengths` are the spatial
    lengths of the result; `before` counts the zeros in front of x.
    """

    formula: str
    roles: str
    lengths: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]

    name: ClassVar[str] = "convolve"
    algebra: ClassVar[Algebra] = Algebra(linear=(frozenset({0}), frozenset({1})), reduction="sum")

    @property
    def terms(self) -> dict[str, str]:
        """The letters of the dimensions of x, w and y that are not spatial."""
        equation = parse_equation(self.formula)
        return dict(zip(self.roles, (*equation.inputs, *equation.outputs), strict=True))

    def spatial(self, *types: Type) -> dict[str, Shape]:
        """The spatial lengths of x, w and y."""
        found = {role: type.shape[len(self.terms[role]) :] for role, type in zip(self.roles, types, strict=False)}
        return {**found, self.roles[2]: self.lengths}

    def infer(self, a: Type, b: Type) -> tuple[Type, ...]:
        if a.dtype != b.dtype or a.dtype == bool_:
            raise DTypeError(f"convolve of {a.dtype} and {b.dtype}: takes numbers of one dtype; cast with astype")
        found: dict[str, int] = {}
        for role, type in zip(self.roles, (a, b), strict=False):
            term = self.terms[role]
            if type.ndim != len(term) + len(self.lengths):
                raise ShapeError(f"convolve {self.formula} of {a.shape} and {b.shape}: {term} and spatial dimensions")
            for letter, length in zip(term, type.shape, strict=False):
                if found.setdefault(letter, length) != length:
                    raise ShapeError(
                        f"convolve {self.formula} of {a.shape} and {b.shape}: {letter} is both {found[letter]} and "
                        f"{length}; both operands need the same length there"
                    )
        result = self.terms[self.roles[2]]
        return (Type((*(found[letter] for letter in result), *self.lengths), a.dtype),)

    def equation(self, *types: Type) -> Equation:
        first, second, result = (self.terms[role] + SPATIAL[role][: len(self.lengths)] for role in self.roles)
        return Equation((first, second), (result,))

    def rules(self, types: tuple[Type, ...], parts: int) -> tuple[Signature, ...]:
        spatial = self.spatial(*types)
        found = list(derive(self.equation(*types), self.algebra))
        for place in range(len(self.lengths)):
            found.extend(self._spatial_rules(place, {role: spatial[role][place] for role in "xyw"}, parts))
        return tuple(dict.fromkeys(found))

    def _spatial_rules(self, place: int, lengths: dict[str, int], parts: int) -> Iterator[Signature]:
        steps = Steps(lengths["w"], self.strides[place], self.dilations[place], self.before[place])
        x, y = (len(self.terms[role]) + place for role in "xy")
        window: dict[str, SBP] = {
            "x": split_or_window(steps.forward(x, lengths["y"]), lengths["x"], parts),
            "y": split_or_window(steps.backward(y, lengths["x"]), lengths["y"], parts),
        }
        by_y: dict[str, SBP] = {"x": window["x"], "w": B, "y": Split(y)}
        by_x: dict[str, SBP] = {"x": Split(x), "w": B, "y": window["y"]}
        match self.roles[2]:
            case "y":
                choices = [by_y]
            case "x":
                choices = [by_x]
            case _:
                choices = [{**by_y, "w": Partial()}, {**by_x, "w": Partial()}]
        for choice in choices:
            first, second, result = (choice[role] for role in self.roles)
            yield Signature((first, second), (result,))

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        blocks = dict(zip(self.roles, (*inputs, *outputs), strict=True))
        spatial = len(self.lengths)
        x, y, w = (blocks[role].start[len(self.terms[role]) :] for role in "xyw")
        before = tuple(
            self.before[i] + x[i] - self.strides[i] * y[i] - self.dilations[i] * w[i] for i in range(spatial)
        )
        lengths = outputs[0].local[len(outputs[0].local) - spatial :]
        same = (before, lengths) == (self.before, self.lengths)
        return self if same else replace(self, before=before, lengths=lengths)

    def kernel(self, a: Array, b: Array) -> Any:
        given = dict(zip(self.roles, (a, b), strict=False))
        return form_product(self.terms, given, self.roles[2], self.lengths, self.strides, self.dilations, self.before)

    def vjp(self, dy: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        first, second, result = tuple(self.roles)
        by_a = self._gradient(result + second + first, dy, conj(b), a)
        return by_a, self._gradient(first + result + second, conj(a), dy, b)

    def _gradient(self, roles: str, a: Tensor, b: Tensor, like: Tensor) -> Tensor:
        """The form with the result `roles[2]`, which has the shape of `like`, from the two others."""
        first, second, result = (self.terms[role] for role in roles)
        formula, lengths = f"{first},{second}->{result}", like.shape[len(result) :]
        return apply(replace(self, formula=formula, roles=roles, lengths=lengths), a, b)

    def flops(self, *types: Type) -> int:
        spatial = self.spatial(*types)
        points = {
            letter: length
            for role, type in zip(self.roles, types, strict=False)
            for letter, length in zip(self.terms[role], type.shape, strict=False)
        }
        return 2 * prod(points.values()) * prod(spatial["y"]) * prod(spatial["w"])

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        equation = parse_equation(self.formula)
        new = next(letter for letter in letters(26) if letter not in equation.letters)
        first, second = (new * flag + term for flag, term in zip(flags, equation.inputs, strict=True))
        return replace(self, formula=f"{first},{second}->{new}{equation.outputs[0]}")

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return tuple(sample for case in CASES for sample in _samples(*case))


CASES: tuple[tuple[str, Shape, Shape, tuple[int, ...], tuple[int, ...], tuple[int, ...], Any], ...] = (
    # letters without spatial ones, shape of x, of w, strides, dilations, before, dtype
    ("nc,oc->no", (2, 3, 7), (4, 3, 3), (1,), (1,), (1,), float64),
    ("ngc,goc->ngo", (2, 3, 2, 9), (3, 2, 2, 4), (2,), (1,), (1,), float64),
    ("nc,oc->no", (2, 2, 5, 7), (3, 2, 3, 2), (2, 1), (1, 2), (2, 0), float64),
    ("nc,oc->no", (3, 2, 6), (2, 2, 1), (1,), (1,), (0,), complex128),
)  # fmt: skip


def _samples(
    formula: str,
    x: Shape,
    w: Shape,
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    before: tuple[int, ...],
    dtype: Any,
) -> Iterator[Sample]:
    """The three operators of one form; a sound signature is left out where it splits w or makes terms of whole size."""
    (first, second), (result,) = parse_equation(formula).inputs, parse_equation(formula).outputs
    spatial = tuple(
        (length + 2 * pad - d * (taps - 1) - 1) // s + 1
        for length, taps, s, d, pad in zip(x[len(first) :], w[len(second) :], strides, dilations, before, strict=True)
    )
    lengths = dict(zip(first + second, x[: len(first)] + w[: len(second)], strict=True))
    y = (*(lengths[letter] for letter in result), *spatial)
    shapes, terms = {"x": x, "w": w, "y": y}, {"x": first, "w": second, "y": result}
    for roles in ("xwy", "ywx", "xyw"):
        a, b, made = (terms[role] for role in roles)
        op = Convolve(f"{a},{b}->{made}", roles, shapes[roles[2]][len(made) :], strides, dilations, before)
        types = (Type(shapes[roles[0]], dtype), Type(shapes[roles[1]], dtype))
        yield Sample(op, types, excluded=tuple(_excluded(op)))


def _excluded(op: Convolve) -> Iterator[tuple[str, str]]:
    """Sound signatures of the spatial dimensions that are not declared."""
    whole_terms = "terms of the whole result: windows move less"
    for place in range(len(op.lengths)):
        axis = {role: len(op.terms[role]) + place for role in op.roles}
        first, second, result = tuple(op.roles)
        free = "a replicated operand is cut first, which moves nothing"
        if result == "w":
            yield f"B,B->S{axis['w']}", "a kernel is small: its gradient is computed whole"
            yield from ((f"S{axis[first]},B->P", free), (f"B,S{axis[second]}->P", free))
            continue
        yield f"S{axis[first]},B->P", whole_terms
        yield f"B,S{axis['w']}->P", whole_terms
        yield f"B,B->S{axis[result]}", free
