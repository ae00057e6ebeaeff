"""Every operator's gradient, and the gradient of that, against central differences in float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

import flowcore as fc
from flowcore.boxing_op import LAYOUT_OPERATORS
from flowcore.derivative_check import DOUBLE, Case, difference, has_gradient, inner
from flowcore.op import OPS, Op, Sample
from flowcore.simulate import random_of, samples


def in_complex(registry: dict[str, type[Op]]) -> Iterator[Sample]:
    """The first real sample of every operator that takes complex numbers too and has no sample of these, made so."""
    for cls in registry.values():
        every = list(samples({cls.name: cls}, LAYOUT_OPERATORS))
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


EVERY = (*samples(OPS, LAYOUT_OPERATORS), *in_complex(OPS))
SAMPLES = [sample for sample in EVERY if has_gradient(sample)]
SHOWN = [f"{sample.op.name}-{number}" for number, sample in enumerate(SAMPLES)]


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
