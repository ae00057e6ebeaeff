"""What an operator is: one class that states its equation, algebra, kernel and gradient; the rest is derived.

A subclass of `Op`, decorated with `@operator`, is a frozen dataclass whose fields are the operator's attributes; it is
registered under its `name`.
Its methods see three kinds of arguments: `Type`s (shape and dtype of a logical value), numpy arrays (`kernel`, on one
rank's blocks), and tensors (`vjp`, written with flowcore's own functions so that gradients can be differentiated).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache, partial
from math import prod
from typing import Any, ClassVar, TypeVar, dataclass_transform

import numpy as np

from flowcore.dtypes import DType
from flowcore.errors import GradError, GraphError
from flowcore.formula import expanded, result_shapes, takes_leading
from flowcore.jit.launch import Launch
from flowcore.placement.layout import Box, Shape, block, box_shape
from flowcore.placement.sbp import SBP, Partial
from flowcore.placement.signature import Algebra, Equation, Signature, derive

Array = np.ndarray[Any, Any]

OPS: dict[str, type[Op]] = {}
FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""Public functions by name, for the methods and operators of tensors."""

MAX_DIMENSIONS = 26
"""An index equation has a letter of the alphabet per dimension."""

F = TypeVar("F", bound=Callable[..., Any])
Kind = TypeVar("Kind", bound="Op")


def function(f: F) -> F:
    """Make `f` known to the methods of tensors under its own name."""
    FUNCTIONS[f.__name__] = f
    return f


