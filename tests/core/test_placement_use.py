"""Where tensors are made, and how they move between placements."""

import numpy as np
import pytest

import flowcore as fc

DATA = np.arange(35.0).reshape(7, 5)


def test_use_sets_where_tensors_are_made_and_ends() -> None:
    def program() -> None:
        mesh = fc.Placement([2, 0])
        with fc.use(mesh, fc.S(0)):
            x = fc.zeros((4,))
            assert (x.placement, x.sbp) == (mesh, (fc.S(0),))
            with fc.use(fc.Placement([1]), "B"):
                assert fc.ones((2,)).placement == fc.Placement([1])
            assert fc.asarray([1.0, 2.0]).placement == mesh
        y = fc.zeros((4,))
        assert (y.placement, y.sbp) == (fc.Placement(3), (fc.B,))

    fc.launch.run(program, ranks=3)


def test_use_ends_when_an_exception_leaves_it() -> None:
    with pytest.raises(KeyError), fc.use(fc.Placement([0]), "B"):
        raise KeyError
    with pytest.raises(fc.PlacementError), fc.use(fc.Placement([5]), "B"):
        pass
    assert fc.ones((2,)).placement == fc.Placement([0])


def test_a_grid_infers_one_length_from_the_world() -> None:
    def program() -> tuple[int, ...]:
        return fc.Placement.grid(data=-1, model=2).shape

    assert fc.launch.run(program, ranks=4) == [(2, 2)] * 4
    assert fc.launch.run(lambda: fc.Placement.grid(data=-1).shape, ranks=3) == [(3,)] * 3


@pytest.mark.parametrize("axes", [{"data": -1, "model": -1}, {"data": -1, "model": 2}, {"data": 5}])
def test_a_grid_that_does_not_fit_the_world_is_an_error(axes: dict[str, int]) -> None:
    def program() -> None:
        with pytest.raises(fc.PlacementError):
            fc.Placement.grid(**axes)

    fc.launch.run(program, ranks=3)


@pytest.mark.parametrize("rows", [0, 1, 2, 7])
@pytest.mark.parametrize("sbp", ["B", "S0", "S1", "P"])
def test_blocks_taken_and_given_back_are_the_same_tensor(rows: int, sbp: str) -> None:
    def program() -> None:
        x = fc.asarray(DATA[:rows], sbp=sbp)
        y = fc.from_local(x.to_local(), x.placement, sbp)
        assert y.value == x.value
        np.testing.assert_array_equal(y.numpy(), DATA[:rows])

    fc.launch.run(program, ranks=4)


def test_blocks_of_a_grid_are_put_together() -> None:
    def program() -> None:
        x = fc.asarray(DATA, placement=fc.Placement([[3, 1], [0, 2]], ("a", "b")), sbp="S1,S0")
        np.testing.assert_array_equal(fc.from_local(x.to_local(), x.placement, x.sbp).numpy(), DATA)

    fc.launch.run(program, ranks=4)


def test_a_rank_outside_gets_a_handle() -> None:
    def program() -> None:
        mesh = fc.Placement([0, 2])
        block = None if fc.rank() == 1 else np.full((2, 3), fc.rank() + 1.0)
        x = fc.from_local(block, mesh, fc.S(0), shape=(4, 3), dtype="float64")
        everywhere = x.to_global(fc.Placement(3), fc.B)
        np.testing.assert_array_equal(everywhere.numpy()[:, 0], [1, 1, 3, 3])

    fc.launch.run(program, ranks=3)


TARGETS = {
    "same": [0, 1], "swapped": [1, 0], "overlapping": [1, 2], "nested": [1], "wider": [3, 1, 0], "disjoint": [3, 2],
}  # fmt: skip


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_values_survive_a_move_to_another_placement(target: list[int]) -> None:
    def program() -> None:
        for source in ("B", "S0", "S1", "P"):
            for wanted in ("B", "S0", "S1", "P"):
                x = fc.asarray(DATA, placement=fc.Placement([0, 1]), sbp=source)
                y = x.to_global(fc.Placement(target), wanted)
                z = y.to_global(fc.Placement(4), fc.B)
                assert y.placement == fc.Placement(target)
                np.testing.assert_array_equal(z.numpy(), DATA)

    fc.launch.run(program, ranks=4)


def test_replicas_join_operations_on_other_meshes_without_a_transfer() -> None:
    def program() -> None:
        grid = fc.Placement.grid(data=2, model=2)
        scale = fc.asarray(2.0, dtype="float64")
        x = fc.asarray(DATA, placement=grid, sbp="S0,S1")
        f = fc.compile(lambda x, scale: x * scale)
        assert f(x, scale).placement == grid
        assert f.plan(x, scale).bytes_moved == 0
        np.testing.assert_array_equal((x * scale).numpy(), DATA * 2)
        half = fc.asarray(DATA, placement=fc.Placement([1, 3]), sbp="S0")
        product = half * scale
        if fc.rank() in (1, 3):
            np.testing.assert_array_equal(product.numpy(), DATA * 2)

    fc.launch.run(program, ranks=4)


def test_split_tensors_of_two_placements_do_not_mix_silently() -> None:
    def program() -> None:
        x = fc.asarray(DATA, placement=fc.Placement([0, 1]), sbp="S0")
        y = fc.asarray(DATA, placement=fc.Placement([1, 2]), sbp="S0")
        with pytest.raises(fc.PlacementError, match="to_global"):
            x + y

    fc.launch.run(program, ranks=3)
