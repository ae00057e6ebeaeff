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

Rows = np.ndarray[Any, np.dtype[np.bool_]]
ATTEMPTS = 8
"""How often the number of rounds is raised; pieces of single elements cannot be cut further."""


def in_rounds(phases: tuple[Step, ...], levels: Levels, itemsize: int, busiest: int, landed: int) -> tuple[Step, ...]:
    """The phases, one after the other in each of as many rounds as temporary memory within STAGING takes.

    `busiest`: the bytes that the busiest rank sends and receives in all; `landed`: the most that one receives as terms.
    """
    if busiest <= STAGING // 2:
        return phases
    rounds = max(1, -(-landed // STAGING))
    for _ in range(ATTEMPTS):
        # the first round has the largest pieces, and cutting may leave pieces that are contiguous no more
        first = phases if rounds == 1 else tuple(replace(step, round=0, rounds=rounds) for step in phases)
        needed = max(int(temporary(step, levels).max(initial=0)) for step in first) * itemsize
        if needed <= STAGING:
            break
        rounds = max(rounds + 1, -(-rounds * needed * 9 // (STAGING * 8)))
    if rounds == 1:
        return phases
    return tuple(replace(step, round=number, rounds=rounds) for number in range(rounds) for step in phases)


def buffered(step: Step) -> tuple[Rows, Rows]:
    """(rows packed before they are sent, rows received into a buffer of their own) of `step`, as masks."""
    remote = step.source != step.target
    leaves, arrives = _whole(step)
    landed = remote if step.kind == "reduce" else remote & ~arrives[step.part]
    return remote & ~leaves[step.part], landed


def _whole(step: Step) -> tuple[Rows, Rows]:
    """Whether each part is contiguous where it is sent from, and where it is received."""
    parts = step.parts
    low, high = step.cut(*parts.bounds(slice(None)))
    arrives = _contiguous(high - low, parts.target, parts.into)
    return _contiguous(high - low, parts.source, parts.group) if step.reads == "source" else arrives, arrives


def temporary(step: Step, levels: Levels) -> Integers:
    """Elements of temporary memory of every rank during `step`."""
    leaves, arrives = _whole(step)
    if step.kind == "move":
        return step.moved(~leaves)[0] + step.moved(~arrives)[1]
    parts = step.parts
    stays = parts.target.group_of[parts.reducer] == parts.into
    stays &= parts.target.term_of[parts.reducer] == parts.chosen
    result = np.where(stays, 0, 1) + (levels[0][0] if len(levels) > 1 else 0)
    reduced = np.bincount(parts.reducer, step.part_sizes() * result, len(parts.source.group_of))
    return step.moved(~leaves)[0] + step.traffic[1] + reduced.astype(np.int64)


def _contiguous(length: Integers, grid: Grid, group: Integers) -> Any:
    """Whether boxes of `length` [dimension, part] are contiguous in the blocks of the groups `group` of `grid`.

    That is: behind the first dimension that is longer than 1, all dimensions are those of the block.
    """
    block = grid.high - grid.low
    result = np.ones(length.shape[1], bool)
    for d in range(1, len(length)):
        full = length[d] == block[d][group]
        # contiguous so far, and whole here; or only this dimension and later ones are longer than 1
        result = (result & full) | (length[:d] == 1).all(0)
    return result