@dataclass(frozen=True)
class Type:
    """Shape and dtype of a logical value."""

    shape: Shape
    dtype: DType

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.shape, self.dtype.str))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole value."""
        return self.size * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class Block:
    """The part `box` of a logical value of `shape` that one rank holds; `first`: the first term of a partial one."""

    shape: Shape
    box: Box
    first: bool = True

    @property
    def local(self) -> Shape:
        """The shape of the block."""
        return box_shape(self.box)

    @property
    def start(self) -> tuple[int, ...]:
        """Where the block begins along every dimension."""
        return tuple(start for start, _ in self.box)


@dataclass(frozen=True)
class Sample:
    """One case on which every test over the registry runs an operator: its inputs are drawn from `draw`."""

    op: Op
    types: tuple[Type, ...]
    draw: tuple[str, ...] = ()
    """Per input: "normal" (default), "positive", "unit" (in -1..1), "above 1", "whole" (small integers),
    "index:N" (0..N-1), "special" (with nan and infinities), "definite" (positive definite matrices), "sorted" (along
    the last dimension), "bool", "key"."""
    excluded: tuple[tuple[str, str], ...] = ()
    """Sound signatures that are deliberately not declared: (signature text, reason)."""
    is_unique: bool = True
    """Whether the result is one of a kind; if not (the phases of complex vectors), differences show no gradient."""


@dataclass_transform(frozen_default=True)
def operator(cls: type[Kind]) -> type[Kind]:
    """Make `cls` a frozen dataclass, equal where class and attributes are, and register it under its `name`."""
    made = dataclass(frozen=True, eq=False)(cls)
    # a base that is a dataclass of its own has brought its own equality, in which nan differs from itself
    made.__eq__, made.__hash__ = Op.__eq__, Op.__hash__  # type: ignore[method-assign]  # back to Op's
    if made.name in OPS:
        raise GraphError(f"operator name {made.name!r} is taken by {OPS[made.name].__qualname__}: choose another")
    OPS[made.name] = made
    return made


@dataclass(frozen=True, eq=False)
class Op:
    """An operator; its fields (ints, floats, strings, bools and tuples of them) are its attributes."""

    name: ClassVar[str] = ""
    algebra: ClassVar[Algebra] = Algebra()
    loop: ClassVar[str] = ""
    """What a generated loop does for it: "map" (by `scalar`), "same", "literal", "index", "sum", "max"; "": nothing."""
    scalar: ClassVar[str] = ""
    """For "map": y as a Python expression of a, b, c (one element of each operand)."""
    makes_memory: ClassVar[bool] = False
    """Whether its results never share memory with an operand."""
    writes: ClassVar[bool] = False
    """Whether it has `write`, which computes into memory that it is given."""
    narrow: ClassVar[bool] = False
    """Whether `kernel` takes float16 and bfloat16 as they are, computing in float32; others are given float32."""
    precision: ClassVar[str] = ""
    """In mixed precision: "narrow", "full" or "same" (as its operands); "": as `passes.precision` finds."""
    index_equation: ClassVar[str] = ""
    """Its index equation where one holds for all inputs, as `...mk,...kn->...mn`; `...` are leading dimensions."""
    bodies: ClassVar[tuple[str, ...]] = ()
    """The attributes that are graphs; text shows them under the operator's line."""
    reaches_others: ClassVar[bool] = False
    """Whether other ranks take part in it: it is never dropped, and keeps its place among its like."""
    spans: ClassVar[bool] = False
    """Whether its inputs and results may lie on several placements."""

    def __eq__(self, other: object) -> bool:
        return self is other or (type(self) is type(other) and isinstance(other, Op) and self._key == other._key)

    def __hash__(self) -> int:
        return self._key_hash

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        return tuple(_exact(getattr(self, field.name)) for field in fields(self))

    @cached_property
    def _key_hash(self) -> int:
        return hash((self.name, self._key))

    # what a subclass states; it names its own arguments (the catch-all `**_` lets type checkers accept that)

    def infer(self, *types: Any, **_: Any) -> tuple[Type, ...]:
        """The types of the results; ShapeError or DTypeError where the inputs do not fit.

        By default as its index_equation says, in the dtype of the first input.
        """
        equation = self.equation(*types)
        if not self.index_equation or equation is None:
            raise GraphError(f"{self.name} says nothing of its results: give it infer, or an index_equation")
        shapes = result_shapes(self.name, equation, [type.shape for type in types])
        return tuple(Type(shape, types[0].dtype) for shape in shapes)

    def equation(self, *types: Any, **_: Any) -> Equation | None:
        """The index equation for these inputs (by default the class's); None where `rules` is overridden."""
        return expanded(self.index_equation, tuple(type.ndim for type in types)) if self.index_equation else None

    def properties(self, *types: Any, **_: Any) -> Algebra:
        """The algebra for these inputs."""
        return self.algebra

    def kernel(self, *arrays: Any, **_: Any) -> Any:
        """The results on numpy arrays: one array, or a tuple of them."""
        raise NotImplementedError

    def write(self, results: Sequence[Array | None], *arrays: Any) -> Any:
        """`kernel` into contiguous `results`, which share no memory with the operands; None: memory of its own.

        Behind the results stands what `scratch` asks for.
        """
        raise NotImplementedError

    def prepare(self, memory: Sequence[Array | None]) -> Callable[..., Any]:
        """What a program calls: the results as arrays, in `memory` where there is some."""
        if any(place is not None for place in memory):
            return partial(self.write, memory)
        kernel = self.kernel

        def call(*arrays: Any) -> Any:
            found = kernel(*arrays)
            return found if isinstance(found, tuple | np.ndarray) else np.asarray(found)

        return call

    def checks(self, types: Sequence[Type]) -> tuple[int, tuple[Hashable, ...]] | None:
        """The operand whose values the kernel may refuse, and what is true of them where it does not; None: takes all.

        The first of these rules is what it checks, the others follow.
        """
        return None

    def scratch(self, types: Sequence[Type]) -> Sequence[Type]:
        """What `write` needs besides its results while it runs, for inputs of these types."""
        return ()

    def launch(self, types: Sequence[Type]) -> Launch | None:
        """The compiled kernel for contiguous inputs of these types; None: Python calls what `prepare` gives."""
        return None

    def view(self, types: Sequence[Type]) -> int | None:
        """Where its result lies in its first input, in bytes, if it is a contiguous part of that; None: it is not."""
        return None

    def over(self, source: int, result: int) -> Op | None:
        """The operator that writes its result number `result` where its input number `source` lies; None: cannot."""
        return None

    def new_results(self, numbers: Sequence[int]) -> Sequence[int]:
        """Those of the results numbered so that `write` can be given memory for."""
        return numbers if self.writes else ()

    def shares(self, inputs: Sequence[int], outputs: Sequence[int]) -> Sequence[Sequence[int]]:
        """Per result those of the inputs whose memory it may share; by default all, if it does not make memory."""
        return [() if self.makes_memory or self.scalar else inputs] * len(outputs)

    def vjp(self, dy: Any, *inputs: Any, **_: Any) -> Any:
        """Per input its gradient (None: has none), given that of the result; a single one needs no tuple."""
        raise GradError(f"{self.name} has no gradient: use fc.Tensor.detach() on its inputs, or give it a vjp")

    def pull(self, cotangents: Sequence[Any], inputs: Sequence[Any], results: Sequence[Any]) -> Any:
        """What `vjp` gives, from the gradient of every result (None: nothing depends on it)."""
        given = tuple(
            FUNCTIONS["zeros_like"](result) if dy is None else dy
            for dy, result in zip(cotangents, results, strict=True)
        )
        return self.vjp(given[0] if len(given) == 1 else given, *inputs)

    def saving(self, flags: Sequence[bool]) -> Op:
        """The operator to apply where gradients for the flagged inputs are wanted; `pull` is then asked of it.

        Behind the results of this one it may give more, which only `pull` sees.
        """
        return self

    def pruned(self, live: Sequence[bool]) -> tuple[Op, Sequence[int], Sequence[int]] | None:
        """What gives the live results alone: an operator, and which inputs it takes and which results it gives.

        None: the operator itself.
        """
        return None

    def mapped(self, inputs: Sequence[Any], flags: Sequence[bool], size: int) -> tuple[Any, Sequence[bool]] | None:
        """The results with a new leading axis (of `size`) that the flagged inputs have, and which results have it.

        Written with flowcore's own functions, for an operator of which `batched` cannot speak; None: `batched` does.
        """
        return None

    @property
    def expansion(self) -> Any:
        """The graph that stands in the place of this operator from planning on; None: the operator itself does."""
        return None

    def placements(self) -> tuple[Any, ...]:
        """Where the results lie, for an operator that spans placements."""
        raise NotImplementedError

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        """The operator to run on one rank's blocks; differs from self where attributes speak of the whole value."""
        return self

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        """The operator that does for a new leading axis (of `size`) in the flagged inputs what this does for one.

        None: all inputs must first be given the new axis; then it is asked again with all flags set.
        By default itself, where every term of its index_equation begins with `...`.
        """
        if not self.index_equation or not takes_leading(self.index_equation):
            raise NotImplementedError
        return self if all(flags) else None

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        """The cases on which the tests over the registry run this operator."""
        return ()

    # what follows from it

    @property
    def graphs(self) -> tuple[Any, ...]:
        """The graphs among its attributes."""
        return tuple(getattr(self, name) for name in self.bodies)

    def rules(self, types: tuple[Type, ...], parts: int) -> tuple[Signature, ...]:
        """The signatures on a mesh axis of `parts` ranks, for blocks of these types; all-B first."""
        equation = self.equation(*types)
        if equation is None:
            raise GraphError(f"{self.name} has neither an index equation nor rules: give it one")
        return derive(equation, self.properties(*types))

    def signatures(self, types: tuple[Type, ...], parts: int) -> tuple[Signature, ...]:
        """`rules` without those that no value of these dtypes can have (a sum of booleans, a max of complex)."""
        return valid_signatures(self, types, self.infer(*types), parts)

    def takes_narrow(self, types: Sequence[Type]) -> bool:
        """Whether `kernel` takes float16 and bfloat16 operands of these types as they are: it only moves elements, or
        says so (`narrow`)."""
        return self.narrow or self.loop == "same" or not self.flops(*types)

    def flops(self, *types: Type) -> int:
        """Arithmetic operations: one per point of the loop nest, two where letters are contracted."""
        equation = self.equation(*types)
        if equation is None:
            return sum(result.size for result in self.infer(*types))
        lengths = {
            letter: length
            for term, type in zip(equation.inputs, types, strict=True)
            for letter, length in zip(term, type.shape, strict=True)
        }
        points = prod(lengths.get(letter, 1) for letter in equation.letters)
        contracts = len(equation.inputs) > 1 and any(letter not in equation.outputs[0] for letter in equation.letters)
        return points * (2 if contracts else 1)

    def text(self) -> str:
        """The operator and its attributes but for graphs, as `parse_op` reads them."""
        plain = (field.name for field in fields(self) if field.name not in self.bodies)
        attributes = ", ".join(f"{name}={getattr(self, name)!r}" for name in plain)
        return f"{self.name}{{{attributes}}}" if attributes else self.name

    def __str__(self) -> str:
        return self.text()


