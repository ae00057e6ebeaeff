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
from functools import cached_property, lru_cache
from math import prod
from typing import Any

import numpy as np

from flowcore.comm.choice import reduced_parts, share_holders, valued_parts
from flowcore.comm.collectives import gathered_counts
from flowcore.comm.describe import plan_text
from flowcore.comm.kinds import kind_of
from flowcore.comm.reduction import Levels, check_partial, levels_of
from flowcore.comm.slices import Grid, Integers, Parts, as_boxes, cells
from flowcore.comm.staging import in_rounds, temporary
from flowcore.comm.steps import RankStep, Step
from flowcore.placement.cost import received_bytes, staying_axes
from flowcore.placement.errors import PlacementError
from flowcore.placement.layout import Box, Layout, Shape, box_size, kept
from flowcore.placement.sbp import Partial

MOST = 1 << 53
"""Bytes, over all ranks, that plans count without rounding."""


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

    `flops`: reductions of one element, over all ranks. `sent`, `received`: bytes per rank.
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
    flops: int
    sent: dict[int, int]
    received: dict[int, int]
    _ranks: dict[int, RankPlan] = field(default_factory=dict, repr=False)

    def for_rank(self, rank: int) -> RankPlan:
        """What `rank` does; kept once made."""
        plan = self._ranks.get(rank)
        if plan is None:
            held = self.source.box(self.shape, rank) if rank in self.source.placement else None
            needed = self.target.box(self.shape, rank) if rank in self.target.placement else None
            rows = {step.kind: step.rows_of(rank) for step in self.steps if step.round == 0}  # as in later rounds
            steps = tuple(step.for_rank(rank, rows[step.kind]) for step in self.steps)
            plan = self._ranks[rank] = RankPlan(held, needed, _fills(self, rank), steps)
        return plan

    @cached_property
    def bound(self) -> int:
        """Bytes no plan can undercut (without partial axes; with them, the least of reduce-then-send plans)."""
        return received_bytes(self.shape, self.dtype.itemsize, self.source, self.target)

    @cached_property
    def messages(self) -> int:
        """Messages between different ranks."""
        return sum(step.traffic[2] for step in self.steps)

    @cached_property
    def peak_temporary(self) -> dict[int, int]:
        """The most bytes that each rank needs at once beside its source and target blocks."""
        needs = [temporary(step, self.levels) for step in self.steps]
        return {rank: max((int(need[rank]) for need in needs), default=0) * self.dtype.itemsize for rank in self.sent}

    @cached_property
    def gathered(self) -> tuple[int, ...] | None:
        """Bytes per source rank where the plan is exactly an all-gather of contiguous slices; else None."""
        return gathered_counts(self)

    @property
    def ranks(self) -> tuple[int, ...]:
        """Every rank of the source or the target, in order."""
        return tuple(self.sent)

    def text(self, limit: int = 64) -> str:
        """The plan in words: a summary, then who sends which box to whom, at most `limit` messages of each step."""
        return plan_text(self, limit)


def plan_boxing(shape: Shape, dtype: Any, source: Layout, target: Layout, hosts: tuple[int, ...] = ()) -> BoxingPlan:
    """The plan that turns a tensor laid out as `source` into `target` in one go; cached.

    `hosts`: the host of every rank, where there are several: a rank then takes what replicas hold from its own host.
    PlacementError where a layout splits a dimension the tensor lacks, or partial in a way `dtype` has no algebra for,
    or the tensor is larger than can be counted.
    """
    size = source.placement.size * target.placement.size
    return (_plan if size <= 4096 else _large_plan)(tuple(shape), np.dtype(dtype), source, target, hosts)


