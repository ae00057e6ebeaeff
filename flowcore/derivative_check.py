"""Every derivative and batch of an operator against differences, loops and each other, in double precision.

All derivatives of one order are one number, whichever way they are taken: for a result y, a cotangent dy and directions
u and v, <dy, y'[u]> and <dy, y''[u, v]>. Central differences give it once, every combination of reverse and forward
mode must give it again, on any layout; and what vmap makes of these is what a loop gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from flowcore.derivatives import jvp
from flowcore.dispatch import apply, asarray
from flowcore.dtypes import is_float
from flowcore.grad import vjp
from flowcore.op import Array, Op, Sample, Type, as_tuple, type_of
from flowcore.placement.sbp import SBP, B, Partial, Split
from flowcore.simulate import Random, draw, inputs_of, random_of
from flowcore.vmap import vmap

DOUBLE = (np.dtype("float64"), np.dtype("complex128"))
STEP = 1e-6
EXAMPLES = 2
NEAR, FIRST, SECOND = 1e-7, 1e-5, 1e-4
"""How far two ways may differ, relative and absolute; and differences of first and second order."""


def has_gradient(sample: Sample) -> bool:
    """Whether differences in double precision can tell: an input and a result, and all others that are no integers."""
    if not sample.is_unique:
        return False
    results = sample.op.infer(*sample.types)
    floats = [type.dtype for type in (*sample.types, *results) if is_float(type.dtype)]
    return all(dtype in DOUBLE for dtype in floats) and bool(doubles(sample.types)) and bool(doubles(results))


def doubles(types: Sequence[Type]) -> list[int]:
    """The places of the real and complex numbers in double precision."""
    return [place for place, type in enumerate(types) if type.dtype in DOUBLE]


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
        inputs: list[Any] = [asarray(array) for array in self.arrays]
        for place, value in zip(self.free, free, strict=True):
            inputs[place] = value
        results = as_tuple(apply(self.op, *inputs))
        return [results[place] for place in self.made]

    def gradients(self, *free: Any) -> tuple[Any, ...]:
        """The gradients of <dy, results> with respect to the double inputs."""
        found: tuple[Any, ...] = vjp(self.result, *free)[1](*map(asarray, self.dy))
        return found

    def rates(self, *free: Any) -> list[Any]:
        """The derivative of the results along the direction."""
        found: list[Any] = jvp(self.result, free, [*map(asarray, self.direction)])[1]
        return found

    def value(self, point: Sequence[Array]) -> float:
        """<dy, results>; what is infinite, as the max of no elements, stays so nearby."""
        with np.errstate(all="ignore"):
            results = [result.numpy() for result in self.result(*map(asarray, point))]
            return inner(self.dy, [np.where(np.isinf(result), 0, result) for result in results])

    def slope(self, point: Sequence[Array]) -> float:
        """<direction, gradients>, by the operator's vjp."""
        return inner(self.direction, self.gradients(*map(asarray, point)))


def inner(arrays: Sequence[Array], tensors: Sequence[Any]) -> float:
    """<arrays, tensors>."""
    return float(sum(np.vdot(a, np.asarray(x)).real for a, x in zip(arrays, tensors, strict=True)))


def difference(f: Callable[[Sequence[Array]], float], point: Sequence[Array], direction: Sequence[Array]) -> float:
    """The derivative of `f` along `direction`, by central differences."""
    ahead = [x + STEP * v for x, v in zip(point, direction, strict=True)]
    behind = [x - STEP * v for x, v in zip(point, direction, strict=True)]
    return (f(ahead) - f(behind)) / (2 * STEP)


def first_order(case: Case, points: Sequence[Any]) -> dict[str, float]:
    """<dy, y'[u]> in both modes, at points laid out in any way."""
    return {
        "reverse": inner(case.direction, case.gradients(*points)),
        "forward": inner(case.dy, case.rates(*points)),
    }


def second_order(case: Case, points: Sequence[Any], again: Sequence[Array]) -> dict[str, float]:
    """<dy, y''[u, v]>, v = `again`, in every combination of modes."""
    along, u, dy = [*map(asarray, again)], [*map(asarray, case.direction)], [*map(asarray, case.dy)]
    return {
        "reverse over reverse": inner(again, vjp(case.gradients, *points)[1](*u)),
        "forward over reverse": inner(case.direction, jvp(case.gradients, points, along)[1]),
        "reverse over forward": inner(again, vjp(case.rates, *points)[1](*dy)),
        "forward over forward": inner(case.dy, jvp(case.rates, points, along)[1]),
    }


