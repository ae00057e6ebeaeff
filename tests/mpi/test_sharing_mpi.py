"""Ranks of one host that read each other's registers in shared memory compute what ranks that exchange messages do."""

from __future__ import annotations

import numpy as np
import pytest

import flowcore as fc
from flowcore.comm.shared import SharedTransport
from flowcore.world import current
from tests.core import test_row_lists
from tests.sharing import HOLDERS, blocks, compared, model_and_step, trained, trained_with_holder, transitions, unshared

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


@pytest.mark.parametrize("is_split", [False, True], ids=["replicas", "parts"])
@pytest.mark.parametrize("holder", HOLDERS)
def test_what_one_rank_holds_of_a_parameter_stays_as_it_was(holder: str, is_split: bool) -> None:
    alone = trained_with_holder(holder, -1, is_split)
    for who in (0, fc.world_size() - 1):
        for one, other in zip(trained_with_holder(holder, who, is_split), alone, strict=True):
            np.testing.assert_array_equal(one, other)


def test_what_another_placement_got_of_a_parameter_stays_as_it_was() -> None:
    model, step = model_and_step()
    compiled = fc.compile(step)
    everyone, last = fc.Placement(fc.world_size()), fc.Placement([fc.world_size() - 1])
    held = []
    for _ in range(4):
        compiled()
        for parameter in model.parameters():
            moved = [parameter.to_global(last, "B"), parameter.to_global(sbp="S0")]
            moved.append(moved[0].to_global(everyone, "B"))
            held += [(one, np.array(one.block)) for one in moved if one.block is not None]
        for one, then in held:
            np.testing.assert_array_equal(one.block, then)


def test_a_host_keeps_one_copy_of_what_its_ranks_replace_part_by_part() -> None:
    if len(set(getattr(current().transport, "hosts", range(fc.world_size())))) > 1:
        pytest.skip("these ranks are not of one host")
    model, step = model_and_step()
    compiled = fc.compile(step)
    compiled()
    places = [block.ctypes.data for block in blocks(model)]
    for _ in range(3):
        compiled()
    assert [block.ctypes.data for block in blocks(model)] == places
    address = current().transport._carrier.segment.address  # type: ignore[union-attr]  # it shares memory, as asserted
    offsets = [place - address for place in places]
    assert current().transport.gather_objects(tuple(range(fc.world_size())), offsets) == [offsets] * fc.world_size()


@pytest.mark.parametrize("kind", ["sgd", "adagrad"])
def test_the_one_table_of_a_host_becomes_what_a_table_on_every_rank_does(kind: str) -> None:
    axes = {"data": fc.world_size()}
    path, _, common = test_row_lists.trained(kind, True, axes)
    assert bool(common) == (fc.world_size() > 1 and isinstance(current().transport, SharedTransport))
    with unshared():
        np.testing.assert_allclose(test_row_lists.trained(kind, True, axes)[0], path, rtol=1e-12)
