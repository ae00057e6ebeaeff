"""The planner's problem in small numbers: layouts numbered, costs as single integers, equal steps as one.

Values of one shape, item size and placement are of one *kind*. A kind numbers the layouts in which its values occur,
and knows what a change from one number to another costs. A cost is one integer, digits (bytes, changes, work) in a
base that the lower two never reach, so that costs add and compare as the triples do.

What a candidate adds is its work and one price for every value: for one it reads, of the change to the layout it
reads (none where another step wants that too); for one it gives, of the changes to the layouts wanted of it. These
prices depend on the layout alone, of which there are few, while the candidates are many. So the candidates of a step
stand in columns, per value the number of the layout in every candidate, through which the prices are looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from operator import add

from flowcore.placement.cost import received_bytes, rounds
from flowcore.placement.layout import Layout
from flowcore.placement.machine import Machine
from flowcore.placement.mesh import Placement
from flowcore.placement.problem import Item, Problem, Step
from flowcore.placement.sbp import NdSbp, Split

PAID = -1
"""In a column: the value is read in a layout in which the candidate reads it at an earlier position, too."""
TICKS = 10**15
"""Of a second; predicted times are added as integers, so that they are the same in whatever order."""
BYTE = 1 << 80
"""What a byte weighs beside ticks, of which no plan has so many."""


class Prices(dict[int, int]):
    """By the number of a layout what a change to it costs, from one layout, reckoned when it is first asked for."""

    def __init__(self, reckon: Callable[[int, int], int], source: int) -> None:
        super().__init__({source: 0})
        self.reckon, self.source = reckon, source

    def __missing__(self, target: int) -> int:
        found = self[target] = self.reckon(self.source, target)
        return found


class Kind:
    """The layouts and prices of the values that are `item`; `change`: the cost of a change that moves nothing.

    prices: bytes and changes, by the numbers of the layouts before and after; outlooks: bytes and predicted ticks.
    """

    def __init__(self, item: Item, change: int, byte: int, machine: Machine) -> None:
        self.item, self.change, self.byte, self.machine = item, change, byte, machine
        self.layouts: list[Layout] = []
        self.numbers: dict[tuple[Placement, NdSbp], int] = {}
        self.prices: list[Prices] = []
        self.outlooks: list[Prices] = []

    def number(self, placement: Placement, sbp: NdSbp) -> int:
        """The number of a layout."""
        key = (placement, sbp)
        found = self.numbers.get(key)
        if found is None:
            found = self.numbers[key] = len(self.layouts)
            self.layouts.append(Layout(placement, sbp))
            self.prices.append(Prices(self._price, found))
            self.outlooks.append(Prices(self._outlook, found))
        return found

    def every(self, placement: Placement, layouts: list[NdSbp]) -> list[int]:
        """The number of each of `layouts`, among which equal ones are mostly one object."""
        known: dict[int, int] = {}
        for sbp in layouts:
            if id(sbp) not in known:
                known[id(sbp)] = self.number(placement, sbp)
        return [known[id(sbp)] for sbp in layouts]

    def _price(self, source: int, target: int) -> int:
        item, before, after = self.item, self.layouts[source], self.layouts[target]
        is_kept_once = item.gathered is not None and not before.is_partial and after.is_broadcast
        if is_kept_once and not self.machine.hosts_of({*before.placement.ranks, *after.placement.ranks}):
            return received_bytes(item.shape, item.gathered, before, after) * self.byte + self.change
        return received_bytes(item.shape, item.itemsize, before, after) * self.byte + self.change

    def _outlook(self, source: int, target: int) -> int:
        before, after = self.layouts[source], self.layouts[target]
        moved = (self.prices[source][target] - self.change) // self.byte
        own = self.machine.within.latency
        if not moved:
            return round(own * TICKS)
        ranks, machine = {*before.placement.ranks, *after.placement.ranks}, self.machine
        hosts = set(machine.hosts_of(ranks))
        link = machine.between if hosts else machine.within
        waiting = rounds(before, after) * (machine.step + link.latency)
        if 0 < len(hosts) < len(ranks) and not after.is_broadcast:
            # slices lie in the order of the ranks, not as reducing within each host first leaves them
            waiting += machine.step + link.latency
        return moved * BYTE + round((own + waiting + moved / len(ranks) * link.seconds_per_byte) * TICKS)

    def block_bytes(self, number: int) -> int:
        """Bytes of the largest block in a layout."""
        layout, mesh = self.layouts[number], self.item.placement.shape
        shape = list(self.item.shape)
        for parts, part in zip(mesh, layout.sbp, strict=True):
            if isinstance(part, Split):
                shape[part.axis] = -(-shape[part.axis] // parts)
        return prod(shape) * self.item.itemsize


@dataclass(frozen=True, slots=True)
class Column:
    """A layout of one value in every candidate, by number; `distinct`: the numbers that occur, but for `PAID`."""

    place: int
    numbers: list[int]
    distinct: tuple[int, ...]


class Choices:
    """The candidates of all equal steps, in columns.

    `place`s count the different values a step reads, in order. `chosen` remembers decisions by all that they follow
    from.
    """

    def __init__(self, step: Step, kinds: list[Kind]) -> None:
        candidates = step.candidates
        order = list(dict.fromkeys(step.inputs))
        self.work = [candidate.work for candidate in candidates]
        self.reads: list[Column] = []
        seen: dict[int, list[Column]] = {}
        for position, value in enumerate(step.inputs):
            numbers = kinds[value].every(step.placement, [candidate.inputs[position] for candidate in candidates])
            for before in seen.setdefault(value, []):
                pairs = zip(before.numbers, numbers, strict=True)
                numbers = [PAID if earlier == now else now for earlier, now in pairs]
            column = Column(order.index(value), numbers, _distinct(numbers))
            seen[value].append(column)
            self.reads.append(column)
        self.gives: list[Column] = []
        for position, value in enumerate(step.outputs):
            kind = kinds[value]
            numbers = kind.every(kind.item.placement, [candidate.outputs[position] for candidate in candidates])
            self.gives.append(Column(position, numbers, _distinct(numbers)))
        columns = [[column.numbers for column in side] for side in (self.reads, self.gives)]
        none = [()] * len(candidates)
        reads, gives = (list(zip(*side, strict=True)) if side else none for side in columns)
        self.rows = list(zip(reads, gives, strict=True))
        """Per candidate the layouts that it reads and gives, by number."""
        self.inputs = tuple(order.index(value) for value in step.inputs)
        self.kinds = tuple(kinds[value] for value in order)
        self.results = tuple(kinds[value] for value in step.outputs)
        self.terms = list(dict.fromkeys(candidate.terms for candidate in candidates))
        order_of = {terms: position for position, terms in enumerate(self.terms)}
        self.term_numbers = [order_of[candidate.terms] for candidate in candidates]
        self.chosen: dict[tuple[int, ...], int] = {}

    @cached_property
    def ticks(self) -> list[int]:
        """Per candidate the predicted ticks in which its busiest rank computes."""
        if not self.results:
            return [0] * len(self.work)
        made: list[int] = [0] * len(self.work)
        for kind, column in zip(self.results, self.gives, strict=True):
            size = {number: kind.block_bytes(number) for number in column.distinct}
            made = list(map(add, made, map(size.__getitem__, column.numbers)))
        pairs = zip(self.work, made, strict=True)
        return [round(self.results[0].machine.computing(work, size) * TICKS) for work, size in pairs]

    def makes_terms(self, layouts: list[int]) -> list[bool]:
        """Per entry of `terms`, whether along some axis it reads as terms an input that is laid out otherwise there."""
        held = [self.kinds[place].layouts[layouts[place]].sbp for place in self.inputs]
        return [
            any(axis >= len(held[at]) or held[at][axis] != part for at, axis, part in terms) for terms in self.terms
        ]


def _distinct(numbers: list[int]) -> tuple[int, ...]:
    return tuple(number for number in dict.fromkeys(numbers) if number != PAID)


@dataclass(frozen=True, slots=True)
class Tables:
    """A problem in numbers: the kind of every value, the choices of every step, the unit of a byte."""

    kinds: list[Kind]
    choices: list[Choices]
    byte: int
    users: list[list[int]]
    """Per value the steps that read or give it."""

    def near(self, step: Step) -> set[int]:
        """The steps that read or give a value that `step` reads or gives."""
        return {user for value in (*step.inputs, *step.outputs) for user in self.users[value]}

    @classmethod
    def of(cls, problem: Problem) -> Tables:
        """The tables of `problem`."""
        change = 1 << sum(max(c.work for c in step.candidates) for step in problem.steps).bit_length()
        byte = change << sum(len(step.inputs) for step in problem.steps).bit_length()
        known: dict[Item, Kind] = {}
        kinds = [known.setdefault(item, Kind(item, change, byte, problem.machine)) for item in problem.items]
        same: dict[tuple[object, ...], Choices] = {}
        choices = []
        for step in problem.steps:
            order = list(dict.fromkeys(step.inputs))
            involved = (*(id(kinds[value]) for value in order), *(id(kinds[value]) for value in step.outputs))
            key = (id(step.candidates), step.placement, *map(order.index, step.inputs), *involved)
            if key not in same:
                same[key] = Choices(step, kinds)
            choices.append(same[key])
        users: list[list[int]] = [[] for _ in problem.items]
        for number, step in enumerate(problem.steps):
            for value in dict.fromkeys((*step.inputs, *step.outputs)):
                users[value].append(number)
        return cls(kinds, choices, byte, users)


def bits(mask: int) -> Iterator[int]:
    """The positions of the ones of `mask`, from the lowest."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
