"""The main example under a real `mpirun`: on every mesh of the ranks there, the losses of one rank."""

from __future__ import annotations

import pytest

import flowcore as fc
from tests.examples.digits import MESHES, TOLERANCE, example, options, reference

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_mesh_gives_the_losses_of_one_rank(compiled: bool, dtype: str) -> None:
    expected = reference(dtype)
    meshes = [mesh for mesh in MESHES if mesh[0] * mesh[1] == fc.world_size()]
    assert meshes
    for data, model in meshes:
        found = example().train(options(data, model, compiled, dtype)).losses
        assert found == pytest.approx(expected, rel=TOLERANCE[dtype], abs=0)
