"""Every operator's gradient, and the gradient of that, against central differences in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.boxing_op import Boxing, Relayout
from flowcore.dispatch import apply
from flowcore.op import OPS, Array, Sample
from tests.rules.simulate import Random, inputs_of, random_of, samples

FLOAT64 = np.dtype("float64")
STEP = 1e-6


def has_gradient(sample: Sample) -> bool:
    """Whether differences in float64 can tell: float64 results, and a float64 input."""
    every = (*sample.types, *sample.op.infer(*sample.types))
    floats = [type.dtype for type in every if type.dtype.kind in "fc"]
    outputs = sample.op.infer(*sample.types)
    has_input = any(type.dtype == FLOAT64 for type in sample.types)
    return has_input and all(dtype == FLOAT64 for dtype in floats) and all(type.dtype == FLOAT64 for type in outputs)


SAMPLES = [sample for sample in samples(OPS, (Boxing, Relayout)) if has_gradient(sample)]
SHOWN = [f"{sample.op.name}-{number}" for number, sample in enumerate(SAMPLES)]


class Case:
    """A sample as a function of its float inputs, the others held fixed."""

    def __init__(self, sample: Sample, random: Random) -> None:
        self.op, self.arrays = sample.op, inputs_of(sample, random)
        self.free = [place for place, type in enumerate(sample.types) if type.dtype == FLOAT64]
        (result,) = sample.op.infer(*sample.types)
        self.dy = random.normal(size=result.shape)
        self.direction = [random.normal(size=self.arrays[place].shape) for place in self.free]
        self.point = [self.arrays[place] for place in self.free]

    def result(self, *free: Any) -> Any:
        """The operator's result at these float inputs."""
        inputs: list[Any] = [fc.asarray(array) for array in self.arrays]
        for place, value in zip(self.free, free, strict=True):
            inputs[place] = value
        return apply(self.op, *inputs)

    def gradients(self, *free: Any) -> tuple[Any, ...]:
        """The gradients of <dy, result> with respect to the float inputs."""
        return fc.vjp(self.result, *free)[1](fc.asarray(self.dy))

    def value(self, point: Sequence[Array]) -> float:
        """<dy, result>."""
        with np.errstate(all="ignore"):
            return float(np.vdot(self.dy, self.result(*map(fc.asarray, point)).numpy()))

    def slope(self, point: Sequence[Array]) -> float:
        """<direction, gradients>, by the operator's vjp."""
        found = self.gradients(*map(fc.asarray, point))
        return float(sum(np.vdot(v, g.numpy()) for v, g in zip(self.direction, found, strict=True)))


def difference(f: Callable[[Sequence[Array]], float], point: Sequence[Array], direction: Sequence[Array]) -> float:
    """The derivative of `f` along `direction`, by central differences."""
    ahead = [x + STEP * v for x, v in zip(point, direction, strict=True)]
    behind = [x - STEP * v for x, v in zip(point, direction, strict=True)]
    return (f(ahead) - f(behind)) / (2 * STEP)


@pytest.mark.parametrize("sample", SAMPLES, ids=SHOWN)
def test_gradients_agree_with_differences(sample: Sample) -> None:
    case = Case(sample, random_of(sample))
    found = case.gradients(*map(fc.asarray, case.point))
    assert [gradient.shape for gradient in found] == [x.shape for x in case.point]
    assert all(gradient.dtype == FLOAT64 for gradient in found)
    expected = difference(case.value, case.point, case.direction)
    assert case.slope(case.point) == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("sample", SAMPLES, ids=SHOWN)
def test_gradients_of_gradients_agree_with_differences(sample: Sample) -> None:
    case = Case(sample, random_of(sample))
    points, directions = list(map(fc.asarray, case.point)), list(map(fc.asarray, case.direction))
    second = fc.vjp(case.gradients, *points)[1](*directions)
    again = [np.random.default_rng(1).normal(size=x.shape) for x in case.point]
    found = float(sum(np.vdot(v, g.numpy()) for v, g in zip(again, second, strict=True)))
    assert found == pytest.approx(difference(case.slope, case.point, again), rel=1e-4, abs=1e-4)


def test_ties_share_the_gradient_of_a_maximum() -> None:
    x = fc.asarray(np.array([2.0, 1.0, 2.0]))
    (gradient,) = fc.vjp(lambda x: x.max(), x)[1](fc.asarray(np.float64(1)))
    np.testing.assert_array_equal(gradient.numpy(), [0.5, 0.0, 0.5])


def test_the_power_of_zero_has_a_finite_gradient() -> None:
    x = fc.asarray(np.array([0.0, 2.0]))
    for exponent, expected in ((0.0, [0.0, 0.0]), (1.0, [1.0, 1.0]), (2.0, [0.0, 4.0])):
        (gradient,) = fc.vjp(lambda x, e=exponent: x**e, x)[1](fc.asarray(np.ones(2)))
        np.testing.assert_array_equal(gradient.numpy(), expected)
