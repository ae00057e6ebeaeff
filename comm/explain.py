"""A change of layout, explained: the steps, who sends which block to whom, what it costs, and what else was weighed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flowcore.comm.describe import layout_text, step_lines
from flowcore.comm.path import Path, find_paths
from flowcore.comm.slices import as_boxes
from flowcore.placement.cost import received_bytes
from flowcore.placement.layout import Box, Layout, Shape, box_size
from flowcore.placement.machine import Machine

REACH = 8.0
"""Other ways are weighed up to this many times the time of the best."""
SHOWN = 4
"""Other ways that the text shows, beside the direct one."""


@dataclass(frozen=True, slots=True)
class Message:
    """A block that one rank sends another, in a step of a leg of the path; all numbered from 0."""

    leg: int
    step: int
    giver: int
    taker: int
    box: Box
    bytes: int


@dataclass(frozen=True, eq=False)
class BoxingExplanation:
    """What moves when a tensor changes its layout. `bound`: the bytes that no way in one go can undercut.

    `rejected`: the other ways that were weighed, cheapest first; within one host none is taken, even if it saves
    messages. `str()` shows a few messages of each step.
    """

    shape: Shape
    dtype: np.dtype[Any]
    source: Layout
    target: Layout
    path: Path
    rejected: tuple[Path, ...]
    bound: int

    @property
    def bytes_moved(self) -> int:
        """Bytes received, summed over ranks."""
        return self.path.bytes_moved

    @property
    def seconds(self) -> float:
        """Predicted time."""
        return self.path.seconds

    @property
    def messages(self) -> tuple[Message, ...]:
        """Every message between different ranks, in order."""
        found = []
        for leg, plan in enumerate(self.path.legs):
            for number, step in enumerate(plan.steps):
                rows = np.flatnonzero((step.source != step.target) & (step.sizes() > 0))
                columns = step.source[rows].tolist(), step.target[rows].tolist(), as_boxes(*step.bounds(rows))
                for giver, taker, box in zip(*columns, strict=True):
                    found.append(Message(leg, number, giver, taker, box, box_size(box) * plan.dtype.itemsize))
        return tuple(found)

    def text(self, limit: int = 8) -> str:
        """The explanation with at most `limit` messages of each step."""
        lines = [
            f"{self.dtype}{list(self.shape)}, {byte_text(int(np.prod(self.shape)) * self.dtype.itemsize)}",
            f"from {layout_text(self.source)}",
            f"to   {layout_text(self.target)}",
            f"moves {cost_text(self.path)}; bound {byte_text(self.bound)}{self._ratio}",
            f"a rank receives at most {byte_text(max(self.path.received.values()))} and needs at most "
            f"{byte_text(max(self.path.peak_temporary.values()))} beside its blocks",
        ]
        for number, leg in enumerate(self.path.legs, 1):
            way = f"leg {number} of {len(self.path.legs)}: " if len(self.path.legs) > 1 else ""
            there = f" to {layout_text(leg.target)}" if len(self.path.legs) > 1 else ""
            lines += [f"{way}{leg.kind}{there}", *step_lines(leg, limit)]
        if self.rejected:
            lines.append("other ways, not taken:")
            shown = [path for at, path in enumerate(self.rejected) if at < SHOWN or len(path.legs) == 1]
            lines += [f"  {way_text(path)}: {cost_text(path)}" for path in shown]
            if len(self.rejected) > len(shown):
                lines.append(f"  and {len(self.rejected) - len(shown)} more")
            if self.rejected[0].seconds < self.seconds:
                lines.append("  within a host a change goes in one go: other ways save messages, never bytes")
        else:
            lines.append(f"no other way was found within {REACH:.0f} times this time")
        return "\n".join(lines)

    @property
    def _ratio(self) -> str:
        return f", {self.bytes_moved / self.bound:.2f} × it" if self.bound else ""

    def __str__(self) -> str:
        return self.text()


def explain(shape: Shape, dtype: Any, source: Layout, target: Layout, machine: Machine) -> BoxingExplanation:
    """How a tensor of `shape` and `dtype` gets from `source` to `target` on `machine`; nothing moves."""
    shape, dtype = tuple(shape), np.dtype(dtype)
    source, target = source.of(len(shape)), target.of(len(shape))
    chosen = find_paths(shape, dtype, source, target, machine)[0]
    ways = [path for path in find_paths(shape, dtype, source, target, machine, REACH) if str(path) != str(chosen)]
    bound = received_bytes(shape, dtype.itemsize, source, target)
    return BoxingExplanation(shape, dtype, source, target, chosen, tuple(ways), bound)


def way_text(path: Path) -> str:
    """The layouts between source and target; "directly" where there are none."""
    stops = [layout_text(leg.target) for leg in path.legs[:-1]]
    return f"over {', '.join(stops)}" if stops else "directly"


def cost_text(path: Path) -> str:
    """Bytes, messages and predicted time."""
    between = f" ({byte_text(path.between_hosts)} between hosts)" if path.between_hosts else ""
    return f"{byte_text(path.bytes_moved)}{between} in {path.messages} messages, about {time_text(path.seconds)}"


def byte_text(count: int) -> str:
    """Bytes in the unit that shows three digits or so."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{count / unit:.2f} {name}"
    return f"{count} B"


def time_text(seconds: float) -> str:
    """Seconds in the unit that shows three digits or so."""
    for unit, name in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= unit:
            return f"{seconds / unit:.2f} {name}"
    return f"{seconds * 1e6:.1f} µs"
