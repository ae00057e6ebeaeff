"""(shape, dtype, source layout, target layout) → the steps that change the layout, for any two layouts.

One law. Both layouts cut the tensor into *cells* (`slices`): all elements of a cell are held by the same ranks and
needed by the same ranks. Per cell of size s:

- Source not partial, H holders, N needers: each of N \\ H receives it once, from holders chosen so that their loads
  differ by at most one block. Moved: s·|N \\ H|, and no plan can move less.
- Source partial with C terms: some rank r reduces them and the value goes to N. Moved: s·(C − [r∈H] + |N| − [r∈N]),
  least for r ∈ N ∩ H. The cell is cut among the equally good reducers: so P→B is a reduce-scatter and an all-gather,
  2(p−1)·T in all; P→S is (p−1)·T; P→B on p2 other ranks is (p1+p2−1)·T.
- Target partial: one term of the target gets the value (the one that moves least, shared out where several do) and
  the others an identity. With inner axes nested in outer ones, a rank not chosen on some axes holds the identity of
  the *last* of them: the inner reduction then yields exactly the identity of the outer one, in every dtype.
- An axis partial with the same op on both sides of the same mesh *stays* partial (its coordinates are independent
  problems), provided all partial axes to its left that are reduced away have the same op, for only then may the order
  of reductions change.

Steps whose messages need more temporary memory than a fixed staging buffer are done in rounds over smaller boxes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from flowcore.comm.choice import reduced_parts, valued_parts
from flowcore.comm.kinds import kind_of
from flowcore.comm.reduction import Levels, check_partial, levels_of
from flowcore.comm.slices import Grid, Integers, Parts, as_boxes, cells, spread
from flowcore.comm.steps import STAGING, RankStep, Step
from flowcore.placement.cost import received_bytes, staying_axes
from flowcore.placement.layout import Box, Layout, Shape, box_size
from flowcore.placement.sbp import Partial


@dataclass(frozen=True, slots=True)
class RankPlan:
    """What one rank does: its blocks, the identities it fills in first, and its part in every step.

    `fills`: (box, op): that box of the target block becomes the identity of op before anything else.
    """

    held: Box | None
    needed: Box | None
    fills: tuple[tuple[Box, str], ...]
    steps: tuple[RankStep, ...]


@dataclass(frozen=True, eq=False)
class BoxingPlan:
    """A change of layout as steps, with its exact traffic. Bytes and messages count between different ranks only.

    `bound`: bytes no plan can undercut (without partial axes; with them, the least of reduce-then-send plans).
    `flops`: reductions of one element, over all ranks. `peak_temporary`: bytes beside both blocks, per rank.
    """

    shape: Shape
    dtype: np.dtype[Any]
    source: Layout
    target: Layout
    kind: str
    levels: Levels
    steps: tuple[Step, ...]
    parts: Parts
    bytes_moved: int
    bound: int
    messages: int
    flops: int
    sent: dict[int, int]
    received: dict[int, int]
    peak_temporary: dict[int, int]
    _ranks: dict[int, RankPlan] = field(default_factory=dict, repr=False)

    def for_rank(self, rank: int) -> RankPlan:
        """What `rank` does; kept once made."""
        plan = self._ranks.get(rank)
        if plan is None:
            held = self.source.box(self.shape, rank) if rank in self.source.placement else None
            needed = self.target.box(self.shape, rank) if rank in self.target.placement else None
            steps = tuple(step.for_rank(rank) for step in self.steps)
            plan = self._ranks[rank] = RankPlan(held, needed, _fills(self, rank), steps)
        return plan

    @property
    def ranks(self) -> tuple[int, ...]:
        """Every rank of the source or the target, in order."""
        return tuple(self.sent)

    def text(self, limit: int = 64) -> str:
        """The plan in words: a summary, then who sends which box to whom, at most `limit` messages of each step."""
        ratio = f"{self.bytes_moved / self.bound:.2f} x the bound" if self.bound else "the bound is 0"
        lines = [
            f"{self.kind} {self.dtype}{list(self.shape)} {self.source} -> {self.target}",
            f"  {self.bytes_moved} bytes in {self.messages} messages, {ratio}, {self.flops} flops",
        ]
        for number, step in enumerate(self.steps):
            lines.append(f"  step {number}: {step.kind}" + f" round {step.round + 1}/{step.rounds}" * (step.rounds > 1))
            lines += _message_lines(step, self.dtype.itemsize, limit)
        return "\n".join(lines)


def plan_boxing(shape: Shape, dtype: Any, source: Layout, target: Layout) -> BoxingPlan:
    """The plan that turns a tensor laid out as `source` into `target`; cached.

    PlacementError where a layout splits a dimension the tensor lacks, or is partial in a way `dtype` has no algebra for.
    """
    size = source.placement.size * target.placement.size
    return (_plan if size <= 4096 else _large_plan)(tuple(shape), np.dtype(dtype), source, target)


def _make(shape: Shape, dtype: np.dtype[Any], source: Layout, target: Layout) -> BoxingPlan:
    source, target = source.of(len(shape)), target.of(len(shape))
    check_partial(source, dtype)
    check_partial(target, dtype)
    ranks = sorted({*source.placement.ranks, *target.placement.ranks})
    world = ranks[-1] + 1
    staying = staying_axes(source, target)
    levels = levels_of(source, staying)
    grids = (Grid.of(shape, source, staying, world), Grid.of(shape, target, staying, world))
    terms = grids[0].ranks.shape[1]
    parts = (reduced_parts if terms > 1 else valued_parts)(*grids, cells(*grids))
    phases = _reduce_phases(parts) if terms > 1 else (_move_from_holders(parts),)
    steps = _rounds(phases, dtype.itemsize, world)
    sent, received, messages, peak = _totals(steps, dtype.itemsize, world)
    return BoxingPlan(
        shape, dtype, source, target, kind_of(shape, source, target, int(received.sum())), levels, steps, parts,
        int(received.sum()), received_bytes(shape, dtype.itemsize, source, target), messages,
        int(parts.size.sum()) * (terms - 1),
        *({rank: int(column[rank]) for rank in ranks} for column in (sent, received, peak)),
    )  # fmt: skip


_plan = lru_cache(maxsize=16384)(_make)
_large_plan = lru_cache(maxsize=16)(_make)


def _move_from_holders(parts: Parts) -> Step:
    """Every part from a holder to each rank that needs and lacks it; local rows where it does not."""
    source, target = parts.source, parts.target
    needers = target.ranks[parts.into, parts.chosen]
    held = source.group_of[needers] == parts.group[:, None]
    index = np.repeat(np.arange(len(parts.size)), needers.shape[1])
    needers, held, group = needers.reshape(-1), held.reshape(-1), parts.group[index]
    load = np.where(held, 0, parts.size[index])
    share = spread(group, load, source.ranks.shape[2])
    givers = np.where(held, needers, source.ranks[group, 0, share])
    return Step("move", "source", parts, givers, needers, index)


def _reduce_phases(parts: Parts) -> tuple[Step, ...]:
    """Terms to their reducers, then the reduced parts to the ranks that need them."""
    source, target = parts.source, parts.target
    count, terms, replicas = len(parts.size), source.ranks.shape[1], source.ranks.shape[2]
    index, term = np.repeat(np.arange(count), terms), np.tile(np.arange(terms), count)
    reducer, group = parts.reducer[index], parts.group[index]
    own = (source.group_of[reducer] == group) & (source.term_of[reducer] == term)
    share = spread(group * terms + term, np.where(own, 0, parts.size[index]), replicas)
    givers = np.where(own, reducer, source.ranks[group, term, share])
    first = Step("reduce", "source", parts, givers, reducer, index)
    needers = target.ranks[parts.into, parts.chosen]
    index = np.repeat(np.arange(count), needers.shape[1])
    needers = needers.reshape(-1)
    second = Step("move", "reduced", parts, parts.reducer[index], needers, index)
    return (first, second) if bool((second.source != needers).any()) else (first,)


def _rounds(phases: tuple[Step, ...], itemsize: int, world: int) -> tuple[Step, ...]:
    """The phases in as many rounds as keep every rank's messages in flight within the staging buffer."""
    staging = max((int(_staging(step, world).max(initial=0)) for step in phases), default=0) * itemsize
    rounds = -(-staging // STAGING)
    if rounds <= 1:
        return phases
    return tuple(
        Step(step.kind, step.reads, step.parts, step.source, step.target, step.part, number, rounds)
        for number in range(rounds)
        for step in phases
    )


def _staging(step: Step, world: int) -> Integers:
    """Elements in temporary buffers of every rank: terms received to be reduced."""
    sent, received, _ = step.traffic(world)
    return received if step.kind == "reduce" else np.zeros_like(received)


def _totals(steps: tuple[Step, ...], itemsize: int, world: int) -> tuple[Integers, Integers, int, Integers]:
    """(bytes sent, bytes received, messages, peak temporary bytes) over all steps, by rank."""
    sent, received, peak = np.zeros((3, world), np.int64)
    messages = 0
    for step in steps:
        gave, got, count = step.traffic(world)
        sent, received, messages = sent + gave, received + got, messages + count
        if step.kind == "reduce":
            peak = np.maximum(peak, got)
    return sent * itemsize, received * itemsize, messages, peak * itemsize


def _fills(plan: BoxingPlan, rank: int) -> tuple[tuple[Box, str], ...]:
    """The identities `rank` holds where another term of a partial target is chosen."""
    target, parts = plan.target, plan.parts
    if rank not in target.placement or not target.is_partial:
        return ()
    staying = staying_axes(plan.source, target)
    at, mesh = target.placement.coordinate(rank), target.placement.shape
    partial = [axis for axis, part in enumerate(target.sbp) if isinstance(part, Partial)]
    fresh = [axis for axis in partial if axis not in staying]
    mine = np.flatnonzero(parts.into == parts.target.group_of[rank])
    mine = mine[parts.chosen[mine] != parts.target.term_of[rank]]
    ops: list[tuple[int, str]] = []
    for position, chosen in zip(mine.tolist(), parts.chosen[mine].tolist(), strict=True):
        choice = dict(zip(fresh, np.unravel_index(chosen, [mesh[axis] for axis in fresh]), strict=True))
        first = min(axis for axis in fresh if at[axis] != choice[axis])
        last = max(axis for axis in partial if axis >= first and at[axis] != choice.get(axis, 0))
        ops.append((position, target.sbp[last].op))  # type: ignore[union-attr]  # partial axes only
    box = target.box(plan.shape, rank)
    if len({op for _, op in ops}) == 1:
        return ((box, ops[0][1]),) if box_size(box) else ()
    low, high = parts.bounds(np.array([position for position, _ in ops], np.int64))
    return tuple((part, op) for part, (_, op) in zip(as_boxes(low, high), ops, strict=True))


def _message_lines(step: Step, itemsize: int, limit: int) -> list[str]:
    remote = np.flatnonzero(step.source != step.target)
    rows = remote[:limit]
    low, high = step.bounds(rows)
    lines = []
    for giver, taker, box in zip(step.source[rows], step.target[rows], as_boxes(low, high), strict=True):
        where = ", ".join(f"{start}:{stop}" for start, stop in box)
        lines.append(f"    {giver} -> {taker} [{where}] {box_size(box) * itemsize} bytes")
    if len(remote) > limit:
        lines.append(f"    and {len(remote) - limit} more messages")
    return lines
