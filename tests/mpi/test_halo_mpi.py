"""A convolution split in space gives the same under real mpirun, through every transport it chooses."""

from __future__ import annotations

import numpy as np
import pytest

import flowcore as fc


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("rows", [200, 3])
def test_a_network_split_in_space_equals_the_whole(rows: int) -> None:
    """200 rows are transferred in messages of many kibibytes; with 3, some ranks have none."""
    random = np.random.default_rng(0)
    x, w = random.normal(size=(2, 3, rows, 40)), random.normal(size=(4, 3, 5, 3))

    def loss(x: fc.Tensor, w: fc.Tensor) -> fc.Tensor:
        return (fc.nn.max_pool2d(fc.nn.conv2d(x, w, padding=(2, 1)), 3, 1, 1) ** 2).sum()

    here = fc.Placement([fc.rank()])
    alone = fc.value_and_grad(loss, argnums=(0, 1))(fc.asarray(x, placement=here), fc.asarray(w, placement=here))
    step = fc.compile(fc.value_and_grad(loss, argnums=(0, 1)))
    split = step(fc.asarray(x, sbp="S2"), fc.asarray(w))
    np.testing.assert_allclose(split[0].item(), alone[0].item(), rtol=1e-12)
    for found, expected in zip(split[1], alone[1], strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-10)
