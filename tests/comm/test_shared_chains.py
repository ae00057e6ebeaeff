"""Chains of random changes of layout through shared memory: each reads what the one before left there."""

from __future__ import annotations

import numpy as np
import pytest

from flowcore.comm.boxing import plan_boxing
from flowcore.placement.layout import Layout
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import SBP, B, P, Partial, Split
from tests.comm.carriers import Host
from tests.comm.tensors import gather, random_tensor, scatter

RANKS, CHAINS, LONGEST = 4, 40, 5
MESHES = ((1,), (2,), (3,), (4,), (2, 2), (1, 4), (2, 1))


def any_layout(rng: np.random.Generator, ndim: int) -> Layout:
    """A layout of a tensor of `ndim` dimensions on some of the ranks, in any order."""
    mesh = MESHES[rng.integers(len(MESHES))]
    parts: list[SBP] = [B, P, Partial("max"), *map(Split, range(ndim)), *map(Split, range(ndim))]
    ranks = rng.permutation(RANKS)[: np.prod(mesh)].reshape(mesh)
    return Layout(Placement(ranks), tuple(parts[rng.integers(len(parts))] for _ in mesh))


@pytest.mark.parametrize("small", [0, 4096], ids=["slots", "inboxes"])
@pytest.mark.parametrize("seed", range(3))
def test_a_chain_of_changes_keeps_the_value_and_what_came_before(seed: int, small: int) -> None:
    rng, host, changes = np.random.default_rng(seed), Host(RANKS), 0
    for number in range(CHAINS):
        longest = 40 if number % 8 else 300
        shape = tuple(int(length) for length in rng.integers(0, longest, rng.integers(1, 4 if longest < 100 else 3)))
        value = random_tensor(shape, "f4", number)
        here = any_layout(rng, len(shape))
        blocks, seen = scatter(value, here), []
        for _ in range(rng.integers(1, LONGEST + 1)):
            there = any_layout(rng, len(shape))
            plan = plan_boxing(shape, "f4", here, there)
            blocks, here = host.run(plan, blocks, small), there
            assert np.array_equal(gather(shape, there, blocks), value), plan.text()
            seen += [(block, block.copy()) for block in blocks.values()]
            changes += 1
        assert all(np.array_equal(block, before) for block, before in seen)
    print(f"{changes} changes")
