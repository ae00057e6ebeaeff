"""Plans move what the law says must move: the table of the design, the bound by brute force, balance, memory."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from flowcore.comm.boxing import BoxingPlan, plan_boxing
from flowcore.comm.steps import STAGING
from flowcore.comm.walk import simulate
from flowcore.placement.cost import received_bytes
from flowcore.placement.errors import PlacementError
from flowcore.placement.layout import Layout, box_size, whole
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import B, P, Partial, Split
from tests.comm.tensors import ONE_AXIS, check_boxing, mesh

S0, S1 = Split(0), Split(1)

# from, to: bytes / T on the same p ranks, and from p1 to p2 other ranks
TABLE = {
    (S0, S0): (lambda p: 0, lambda p1, p2: 1),
    (B, B): (lambda p: 0, lambda p1, p2: p2),
    (S0, S1): (lambda p: (p - 1) / p, lambda p1, p2: 1),
    (S0, B): (lambda p: p - 1, lambda p1, p2: p2),
    (B, S0): (lambda p: 0, lambda p1, p2: 1),
    (B, P): (lambda p: 0, lambda p1, p2: 1),
    (S0, P): (lambda p: 0, lambda p1, p2: 1),
    (P, S0): (lambda p: p - 1, lambda p1, p2: p1),
    (P, B): (lambda p: 2 * (p - 1), lambda p1, p2: p1 + p2 - 1),
    (P, P): (lambda p: 0, lambda p1, p2: p1),
}


@pytest.mark.parametrize("pair", TABLE, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def test_bytes_are_those_of_the_table(pair: tuple[object, object]) -> None:
    here, elsewhere = TABLE[pair]  # type: ignore[index]  # the key is what parametrize took from the table
    size = 24 * 24 * 8
    for p, q in product((2, 3, 4), repeat=2):
        same = plan_boxing((24, 24), "f8", Layout(mesh(p), pair[0]), Layout(mesh(p), pair[1]))  # type: ignore[arg-type]
        assert same.bytes_moved == here(p) * size
        cross = plan_boxing((24, 24), "f8", Layout(mesh(p), pair[0]), Layout(mesh(q, first=p), pair[1]))  # type: ignore[arg-type]
        assert cross.bytes_moved == elsewhere(p, q) * size


def test_the_bound_is_the_least_by_brute_force() -> None:
    places = [mesh(2, 3), mesh(3, 2), Placement([[0, 2, 4], [1, 3, 5]]), mesh(2, 2, first=1), mesh(2, 2, first=9)]
    signatures = list(product((B, S0, S1), repeat=2))
    for here, there in product(places, places):
        for a, b in product(signatures, signatures):
            source, target = Layout(here, a), Layout(there, b)
            assert plan_boxing((5, 7), "f4", source, target).bytes_moved == 4 * brute_force_bound(
                (5, 7), source, target
            )


def test_the_cost_model_equals_the_plan() -> None:
    count = 0
    for there in (
        mesh(2, 3),
        mesh(3, 2),
        Placement([[3, 1, 5], [0, 2, 4]]),
        mesh(2, 2, first=4),
        mesh(4),
        mesh(3, first=6),
    ):
        for a, b in product(product(ONE_AXIS, repeat=2), product(ONE_AXIS, repeat=there.ndim)):
            source, target = Layout(mesh(2, 3), a), Layout(there, b)
            plan = plan_boxing((5, 7), "f8", source, target)
            assert received_bytes((5, 7), 8, source, target) == sum(plan.received.values()), plan.text()
            count += 1
    print(f"{count} transitions")


@pytest.mark.parametrize("target", ["S0", "S1", "B", "P(max)"])
@pytest.mark.parametrize("source", ["P", "S0", "S1"])
def test_temporary_memory_stays_within_the_staging_buffer(source: str, target: str) -> None:
    plan = plan_boxing((4096, 4096), "f8", Layout(mesh(4), source), Layout(mesh(4), target))
    assert max(plan.peak_temporary.values()) <= STAGING
    assert plan.bytes_moved == plan.bound == sum(sum(step.traffic[1]) for step in plan.steps) * 8


def test_a_change_in_rounds_is_right() -> None:
    for a, b in (("P", "B"), ("P", "S1"), ("S0", "S1"), ("P(max)", "P")):
        plan = check_boxing((3000, 1700), Layout(mesh(3), a), Layout(mesh(3), b))
        assert plan.steps[-1].rounds > 1


def test_reductions_come_in_the_order_of_coordinates() -> None:
    plan = plan_boxing((64,), "f4", Layout(Placement([2, 0, 1]), "P"), Layout(Placement([2, 0, 1]), "B"))
    blocks = {rank: np.random.default_rng(rank).standard_normal(64).astype("f4") for rank in range(3)}
    assert np.array_equal(simulate(plan, blocks)[1], (blocks[2] + blocks[0]) + blocks[1])


@pytest.mark.parametrize(
    ("dtype", "sbp"), [("bool", "P"), ("complex64", "P(max)"), ("complex128", "P(min)")], ids=lambda value: str(value)
)
def test_a_partial_without_meaning_is_a_placement_error(dtype: str, sbp: str) -> None:
    with pytest.raises(PlacementError, match="has no meaning"):
        plan_boxing((4,), dtype, Layout(mesh(2), sbp), Layout(mesh(2), "B"))
    with pytest.raises(PlacementError, match="has no meaning"):
        plan_boxing((4,), dtype, Layout(mesh(2), "B"), Layout(mesh(2), sbp))


def test_a_split_beyond_the_tensor_is_a_placement_error() -> None:
    with pytest.raises(PlacementError, match="does not have"):
        plan_boxing((4,), "f4", Layout(mesh(2), "S1"), Layout(mesh(2), "B"))


def test_the_text_names_senders_boxes_and_bytes() -> None:
    text = plan_boxing((4, 2), "f4", Layout(mesh(2), "S0"), Layout(mesh(2), "B")).text()
    assert text.splitlines()[0] == "all_gather float32[4, 2] [0 1|x=2]:S0 -> [0 1|x=2]:B"
    assert "    0 -> 1 [0:2, 0:2] 16 bytes" in text


@pytest.mark.parametrize(
    ("source", "target", "kind"),
    [("B", "B", "none"), ("B", "S0", "slice"), ("S0", "B", "all_gather"), ("S0", "S1", "all_to_all"),
     ("P", "S0", "reduce_scatter"), ("P", "B", "all_reduce"), ("P", "P", "none"), ("P", "P(max)", "reduce_scatter")],
)  # fmt: skip
def test_a_change_on_one_axis_has_its_usual_name(source: str, target: str, kind: str) -> None:
    assert plan_boxing((4, 4), "f4", Layout(mesh(2), source), Layout(mesh(2), target)).kind == kind


def needed_by_rank(shape: tuple[int, ...], source: Layout, target: Layout, itemsize: int) -> dict[int, int]:
    """Bytes that every rank needs and does not hold, counted element by element."""
    result = dict.fromkeys(sorted({*source.placement.ranks, *target.placement.ranks}), 0)
    held, needed = source.boxes(shape), target.boxes(shape)
    for rank, box in needed.items():
        mask = np.zeros(shape, bool)
        mask[tuple(slice(*side) for side in box)] = True
        if rank in held:
            mask[tuple(slice(*side) for side in held[rank])] = False
        result[rank] = int(mask.sum()) * itemsize
    return result


def brute_force_bound(shape: tuple[int, ...], source: Layout, target: Layout) -> int:
    """Elements that ranks need and do not hold, in total."""
    return sum(needed_by_rank(shape, source, target, 1).values())


def test_everything_is_needed_where_nothing_is_held() -> None:
    plan: BoxingPlan = plan_boxing((5, 7), "f4", Layout(mesh(2), "B"), Layout(mesh(3, first=2), Partial("max")))
    assert plan.bytes_moved == 4 * box_size(whole((5, 7)))
