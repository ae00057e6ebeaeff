"""What a plan says a rank holds is what the process holds; it falls with recomputation as theory says."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import flowcore as fc
from flowcore.agreed import alike
from flowcore.errors import GraphError
from flowcore.jit.store import is_available
from tests.training import perceptron

ROWS, WIDTH = 4096, 8
LAYER = ROWS * WIDTH * 8
"""Bytes of the activations of a layer; the weights are small beside it."""
compiled_loops = pytest.mark.skipif(not is_available(), reason="without compiled loops tiles take memory of their own")


def layers(x: fc.Tensor, weights: Sequence[fc.Tensor]) -> fc.Tensor:
    for weight in weights:
        x = fc.tanh(x @ weight)
    return x


def gradient_plan(depth: int, segment: int) -> fc.Plan:
    """The plan of the gradient of a network of so many layers, kept or computed again by segments."""

    def loss(x: fc.Tensor, *weights: fc.Tensor) -> fc.Tensor:
        for start in range(0, depth, segment):
            x = fc.checkpoint(layers)(x, list(weights[start : start + segment]))
        return fc.mean(x * x)

    def plain(x: fc.Tensor, *weights: fc.Tensor) -> fc.Tensor:
        x = layers(x, weights)
        return fc.mean(x * x)

    x, weights = fc.ones((ROWS, WIDTH), dtype="float64"), [fc.ones((WIDTH, WIDTH), dtype="float64")] * depth
    return fc.compile(fc.grad(loss if segment else plain, argnums=tuple(range(1, depth + 1)))).plan(x, *weights)


def in_layers(plan: fc.Plan) -> int:
    """The arena in units of a layer's activations, without the small change of weights and sums."""
    return round(plan.footprint.arena / LAYER)


@compiled_loops
@pytest.mark.parametrize("root", [2, 3, 4, 5])
def test_checkpoints_hold_twice_the_root_of_the_layers_instead_of_all(root: int) -> None:
    depth = root * root
    # every layer's result and the gradient on its way; with checkpoints the begins of segments and the inside of one,
    # where the gradient lies over a result that nothing reads any more
    assert in_layers(gradient_plan(depth, 0)) == depth + 1
    assert in_layers(gradient_plan(depth, root)) == 2 * root


@compiled_loops
def test_the_arena_is_what_lives_at_once_and_the_plan_counts_it() -> None:
    plan = gradient_plan(6, 0)
    held = plan.footprint
    assert held.bound <= held.arena <= held.bound + 64
    assert held.inputs == LAYER + 6 * WIDTH * WIDTH * 8
    assert plan.peak_bytes == held.total == held.inputs + held.arena + held.leaving + held.constants + held.others
    assert held.others == 0


def live() -> int:
    """The bytes of all arrays that numpy took memory for since tracemalloc began."""
    gc.collect()
    domain = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([domain]).traces)


def held_and_planned() -> tuple[int, fc.Plan]:
    """(bytes of arrays that are there after some training steps, the plan of a step), in a world of its own."""
    before = live()
    step = fc.compile(perceptron((128, 256, 64), 512, fc.nn.GELU)[1])
    for _ in range(4):
        loss = step()
    # steps take no memory (tests/examples/test_allocations.py): what is held after one is held at its peak
    held = live() - before
    assert loss.item() > 0
    return held, step.plan()


@compiled_loops
def test_the_peak_is_what_the_process_holds() -> None:
    tracemalloc.start()
    try:
        ((held, plan),) = fc.launch.run(held_and_planned, ranks=1)
    finally:
        tracemalloc.stop()
    assert plan.peak_bytes > 4 * (128 * 256 * 3)
    assert abs(held - plan.peak_bytes) < 0.01 * plan.peak_bytes, plan.explain()


def test_ranks_of_equal_blocks_are_lowered_once() -> None:
    def program() -> tuple[dict[int, int], int]:
        x = fc.ones((7, 6), sbp=fc.S(0))
        plan = fc.compile(lambda x: (fc.exp(x).sum(axis=0) * 2).to_global(sbp=fc.B)).plan(x)
        return alike(plan.graph), plan.footprint.inputs

    # of 7 rows the first three ranks hold two, the last one
    assert fc.launch.run(program, ranks=4) == [({0: 0, 1: 0, 2: 0, 3: 3}, 2 * 6 * 4)] * 4


def test_a_plan_is_saved_with_what_is_updated_in_place(tmp_path: Path) -> None:
    state = fc.ones((64, 64))

    @fc.compile
    def step(x: fc.Tensor) -> None:
        state.assign(state * 0.5 + x)

    plan = step.plan(fc.ones((64, 64)))
    plan.save(tmp_path / "plan.txt")
    loaded = fc.Plan.load(tmp_path / "plan.txt")
    assert plan.updates and loaded == plan and loaded.peak_bytes == plan.peak_bytes


@compiled_loops
def test_a_limit_below_the_peak_is_an_error_on_every_rank_that_names_the_largest() -> None:
    def program(limit: int | None) -> int:
        x, w = fc.ones((64, 32), sbp=fc.S(0)), fc.ones((32, 512))

        @fc.compile(memory_limit=limit)
        def f(x: fc.Tensor, w: fc.Tensor) -> fc.Tensor:
            return fc.sum(fc.exp(x @ w))

        return f.plan(x, w).peak_bytes

    (peak, *_) = fc.launch.run(program, ranks=2, args=(None,))
    assert fc.launch.run(program, ranks=2, args=(peak,)) == [peak] * 2

    def refused(limit: int) -> str:
        with pytest.raises(fc.MemoryLimitError) as caught:
            program(limit)
        return str(caught.value)

    for text in fc.launch.run(refused, ranks=2, args=(peak - 1,)):
        assert f"holds {peak} B" in text and f"memory_limit is {peak - 1} B" in text and "fc.checkpoint" in text
        assert f"{32 * 512 * 4} B: float32[32,512] of contract; {Path(__file__).name}:" in text
    for limit in ("1 GB", 0, -1, True, 1.5):
        with pytest.raises(fc.PlanError, match=f"memory_limit={limit!r}: give the bytes"):
            fc.compile(lambda x: x, memory_limit=limit)  # type: ignore[call-overload]  # what the test is about


@compiled_loops
def test_an_explained_plan_tells_the_peak_and_what_lives_then() -> None:
    text = gradient_plan(4, 0).explain()
    assert f"peak {gradient_plan(4, 0).peak_bytes} B on rank 0: inputs " in text and ", arena " in text
    assert f"{LAYER} B: float64[{ROWS},{WIDTH}]" in text and Path(__file__).name in text


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda text: b"",
    "binary": lambda text: bytes(range(256)),
    "cut in the graph": lambda text: text[: len(text) // 2],
    "cut at the end": lambda text: text[:-1],
    "another update": lambda text: text.replace(b"updates:", b"updates: 0:0"),
    "another number": lambda text: text.replace(b"value=1", b"value=2"),
    "a line less": lambda text: b"".join(text.splitlines(keepends=True)[:2]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_plan_is_an_error(damage: str, tmp_path: Path) -> None:
    file = tmp_path / "plan.txt"
    fc.compile(lambda x: x + 1).plan(fc.zeros(3)).save(file)
    before = file.read_bytes()
    file.write_bytes(DAMAGES[damage](before))
    assert file.read_bytes() != before
    with pytest.raises(GraphError, match="is no plan"):
        fc.Plan.load(file)


def test_a_plan_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(GraphError, match="is no plan"):
            fc.Plan.load(path)
