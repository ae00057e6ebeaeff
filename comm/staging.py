"""Temporary memory of a step, per rank, and the steps in rounds that keep it within the staging buffer.

Temporary are: terms received to be reduced, reduced parts that do not belong to the rank's target block, and copies of
blocks that are not contiguous where they are sent from or received into.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from flowcore.comm.reduction import Levels
from flowcore.comm.slices import Grid, Integers
from flowcore.comm.steps import STAGING, Step


def in_rounds(phases: tuple[Step, ...], levels: Levels, itemsize: int, world: int) -> tuple[Step, ...]:
    """The phases, one after the other in each of as many rounds as temporary memory within STAGING takes."""
    busiest = max(int((sent + received).max(initial=0)) for sent, received, _ in (s.traffic(world) for s in phases))
    if busiest * itemsize <= STAGING // 2:
        return phases
    largest = max(int(temporary(step, levels, world).max(initial=0)) for step in phases) * itemsize
    rounds = -(-largest * 9 // (STAGING * 8))
    if rounds <= 1:
        return phases
    return tuple(replace(step, round=number, rounds=rounds) for number in range(rounds) for step in phases)


def temporary(step: Step, levels: Levels, world: int) -> Integers:
    """Elements of temporary memory of every rank during `step`."""
    size, remote = step.sizes(), step.source != step.target
    if step.kind == "reduce":
        terms = np.bincount(step.target[remote], size[remote], world)
        parts = step.parts
        stays = parts.target.group_of[parts.reducer] == parts.into
        stays &= parts.target.term_of[parts.reducer] == parts.chosen
        result = np.where(stays, 0, 1) + (levels[0][0] if len(levels) > 1 else 0)
        pieces = size[:: len(size) // len(parts.size)] if len(size) else size
        return np.asarray(terms + np.bincount(parts.reducer, pieces * result, world), np.int64)
    parts = step.parts
    low, high = step.cut(*parts.bounds(slice(None)))
    arrives = _contiguous(high - low, parts.target, parts.into)
    leaves = _contiguous(high - low, parts.source, parts.group) if step.reads == "source" else arrives
    landed, packed = remote & ~arrives[step.part], remote & ~leaves[step.part]
    result = np.bincount(step.target[landed], size[landed], world)
    return np.asarray(result + np.bincount(step.source[packed], size[packed], world), np.int64)


def _contiguous(length: Integers, grid: Grid, group: Integers) -> Any:
    """Whether boxes of `length` [dimension, part] are contiguous in the blocks of the groups `group` of `grid`."""
    ones = np.ones(length.shape[1], bool)
    result = ones.copy() if not len(length) else np.zeros(length.shape[1], bool)
    full = length == grid.high[:, group] - grid.low[:, group]
    for d in range(len(length)):
        result |= ones & full[d + 1 :].all(0)
        ones &= length[d] == 1
    return result
