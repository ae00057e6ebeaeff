"""What a rank holds while it runs a program: a physical graph → bytes, known before anything runs.

Inputs (parameters, states, the batch) and constants are held throughout, the arena too, whose registers the program
uses again in every run, its window, which the ranks of its host see, and the memory that results leave it in. Of what
the ranks of a host hold in common each counts the part that it replaces. Operators that take memory by themselves are
counted by the most of their results that live at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from flowcore.agreed import foreseen
from flowcore.graph import Graph
from flowcore.local import Inside
from flowcore.memory import ALIGNMENT, KEPT
from flowcore.op import Type
from flowcore.packing import Span, most_alive
from flowcore.passes.donate import Update, makes_memory
from flowcore.placement.machine import Machine
from flowcore.runtime import Program

VIEWS = ("reshape", "permute", "broadcast_to", "slice", "alias", "stop_gradient", "barrier", "below", "packed", "post",
         "wait", "staged")  # fmt: skip
"""Operators that make no memory, or only where they are given some."""
SHOWN = 5


@dataclass(frozen=True)
class Register:
    """What lives at the peak: its bytes, what it is, and the line that caused it."""

    size: int
    text: str
    where: str

    def __str__(self) -> str:
        return f"{self.size} B: {self.text}{f'; {self.where}' if self.where else ''}"


@dataclass(frozen=True)
class Footprint:
    """The bytes that `rank` holds at most in a step, by what they are for.

    bound: what lives at once in the arena; no packing takes less. apart: the updates whose tensors the ranks of a host
    do not have in common, though they could (`agreed`).
    """

    rank: int
    inputs: int
    constants: int
    arena: int
    bound: int
    window: int
    leaving: int
    others: int
    largest: tuple[Register, ...]
    apart: frozenset[int] = frozenset()

    @property
    def total(self) -> int:
        """All of them."""
        return self.inputs + self.constants + self.arena + self.window + self.leaving + self.others

    def __str__(self) -> str:
        parts = {
            "inputs": self.inputs, "arena": self.arena, "window": self.window, "constants": self.constants,
            "results": self.leaving, "memory that operators take": self.others,
        }  # fmt: skip
        shown = ", ".join(f"{name} {size} B" for name, size in parts.items() if size)
        return f"{self.total} B on rank {self.rank}: {shown or 'nothing'} (bound of the arena {self.bound} B)"


def footprint(
    graph: Graph,
    updates: Sequence[Update] = (),
    hosts: tuple[int, ...] = (),
    machine: Machine = Machine(),  # noqa: B008  # it is a frozen value
) -> Footprint:
    """That of the rank that holds the most, for a physical graph whose outputs replace inputs as `updates` says.

    hosts: of every rank, where ranks of one host see memory of each other. machine: on which it runs.
    """
    programs, apart = foreseen(graph, updates, hosts, machine)
    found = [measured(program, rank) for rank, program in programs.items()]
    most = max(found, key=lambda each: each.total, default=Footprint(0, 0, 0, 0, 0, 0, 0, 0, ()))
    return replace(most, apart=apart)


def measured(program: Program, rank: int) -> Footprint:
    """That of `rank`, which runs `program`."""
    return _Measured(program, rank).footprint


class _Measured:
    """One program, and what it holds."""

    def __init__(self, program: Program, rank: int) -> None:
        self.program, self.rank, self.local = program, rank, program.local

    @cached_property
    def footprint(self) -> Footprint:
        memory = self.program.arena
        size = memory.size + ALIGNMENT if memory.size else 0
        sharing = self.program.sharing
        window = sharing.shown.size + ALIGNMENT if sharing is not None and sharing.shown.places else 0
        inside = [part.total for part in self._inside]
        return Footprint(
            self.rank,
            sum(type.nbytes for type in self._held),
            sum(block.nbytes for _, block in self.program.constants),
            size, memory.bound, window, self._leaving(), most_alive(self._others) + sum(inside), self._largest(),
        )  # fmt: skip

    @cached_property
    def _held(self) -> tuple[Type, ...]:
        """The inputs, of those that lie in common registers the parts that the rank replaces."""
        parts = {} if self.program.sharing is None else self.program.sharing.parts
        wholes = {common.input for common in parts.values()}
        twice = {self.program.inputs[common.old] for common in parts.values() if common.is_part}
        return self.local.types([n for n in self.local.inputs if n not in wholes and n not in twice])

    @cached_property
    def _shown(self) -> Collection[int]:
        """The registers that lie in the window, or in what the host holds in common."""
        sharing = self.program.sharing
        return () if sharing is None else sharing.shown.registers

    @cached_property
    def _placed(self) -> set[int]:
        """The registers that have a place, in the arena or in the window."""
        return {*self.program.arena.places, *self._shown}

    def _leaving(self) -> int:
        """The bytes that results take turns with."""
        numbers = [self.program.outputs[place] for place, old in self.program.leaving.results if old < 0]
        return KEPT * sum(self.local.values[number].type.nbytes for number in numbers if number is not None)

    @cached_property
    def _inside(self) -> list[Footprint]:
        """What the graphs hold that operators run, but for their inputs, which are registers of this one."""
        found = []
        for node in self.local.nodes:
            if isinstance(node.op, Inside):
                for body in node.op.region.graphs:
                    each = _Measured(self.program.body_of(body), self.rank).footprint
                    found.append(replace(each, inputs=0))
        return found

    @cached_property
    def _lives(self) -> Mapping[int, Span]:
        """When every value that an instruction gives lives."""
        instructions, end = self.program.instructions, len(self.program.instructions)
        last = dict.fromkeys(self.local.outputs, end)
        for position, instruction in enumerate(instructions):
            for number in (*instruction.inputs, *instruction.outputs):
                last[number] = max(last.get(number, 0), position)
        return {
            number: Span(position, last[number], self.local.values[number].type.nbytes)
            for position, instruction in enumerate(instructions)
            for number in instruction.outputs
        }

    @cached_property
    def _others(self) -> list[Span]:
        """The results that operators take memory for by themselves."""
        found = []
        for instruction in self.program.instructions:
            assert instruction.node is not None
            op = instruction.node.op
            new = op.new_results(instruction.outputs)
            for number in instruction.outputs:
                is_given = number in self._placed or (makes_memory(op) and number not in new)
                if not is_given and op.name not in VIEWS:
                    found.append(self._lives[number])
        return found

    def _largest(self) -> tuple[Register, ...]:
        """The largest of what lives when the most does."""
        spans = {number: span for number, span in self._lives.items() if number in self._placed}
        moments = {span.first for span in spans.values()}
        peak = max(moments, key=lambda now: (sum(_alive(span, now) for span in spans.values()), -now), default=0)
        found = [self._register(number) for number, span in spans.items() if _alive(span, peak)]
        held = [Register(type.nbytes, f"{type}, an input", "") for type in self._held]
        return tuple(sorted([*found, *held], key=lambda each: -each.size)[:SHOWN])

    def _register(self, number: int) -> Register:
        node = next(node for node in self.local.nodes if number in node.outputs)
        type = self.local.values[number].type
        return Register(type.nbytes, f"{type} of {node.op.name}", node.where)


def _alive(span: Span, now: int) -> int:
    return span.size if span.first <= now <= span.last else 0
