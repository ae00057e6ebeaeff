"""A compiled step is predicted to take what its kernels, its meetings and waiting for what is not hidden take."""

from __future__ import annotations

from dataclasses import replace

import pytest

import flowcore as fc
from flowcore.placement.machine import Machine
from tests.examples.programs import planned


def plan_of(ranks: int, machine: Machine, hosts: tuple[int, ...]) -> fc.Plan:
    """The plan of a step of the MLP on `machine`; hosts: where ranks of one host see memory of each other."""
    return replace(planned("mlp", ranks, machine.hosts), hosts=hosts)


def test_one_rank_only_computes() -> None:
    told = plan_of(1, Machine(), ()).step_seconds
    assert told.total == told.computing > 0 == told.meeting == told.waiting


def test_within_a_host_changes_of_layout_are_meetings() -> None:
    machine = Machine()
    plan = plan_of(2, machine, (0, 0))
    told = plan.step_seconds
    meetings = told.meeting / (machine.step + machine.within.latency)
    assert round(meetings) == pytest.approx(meetings) and 0 < meetings < len(plan.transfers)
    assert told.waiting == 0


def test_between_hosts_what_is_under_way_beside_computing_costs_less_than_alone() -> None:
    machine = Machine(hosts=(0, 1))
    plan = plan_of(2, machine, (0, 1))
    told, alone = plan.step_seconds, sum(transfer.seconds for transfer in plan.transfers)
    assert told.meeting == 0 < told.waiting < alone
