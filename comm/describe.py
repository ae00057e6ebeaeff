"""A boxing plan as text, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowcore.comm.slices import as_boxes
from flowcore.placement.layout import box_size

if TYPE_CHECKING:
    from flowcore.comm.boxing import BoxingPlan
    from flowcore.comm.steps import Step


def plan_text(plan: BoxingPlan, limit: int) -> str:
    """A summary, then who sends which box to whom: at most `limit` messages of each step."""
    ratio = f"{plan.bytes_moved / plan.bound:.2f} x the bound" if plan.bound else "the bound is 0"
    lines = [
        f"{plan.kind} {plan.dtype}{list(plan.shape)} {plan.source} -> {plan.target}",
        f"  {plan.bytes_moved} bytes in {plan.messages} messages, {ratio}, {plan.flops} flops",
    ]
    for number, step in enumerate(plan.steps):
        rounds = f", round {step.round + 1} of {step.rounds}" if step.rounds > 1 else ""
        lines += [f"  step {number}: {step.kind}{rounds}", *_messages(step, plan.dtype.itemsize, limit)]
    return "\n".join(lines)


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
