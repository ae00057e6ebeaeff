"""Chooses a candidate for every step: in order, then by improving one step at a time, then one value's terms at a time.

A step looks at bytes, then at changes of layout, then at its work. Reducing terms to slices is cheaper than reducing
them whole, so a search in order takes the slices even where every result computed from them must be gathered again. So
the search is run again with such values reduced whole (first all of them at once, then, while that is affordable, one
by one), all that with what lives from step to step laid out as it is, then once, where affordable, with its layout
free, and the best outcome stays. From there each value is tried the other way, those from which little follows first:
what follows is searched again, the layout of what lives on included, and stays so where the plan is better. Plans are
compared by bytes, then by predicted seconds: slices that cost no byte more are taken where that saves more computing
than the changes of layout take. It is a local optimum that depends on nothing but the problem: ties go to the earlier
candidate and the earlier outcome.

A decision follows from little: the layouts of the values that the step reads, and in which layouts these and those
that it gives are wanted by others. Equal steps that see the same decide the same, which is remembered: a sweep in
which nothing changes near a step, a repeated search, and the next of many equal layers cost a look-up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import add

from flowcore.placement.problem import Candidate, Choice, Compared, Problem, Step
from flowcore.placement.sbp import B, NdSbp, Partial, Split
from flowcore.placement.tables import BYTE, PAID, TICKS, Choices, Tables, bits

SWEEPS = 8
PROHIBITIVE = 1 << 60
AFFORDABLE = 4000
"""The most steps that are searched with states free, over all values tried alone, over all tried the other way."""

Pins = dict[int, NdSbp]
"""The layout in which steps shall read a value, by its number."""


def greedy(problem: Problem) -> Choice:
    """The number of the chosen candidate of every step."""
    tables = Tables.of(problem)
    kept = _kept(problem)
    found = [_found(problem, tables, {}, kept)]
    pins = _scattered_terms(problem, found[0].chosen)
    trials = [pins] if pins else []
    if len(pins) > 1 and len(pins) * len(problem.steps) <= AFFORDABLE:
        trials.extend({value: target} for value, target in pins.items())
    for trial in trials:
        first = next(number for number, step in enumerate(problem.steps) if not trial.keys().isdisjoint(step.inputs))
        found.append(_found(problem, tables, trial, kept, found[0].in_order[:first]))
    if kept and len(problem.steps) <= AFFORDABLE:
        found.append(_found(problem, tables, {}, {}, found[0].in_order[: min(kept)]))
    best = min(found, key=lambda state: state.total)
    best.kept = {}
    compared = _compared(best, pins) if pins else {}
    return Choice(tuple(best.chosen), compared)


def _kept(problem: Problem) -> dict[int, int]:
    """Of every step that gives a given value anew, the candidate by which it lies as it is given."""
    found = {}
    for number, step in enumerate(problem.steps):
        for place, value in enumerate(step.outputs):
            if value in problem.given:
                layouts = [candidate.outputs[place] for candidate in step.candidates]
                if problem.given[value] in layouts:  # a state of terms is none that a rule keeps
                    found[number] = layouts.index(problem.given[value])
    return found


def _found(
    problem: Problem, tables: Tables, pins: Pins, kept: dict[int, int], in_order: Sequence[int] = ()
) -> _State:
    """What a search finds; in_order: what the first steps choose in order, which are like those of another search."""
    state, every = _State(problem, tables), range(len(problem.steps))
    state.kept = kept
    state.descend(every, pins, in_order=in_order)
    state.total = state.cost(every)
    return state


def _compared(state: _State, pins: Pins) -> dict[int, Compared]:
    """What trying the values in `pins` the other way gave; `state` keeps the better of each.

    Seconds are told where neither way moves more bytes.
    """
    problem, found = state.problem, dict[int, Compared]()
    readers: list[list[int]] = [[] for _ in problem.items]
    for number, step in enumerate(problem.steps):
        for value in step.inputs:
            readers[value].append(number)
    makers = {value: number for number, step in enumerate(problem.steps) for value in step.outputs}
    following = {value: _following(problem, readers, makers, value) for value in pins}
    left = AFFORDABLE
    for value, steps in sorted(following.items(), key=lambda item: len(item[1])):
        left -= len(steps)
        if not steps or left < 0:
            continue
        state.improve(steps, by_time=True)
        before, kept, steady = state.cost(steps), [state.chosen[step] for step in steps], set(state.steady)
        state.descend(steps, {value: pins[value]} if state.slices(value) else {}, by_time=True)
        after = state.cost(steps)
        if after >= before:
            state.restore(steps, kept)
            state.steady = steady
        chosen, other = sorted((before, after))
        if chosen // BYTE == other // BYTE:
            found[value] = Compared(state.slices(value), chosen % BYTE / TICKS, other % BYTE / TICKS)
    return {value: compared for value, compared in found.items() if compared.is_sliced == state.slices(value)}


def _following(problem: Problem, readers: Sequence[Sequence[int]], makers: Mapping[int, int], value: int) -> list[int]:
    """The steps that read `value` or what follows from it, and those that serve only them, in order.

    None at all where so many follow that trying few values would cost as much as all.
    """
    found, left = set[int](), [value]
    while left:
        for step in readers[left.pop()]:
            if step not in found:
                found.add(step)
                left.extend(problem.steps[step].outputs)
        if len(found) > AFFORDABLE // 4:
            return []
    left = [number for step in found for number in problem.steps[step].inputs]
    while left:
        maker = makers.get(left.pop())
        if (
            maker is not None
            and maker != makers.get(value)
            and maker not in found
            and found.issuperset(reader for number in problem.steps[maker].outputs for reader in readers[number])
        ):
            found.add(maker)
            left.extend(problem.steps[maker].inputs)
    return sorted(found)


def _scattered_terms(problem: Problem, chosen: Sequence[int]) -> Pins:
    """The values whose terms some step reads reduced to slices, each with the layout that reduces it whole."""
    layout = dict(problem.given)
    pins: Pins = {}
    for step, number in zip(problem.steps, chosen, strict=True):
        candidate = step.candidates[number]
        for value, target in zip(step.inputs, candidate.inputs, strict=True):
            source = layout[value]
            if step.placement == problem.items[value].placement and _is_sliced(source, target):
                pins[value] = tuple(B if isinstance(a, Partial) else a for a in source)
        layout.update(zip(step.outputs, candidate.outputs, strict=True))
    return pins


def _is_sliced(source: NdSbp, target: NdSbp) -> bool:
    return any(isinstance(a, Partial) and isinstance(b, Split) for a, b in zip(source, target, strict=False))


class _State:
    """The choices so far: the layout of every value, and how many steps want each value in each layout."""

    def __init__(self, problem: Problem, tables: Tables) -> None:
        self.problem, self.tables = problem, tables
        self.layout = [-1] * len(problem.items)
        for value, sbp in problem.given.items():
            self.lay(value, sbp)
        self.uses: list[dict[int, int]] = [{} for _ in problem.items]
        self.wanted = [0] * len(problem.items)
        """Per value the layouts in which steps want it, as bits."""
        self.chosen = [-1] * len(problem.steps)
        self.in_order: tuple[int, ...] = ()
        """What all steps chose in order, before any was improved."""
        self.kept: dict[int, int] = {}
        """Candidates of steps that shall not be chosen anew."""
        self.steady: set[int] = set()
        """Steps that would be chosen by time as they are: nothing near them has changed since that was found."""
        self.total = 0

    def descend(
        self, steps: Sequence[int], pins: Pins, by_time: bool = False, in_order: Sequence[int] = ()
    ) -> None:
        """Choose for `steps` anew: greedily in order, at first reading the values in `pins` so, then one by one.

        by_time: in the end one by one by bytes and seconds. in_order: what the first of `steps` choose in order.
        """
        self.steady.clear()
        for step in steps:
            if self.chosen[step] >= 0:
                self.release(step)
            for value in self.problem.steps[step].outputs:
                if value in self.problem.given:
                    self.lay(value, self.problem.given[value])
        for step, number in zip(steps, in_order, strict=False):
            self.choose(step, number)
        for step in steps[len(in_order) :]:
            self.choose(step, self.kept[step] if step in self.kept else self.best(step, pins=pins))
        self.in_order = tuple(self.chosen)
        for timed in (False, True)[: 1 + by_time]:
            self.improve(steps, timed)

    def improve(self, steps: Sequence[int], by_time: bool) -> None:
        """Choose for one step after the other what is best, until nothing changes.

        A step is looked at again where another one, with which it shares a value, has changed.
        """
        members = set(steps).difference(self.kept)
        due = members - self.steady if by_time else set(members)
        for _ in range(SWEEPS):
            for step in steps:
                if step not in due:
                    continue
                due.remove(step)
                before = self.chosen[step]
                self.release(step)
                after = self.best(step, before, by_time=by_time)
                self.choose(step, after)
                if by_time:
                    self.steady.add(step)
                if after != before:
                    near = self.tables.near(self.problem.steps[step])
                    due |= members.intersection(near) - {step}
                    self.steady -= near - {step}
            if not due:
                break

    def restore(self, steps: Sequence[int], numbers: Sequence[int]) -> None:
        """Choose `numbers` for `steps`."""
        changed = [(step, number) for step, number in zip(steps, numbers, strict=True) if self.chosen[step] != number]
        for step, _ in changed:
            self.release(step)
        for step, number in changed:
            self.choose(step, number)

    def lay(self, value: int, sbp: NdSbp) -> None:
        """Let a value lie so."""
        self.layout[value] = self.tables.kinds[value].number(self.problem.items[value].placement, sbp)

    def best(self, step: int, first: int = 0, pins: Pins | None = None, by_time: bool = False) -> int:
        """The cheapest candidate of a step that is not chosen yet; ties go to `first`, then to the earliest.

        Candidates that do not read the values in `pins` as these say count only where none does.
        """
        problem, choices = self.problem.steps[step], self.tables.choices[step]
        if pins and not pins.keys().isdisjoint(problem.inputs):
            candidates = problem.candidates
            pinned = [number for number, candidate in enumerate(candidates) if _obeys(problem, candidate, pins)]
            if pinned and len(pinned) < len(candidates):
                costs = self.costs(problem, choices, by_time)
                return min(pinned, key=costs.__getitem__)
        layout, wanted = self.layout, self.wanted
        view = [first, by_time]
        for value in problem.inputs:
            view += layout[value], wanted[value]
        for value in problem.outputs:
            view.append(wanted[value])
        key = tuple(view)
        found = choices.chosen.get(key)
        if found is None:
            costs = self.costs(problem, choices, by_time)
            least = min(costs)
            found = choices.chosen[key] = first if costs[first] == least else costs.index(least)
        return found

    def costs(self, step: Step, choices: Choices, by_time: bool) -> list[int]:
        """What choosing each candidate adds: to bytes, changes and work, or to bytes and ticks."""
        total = choices.ticks if by_time else choices.work
        values = list(dict.fromkeys(step.inputs))
        for column in choices.reads:
            value = values[column.place]
            kind, source, wanted = choices.kinds[column.place], self.layout[value], self.wanted[value]
            cost = (kind.outlooks if by_time else kind.prices)[source]
            price = {number: 0 if wanted >> number & 1 else cost[number] for number in column.distinct}
            price[PAID] = 0
            total = list(map(add, total, map(price.__getitem__, column.numbers)))
        for column, kind, value in zip(choices.gives, choices.results, step.outputs, strict=True):
            targets = list(bits(self.wanted[value]))
            if targets:
                costs = kind.outlooks if by_time else kind.prices
                price = {number: sum(map(costs[number].__getitem__, targets)) for number in column.distinct}
                total = list(map(add, total, map(price.__getitem__, column.numbers)))
        if len(choices.terms) > 1:
            # turning values into terms moves no bytes and gains nothing, but the results must be reduced later, where
            # a search that looks at one step at a time no longer sees the cause
            made = choices.makes_terms([self.layout[value] for value in values])
            ban = [PROHIBITIVE * (BYTE if by_time else self.tables.byte) * is_made for is_made in made]
            total = list(map(add, total, map(ban.__getitem__, choices.term_numbers)))
        return total

    def choose(self, step: int, number: int) -> None:
        """Fix a candidate."""
        self.chosen[step] = number
        problem, rows = self.problem.steps[step], self.tables.choices[step].rows
        reads, gives = rows[number]
        wanted, layout = self.wanted, self.layout
        for value, target in zip(problem.inputs, reads):  # noqa: B905  # of one length, and this is the innermost loop
            if target != PAID:
                uses = self.uses[value]
                uses[target] = uses.get(target, 0) + 1
                wanted[value] |= 1 << target
        for value, target in zip(problem.outputs, gives):  # noqa: B905  # as above
            layout[value] = target

    def release(self, step: int) -> None:
        """Take a choice back."""
        reads, _ = self.tables.choices[step].rows[self.chosen[step]]
        for value, target in zip(self.problem.steps[step].inputs, reads):  # noqa: B905  # as in `choose`
            if target != PAID:
                uses = self.uses[value]
                uses[target] -= 1
                if not uses[target]:
                    self.wanted[value] ^= 1 << target

    def slices(self, value: int) -> bool:
        """Whether some step wants the terms of `value` reduced to slices."""
        layouts = self.tables.kinds[value].layouts
        source = layouts[self.layout[value]]
        targets = [layouts[target] for target in bits(self.wanted[value])]
        return any(t.placement == source.placement and _is_sliced(source.sbp, t.sbp) for t in targets)

    def cost(self, steps: Iterable[int]) -> int:
        """Bytes and predicted ticks of `steps`: of their work, and of the changes of what they read and give."""
        problem, total, values = self.problem, 0, dict[int, None]()
        for step in steps:
            total += self.tables.choices[step].ticks[self.chosen[step]]
            values.update(dict.fromkeys((*problem.steps[step].inputs, *problem.steps[step].outputs)))
        for value in values:
            kind, source = self.tables.kinds[value], self.layout[value]
            total += sum(map(kind.outlooks[source].__getitem__, bits(self.wanted[value])))
        return total


def _obeys(step: Step, candidate: Candidate, pins: Pins) -> bool:
    return all(pins.get(value, target) == target for value, target in zip(step.inputs, candidate.inputs, strict=True))
