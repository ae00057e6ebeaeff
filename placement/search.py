"""Chooses a candidate for every step: greedily in order, then by improving one step at a time until none improves.

Reducing terms to slices is cheaper than reducing them whole, so a search in order takes the slices even where every
result computed from them must be gathered again. So the search is run again with such values reduced whole (first all
of them at once, then, while that is affordable, one by one) and the cheapest outcome stays. It is a local optimum of
the total cost and depends on nothing but the problem: ties go to the earlier candidate and the earlier outcome.

A decision follows from little: the layouts of the values that the step reads, and in which layouts these and those
that it gives are wanted by others. Equal steps that see the same decide the same, which is remembered: a sweep in
which nothing changes near a step, a repeated search, and the next of many equal layers cost a look-up.
"""

from __future__ import annotations

from operator import add

from flowcore.placement.problem import Candidate, Problem, Step
from flowcore.placement.sbp import B, NdSbp, Partial, Split
from flowcore.placement.tables import PAID, Choices, Tables, bits

SWEEPS = 8
PROHIBITIVE = 1 << 60
AFFORDABLE = 4000
"""The most steps, over all trials of one value each, that are still searched again."""

Pins = dict[int, NdSbp]
"""The layout in which steps shall read a value, by its number."""


def greedy(problem: Problem) -> tuple[int, ...]:
    """The number of the chosen candidate of every step."""
    tables = Tables.of(problem)
    chosen, least = _descend(problem, tables, {})
    pins = _scattered_terms(problem, chosen)
    trials = [pins] if pins else []
    if len(pins) > 1 and len(pins) * len(problem.steps) <= AFFORDABLE:
        trials.extend({key: target} for key, target in pins.items())
    for trial in trials:
        found, cost = _descend(problem, tables, trial)
        if cost < least:
            chosen, least = found, cost
    return chosen


def _descend(problem: Problem, tables: Tables, pins: Pins) -> tuple[tuple[int, ...], int]:
    """One greedy choice in order, then improvements of single steps, and their cost.

    At first the values in `pins` are read so.
    """
    state = _State(problem, tables)
    for step in range(len(problem.steps)):
        state.choose(step, state.best(step, pins=pins))
    for _ in range(SWEEPS):
        changes = 0
        for step in range(len(problem.steps)):
            before = state.chosen[step]
            state.release(step)
            after = state.best(step, before)
            state.choose(step, after)
            changes += after != before
        if not changes:
            break
    return tuple(state.chosen), state.cost()


def _scattered_terms(problem: Problem, chosen: tuple[int, ...]) -> Pins:
    """The values whose terms some step reads reduced to slices, each with the layout that reduces it whole."""
    layout = dict(problem.given)
    pins: Pins = {}
    for step, number in zip(problem.steps, chosen, strict=True):
        candidate = step.candidates[number]
        for value, target in zip(step.inputs, candidate.inputs, strict=True):
            source = layout[value]
            pairs = list(zip(source, target, strict=False))
            if step.placement == problem.items[value].placement and any(
                isinstance(a, Partial) and isinstance(b, Split) for a, b in pairs
            ):
                pins[value] = tuple(B if isinstance(a, Partial) else a for a in source)
        layout.update(zip(step.outputs, candidate.outputs, strict=True))
    return pins


class _State:
    """The choices so far: the layout of every value, and how many steps want each value in each layout."""

    def __init__(self, problem: Problem, tables: Tables) -> None:
        self.problem, self.tables = problem, tables
        self.layout = [-1] * len(problem.items)
        for value, sbp in problem.given.items():
            self.layout[value] = tables.kinds[value].number(problem.items[value].placement, sbp)
        self.uses: list[dict[int, int]] = [{} for _ in problem.items]
        self.wanted = [0] * len(problem.items)
        """Per value the layouts in which steps want it, as bits."""
        self.chosen = [-1] * len(problem.steps)

    def best(self, step: int, first: int = 0, pins: Pins | None = None) -> int:
        """The cheapest candidate of a step that is not chosen yet; ties go to `first`, then to the earliest.

        Candidates that do not read the values in `pins` as these say count only where none does.
        """
        problem, choices = self.problem.steps[step], self.tables.choices[step]
        if pins and not pins.keys().isdisjoint(problem.inputs):
            candidates = problem.candidates
            pinned = [number for number, candidate in enumerate(candidates) if _obeys(problem, candidate, pins)]
            if pinned and len(pinned) < len(candidates):
                costs = self.costs(problem, choices)
                return min(pinned, key=costs.__getitem__)
        layout, wanted = self.layout, self.wanted
        view = [first]
        for value in problem.inputs:
            view += layout[value], wanted[value]
        for value in problem.outputs:
            view.append(wanted[value])
        key = tuple(view)
        found = choices.chosen.get(key)
        if found is None:
            costs = self.costs(problem, choices)
            least = min(costs)
            found = choices.chosen[key] = first if costs[first] == least else costs.index(least)
        return found

    def costs(self, step: Step, choices: Choices) -> list[int]:
        """What choosing each candidate adds."""
        total = choices.work
        values = list(dict.fromkeys(step.inputs))
        for column in choices.reads:
            value = values[column.place]
            kind, source, wanted = choices.kinds[column.place], self.layout[value], self.wanted[value]
            price = {number: 0 if wanted >> number & 1 else kind.price(source, number) for number in column.distinct}
            price[PAID] = 0
            total = list(map(add, total, map(price.__getitem__, column.numbers)))
        for column, kind, value in zip(choices.gives, choices.results, step.outputs, strict=True):
            targets = list(bits(self.wanted[value]))
            if targets:
                price = {number: sum(kind.price(number, target) for target in targets) for number in column.distinct}
                total = list(map(add, total, map(price.__getitem__, column.numbers)))
        if len(choices.terms) > 1:
            # turning values into terms moves no bytes and gains nothing, but the results must be reduced later, where
            # a search that looks at one step at a time no longer sees the cause
            made = choices.makes_terms([self.layout[value] for value in values])
            ban = [PROHIBITIVE * self.tables.byte * is_made for is_made in made]
            total = list(map(add, total, map(ban.__getitem__, choices.term_numbers)))
        return total

    def choose(self, step: int, number: int) -> None:
        """Fix a candidate."""
        self.chosen[step] = number
        problem, choices = self.problem.steps[step], self.tables.choices[step]
        for value, column in zip(problem.inputs, choices.reads, strict=True):
            target, uses = column.numbers[number], self.uses[value]
            if target != PAID:
                uses[target] = uses.get(target, 0) + 1
                self.wanted[value] |= 1 << target
        for value, column in zip(problem.outputs, choices.gives, strict=True):
            self.layout[value] = column.numbers[number]

    def release(self, step: int) -> None:
        """Take a choice back."""
        number, choices = self.chosen[step], self.tables.choices[step]
        for value, column in zip(self.problem.steps[step].inputs, choices.reads, strict=True):
            target, uses = column.numbers[number], self.uses[value]
            if target != PAID:
                uses[target] -= 1
                if not uses[target]:
                    self.wanted[value] ^= 1 << target

    def cost(self) -> int:
        """The cost of all choices."""
        total = sum(choices.work[number] for choices, number in zip(self.tables.choices, self.chosen, strict=True))
        for kind, source, wanted in zip(self.tables.kinds, self.layout, self.wanted, strict=True):
            total += sum(kind.price(source, target) for target in bits(wanted))
        return total


def _obeys(step: Step, candidate: Candidate, pins: Pins) -> bool:
    return all(pins.get(value, target) == target for value, target in zip(step.inputs, candidate.inputs, strict=True))
