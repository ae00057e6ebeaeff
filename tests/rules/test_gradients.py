"""Every operator's gradient, and the gradient of that, against central differences in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.boxing_op import Boxing, Relayout
from flowcore.dispatch import apply
from flowcore.op import OPS, Array, Op, Sample, Type, as_tuple, type_of
from tests.rules.simulate import Random, draw, inputs_of, random_of, samples

DOUBLE = (np.dtype("float64"), np.dtype("complex128"))
STEP = 1e-6


def has_gradient(sample: Sample) -> bool:
    """Whether differences in double precision can tell: an input and a result, and all others that are no integers."""
    if not sample.is_unique:
        return False
    results = sample.op.infer(*sample.types)
    floats = [type.dtype for type in (*sample.types, *results) if type.dtype.kind in "fc"]
    return all(dtype in DOUBLE for dtype in floats) and bool(doubles(sample.types)) and bool(doubles(results))


def doubles(types: Sequence[Type]) -> list[int]:
    """The places of the real and complex numbers in double precision."""
    return [place for place, type in enumerate(types) if type.dtype in DOUBLE]


def in_complex(registry: dict[str, type[Op]]) -> Iterator[Sample]:
    """The first real sample of every operator that takes complex numbers too and has no sample of these, made so."""
    for cls in registry.values():
        every = list(samples({cls.name: cls}, (Boxing, Relayout)))
        if any(type.dtype.kind == "c" for sample in every for type in sample.types):
            continue
        for sample in every:
            types = tuple(replace(type, dtype=DOUBLE[1]) if type.dtype == DOUBLE[0] else type for type in sample.types)
            try:
                sample.op.infer(*types)
            except fc.FlowcoreError:
                continue
            if types != sample.types:
                yield replace(sample, types=types)
                break


EVERY = (*samples(OPS, (Boxing, Relayout)), *in_complex(OPS))
SAMPLES = [sample for sample in EVERY if has_gradient(sample)]
SHOWN = [f"{sample.op.name}-{number}" for number, sample in enumerate(SAMPLES)]


class Case:
    """A sample as a function of its double inputs, the others held fixed; real inner products Re Σ conj(a) b."""

    def __init__(self, sample: Sample, random: Random) -> None:
        self.op, self.arrays = sample.op, inputs_of(sample, random)
        self.free, results = doubles(sample.types), sample.op.infer(*sample.types)
        self.made = doubles(results)
        self.dy = [draw(results[place], "normal", random) for place in self.made]
        self.direction = self.directions(random)
        self.point = [self.arrays[place] for place in self.free]

    def directions(self, random: Random) -> list[Array]:
        """A direction for each input, real and imaginary where the input is complex."""
        return [draw(type_of(self.arrays[place]), "normal", random) for place in self.free]

    def result(self, *free: Any) -> list[Any]:
        """The operator's double results at these inputs."""
        inputs: list[Any] = [fc.asarray(array) for array in self.arrays]
        for place, value in zip(self.free, free, strict=True):
            inputs[place] = value
        results = as_tuple(apply(self.op, *inputs))
        return [results[place] for place in self.made]

    def gradients(self, *free: Any) -> tuple[Any, ...]:
        """The gradients of <dy, results> with respect to the double inputs."""
        return fc.vjp(self.result, *free)[1](*map(fc.asarray, self.dy))

    def value(self, point: Sequence[Array]) -> float:
        """<dy, results>; what is infinite, as the max of no elements, stays so nearby."""
        with np.errstate(all="ignore"):
            results = [result.numpy() for result in self.result(*map(fc.asarray, point))]
            return inner(self.dy, [np.where(np.isinf(result), 0, result) for result in results])

    def slope(self, point: Sequence[Array]) -> float:
        """<direction, gradients>, by the operator's vjp."""
        return inner(self.direction, self.gradients(*map(fc.asarray, point)))


def inner(arrays: Sequence[Array], tensors: Sequence[Any]) -> float:
    """<arrays, tensors>."""
    return float(sum(np.vdot(a, np.asarray(x)).real for a, x in zip(arrays, tensors, strict=True)))


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
    assert [gradient.dtype for gradient in found] == [x.dtype for x in case.point]
    expected = difference(case.value, case.point, case.direction)
    assert case.slope(case.point) == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("sample", SAMPLES, ids=SHOWN)
def test_gradients_of_gradients_agree_with_differences(sample: Sample) -> None:
    case = Case(sample, random_of(sample))
    points, directions = list(map(fc.asarray, case.point)), list(map(fc.asarray, case.direction))
    second = fc.vjp(case.gradients, *points)[1](*directions)
    again = case.directions(np.random.default_rng(1))
    assert inner(again, second) == pytest.approx(difference(case.slope, case.point, again), rel=1e-4, abs=1e-4)


def test_ties_share_the_gradient_of_a_maximum() -> None:
    x = fc.asarray(np.array([2.0, 1.0, 2.0]))
    (gradient,) = fc.vjp(lambda x: x.max(), x)[1](fc.asarray(np.float64(1)))
    np.testing.assert_array_equal(gradient.numpy(), [0.5, 0.0, 0.5])


def test_the_gradient_of_a_real_loss_is_the_direction_in_which_it_grows() -> None:
    z = fc.asarray(np.array([1 + 2j, -3j]))
    np.testing.assert_allclose(fc.grad(lambda z: fc.sum(fc.abs(z) ** 2.0))(z).numpy(), 2 * z.numpy())
    np.testing.assert_allclose(fc.grad(lambda z: fc.sum(fc.real(z * (3 + 4j))))(z).numpy(), [3 - 4j, 3 - 4j])
    for value in (0.0, 0j):
        gradient = fc.grad(lambda z: fc.sum(fc.abs(z)))(fc.asarray(np.array([value])))
        np.testing.assert_array_equal(gradient.numpy(), [0])


def test_a_complex_loss_has_no_gradient() -> None:
    z = fc.asarray(np.array(1 + 2j)).requires_grad_()
    with pytest.raises(fc.GradError, match="take real, imag or abs"):
        fc.grad(lambda z: z * z)(z)
    with pytest.raises(fc.GradError, match="take real, imag or abs"):
        (z * z).backward()


def test_the_power_of_zero_has_a_finite_gradient() -> None:
    x = fc.asarray(np.array([0.0, 2.0]))
    for exponent, expected in ((0.0, [0.0, 0.0]), (1.0, [1.0, 1.0]), (2.0, [0.0, 4.0])):
        (gradient,) = fc.vjp(lambda x, e=exponent: x**e, x)[1](fc.asarray(np.ones(2)))
        np.testing.assert_array_equal(gradient.numpy(), expected)
