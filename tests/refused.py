"""Steps in which one rank's values are refused, for every operator that may refuse some, in worlds of any kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np

import flowcore as fc
from flowcore.graph import Value
from flowcore.op import OPS, Array, Sample, Type
from flowcore.ops.call import apply_all
from flowcore.simulate import inputs_of

BAD = (-3, 10**6, 0, 1)
"""What operators may refuse: every one of the registry refuses an operand full of one of these."""


def cases(name: str) -> Iterator[tuple[Sample, int]]:
    """Samples of an operator that may refuse values of an operand, and that operand; also of whole numbers."""
    for sample in OPS[name].samples():
        whole = tuple(Type(each.shape, np.dtype("int64")) for each in sample.types)
        for made in (sample, replace(sample, types=whole, draw=("small",) * len(whole))):
            check = made.op.checks(made.types) if made.types else None
            if check is not None:
                yield made, check[0]


@cache
def refused(name: str) -> tuple[Sample, list[Array], list[Array]]:
    """A sample of an operator, inputs that it takes, and inputs that it refuses."""
    for (sample, place), number in product(cases(name), BAD):
        good = inputs_of(sample, np.random.default_rng(0))
        bad = [*good[:place], np.full_like(good[place], number), *good[place + 1 :]]
        with suppress(fc.DTypeError):  # it takes no whole numbers
            sample.op.infer(*sample.types)
            sample.op.kernel(*good)
            try:
                sample.op.kernel(*bad)
            except fc.FlowcoreError:
                return sample, good, bad
    raise AssertionError(f"{name} may refuse values, but none of {BAD}")


def names() -> list[str]:
    """The operators of the registry that may refuse values."""
    return [name for name in sorted(OPS) if any(cases(name))]


def held(block: Array) -> fc.Tensor:
    """A tensor of which all ranks should hold the same block; nobody looks whether they do."""
    layout = fc.Layout(fc.Placement(fc.world_size()), "B")
    return fc.Tensor(Value(Type(block.shape, block.dtype), layout.placement, layout.sbp), block)


def met(name: str, guilty: int, compiles: bool, count: int = 3) -> list[Any]:
    """What `count` steps of all ranks give on this one, the second with values that `guilty` alone refuses."""
    sample, good, bad = refused(name)
    mesh = fc.Placement(fc.world_size())

    def step(term: fc.Tensor, *inputs: fc.Tensor) -> fc.Tensor:
        results = apply_all(sample.op, *inputs)
        first = results[0] if isinstance(results, tuple) else results
        rest = fc.sum(fc.astype(first == first, "float64") * 0)
        return (term + rest.to_global(sbp="P")).to_global(sbp="B")

    call = fc.compile(step) if compiles else step
    said: list[Any] = []
    for blocks in (good, bad if fc.rank() == guilty else good, good)[:count]:
        try:
            said.append(float(call(fc.from_local(np.ones(()), mesh, "P"), *map(held, blocks)).to_local()))
        except fc.FlowcoreError as error:
            notes = getattr(error, "__notes__", [])
            said.append((type(error).__name__, str(error), error.told_by, [note.split("\n")[0] for note in notes]))
    return said


def check(name: str, rank: int, guilty: int, size: int, said: list[Any]) -> None:
    """What `met` says on `rank` of `size` is the error that `guilty` met: type, text, operator and line."""
    sample, _, bad = refused(name)
    try:
        sample.op.kernel(*bad)
    except fc.FlowcoreError as error:
        wanted = type(error).__name__, str(error), None if rank == guilty else guilty
    right, (*found, notes) = said
    assert right == size and tuple(found) == wanted, (rank, said)
    assert notes[0].startswith(f"in {name}, called at refused.py:"), notes
    assert notes[1:] == ([] if rank == guilty else [f"on rank {guilty}, which told the others"])