def derivative_problems(sample: Sample) -> Iterator[str]:
    """Where the derivatives of one sample are wrong."""
    case = Case(sample, random_of(sample))
    points = [*map(asarray, case.point)]
    found = case.gradients(*points)
    for place, gradient, x in zip(case.free, found, case.point, strict=True):
        if (gradient.shape, gradient.dtype) != (x.shape, x.dtype):
            yield f"the gradient of input {place} is {gradient.value.type} for an input of {type_of(x)}"
    expected = difference(case.value, case.point, case.direction)
    yield from _compared(first_order(case, points), expected, FIRST)
    again = case.directions(np.random.default_rng(1))
    yield from _compared(second_order(case, points, again), difference(case.slope, case.point, again), SECOND)


def _compared(found: dict[str, float], expected: float, tolerance: float) -> Iterator[str]:
    for mode, value in found.items():
        if not np.isclose(value, expected, rtol=tolerance, atol=tolerance):
            yield f"the derivative by {mode} along a random direction is {value:.8g}, by differences {expected:.8g}"


def layout_problems(sample: Sample) -> Iterator[str]:
    """Where derivatives on this world's ranks, of inputs in random layouts, differ from those of replicas."""
    random = random_of(sample, "layouts")
    case, again = Case(sample, random), None
    again = case.directions(random)
    plain = [*map(asarray, case.point)]
    split = [asarray(x, sbp=layout(type_of(x), random)) for x in case.point]
    expected, found = ({**first_order(case, at), **second_order(case, at, again)} for at in (plain, split))
    shown = ", ".join(str(x.sbp[0]) for x in split)
    for mode, value in found.items():
        if not np.isclose(value, expected[mode], rtol=NEAR, atol=NEAR):
            yield f"the derivative by {mode} is {value:.8g} for inputs in {shown}, {expected[mode]:.8g} for replicas"


def layout(type: Type, random: Random) -> SBP:
    """Any layout that moves along one mesh axis allow."""
    every: list[SBP] = [*map(Split, range(type.ndim)), Partial()]
    return every[int(random.integers(len(every)))] if type.ndim else B


def batching_problems(sample: Sample) -> Iterator[str]:
    """Where vmap of an operator differs from a loop, over all inputs and over each alone."""
    count = len(sample.types)
    if not count:
        return
    draws = [inputs_of(sample, random_of(sample, number)) for number in range(EXAMPLES)]
    for flags in dict.fromkeys([(True,) * count, *(tuple(i == j for j in range(count)) for i in range(count))]):
        each = [[made[p] if flag else draws[0][p] for p, flag in enumerate(flags)] for made in draws]
        given = [np.stack([one[p] for one in each]) if flag else each[0][p] for p, flag in enumerate(flags)]
        with np.errstate(all="ignore"):
            mapped = vmap(lambda *xs: as_tuple(apply(sample.op, *xs)), tuple(0 if flag else None for flag in flags))
            found = mapped(*map(asarray, given))
            loop = [as_tuple(sample.op.kernel(*one)) for one in each]
        for place, result in enumerate(found):
            expected = np.stack([np.asarray(one[place]) for one in loop])
            if not _close(result.numpy(), expected):
                mapped_inputs = [p for p, flag in enumerate(flags) if flag]
                yield f"vmap over its inputs {mapped_inputs} differs from a loop"


def _close(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and bool(np.allclose(a, b, rtol=1e-6, atol=1e-6, equal_nan=True))


def mixed_problems(sample: Sample) -> Iterator[str]:
    """Where vmap of gradients, or gradients of vmap, differ from a loop of gradients."""
    cases = [Case(sample, random_of(sample, number)) for number in range(EXAMPLES)]
    for case in cases[1:]:  # what is no number is the same for all
        case.arrays = [x if p in case.free else cases[0].arrays[p] for p, x in enumerate(case.arrays)]
    loop = [case.gradients(*map(asarray, case.point)) for case in cases]
    points = [asarray(np.stack(xs)) for xs in zip(*(case.point for case in cases), strict=True)]
    dys = [asarray(np.stack(xs)) for xs in zip(*(case.dy for case in cases), strict=True)]
    result, count = cases[0].result, len(points)
    inside = vmap(lambda *xs: vjp(result, *xs[:count])[1](*xs[count:]))(*points, *dys)
    outside = vjp(vmap(result), *points)[1](*dys)
    for order, found in (("vmap of the gradient", inside), ("gradient of vmap", outside)):
        for place, gradient in enumerate(found):
            if not _close(gradient.numpy(), np.stack([one[place].numpy() for one in loop])):
                yield f"the {order} by input {cases[0].free[place]} differs from a loop of gradients"


def name_of(op: Op) -> str:
    """An operator as problems name it."""
    return op.text()
