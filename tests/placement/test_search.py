"""The search equals the one that its description defines, written plainly: every cost of every choice from scratch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from random import Random

import pytest

from flowcore.placement.cost import received_bytes, rounds
from flowcore.placement.layout import Layout, block, box_size
from flowcore.placement.mesh import Placement
from flowcore.placement.problem import Candidate, Item, Problem, Step
from flowcore.placement.sbp import B, NdSbp, P, Partial, S, Split
from flowcore.placement.search import AFFORDABLE, PROHIBITIVE, SWEEPS, greedy

PLACES = (Placement([[0, 1], [2, 3]]), Placement([[2, 3], [4, 5]]))
LAYOUTS = tuple(product((B, S(0), S(1), P), repeat=2))
Cost = tuple[int, int, int]


def random_problem(seed: int) -> Problem:
    """Steps that read one to three values (some twice) and give one or two; many are equal to one before.

    Where a value is like one that is given, a step carries it there.
    """
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
        kinds = (None, None, None, 2)
        items += [Item(random.choice(((4, 6), (5, 3))), 4, place, random.choice(kinds)) for _ in outputs]
        steps.append(Step(inputs, outputs, place, candidates))
    pairs = product((old for old in range(3) if P not in given[old]), range(3, len(items)))
    like = [(old, new) for old, new in pairs if items[old] == items[new]]
    if like:
        old, new = random.choice(like)
        candidates = tuple(Candidate((sbp,), (sbp,), 0) for sbp in LAYOUTS if P not in sbp)
        steps.append(Step((new,), (old,), items[old].placement, candidates))
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
        self.problem, self.chosen, self.kept = problem, dict[int, int](), dict[int, int]()

    def candidates(self, steps: Iterable[int]) -> list[tuple[int, Candidate]]:
        return [(s, self.problem.steps[s].candidates[self.chosen[s]]) for s in sorted(steps) if s in self.chosen]

    def layouts(self) -> dict[int, NdSbp]:
        layout = dict(self.problem.given)
        for number, candidate in self.candidates(self.chosen):
            layout.update(zip(self.problem.steps[number].outputs, candidate.outputs, strict=True))
        return layout

    def changes(self, values: set[int]) -> set[tuple[int, Layout, Layout]]:
        """The changes of layout of these values that the choices need, each once."""
        layout, found = self.layouts(), set()
        for number, candidate in self.candidates(self.chosen):
            step = self.problem.steps[number]
            for v, sbp in zip(step.inputs, candidate.inputs, strict=True):
                source = Layout(self.problem.items[v].placement, layout.get(v, sbp))
                if v in values and source != Layout(step.placement, sbp):
                    found.add((v, source, Layout(step.placement, sbp)))
        return found

    def moved(self, value: int, source: Layout, target: Layout) -> int:
        item = self.problem.items[value]
        is_gathered = item.gathered is not None and not source.is_partial and target.is_broadcast
        return received_bytes(item.shape, item.gathered if is_gathered else item.itemsize, source, target)

    def total(self) -> Cost:
        """(bytes, changes, work) of all choices."""
        changes = self.changes(set(range(len(self.problem.items))))
        work = sum(candidate.work for _, candidate in self.candidates(self.chosen))
        return added((0, 0, work), *((self.moved(*change), 1, 0) for change in changes))

    def seconds(self, steps: Iterable[int]) -> tuple[int, int]:
        """(bytes, seconds in 10^-15) of some steps, and of the changes of what they read and give."""
        machine, moved, ticks, values = self.problem.machine, 0, 0, set[int]()
        for number, candidate in self.candidates(steps):
            step = self.problem.steps[number]
            values |= {*step.inputs, *step.outputs}
            made = sum(self.block(v, sbp) for v, sbp in zip(step.outputs, candidate.outputs, strict=True))
            ticks += round(machine.computing(candidate.work, made) * 1e15)
        for value, source, target in self.changes(values):
            size = self.moved(value, source, target)
            took = machine.within.latency
            if size:
                ranks = len({*source.placement.ranks, *target.placement.ranks})
                took += rounds(source, target) * (machine.step + took)
                took += size / ranks * machine.within.seconds_per_byte
            moved, ticks = moved + size, ticks + round(took * 1e15)
        return moved, ticks

    def block(self, value: int, sbp: NdSbp) -> int:
        item = self.problem.items[value]
        first = block(item.shape, item.placement.shape, sbp, (0,) * item.placement.ndim)
        return box_size(first) * item.itemsize

    def with_choice(self, number: int, choice: int, by_time: bool) -> tuple[int, ...]:
        """The total with one choice more, a ban where it reads as terms what is none."""
        layout, step = self.layouts(), self.problem.steps[number]
        is_banned = any(layout[step.inputs[p]][axis] != part for p, axis, part in step.candidates[choice].terms)
        self.chosen[number] = choice
        first, *others = self.seconds(self.chosen) if by_time else self.total()
        del self.chosen[number]
        return (first + PROHIBITIVE * is_banned, *others)

    def best(self, number: int, first: int, pins: dict[int, NdSbp], by_time: bool) -> int:
        step = self.problem.steps[number]
        costs = [self.with_choice(number, choice, by_time) for choice in range(len(step.candidates))]
        obeying = [
            n for n, c in enumerate(step.candidates)
            if all(pins.get(v, sbp) == sbp for v, sbp in zip(step.inputs, c.inputs, strict=True))
        ]  # fmt: skip
        if 0 < len(obeying) < len(costs):
            return min(obeying, key=lambda n: costs[n])
        return min((first, *range(len(costs))), key=lambda n: costs[n])

    def descend(self, steps: Sequence[int], pins: dict[int, NdSbp], by_time: bool = False) -> None:
        for number in steps:
            self.chosen.pop(number, None)
        for number in steps:
            self.chosen[number] = self.kept[number] if number in self.kept else self.best(number, 0, pins, False)
        for timed in (False, True)[: 1 + by_time]:
            self.improve(steps, timed)

    def improve(self, steps: Sequence[int], by_time: bool) -> None:
        for _ in range(SWEEPS):
            before = dict(self.chosen)
            for number in steps:
                if number not in self.kept:
                    self.chosen[number] = self.best(number, self.chosen.pop(number), {}, by_time)
            if self.chosen == before:
                break

    def slices(self) -> dict[int, NdSbp]:
        """Of values whose terms are reduced to slices, the layout that reduces them whole."""
        found, layout = {}, self.layouts()
        for number, candidate in self.candidates(self.chosen):
            step = self.problem.steps[number]
            for v, sbp in zip(step.inputs, candidate.inputs, strict=True):
                pairs = list(zip(layout[v], sbp, strict=True))
                is_here = step.placement == self.problem.items[v].placement
                if is_here and any(isinstance(a, Partial) and isinstance(b, Split) for a, b in pairs):
                    found[v] = tuple(B if isinstance(part, Partial) else part for part in layout[v])
        return found


def serves(problem: Problem, number: int, found: set[int]) -> bool:
    """Whether some step, and none but those in `found`, reads what step `number` gives."""
    given = {*problem.steps[number].outputs}
    readers = {n for n, step in enumerate(problem.steps) if given & {*step.inputs}}
    return bool(readers) and readers <= found


def following(problem: Problem, value: int) -> list[int]:
    """The steps that read `value` or what comes of it, and all that only they need."""
    steps = list(enumerate(problem.steps))
    found, values = set[int](), {value}
    while new := {n for n, step in steps if n not in found and values.intersection(step.inputs)}:
        found |= new
        values |= {output for n in new for output in problem.steps[n].outputs}
    while new := {n for n, step in steps if n not in found and value not in step.outputs and serves(problem, n, found)}:
        found |= new
    return sorted(found)


def plainly(problem: Problem) -> tuple[int, ...]:
    every, first = range(len(problem.steps)), Plain(problem)
    for number, step in enumerate(problem.steps):
        if len(step.outputs) == 1 and step.outputs[0] in problem.given:
            layouts = [candidate.outputs[0] for candidate in step.candidates]
            first.kept[number] = layouts.index(problem.given[step.outputs[0]])
    first.descend(every, {})
    pins, trials = first.slices(), [first]
    tried = [(pins, first.kept)] if pins else []
    if 1 < len(pins) <= AFFORDABLE // len(problem.steps):
        tried += [({value: target}, first.kept) for value, target in pins.items()]
    if first.kept and len(problem.steps) <= AFFORDABLE:
        tried.append(({}, {}))
    for trial, kept in tried:
        trials.append(Plain(problem))
        trials[-1].kept = kept
        trials[-1].descend(every, trial)
    best = min(trials, key=lambda plain: plain.seconds(every))
    best.kept = {}
    for value, steps in sorted(((v, following(problem, v)) for v in pins), key=lambda item: len(item[1])):
        best.improve(steps, True)
        before, chosen = best.seconds(steps), dict(best.chosen)
        best.descend(steps, {value: pins[value]} if value in best.slices() else {}, by_time=True)
        if best.seconds(steps) >= before:
            best.chosen = chosen
    return tuple(best.chosen[number] for number in every)


@pytest.mark.parametrize("seed", range(30))
def test_the_search_equals_its_definition(seed: int) -> None:
    problem = random_problem(seed)
    assert greedy(problem).numbers == plainly(problem)
