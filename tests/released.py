"""Functions that are compiled and let go of, and what ranks still hold of them."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import ref

import numpy as np

import flowcore as fc
from flowcore.world import World, current

SHAPE = 96, 96


class Held(NamedTuple):
    """What a rank holds of compiled functions: programs, windows, registers in common, bytes of its arena."""

    functions: int
    windows: int
    common: int
    arena: int


def held(world: World) -> Held:
    """What the rank holds now."""
    memory = world.memory._memory()
    return Held(len(world.compiled), len(world.windows), len(world.kept), 0 if memory is None else memory.size)


NOTHING = Held(0, 0, 0, 0)


def step(number: int, batch: int = 96) -> tuple[Callable[..., fc.Tensor], Any]:
    """A compiled function that shows values to other ranks and replaces a state that the host has in common."""
    mesh = fc.Placement(fc.world_size())
    state = fc.asarray(np.zeros(SHAPE, "float32"), placement=mesh)

    @fc.compile
    def compiled(x: fc.Tensor) -> fc.Tensor:
        product = (x.mT @ fc.tanh(x + float(number))).to_global(sbp="S0")
        state.assign((state.to_global(sbp="S0") + product).to_global(sbp="B"))
        return fc.sum(fc.exp(product * 0.001) + state)

    return compiled, ref(state)


def batch(rows: int = 96) -> fc.Tensor:
    return fc.full((rows, SHAPE[1]), 0.5, placement=fc.Placement(fc.world_size()), sbp="S0")


def compiled_in_a_loop(count: int, bytes_made: Callable[[], int] = lambda: 0) -> tuple[list[Held], list[int], bool]:
    """After each of `count` functions was let go of what is held, and the bytes of shared memory ever made.

    The last: whether the states went too. No collection of garbage helps.
    """
    world, found, made, states = current(), [], [], []
    gc.collect()
    gc.disable()
    try:
        for number in range(count):
            function, state = step(number)
            first, second = function(batch()).item(), function(batch(64)).item()
            assert held(world)[:3] == (1, 1, 1) and first != second
            del function
            found.append(held(world))
            made.append(bytes_made())
            states.append(state() is None)
    finally:
        gc.enable()
    return found, made, all(states)
