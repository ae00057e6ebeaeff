"""Chooses a candidate for every step: greedily in order, then by improving one step at a time until none improves.

Reducing terms to slices is cheaper than reducing them whole, so a search in order takes the slices even where every
result computed from them must be gathered again. So the search is run again with such values reduced whole (first all
of them at once, then, while that is affordable, one by one) and the cheapest outcome stays. It is a local optimum of
the total cost and depends on nothing but the problem: ties go to the earlier candidate and the earlier outcome.
"""

from __future__ import annotations

from flowcore.placement.mesh import Placement
from flowcore.placement.problem import FREE, Candidate, Cost, Prices, Problem, Step, add
from flowcore.placement.sbp import B, NdSbp, Partial, Split

SWEEPS = 8
PROHIBITIVE = 1 << 60
AFFORDABLE = 4000
"""The most steps, over all trials of one value each, that are still searched again."""

Pins = dict[int, NdSbp]
"""The layout in which steps shall read a value, by its number."""



def greedy(problem: Problem) -> tuple[int, ...]:
    """The number of the chosen candidate of every step."""
    chosen = _descend(problem, {})
    least = total_cost(problem, chosen)
    pins = _scattered_terms(problem, chosen)
    trials = [pins] if pins else []
    if len(pins) > 1 and len(pins) * len(problem.steps) <= AFFORDABLE:
        trials.extend({key: target} for key, target in pins.items())
    for trial in trials:
        found = _descend(problem, trial)
        cost = total_cost(problem, found)
        if cost < least:
            chosen, least = found, cost
    return chosen


def _descend(problem: Problem, pins: Pins) -> tuple[int, ...]:
    """One greedy choice in order, then improvements of single steps; at first the values in `pins` are read so."""
    state = _State(problem)
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
    return tuple(state.chosen)


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

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.prices = Prices(problem.items)
        self.layout: dict[int, NdSbp] = dict(problem.given)
        self.wanted: list[dict[tuple[Placement, NdSbp], int]] = [{} for _ in problem.items]
        self.chosen = [-1] * len(problem.steps)

    def best(self, step: int, first: int = 0, pins: Pins | None = None) -> int:
        """The cheapest candidate of a step that is not chosen yet; ties go to `first`, then to the earliest.

        Candidates that do not read the values in `pins` as these say count only where none does.
        """
        candidates = self.problem.steps[step].candidates
        if pins:
            pinned = [number for number, candidate in enumerate(candidates) if self._obeys(step, candidate, pins)]
            if pinned and len(pinned) < len(candidates):
                return min(pinned, key=lambda number: self.cost(step, candidates[number], None))
        best, least = first, self.cost(step, candidates[first], None)
        for number, candidate in enumerate(candidates):
            if number != first:
                cost = self.cost(step, candidate, least)
                if cost < least:
                    best, least = number, cost
        return best

    def _obeys(self, step: int, candidate: Candidate, pins: Pins) -> bool:
        reads = zip(self.problem.steps[step].inputs, candidate.inputs, strict=True)
        return all(pins.get(value, target) == target for value, target in reads)

    def cost(self, step: int, candidate: Candidate, limit: Cost | None) -> Cost:
        """What choosing `candidate` adds; may stop early once above `limit`."""
        problem = self.problem.steps[step]
        total: Cost = (self._makes_terms(problem, candidate), 0, candidate.work)
        seen: set[tuple[int, NdSbp]] = set()
        for number, target in zip(problem.inputs, candidate.inputs, strict=True):
            if (number, target) in seen or (problem.placement, target) in self.wanted[number]:
                continue
            seen.add((number, target))
            total = add(total, self.prices.change(number, self.layout[number], problem.placement, target))
            if limit is not None and total > limit:
                return total
        for number, source in zip(problem.outputs, candidate.outputs, strict=True):
            for placement, target in self.wanted[number]:
                total = add(total, self.prices.change(number, source, placement, target))
        return total

    def _makes_terms(self, step: Step, candidate: Candidate) -> int:
        """What to add where `candidate` reads as terms along an axis an input that has none there.

        Turning values into terms moves no bytes and gains nothing, but the results must be reduced later, where a
        search that looks at one step at a time no longer sees the cause.
        """
        for position, axis, part in candidate.terms:
            held = self.layout[step.inputs[position]]
            if axis >= len(held) or held[axis] != part:
                return PROHIBITIVE
        return 0

    def choose(self, step: int, number: int) -> None:
        """Fix a candidate."""
        self.chosen[step] = number
        problem, candidate = self.problem.steps[step], self.problem.steps[step].candidates[number]
        for value, target in zip(problem.inputs, candidate.inputs, strict=True):
            uses = self.wanted[value]
            uses[problem.placement, target] = uses.get((problem.placement, target), 0) + 1
        self.layout.update(zip(problem.outputs, candidate.outputs, strict=True))

    def release(self, step: int) -> None:
        """Take a choice back."""
        problem, candidate = self.problem.steps[step], self.problem.steps[step].candidates[self.chosen[step]]
        for value, target in zip(problem.inputs, candidate.inputs, strict=True):
            uses = self.wanted[value]
            uses[problem.placement, target] -= 1
            if not uses[problem.placement, target]:
                del uses[problem.placement, target]


def total_cost(problem: Problem, chosen: tuple[int, ...]) -> Cost:
    """The cost of a whole choice."""
    prices = Prices(problem.items)
    layout = dict(problem.given)
    paid: set[tuple[int, Placement, NdSbp]] = set()
    total = FREE
    for step, number in zip(problem.steps, chosen, strict=True):
        candidate = step.candidates[number]
        total = add(total, (0, 0, candidate.work))
        for value, target in zip(step.inputs, candidate.inputs, strict=True):
            if (value, step.placement, target) not in paid:
                paid.add((value, step.placement, target))
                total = add(total, prices.change(value, layout[value], step.placement, target))
        layout.update(zip(step.outputs, candidate.outputs, strict=True))
    return total
