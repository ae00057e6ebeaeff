"""Steps that are cut off while messages are under way, for worlds of threads and of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

import flowcore as fc
from flowcore.op import Array, Op
from flowcore.placement.machine import Link
from flowcore.world import current

ENDS: dict[int, list[BaseException | None]] = {}
"""What ends the next runs of the operator on a rank."""


class Fragile(Op):
    """y = x, unless something is to happen to the rank meanwhile."""

    name: ClassVar[str] = "fragile"
    index_equation: ClassVar[str] = "...->..."

    def kernel(self, x: Array) -> Array:
        ends = ENDS.get(current().rank, [])
        error = ends.pop(0) if ends else None
        if error is not None:
            raise error
        return x + 0


def step_over(ranks: Sequence[int]) -> Callable[[float], float]:
    """A step of these ranks, a sum over them that is under way while the operator runs: what it gives for a term."""
    current().machine = replace(current().machine, per_flop=1e-7, between=Link(1e-6, 1e-6))
    mesh = fc.Placement(list(ranks))

    @fc.compile
    def step(x: fc.Tensor, rows: fc.Tensor) -> fc.Tensor:
        total, other = fc.zeros((), dtype="float64", placement=mesh), rows
        for number in (1.0, 2.0):
            part = (x * number).to_global(sbp="B")
            other = (other @ other).apply(Fragile())
            total = total + part.sum()
        return total + 0 * other.sum()

    def call(term: float) -> float:
        x = fc.from_local(np.full((40, 30), term), mesh, "P")
        return float(step(x, fc.ones((8, 8), dtype="float64", placement=mesh)).item())

    return call


def step_between(ranks: Sequence[int]) -> Callable[[float], float]:
    """A step of these ranks in which the operator runs before their gather begins, and while that is under way."""
    current().machine = replace(current().machine, per_flop=1e-7, between=Link(1e-6, 1e-6))
    mesh = fc.Placement(list(ranks))

    @fc.compile
    def step(x: fc.Tensor, rows: fc.Tensor) -> fc.Tensor:
        part = x.apply(Fragile()).to_global(sbp="B")
        other = (rows @ rows).apply(Fragile())
        return part.sum() + 0 * other.sum()

    def call(term: float) -> float:
        x = fc.from_local(np.full((20, 30), term), mesh, "S0")
        return float(step(x, fc.ones((8, 8), dtype="float64", placement=mesh)).item())

    return call


@contextmanager
def ending(error: BaseException, bad: Mapping[int, int]) -> Iterator[None]:
    """The next step ends so on this rank, if it is among `bad`: when the operator has run so often."""
    rank = current().rank
    if rank in bad:
        ENDS[rank] = [None] * bad[rank] + [error]
    try:
        yield
    finally:
        ENDS.pop(rank, None)


def said(call: Callable[[float], float], term: float) -> float | str:
    """What a step gives, or the name of the error it raises."""
    try:
        return call(term)
    except (fc.FlowcoreError, KeyboardInterrupt, ValueError) as error:
        return type(error).__name__


def cut_off(error: BaseException, bad: Mapping[int, int], first: Sequence[int], then: Sequence[int]) -> list[Any]:
    """What steps say of which the second, of ranks `first`, ends so on the ranks `bad`; the third is one of `then`."""
    world, found = current(), list[Any]()
    before, after = step_over(first), step_over(then)
    if world.rank in first:
        found.append(said(before, 1.0))
        with ending(error, bad):
            found.append(said(before, 2.0))
    if world.rank in then:
        found.append(said(after, 3.0))
    return found


def one_way(first: Sequence[int], then: Sequence[int]) -> list[float | str]:
    """What steps say on rank 1, to which the others send a term: the second is cut off there before it takes it."""
    there = fc.Placement([1])

    def step_of(ranks: Sequence[int]) -> Callable[[float], float]:
        @fc.compile
        def step(rows: fc.Tensor, *terms: fc.Tensor) -> fc.Tensor:
            here = fc.sum(rows.apply(Fragile())) * 0
            for term in terms:
                here = here + fc.sum(term.apply(Fragile()).to_global(placement=there, sbp="B"))
            return here

        def call(term: float) -> float:
            terms = [fc.full((5, 5), term, dtype="float64", placement=fc.Placement([r])) for r in ranks if r != 1]
            total = step(fc.ones((4, 3), dtype="float64", placement=there), *terms)
            return float(total.to_local()) if current().rank == 1 else 0.0

        return call

    before, after, found = step_of(first), step_of(then), list[float | str]()
    if current().rank in first:
        found.append(said(before, 1.0))
        with ending(fc.IndexingError("9"), {1: 0}):
            found.append(said(before, 2.0))
    if current().rank in then:
        found.append(said(after, 3.0))
    return found
