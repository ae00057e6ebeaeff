"""A boxing plan as text, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowcore.comm.slices import as_boxes
from flowcore.placement.layout import Layout, box_size

if TYPE_CHECKING:
    from flowcore.comm.boxing import BoxingPlan
    from flowcore.comm.steps import Step

LONG = 4
"""Consecutive ranks that are written one by one."""


def plan_text(plan: BoxingPlan, limit: int) -> str:
    """A summary, then who sends which box to whom: at most `limit` messages of each step."""
    ratio = f"{plan.bytes_moved / plan.bound:.2f} x the bound" if plan.bound else "the bound is 0"
    lines = [
        f"{plan.kind} {plan.dtype}{list(plan.shape)} {layout_text(plan.source)} -> {layout_text(plan.target)}",
        f"  {plan.bytes_moved} bytes in {plan.messages} messages, {ratio}, {plan.flops} flops",
    ]
    return "\n".join((*lines, *step_lines(plan, limit)))


def step_lines(plan: BoxingPlan, limit: int) -> list[str]:
    """Every step, and at most `limit` messages of each."""
    lines = []
    for number, step in enumerate(plan.steps):
        rounds = f", round {step.round + 1} of {step.rounds}" if step.rounds > 1 else ""
        lines += [f"  step {number}: {step.kind}{rounds}", *_messages(step, plan.dtype.itemsize, limit)]
    return lines


def layout_text(layout: Layout) -> str:
    """A layout with rows of consecutive ranks written as 0..1023."""
    ranks, runs = layout.placement.ranks, []
    start = 0
    for stop in range(1, len(ranks) + 1):
        if stop == len(ranks) or ranks[stop] != ranks[stop - 1] + 1:
            is_long = stop - start > LONG
            runs += [f"{ranks[start]}..{ranks[stop - 1]}"] if is_long else [str(rank) for rank in ranks[start:stop]]
            start = stop
    return f"[{' '.join(runs)}|{str(layout).partition('|')[2]}"


def _messages(step: Step, itemsize: int, limit: int) -> list[str]:
    remote = np.flatnonzero((step.source != step.target) & (step.sizes() > 0))
    rows = remote[:limit]
    low, high = step.bounds(rows)
    lines = []
    for giver, taker, box in zip(step.source[rows], step.target[rows], as_boxes(low, high), strict=True):
        where = ", ".join(f"{start}:{stop}" for start, stop in box)
        lines.append(f"    {giver} -> {taker} [{where}] {box_size(box) * itemsize} bytes")
    if len(remote) > limit:
        lines.append(f"    and {len(remote) - limit} more")
    return lines
