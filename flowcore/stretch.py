"""Instructions of a program that are compiled kernels → tables that compiled code walks, one for every stretch of them.

Where every register lies is known when a program is made: in the arena, among its constants, at an offset in another
register (a view), or in a block that is an input of the stretch. Only the addresses of these inputs may change between
two runs, and are set anew where another array is given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from typing import Any
from weakref import ref

import numpy as np

from flowcore.assembly import Call, Instruction, mortal
from flowcore.errors import FlowcoreError, GraphError
from flowcore.garbage import none_searched
from flowcore.graph import Graph
from flowcore.jit.launch import Launch
from flowcore.jit.source import NAMES
from flowcore.jit.store import prepare
from flowcore.jit.table import Table, address_of
from flowcore.op import Array, Type
from flowcore.passes.views import scattered


@dataclass(frozen=True, slots=True)
class Place:
    """Where a register begins: `offset` bytes behind the beginning of the register `root`."""

    root: int
    offset: int = 0


@dataclass(frozen=True)
class Row:
    """An instruction that is one compiled kernel, and the memory it needs besides its results."""

    instruction: Instruction
    launch: Launch
    scratch: tuple[Array, ...]

    @property
    def arrays(self) -> tuple[int, ...]:
        """The registers that the kernel takes: inputs, then results that have memory of their own."""
        pairs = zip(self.instruction.outputs, self.launch.into, strict=True)
        return (*self.instruction.inputs, *(number for number, source in pairs if source < 0))


class Stretch:
    """Calls one after the other, as one; called with the arrays of the registers `inputs`."""

    def __init__(
        self, rows: Sequence[Row], types: Mapping[int, Type], places: Mapping[int, Place], fixed: Mapping[int, Array]
    ) -> None:
        self.rows, self.types, self.places, self.fixed = rows, types, places, fixed
        operands = [[places[number] for number in row.arrays] for row in rows]
        roots = dict.fromkeys(place.root for each in operands for place in each)
        self.inputs = tuple(root for root in roots if root not in fixed)
        self.table = Table([
            (row.launch.kernel, row.launch.numbers, [*map(self._length, row.arrays), *row.launch.scratch])
            for row in rows
        ])  # fmt: skip
        self.uses: dict[int, list[tuple[int, int]]] = {root: [] for root in roots}
        for words, each, row in zip(self.table.places, operands, rows, strict=True):
            for word, place in zip(words, each, strict=False):
                self.uses[place.root].append((word, place.offset))
            for word, array in zip(words[len(each) :], row.scratch, strict=True):
                self.table.point(word, address_of(array))
        for root in roots:
            if root in fixed:
                self._point(root, fixed[root])
        self.seen: list[Callable[[], Array | None]] = [_nothing] * len(self.inputs)
        self.copies: dict[int, Array] = {}

    def _length(self, number: int) -> int:
        return self.types[number].size

    def __call__(self, *arrays: Array) -> None:
        for place, array in enumerate(arrays):
            if self.seen[place]() is not array:
                self._bind(place, array)
        bad = self.table.run()
        if bad:
            self._explain(self.rows[bad - 1].instruction, arrays)

    def _bind(self, place: int, array: Array) -> None:
        """Take `array` as the input at `place`, a copy of it where its elements lie apart."""
        root = self.inputs[place]
        type = self.types[root]
        if array.shape != type.shape or array.dtype != type.dtype:
            raise GraphError(f"a block of {array.dtype} and shape {array.shape} where {type} is due: report this")
        if isinstance(array, np.ndarray) and array.flags.c_contiguous and array.flags.aligned:
            self.seen[place] = ref(array)
        else:  # anew at every call: the original may change, or be one of numpy's scalars, whose memory is not for us
            if place not in self.copies:
                self.copies[place] = np.empty(type.shape, type.dtype)
            np.copyto(self.copies[place], array)
            array, self.seen[place] = self.copies[place], _nothing
        self._point(root, array)

    def _point(self, root: int, array: Array) -> None:
        address, words = address_of(array), self.table.words
        for word, offset in self.uses[root]:
            words[word] = address + offset

    def _explain(self, instruction: Instruction, arrays: Sequence[Array]) -> None:
        """Raise what the operator says of the arguments that its kernel found bad."""
        held = {**self.fixed, **dict(zip(self.inputs, arrays, strict=True))}
        given = [part(held[self.places[n].root], self.places[n].offset, self.types[n]) for n in instruction.inputs]
        assert instruction.node is not None
        op, where = instruction.node.op, instruction.node.where
        try:
            op.kernel(*given)
        except FlowcoreError as error:
            error.add_note(f"in {op.name}, called at {where}")
            raise
        raise GraphError(f"the kernel of {op.name}, called at {where}, refuses what numpy computes: report this")


def _nothing() -> None:
    """What a reference gives whose array is gone."""


def part(array: Array, offset: int, type: Type) -> Array:
    """The value of `type` that begins `offset` bytes behind the first of a contiguous `array`."""
    if offset == 0 and array.shape == type.shape and array.dtype == type.dtype:
        return array
    held: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return held[offset : offset + type.nbytes].view(type.dtype).reshape(type.shape)  # type: ignore[no-any-return]  # as above


@dataclass(frozen=True)
class Joined:
    """What to call, and the registers that are known before anything runs."""

    instructions: tuple[Instruction, ...]
    calls: tuple[Call | None, ...]
    constants: Mapping[int, Array]

    @cached_property
    def is_compiled(self) -> bool:
        """Whether nothing but compiled code computes."""
        return all(call is None or isinstance(call, Stretch) for call in self.calls)


class Joiner:
    """Joins the instructions of a program; `call`: what Python calls for one that has no compiled kernel.

    registers: those that lie in the arena. outputs: what leaves the program.
    """

    def __init__(
        self,
        graph: Graph,
        constants: Mapping[int, Array],
        registers: Mapping[int, Array],
        outputs: Collection[int],
        call: Callable[[Instruction], Call],
    ) -> None:
        self.graph, self.registers, self.outputs, self.call = graph, registers, outputs, call
        self.types = {number: value.type for number, value in enumerate(graph.values)}
        self.places = {number: Place(number) for number in self.types}
        self.fixed = {n: array for n, array in constants.items() if array.flags.c_contiguous and array.flags.aligned}
        self.known = dict(constants)
        self.made: list[tuple[Instruction, Call | None]] = []

    def run(self, instructions: Sequence[Instruction]) -> Joined:
        """`instructions` with stretches."""
        apart = scattered(self.graph)
        launches = [_launch(self.graph, instruction, self.registers, apart) for instruction in instructions]
        with none_searched():
            prepare(found.kernel for found in launches if isinstance(found, Launch))
        pairs = list(zip(instructions, launches, strict=True))
        wanted = {*self.outputs, *(number for each, found in pairs if found is None for number in each.inputs)}
        for is_python, group in groupby(pairs, lambda pair: pair[1] is None):
            if is_python:
                self.made += [(instruction, self.call(instruction)) for instruction, _ in group]
                continue
            joined = list(group)
            rows = [self._row(instruction, found) for instruction, found in joined]
            self._add(Stretch([row for row in rows if row], self.types, self.places, self.fixed))
            self._show([number for instruction, _ in joined for number in instruction.outputs if number in wanted])
        found = mortal([instruction for instruction, _ in self.made], {*self.outputs, *self.known})
        return Joined(found, tuple(call for _, call in self.made), self.known)

    def _row(self, instruction: Instruction, found: Launch | int | None) -> Row | None:
        """The row of an instruction, if it is no view; where its results lie is known from here on."""
        if isinstance(found, int):
            origin = self.places[instruction.inputs[0]]
            self.places[instruction.outputs[0]] = Place(origin.root, origin.offset + found)
            return None
        assert found is not None
        for number, source in zip(instruction.outputs, found.into, strict=True):
            if source < 0:
                self.fixed[number] = self.registers[number]
            else:
                self.places[number] = self.places[instruction.inputs[source]]
        # what an operator needs for numpy alone, its kernel does not take
        held = tuple(self.registers[number] for number in instruction.scratch) if found.scratch else ()
        return Row(instruction, found, held)

    def _add(self, stretch: Stretch) -> None:
        if stretch.rows:
            self.made.append((Instruction(stretch.inputs, (), (), False, None), stretch))

    def _show(self, numbers: Sequence[int]) -> None:
        """Make what a stretch gives known to Python."""
        for number in numbers:
            place, type = self.places[number], self.types[number]
            if place.root in self.fixed:
                self.known[number] = part(self.fixed[place.root], place.offset, type)
            else:
                is_same = place.offset == 0 and self.types[place.root] == type
                seen = None if is_same else partial(part, offset=place.offset, type=type)
                self.made.append((Instruction((place.root,), (number,), (), False, None), seen))


def _launch(
    graph: Graph, instruction: Instruction, registers: Mapping[int, Array], apart: Collection[int]
) -> Launch | int | None:
    """The compiled kernel of an instruction; where its result begins in its input; None where Python makes the call.

    apart: the values whose elements may lie apart.
    """
    if instruction.moves or instruction.node is None:
        return None
    op, types = instruction.node.op, graph.types(instruction.inputs)
    offset = op.view(types)
    if offset is not None:
        return None if instruction.inputs[0] in apart else offset
    found = op.launch(types)
    if found is None:
        return None
    new = [number for number, source in zip(instruction.outputs, found.into, strict=True) if source < 0]
    kinds = [NAMES[str(type.dtype)] for type in (*types, *graph.types(new))]
    assert [*found.kernel.kinds[: len(kinds)]] == kinds, f"{op.name} of {types}: its kernel takes {found.kernel.kinds}"
    return found if all(number in registers for number in new) else None
