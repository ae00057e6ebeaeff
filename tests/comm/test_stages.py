"""A change of layout in stages, between which ranks do something else, in memory that is given: same values."""

from __future__ import annotations

import threading
from itertools import product
from typing import Any

import numpy as np
import pytest

from flowcore.comm import steps
from flowcore.comm.boxing import BoxingPlan, plan_boxing
from flowcore.comm.stages import UnderWay, stages_of
from flowcore.comm.threads import ThreadWorld
from flowcore.comm.transport import Transport
from flowcore.placement.layout import Layout, box_shape
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import B, P, Partial, Split
from tests.comm.tensors import Array, gather, mesh, random_tensor, scatter

PARTS = (B, P, Split(0), Split(1))
PLACES = {
    "the same": Placement([[0, 1], [2, 3]]),
    "in another order": Placement([[2, 0], [3, 1]]),
    "others": Placement([[2, 3], [4, 5]]),
}


class Flight:
    """A plan under way on one rank, in memory filled with bytes that are no numbers."""

    def __init__(self, plan: BoxingPlan, transport: Transport, block: Array | None) -> None:
        self.transport, self.block = transport, block
        self.stages, self.under_way = stages_of(plan, transport.rank), UnderWay(plan, transport.rank)
        needed = plan.for_rank(transport.rank).needed
        self.target = None if needed is None else np.full(box_shape(needed), 99, plan.dtype)
        self.memory = [np.full(stage.staging, 255, np.uint8) if stage.staging else None for stage in self.stages]
        self.number = 0

    def go_on(self) -> bool:
        """Do the next stage; whether there was one. Nobody but the messages touches what no stage takes any more."""
        if self.number == len(self.stages):
            return False
        stage = self.stages[self.number]
        if self.number > 1:
            self.memory[self.number - 2] = None
        self.under_way.run(
            self.number, self.transport, self.block if stage.takes_source else None,
            self.target if stage.target else None, self.memory[self.number],
        )  # fmt: skip
        self.number += 1
        return True


def flown(plans: list[BoxingPlan], sources: list[dict[int, Array]], turns: str) -> list[dict[int, Array]]:
    """The target blocks of plans that are all under way at once on threads."""
    ranks = sorted({rank for plan in plans for rank in plan.ranks})
    world = ThreadWorld(ranks[-1] + 1, timeout=20, hosts=[rank % 2 for rank in range(ranks[-1] + 1)])
    found: list[dict[int, Array]] = [{} for _ in plans]
    errors: list[BaseException] = []

    def live(rank: int) -> None:
        transport = world.transport(rank)
        try:
            flights = {
                number: Flight(plan, transport, source.get(rank))
                for number, (plan, source) in enumerate(zip(plans, sources, strict=True))
                if rank in plan.ranks
            }
            if turns == "in turn":
                for _ in range(max(len(flight.stages) for flight in flights.values())):
                    for flight in flights.values():
                        flight.go_on()
            else:  # the last to start is the first to end
                for number in flights:
                    flights[number].go_on()
                for number in reversed(flights):
                    while flights[number].go_on():
                        pass
            for number, flight in flights.items():
                if flight.target is not None:
                    found[number][rank] = flight.target
        except BaseException as error:
            errors.append(error)
            transport.fail(error)
        finally:
            transport.close()

    threads = [threading.Thread(target=live, args=(rank,), daemon=True) for rank in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    if errors:
        raise errors[0]
    return found


def plan_and_source(shape: tuple[int, ...], source: Layout, target: Layout, dtype: Any) -> tuple[Any, Any, Array]:
    value = random_tensor(shape, dtype)
    return plan_boxing(shape, dtype, source, target), scatter(value, source), value


@pytest.mark.parametrize("there", PLACES)
@pytest.mark.parametrize("shape", [(5, 7), (8, 4), (1, 3)])
def test_every_change_of_layout_in_stages_gives_the_value(there: str, shape: tuple[int, ...]) -> None:
    pairs = [*product(product(PARTS, PARTS), product(PARTS, PARTS))][:: 3 if shape == (5, 7) else 17]
    cases = [
        plan_and_source(shape, Layout(mesh(2, 2), a), Layout(PLACES[there], b), "float64")
        for a, b in [*pairs, ((Partial("max"), B), (B, B))]
    ]
    plans, sources, values = map(list, zip(*cases, strict=True))
    columns_first = [{rank: np.asfortranarray(block) for rank, block in source.items()} for source in sources]
    for turns, given in (("in turn", sources), ("one in another", sources), ("in turn", columns_first)):
        for plan, blocks, value in zip(plans, flown(plans, given, turns), values, strict=True):
            assert np.allclose(gather(shape, plan.target, blocks), value, rtol=1e-12), plan.text()


def test_what_is_done_in_rounds_has_a_stage_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "STAGING", 4096)
    monkeypatch.setattr("flowcore.comm.staging.STAGING", 4096)
    ends = [(P, B), (P, Split(0)), (Split(0), Split(1)), (P, Split(1))]
    cases = [plan_and_source((61, 37), Layout(mesh(4), a), Layout(mesh(4), b), "float64") for a, b in ends]
    plans, sources, values = map(list, zip(*cases, strict=True))
    assert [len(plan.steps) > 2 for plan in plans] == [True, True, False, True]
    for turns in ("in turn", "one in another"):
        for plan, blocks, value in zip(plans, flown(plans, sources, turns), values, strict=True):
            assert np.allclose(gather((61, 37), plan.target, blocks), value, rtol=1e-12)
    assert all(stage.staging <= 4096 + 64 * 16 for plan in plans for stage in stages_of(plan, 0))


def test_a_gather_needs_no_memory_but_its_target_and_a_reduction_no_source_once_it_is_sent() -> None:
    gathered = stages_of(plan_boxing((8, 4), "f8", Layout(mesh(2), Split(0)), Layout(mesh(2), B)), 0)
    assert [(s.takes_source, s.target, s.staging) for s in gathered] == [(True, "makes", 0), (True, "takes", 0)]
    summed = stages_of(plan_boxing((8, 4), "f8", Layout(mesh(2), P), Layout(mesh(2), B)), 0)
    assert [(s.takes_source, s.target, s.staging) for s in summed] == [
        (True, "", 128), (True, "makes", 0), (False, "takes", 0)
    ]  # fmt: skip
