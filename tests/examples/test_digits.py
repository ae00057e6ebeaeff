"""The main example on every mesh of 1, 2, 3, 4 and 6 ranks: the losses of one rank, and its messages."""

import sys
from functools import cache
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest

import flowcore as fc

pytest.importorskip("sklearn", reason="the example takes its data from scikit-learn")

PATH = Path(__file__).resolve().parents[2] / "examples" / "digits.py"
MESHES = [(data, ranks // data) for ranks in (1, 2, 3, 4, 6) for data in range(1, ranks + 1) if ranks % data == 0]
TOLERANCE = {"float64": 1e-9, "float32": 1e-4}
STEPS = 10


@cache
def example() -> ModuleType:
    spec = util.spec_from_file_location("digits_example", PATH)
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def losses(data: int | None, model: int | None, compiled: bool, dtype: str, ranks: int) -> list[list[float]]:
    """The loss of every step, on every rank."""
    digits = example()
    digits.load_digits(dtype)  # imported once, before ranks do so together
    options = digits.Options(data=data, model=model, compiled=compiled, dtype=dtype, steps=STEPS, quiet=True)
    return [report.losses for report in fc.launch.run(digits.train, ranks=ranks, args=(options,))]


@cache
def reference(dtype: str) -> list[float]:
    return losses(None, None, False, dtype, 1)[0]


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
