"""Ranks of one host that read each other's registers in shared memory compute what ranks that exchange messages do."""

from __future__ import annotations

import numpy as np
import pytest

import flowcore as fc
from flowcore.comm.shared import SharedTransport
from flowcore.world import current
from tests.sharing import compared, trained, transitions, unshared

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize(("shape", "dtype"), [((8, 6), "float32"), ((150, 301), "float64"), ((0, 5), "int32")])
def test_every_change_of_layout_is_that_of_messages(shape: tuple[int, ...], dtype: str) -> None:
    compared(lambda: transitions(fc.Placement(fc.world_size()), shape, dtype, 1))


def test_changes_of_layout_on_two_axes_are_those_of_messages() -> None:
    if fc.world_size() != 4:
        pytest.skip("two by two ranks are four")
    compared(lambda: transitions(fc.Placement([[0, 2], [1, 3]]), (9, 7), "float32", 2, 7))


@pytest.mark.parametrize("is_sharded", [False, True], ids=["replicas", "sharded states"])
def test_a_model_trains_alike(is_sharded: bool) -> None:
    options = {"shard_states": "data"} if is_sharded else {}
    losses, (program,) = trained(**options)
    assert (program.sharing is not None) == isinstance(current().transport, SharedTransport)
    with unshared():
        np.testing.assert_array_equal(trained(**options)[0], losses)