def _exact(value: Any) -> Any:
    """What is equal for equal attributes only: numbers by their bits (nan is nan, -0.0 is not 0.0) and their type."""
    match value:
        case float():
            return value.hex()
        case complex():
            return ("complex", value.real.hex(), value.imag.hex())
        case bool():
            return ("bool", value)
        case tuple():
            return tuple(map(_exact, value))
    return value


@lru_cache(maxsize=16384)
def valid_signatures(
    op: Op, types: tuple[Type, ...], results: tuple[Type, ...], parts: int
) -> tuple[Signature, ...]:
    """The rules of `op` without those that no value of these dtypes can have."""
    return tuple(
        signature
        for signature in op.rules(types, parts)
        if all(map(is_valid, (*signature.inputs, *signature.outputs), (*types, *results)))
    )


def is_valid(sbp: SBP, type: Type) -> bool:
    """Whether a value of `type` can be laid out so: booleans have no sum, complex numbers no max."""
    if not isinstance(sbp, Partial):
        return True
    return type.dtype.kind != ("b" if sbp.op == "sum" else "c")


def local_block(shape: Shape, mesh: Shape, sbp: tuple[SBP, ...], at: tuple[int, ...]) -> Block:
    """The block of the rank at coordinate `at`, and whether it is the first along all partial axes."""
    first = all(index == 0 for part, index in zip(sbp, at, strict=True) if isinstance(part, Partial))
    return Block(shape, block(shape, mesh, sbp, at), first)


def as_tuple(value: Any) -> tuple[Any, ...]:
    """`value` as a tuple of results."""
    return value if isinstance(value, tuple) else (value,)


def type_of(array: Array) -> Type:
    """The type of a numpy array."""
    return Type(array.shape, np.dtype(array.dtype))
