"""Between hosts a step that would hold more than it may gathers parameters again: less memory, the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.local import Staged
from tests.sharing import programs

LAYERS, WIDTH, BATCH = 6, 96, 256
WEIGHT = WIDTH * WIDTH * 8
"""Bytes."""


def step_of(**options: Any) -> Any:
    """A step of ZeRO 3 on all ranks."""
    fc.manual_seed(0)
    mesh = fc.Placement(fc.world_size(), ["data"])
    layers = [fc.nn.Linear(WIDTH, WIDTH, bias=False, dtype="float64") for _ in range(LAYERS)]
    net = fc.nn.Sequential(*layers)
    net.place(mesh, {"*": fc.S(0)})
    opt = fc.optim.SGD(net.parameters(), lr=1e-3)
    x = fc.asarray(np.arange(1.0 * BATCH * WIDTH).reshape(BATCH, WIDTH) / (BATCH * WIDTH), placement=mesh, sbp=fc.S(0))

    @fc.compile(**options)
    def step() -> fc.Tensor:
        loss = fc.mean(fc.square(net(x)))
        loss.backward()
        opt.step()
        opt.zero_grad()
        return loss

    return step


@pytest.mark.parametrize(("ranks", "gather", "saved"), [(2, 1, WEIGHT * 2 // 3), (4, 3.5, (LAYERS - 3) * WEIGHT)])
def test_a_step_of_zero_3_that_may_hold_less_gathers_again_what_backward_reads(
    ranks: int, gather: float, saved: int
) -> None:
    """gather: the bytes that one moves, over both of its legs, in weights. saved: what the peak is less by.

    On 4 ranks the weights of all layers but three live no more at the peak; on 2 the peak is then elsewhere.
    """

    def program() -> list[tuple[list[float], int, int, int]]:
        wide = step_of()
        limit = wide.plan().peak_bytes - 1
        narrow = step_of(memory_limit=limit)
        found = []
        for step in (wide, narrow):
            losses, plan = [step().item() for _ in range(4)], step.plan()
            (made,) = programs(step)
            assert plan.footprint.arena >= made.arena.size
            starts = sum(isinstance(node.op, Staged) and node.op.number == 0 for node in made.local.nodes)
            found.append((losses, plan.peak_bytes, plan.bytes_moved, starts))
        return found

    for (losses, peak, moved, starts), (again, less, more, begun) in fc.launch.run(program, ranks=ranks, hosts=2):
        assert again == losses
        # the first layer hands no gradient on, the last is still there: those between are gathered again
        assert more - moved == (LAYERS - 2) * gather * WEIGHT
        assert peak - less == saved
        assert begun == starts + LAYERS - 2


def test_what_may_hold_enough_moves_no_more() -> None:
    def program() -> bool:
        step = step_of()
        limited = step_of(memory_limit=step.plan().peak_bytes)
        return bool(limited.plan() == step.plan())

    assert all(fc.launch.run(program, ranks=2, hosts=2))
