"""The search equals the one that its description defines, written plainly: every cost of every choice from scratch."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest

from flowcore.placement.cost import received_bytes
from flowcore.placement.layout import Layout
from flowcore.placement.mesh import Placement
from flowcore.placement.problem import Candidate, Item, Problem, Step
from flowcore.placement.sbp import B, NdSbp, P, Partial, S, Split
from flowcore.placement.search import AFFORDABLE, PROHIBITIVE, SWEEPS, greedy

PLACES = (Placement([[0, 1], [2, 3]]), Placement([[2, 3], [4, 5]]))
LAYOUTS = tuple(product((B, S(0), S(1), P), repeat=2))
Cost = tuple[int, int, int]


def random_problem(seed: int) -> Problem:
    """Steps that read one to three values (some twice) and give one or two; many are equal to one before."""
    random = Random(seed)
    items = [Item(random.choice(((4, 6), (5, 3))), 4, random.choice(PLACES)) for _ in range(3)]
    given = {number: random.choice(LAYOUTS) for number in range(3)}
    steps: list[Step] = []
    for _ in range(random.randint(2, 14)):
        inputs = tuple(random.randrange(len(items)) for _ in range(random.randint(1, 3)))
        place = random.choice(PLACES)
        before = [step for step in steps if len(step.inputs) == len(inputs)]
        if before and random.random() < 0.6:
            place, candidates = before[0].placement, before[0].candidates
        else:
            count = random.randint(1, 2)
            candidates = tuple(random_candidate(random, len(inputs), count) for _ in range(random.randint(1, 12)))
        outputs = tuple(range(len(items), len(items) + len(candidates[0].outputs)))
        items += [Item(random.choice(((4, 6), (5, 3))), 4, place) for _ in outputs]
        steps.append(Step(inputs, outputs, place, candidates))
    return Problem(tuple(items), given, tuple(steps))


def random_candidate(random: Random, arity: int, results: int) -> Candidate:
    inputs = tuple(random.choice(LAYOUTS) for _ in range(arity))
    terms = tuple(
        (p, a, part) for p, sbp in enumerate(inputs) for a, part in enumerate(sbp) if isinstance(part, Partial)
    )
    return Candidate(inputs, tuple(random.choice(LAYOUTS) for _ in range(results)), random.randrange(4), terms)


def added(*costs: Cost) -> Cost:
    return sum(c[0] for c in costs), sum(c[1] for c in costs), sum(c[2] for c in costs)


class Plain:
    """Choices for some of the steps of a problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.chosen = problem, dict[int, Candidate]()

    def total(self) -> Cost:
        """The cost of all choices: the work, and one change for every layout in which a value is wanted."""
        layout, wanted, work = dict(self.problem.given), set(), 0
        for number, candidate in self.chosen.items():
            step = self.problem.steps[number]
            layout.update(zip(step.outputs, candidate.outputs, strict=True))
            wanted |= {(v, step.placement, sbp) for v, sbp in zip(step.inputs, candidate.inputs, strict=True)}
            work += candidate.work
        return added((0, 0, work), *(self.change(v, layout[v], place, sbp) for v, place, sbp in wanted))

    def change(self, value: int, source: NdSbp, place: Placement, target: NdSbp) -> Cost:
        item = self.problem.items[value]
        before, after = Layout(item.placement, source), Layout(place, target)
        return (received_bytes(item.shape, item.itemsize, before, after), int(before != after), 0)

    def with_choice(self, number: int, candidate: Candidate) -> Cost:
        """The total with one choice more, a ban where it reads as terms what is none."""
        self.chosen[number] = candidate
        layout = dict(self.problem.given)
        for other, one in self.chosen.items():
            layout.update(zip(self.problem.steps[other].outputs, one.outputs, strict=True))
        inputs = self.problem.steps[number].inputs
        is_banned = any(layout[inputs[position]][axis] != part for position, axis, part in candidate.terms)
        cost = added(self.total(), (PROHIBITIVE * is_banned, 0, 0))
        del self.chosen[number]
        return cost

    def best(self, number: int, first: int, pins: dict[int, NdSbp]) -> int:
        step = self.problem.steps[number]
        costs = [self.with_choice(number, candidate) for candidate in step.candidates]
        obeying = [
            n for n, c in enumerate(step.candidates)
            if all(pins.get(v, sbp) == sbp for v, sbp in zip(step.inputs, c.inputs, strict=True))
        ]  # fmt: skip
        if 0 < len(obeying) < len(costs):
            return min(obeying, key=lambda n: costs[n])
        return min((first, *range(len(costs))), key=lambda n: costs[n])


def descend(problem: Problem, pins: dict[int, NdSbp]) -> tuple[tuple[int, ...], Cost]:
    plain, numbers = Plain(problem), [0] * len(problem.steps)
    for sweep in range(SWEEPS + 1):
        before = list(numbers)
        for number, step in enumerate(problem.steps):
            plain.chosen.pop(number, None)
            numbers[number] = plain.best(number, numbers[number], {} if sweep else pins)
            plain.chosen[number] = step.candidates[numbers[number]]
        if sweep and numbers == before:
            break
    return tuple(numbers), plain.total()


def plainly(problem: Problem) -> tuple[int, ...]:
    first = descend(problem, {})
    layout, pins = dict(problem.given), dict[int, NdSbp]()
    for step, number in zip(problem.steps, first[0], strict=True):
        candidate = step.candidates[number]
        for value, target in zip(step.inputs, candidate.inputs, strict=True):
            pairs = zip(layout[value], target, strict=True)
            is_here = step.placement == problem.items[value].placement
            if is_here and any(isinstance(a, Partial) and isinstance(b, Split) for a, b in pairs):
                pins[value] = tuple(B if isinstance(part, Partial) else part for part in layout[value])
        layout.update(zip(step.outputs, candidate.outputs, strict=True))
    trials = [pins] if pins else []
    if 1 < len(pins) <= AFFORDABLE // len(problem.steps):
        trials += [{value: target} for value, target in pins.items()]
    return min((first, *(descend(problem, trial) for trial in trials)), key=lambda found: found[1])[0]


@pytest.mark.parametrize("seed", range(40))
def test_the_search_equals_its_definition(seed: int) -> None:
    problem = random_problem(seed)
    assert greedy(problem) == plainly(problem)
