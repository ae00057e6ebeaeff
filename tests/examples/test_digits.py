"""The main example on every mesh of 1, 2, 3, 4 and 6 ranks: the losses of one rank, and its messages."""

import pytest

import flowcore as fc
from tests.examples.digits import MESHES, STEPS, TOLERANCE, example, losses, reference


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize(("data", "model"), MESHES, ids=lambda size: str(size))
def test_every_mesh_gives_the_losses_of_one_rank(data: int, model: int, compiled: bool, dtype: str) -> None:
    expected = reference(dtype)
    assert len(expected) == STEPS and expected[-1] < expected[0]
    for found in losses(data, model, compiled, dtype, data * model):
        assert found == pytest.approx(expected, rel=TOLERANCE[dtype], abs=0)


def test_without_options_the_whole_world_is_data_parallel() -> None:
    digits = example()

    def mesh(data: int | None, model: int | None) -> tuple[int, ...]:
        return digits.mesh_of(digits.Options(data=data, model=model)).shape  # type: ignore[no-any-return]

    assert fc.launch.run(mesh, ranks=4, args=(None, None)) == [(4, 1)] * 4
    assert fc.launch.run(mesh, ranks=4, args=(None, 4)) == [(1, 4)] * 4
    assert fc.launch.run(mesh, ranks=4, args=(2, None)) == [(2, 2)] * 4


def test_a_mesh_that_does_not_fit_is_named() -> None:
    digits = example()
    for data, model in [(3, None), (None, 3), (2, 4)]:
        with pytest.raises(fc.PlacementError, match=r"ranks but the world has 4"):
            fc.launch.run(digits.mesh_of, ranks=4, args=(digits.Options(data=data, model=model),))


def test_ninety_seven_percent_and_a_plan_that_keeps_to_the_bound() -> None:
    digits = example()
    report = fc.launch.run(digits.train, ranks=2, args=(digits.Options(data=2, quiet=True),))[0]
    assert report.accuracy >= 0.97
    table = digits.describe(report.plan)
    assert "transfer" in table and f"{report.plan.bytes_moved:,}" in table
    assert report.plan.bytes_moved == digits.bound_of(report.plan)
