"""Chooses a candidate for every step: greedily in order, then by improving one step at a time until none improves.

The result is a local optimum of the total cost, and depends on nothing but the problem: ties go to the earlier
candidate.
"""

from __future__ import annotations

from flowcore.placement.mesh import Placement
from flowcore.placement.problem import FREE, Candidate, Cost, Prices, Problem, Step, add
from flowcore.placement.sbp import NdSbp

SWEEPS = 8
PROHIBITIVE = 1 << 60


def greedy(problem: Problem) -> tuple[int, ...]:
    """The number of the chosen candidate of every step."""
    state = _State(problem)
    for step in range(len(problem.steps)):
        state.choose(step, state.best(step))
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


class _State:
    """The choices so far: the layout of every value, and how many steps want each value in each layout."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.prices = Prices(problem.items)
        self.layout: dict[int, NdSbp] = dict(problem.given)
        self.wanted: list[dict[tuple[Placement, NdSbp], int]] = [{} for _ in problem.items]
        self.chosen = [-1] * len(problem.steps)

    def best(self, step: int, first: int = 0) -> int:
        """The cheapest candidate of a step that is not chosen yet; ties go to `first`, then to the earliest."""
        candidates = self.problem.steps[step].candidates
        best, least = first, self.cost(step, candidates[first], None)
        for number, candidate in enumerate(candidates):
            if number != first:
                cost = self.cost(step, candidate, least)
                if cost < least:
                    best, least = number, cost
        return best

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
        """What to add where `candidate` reads terms along an axis on which no input has any.

        Turning values into terms moves no bytes and gains nothing, but the results must be reduced later, where a
        search that looks at one step at a time no longer sees the cause.
        """
        for axis, part in candidate.terms:
            held = (self.layout[number] for number in step.inputs)
            if not any(axis < len(sbp) and sbp[axis] == part for sbp in held):
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
