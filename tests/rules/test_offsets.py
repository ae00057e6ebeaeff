"""Operators whose signatures depend on where blocks begin: sound for random attributes, on one and two mesh axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from flowcore.op import Array, Op, as_tuple, type_of
from flowcore.ops.convolve import Convolve
from flowcore.ops.pool import WindowArgMax, WindowPick, WindowPut
from flowcore.ops.slices import Slice, Unslice
from flowcore.signatures import nd_signatures
from flowcore.simulate import Random, Run, lay

CASES, CHOICES = 20, 10
"""How many operators of each family are drawn, and how many of their signatures are tried."""


def ints(random: Random, low: int, high: int, count: int) -> tuple[int, ...]:
    return tuple(map(int, random.integers(low, high, count)))


def convolutions(random: Random) -> Iterator[tuple[Op, tuple[Array, ...]]]:
    """The three operators of a form; windows may reach beyond x, leave rows out, or lie outside."""
    spatial = int(random.integers(1, 3))
    taps, strides, dilations, before, rows, long = (
        ints(random, *bounds, spatial) for bounds in ((1, 5), (1, 5), (1, 4), (-2, 6), (1, 9), (1, 12))
    )
    x, w, y = (random.normal(size=shape) for shape in ((2, 2, *long), (3, 2, *taps), (2, 3, *rows)))
    yield Convolve("nc,oc->no", "xwy", rows, strides, dilations, before), (x, w)
    yield Convolve("no,oc->nc", "ywx", long, strides, dilations, before), (y, w)
    yield Convolve("nc,no->oc", "xyw", taps, strides, dilations, before), (x, y)


def shifted(random: Random) -> Iterator[tuple[Op, tuple[Array, ...]]]:
    """A kernel of one tap behind padding: the windows of the first axis are its blocks, those within them are not."""
    x, w = random.normal(size=(2, 2, 4)), random.normal(size=(3, 2, 1))
    yield Convolve("nc,oc->no", "xwy", (8,), (1,), (3,), (2,)), (x, w)


def poolings(random: Random) -> Iterator[tuple[Op, tuple[Array, ...]]]:
    """Windows that each have an element of x."""
    spatial = int(random.integers(1, 3))
    taps, strides, dilations, long = (ints(random, *bounds, spatial) for bounds in ((1, 5), (1, 5), (1, 4), (6, 12)))
    before = tuple(int(random.integers(0, d * (k - 1) + 1)) for d, k in zip(dilations, taps, strict=True))
    rows = tuple((length + b - 1) // s + 1 for length, b, s in zip(long, before, strides, strict=True))
    x = random.normal(size=(2, *long))
    fits = all((r - 1) * s - b < length for r, s, b, length in zip(rows, strides, before, long, strict=True))
    if not fits or any(d > 1 for d in dilations):
        dilations, before = (1,) * spatial, (0,) * spatial
        rows = tuple((length - 1) // s + 1 for length, s in zip(long, strides, strict=True))
    find = WindowArgMax(taps, rows, strides, dilations, before)
    taken = find.kernel(x)
    yield find, (x,)
    yield WindowPick(taps, rows, strides, dilations, before), (x, taken)
    yield WindowPut(taps, long, strides, dilations, before), (random.normal(size=taken.shape), taken)


def slices(random: Random) -> Iterator[tuple[Op, tuple[Array, ...]]]:
    """Progressions in both directions, of length perhaps 0."""
    shape = ints(random, 4, 13, 2)
    steps = tuple(int(step) for step in random.choice([-2, -1, 1, 1, 2, 3], 2))
    firsts = tuple(int(random.integers(0, length)) for length in shape)
    ways = zip(shape, firsts, steps, strict=True)
    room = [(length - 1 - at) // step + 1 if step > 0 else at // -step + 1 for length, at, step in ways]
    lengths = tuple(int(random.integers(0, most + 1)) for most in room)
    yield Slice(firsts, lengths, steps), (random.normal(size=shape),)
    yield Unslice(firsts, lengths, steps, shape=shape), (random.normal(size=lengths),)


@pytest.mark.parametrize("family", [convolutions, shifted, poolings, slices], ids=lambda family: family.__name__)
@pytest.mark.parametrize("mesh", [(4,), (2, 2), (3, 2)])
def test_declared_signatures_are_sound_for_random_attributes(family: object, mesh: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    for _ in range(1 if family is shifted else CASES):
        for op, arrays in family(random):  # type: ignore[operator]  # one of the functions above
            check(op, arrays, mesh, random)


def check(op: Op, arrays: Sequence[Array], mesh: tuple[int, ...], random: Random) -> None:
    """Some of the declared signatures give the whole result."""
    types = tuple(map(type_of, arrays))
    whole = tuple(np.asarray(result) for result in as_tuple(op.kernel(*arrays)))
    run, choices = Run(op, types, op.infer(*types), mesh), nd_signatures(op, types, mesh)
    if len(choices) > CHOICES:
        choices = tuple(choices[i] for i in random.choice(len(choices), CHOICES, replace=False))
    for choice in choices:
        inputs = tuple(tuple(axis.inputs[i] for axis in choice) for i in range(len(types)))
        outputs = tuple(tuple(axis.outputs[o] for axis in choice) for o in range(len(whole)))
        blocks = [lay(array, sbp, mesh, random) for array, sbp in zip(arrays, inputs, strict=True)]
        shown = f"{op} of {', '.join(map(str, types))} on {mesh}: {' | '.join(map(str, choice))}"
        assert run.given(inputs, blocks).gives(outputs, whole), shown
