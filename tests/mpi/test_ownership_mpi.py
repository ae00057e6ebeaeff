"""A parameter whose block lies in memory that ranks share is updated by its owner alone, and nobody else sees it."""

from __future__ import annotations

import numpy as np
import pytest

import flowcore as fc
from flowcore.comm.shared import SharedTransport
from flowcore.world import current

pytestmark = pytest.mark.mpi
STEPS = 3


def shared(shape: tuple[int, ...]) -> tuple[fc.Tensor, fc.Tensor]:
    """A value that all ranks see in one slot, and the tensor that rank 0 alone makes of its block."""
    everyone = fc.Placement(fc.world_size())
    value = np.arange(np.prod(shape), dtype="float32").reshape(shape)
    seen = fc.asarray(value, placement=everyone, sbp="S0").to_global(sbp="B")
    return seen, seen.to_global(fc.Placement([0]), "B")


def lies_in_shared_memory(x: fc.Tensor) -> bool:
    """Whether ranks could see a write to the block of `x`."""
    return x.block is not None and not x.block.flags.writeable


def train(parameter: fc.Tensor, is_compiled: bool) -> None:
    """Some steps downhill."""
    optimizer = fc.optim.AdamW([parameter], lr=0.1)

    def update() -> fc.Tensor:
        loss = (parameter * parameter).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    step = fc.compile(update) if is_compiled else update
    for _ in range(STEPS):
        step()


@pytest.mark.parametrize("is_compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("shape", [(6, 4), (400, 300)], ids=["inbox", "slot"])
def test_a_step_of_an_optimizer_changes_the_parameter_of_its_rank_alone(
    shape: tuple[int, ...], is_compiled: bool
) -> None:
    seen, own = shared(shape)
    is_slot = isinstance(current().transport, SharedTransport) and shape[0] > 100
    assert lies_in_shared_memory(seen) or not is_slot
    before = seen.to_local().copy()
    parameter = fc.nn.Parameter(own)
    alone = fc.nn.Parameter(fc.asarray(before, placement=fc.Placement([0]), sbp="B"))
    for weight in (parameter, alone):
        train(weight, is_compiled)
    current().transport.barrier(tuple(range(fc.world_size())))
    assert np.array_equal(seen.to_local(), before)
    if fc.rank() == 0:
        assert np.array_equal(parameter.to_local(), alone.to_local())
        assert not np.array_equal(parameter.to_local(), before)


@pytest.mark.parametrize("shape", [(6, 4), (400, 300)], ids=["inbox", "slot"])
def test_an_assignment_changes_the_tensor_of_its_rank_alone(shape: tuple[int, ...]) -> None:
    seen, own = shared(shape)
    before = seen.to_local().copy()
    own.assign(own * 2)
    own[0] = -1.0
    current().transport.barrier(tuple(range(fc.world_size())))
    assert np.array_equal(seen.to_local(), before)
    if fc.rank() == 0:
        assert (own.to_local()[0] == -1).all() and np.array_equal(own.to_local()[1:], 2 * before[1:])
