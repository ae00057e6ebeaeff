"""Tensors cut into the blocks of any layout and put together again, by the definition of SBP and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from flowcore.comm.boxing import BoxingPlan, plan_boxing
from flowcore.comm.walk import simulate
from flowcore.placement.layout import Box, Layout, local_range, whole
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import SBP, Broadcast, Partial, Split

Array = np.ndarray[Any, Any]
UFUNCS = {"sum": np.add, "max": np.maximum, "min": np.minimum}
ONE_AXIS: tuple[SBP, ...] = (Broadcast(), Split(0), Split(1), Partial(), Partial("max"), Partial("min"))


def mesh(*shape: int, first: int = 0) -> Placement:
    """Ranks first, first + 1, … as a grid of `shape`."""
    return Placement(np.arange(first, first + np.prod(shape)).reshape(shape))


def random_tensor(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> Array:
    """Small whole numbers, so that sums are exact in every dtype."""
    low = 0 if np.dtype(dtype).kind == "b" else 20 if np.dtype(dtype).kind == "u" else -20
    return np.random.default_rng(seed).integers(low, low + 2 if low == 0 else low + 40, shape).astype(dtype)


def scatter(value: Array, layout: Layout, seed: int = 0) -> dict[int, Array]:
    """Random blocks, by rank, whose logical value is `value`."""
    rng = np.random.default_rng(seed)
    layout = layout.of(value.ndim)
    sizes = layout.placement.shape

    def lay(axis: int, value: Array, box: Box) -> dict[tuple[int, ...], Array]:
        if axis == len(sizes):
            return {(): np.array(value[(*(slice(*side) for side in box), ...)], copy=True, order="C")}
        part, size = layout.sbp[axis], sizes[axis]
        if isinstance(part, Broadcast):
            inner = lay(axis + 1, value, box)
            return {(i, *at): block.copy() for i in range(size) for at, block in inner.items()}
        if isinstance(part, Partial):
            pieces = [(term, box) for term in _terms(value, part.op, size, rng)]
        else:
            pieces = [(value, _cut(box, part.axis, size, i)) for i in range(size)]
        return {(i, *at): block for i, piece in enumerate(pieces) for at, block in lay(axis + 1, *piece).items()}

    blocks = lay(0, value, whole(value.shape))
    return {rank: blocks[at] for rank, at in layout.placement.coordinates()}


def gather(shape: tuple[int, ...], layout: Layout, blocks: Mapping[int, Array]) -> Array:
    """The logical value of `blocks`; asserts that splits partition it and that broadcast copies agree."""
    boxes, sizes, dtype = layout.boxes(shape), layout.placement.shape, next(iter(blocks.values())).dtype
    rank_at = {at: rank for rank, at in layout.placement.coordinates()}

    def unite(at: tuple[int, ...]) -> tuple[Array, Array]:
        if len(at) == len(sizes):
            full, mask = np.zeros(shape, dtype), np.zeros(shape, bool)
            index = (*(slice(*side) for side in boxes[rank_at[at]]), ...)
            full[index], mask[index] = blocks[rank_at[at]], True
            return full, mask
        (full, mask), *others = [unite((*at, i)) for i in range(sizes[len(at)])]
        part = layout.sbp[len(at)]
        for value, where in others:
            if isinstance(part, Split):
                assert not (mask & where).any()
                full, mask = np.where(where, value, full), mask | where
            else:
                assert (mask == where).all()
                if isinstance(part, Partial):
                    full = UFUNCS[part.op](full, value)
                else:
                    assert np.array_equal(full[mask], value[mask])
        return full, mask

    with np.errstate(all="ignore"):
        full, mask = unite(())
    assert mask.all()
    return full


def check_boxing(
    shape: tuple[int, ...],
    source: Layout,
    target: Layout,
    dtype: Any = np.float64,
    run: Callable[[BoxingPlan, dict[int, Array]], dict[int, Array]] = simulate,
) -> BoxingPlan:
    """Plan, run with `run`, and assert that the value is right and the plan at its bound."""
    value = random_tensor(shape, dtype)
    plan = plan_boxing(shape, dtype, source, target)
    blocks = run(plan, scatter(value, source))
    assert sorted(blocks) == sorted(target.placement.ranks)
    assert np.array_equal(gather(shape, target, blocks), value), plan.text()
    assert plan.bytes_moved == plan.bound == sum(plan.received.values()) == sum(plan.sent.values()), plan.text()
    return plan


def _terms(value: Array, op: str, size: int, rng: np.random.Generator) -> list[Array]:
    """`size` random arrays that reduce to `value`."""
    if op == "sum":
        terms = [rng.integers(-9, 9, value.shape).astype(value.dtype) for _ in range(size - 1)]
        return [*terms, (value - sum(terms)).astype(value.dtype)]
    sign = -1 if op == "max" else 1
    if value.dtype.kind == "b":
        return [value.copy() for _ in range(size)]
    owner = rng.integers(0, size, value.shape)
    worse = [(value + sign * rng.integers(0, 9, value.shape)).astype(value.dtype) for _ in range(size)]
    return [np.where(owner == i, value, term) for i, term in enumerate(worse)]


def _cut(box: Box, dimension: int, parts: int, index: int) -> Box:
    start, stop = box[dimension]
    low, high = local_range(stop - start, parts, index)
    return (*box[:dimension], (start + low, start + high), *box[dimension + 1 :])
