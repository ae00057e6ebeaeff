"""A program goes with the compiled function that made it: its arena, its windows, and the states nobody else holds."""

from __future__ import annotations

import gc
from copy import deepcopy
from typing import Any
from weakref import ref

import numpy as np

import flowcore as fc
from flowcore.world import current
from tests.released import NOTHING, batch, compiled_in_a_loop, held, step


def test_fifty_functions_that_were_let_go_of_leave_nothing() -> None:
    for found, _, are_gone in fc.launch.run(compiled_in_a_loop, ranks=2, args=(50,), timeout=120):
        assert found == [NOTHING] * 50 and are_gone


def test_functions_may_be_let_go_of_by_one_rank_before_another() -> None:
    def run() -> list[float]:
        world, kept, found = current(), [], []
        for number in range(6):
            function, _ = step(number)
            found.append(function(batch()).item())
            if (number + fc.rank()) % 2:
                kept.append(function)  # the other rank lets go of it
            if number == 4:
                kept.clear()
            del function
        kept.clear()
        assert held(world) == NOTHING
        return found

    first, second = fc.launch.run(run, ranks=2, timeout=60)
    alone = fc.launch.run(run, ranks=1)[0]
    np.testing.assert_allclose([first, second], [alone] * 2, rtol=1e-5)


def test_what_other_programs_use_stays() -> None:
    def run() -> list[float]:
        one, _ = step(1)
        before = one(batch()).item()
        for number in range(3):
            other, _ = step(number)
            other(batch(192))
            del other
        shared = int(fc.world_size() > 1)
        assert held(current())[:3] == (1, shared, shared)
        return [before, one(batch()).item()]

    alone = fc.launch.run(run, ranks=1)[0]
    for found in fc.launch.run(run, ranks=2, timeout=60):
        np.testing.assert_allclose(found, alone, rtol=1e-5)


def test_a_world_goes_before_a_function_that_was_compiled_in_it() -> None:
    double = fc.compile(lambda x: (x * 2).to_global(sbp="B"))
    worlds: list[Any] = []

    def run() -> None:
        worlds.append(ref(current()))
        double(batch())

    fc.launch.run(run, ranks=2)
    gc.collect()
    assert [world() for world in worlds] == [None, None]
    np.testing.assert_array_equal(double(fc.ones(3)).numpy(), [2, 2, 2])


def test_a_module_that_keeps_its_own_compiled_step_goes_with_it() -> None:
    class Model(fc.nn.Module):
        def __init__(self) -> None:
            self.layer = fc.nn.Dropout(0.5)
            self.step = fc.compile(lambda x: self.layer(x) * 2)

    model = Model()
    model.step(fc.ones(8))
    gone = ref(model)
    copied = deepcopy(model.step)
    assert copied.variants(current()) == [] and len(model.step.variants(current())) == 1
    del model, copied
    gc.collect()
    assert gone() is None
