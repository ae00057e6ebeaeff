"""A plan and a machine → seconds, from the very steps that the runtime walks.

A step ends when its slowest rank has ended and the link of its busiest host is free again. A rank sends and receives at
once; it packs what is not contiguous, reduces terms and copies what it holds by itself. Rounds of a phase cost alike.
"""

from __future__ import annotations

import numpy as np

from flowcore.comm.boxing import BoxingPlan
from flowcore.comm.slices import Integers
from flowcore.comm.staging import buffered
from flowcore.comm.steps import Step
from flowcore.placement.machine import Machine


def seconds(plan: BoxingPlan, machine: Machine, hosts: tuple[int, ...] | None = None) -> float:
    """What `plan` takes on `machine`; 0 where nothing changes. `hosts`: those of its ranks, where they are known."""
    if plan.kind == "none":
        return 0.0
    lives = np.array(machine.hosts_of(plan.ranks) if hosts is None else hosts, np.int64)
    first = (step for step in plan.steps if step.round == 0)
    return sum(step.rounds * _step(step, plan.dtype.itemsize, lives, machine) for step in first)


def step_seconds(plan: BoxingPlan, machine: Machine) -> list[float]:
    """What every step of `plan` takes on `machine`."""
    lives = np.array(machine.hosts_of(plan.ranks), np.int64)
    first = {step.kind: _step(step, plan.dtype.itemsize, lives, machine) for step in plan.steps if step.round == 0}
    return [first[step.kind] for step in plan.steps]


def across(plan: BoxingPlan, machine: Machine) -> int:
    """Bytes that `plan` moves between hosts."""
    hosts = np.array(machine.hosts_of(plan.ranks), np.int64)
    if not len(hosts):
        return 0
    far = (int(step.sizes()[hosts[step.source] != hosts[step.target]].sum()) for step in plan.steps)
    return sum(far) * plan.dtype.itemsize


def _step(step: Step, itemsize: int, hosts: Integers, machine: Machine) -> float:
    source, target = step.source, step.target
    size = step.sizes() * itemsize
    world = int(max(source.max(initial=0), target.max(initial=0))) + 1
    remote = (source != target) & (size > 0)
    far = remote & (hosts[source] != hosts[target]) if len(hosts) else np.zeros_like(remote)
    near = remote & ~far
    cost = near * (machine.within.latency + size * machine.within.seconds_per_byte) + far * machine.between.latency
    busy = np.maximum(np.bincount(source, cost, world), np.bincount(target, cost, world))
    packed, landed = buffered(step)
    if step.kind == "reduce":
        # a rank reduces into the term it holds, one pass for each that arrives
        terms = np.bincount(target[remote], size[remote] * machine.reduce_per_byte, world)
        busy = busy + terms + np.bincount(source[packed], size[packed] * machine.copy_per_byte, world)
    else:
        own = ~remote if step.reads == "source" else np.zeros_like(remote)
        for who, rows in ((source, packed), (target, landed | own)):
            busy = busy + np.bincount(who[rows], size[rows] * machine.copy_per_byte, world)
    longest = float(busy.max(initial=0))
    if far.any():
        out, into = (np.bincount(hosts[who[far]], size[far]) for who in (source, target))
        longest += float(max(out.max(), into.max())) * machine.between.seconds_per_byte
    return longest + (machine.step if remote.any() else 0.0)