def _make(
    shape: Shape, dtype: np.dtype[Any], source: Layout, target: Layout, hosts: tuple[int, ...] = ()
) -> BoxingPlan:
    source, target = kept(source.of(len(shape))), target.of(len(shape))
    check_partial(source, dtype)
    check_partial(target, dtype)
    ranks = sorted({*source.placement.ranks, *target.placement.ranks})
    if prod(shape) * (source.placement.size + target.placement.size) * dtype.itemsize > MOST:
        raise PlacementError(
            f"a tensor of shape {shape} on {len(ranks)} ranks: a plan counts up to {MOST} bytes; cut the tensor smaller"
        )
    world = ranks[-1] + 1
    staying = staying_axes(source, target)
    levels = levels_of(source, staying)
    grids = (Grid.of(shape, source, staying, world), Grid.of(shape, target, staying, world))
    terms = grids[0].ranks.shape[1]
    parts = (reduced_parts if terms > 1 else valued_parts)(*grids, cells(*grids))
    near = np.array(hosts, np.int64)
    phases = _reduce_phases(parts, near) if terms > 1 else (_move_from_holders(parts, near),)
    sent, received, landed = _totals(phases, dtype.itemsize, world)
    steps = in_rounds(phases, levels, dtype.itemsize, int((sent + received).max()), landed)
    return BoxingPlan(
        shape, dtype, source, target, kind_of(shape, source, target, int(received.sum())), levels,
        steps, parts, int(received.sum()),
        int(parts.size.sum()) * (terms - 1),
        {rank: int(sent[rank]) for rank in ranks}, {rank: int(received[rank]) for rank in ranks},
    )  # fmt: skip


_plan = lru_cache(maxsize=16384)(_make)
_large_plan = lru_cache(maxsize=16)(_make)


def _move_from_holders(parts: Parts, hosts: Integers) -> Step:
    """Every part from a holder to each rank that needs and lacks it; local rows where it does not."""
    source, target = parts.source, parts.target
    needers = target.ranks[parts.into, parts.chosen]
    count, replicas = needers.shape[1], source.ranks.shape[2]
    index = np.repeat(np.arange(len(parts.size)), count)
    if replicas == 1:
        givers = np.repeat(source.ranks[parts.group, 0, 0], count)
        return Step("move", "source", parts, givers, needers.reshape(-1), index)
    held = (source.group_of[needers] == parts.group[:, None]).reshape(-1)
    needers, group = needers.reshape(-1), parts.group[index]
    load = np.where(held, 0, parts.size[index])
    givers = np.where(held, needers, share_holders(source.ranks[:, 0], group, load, needers, hosts))
    return Step("move", "source", parts, givers, needers, index)


def _reduce_phases(parts: Parts, hosts: Integers) -> tuple[Step, ...]:
    """Terms to their reducers, then the reduced parts to the ranks that need them."""
    source, target = parts.source, parts.target
    count, terms, replicas = len(parts.size), source.ranks.shape[1], source.ranks.shape[2]
    index, reducer = np.repeat(np.arange(count), terms), np.repeat(parts.reducer, terms)
    if replicas == 1:
        givers = source.ranks[parts.group, :, 0].reshape(-1)
    else:
        term, group = np.tile(np.arange(terms), count), parts.group[index]
        own = (source.group_of[reducer] == group) & (source.term_of[reducer] == term)
        holders, load = source.ranks.reshape(-1, replicas), np.where(own, 0, parts.size[index])
        givers = np.where(own, reducer, share_holders(holders, group * terms + term, load, reducer, hosts))
    first = Step("reduce", "source", parts, givers, reducer, index)
    needers = target.ranks[parts.into, parts.chosen]
    index = np.repeat(np.arange(count), needers.shape[1])
    needers = needers.reshape(-1)
    second = Step("move", "reduced", parts, parts.reducer[index], needers, index)
    return (first, second) if bool((second.source != needers).any()) else (first,)


def _totals(phases: tuple[Step, ...], itemsize: int, world: int) -> tuple[Integers, Integers, int]:
    """Bytes sent and received by rank, and the most that one receives as terms; rounds of a phase sum to the phase."""
    sent, received, landed = np.zeros(world, np.int64), np.zeros(world, np.int64), 0
    for step in phases:
        gave, got, _ = step.traffic
        sent, received = sent + gave, received + got
        landed = max(landed, int(got.max()) * (step.kind == "reduce"))
    return sent * itemsize, received * itemsize, landed * itemsize


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
