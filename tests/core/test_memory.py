"""The registers of a program lie in one arena that is used again, and what leaves it outlives the next run."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.jit.store import is_available
from flowcore.op import OPS, Op, Sample, as_tuple
from flowcore.simulate import inputs_of
from flowcore.world import current
from tests.sharing import programs
from tests.training import perceptron

WRITERS = [
    sample
    for cls in OPS.values()
    if cls.write is not Op.write
    for sample in cls.samples()
    if sample.op.new_results((0,)) or sample.op.scratch(sample.types)
]


@pytest.mark.parametrize("sample", WRITERS, ids=lambda sample: f"{sample.op.text()}-{sample.types[0].dtype}")
def test_an_operator_writes_into_given_memory_what_its_kernel_gives(sample: Sample) -> None:
    op, types = sample.op, sample.types
    arrays = inputs_of(sample, np.random.default_rng(0))
    results = op.infer(*types)
    memory, scratch = ([np.empty(type.shape, type.dtype) for type in some] for some in (results, op.scratch(types)))
    for array in memory:
        array.reshape(-1).view(np.uint8)[...] = 0x5A
    is_written = bool(op.new_results((0,)))
    with np.errstate(all="ignore"):
        found = as_tuple(op.prepare([*(memory if is_written else [None] * len(memory)), *scratch])(*arrays))
        wanted = as_tuple(op.kernel(*arrays))
    assert all((one is array) == is_written for one, array in zip(found, memory, strict=True))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5 if other.dtype in (np.float32, np.complex64) else 1e-12)


def train() -> tuple[int, int, int]:
    """(bytes taken at most during a step, bytes of the arena, its lower bound) of a training step in steady state."""
    step = fc.compile(perceptron((128, 256, 64), 512, fc.nn.GELU)[1])
    losses = [step().item() for _ in range(3)]
    assert losses[2] < losses[0]
    tracemalloc.start()
    try:
        step()
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        step()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    (program,) = programs(step)
    spans = sum(type.nbytes for _, type in program.arena.places.values())
    return peak - before, program.arena.size, spans


@pytest.mark.skipif(not is_available(), reason="without compiled loops numpy takes temporaries of a tile each")
def test_a_training_step_takes_no_memory_for_large_registers() -> None:
    taken, arena, separate = train()
    # the largest registers have 512 x 256 elements; what is taken is one of 512 x 64, vectors and Python objects
    assert taken < 2**18 < 512 * 256 * 4
    assert arena < separate


def test_results_of_a_step_are_not_overwritten_by_the_next() -> None:
    @fc.compile
    def f(x: fc.Tensor) -> tuple[fc.Tensor, fc.Tensor]:
        y = fc.exp(x * 0.5) @ x
        return y, y.T + 1

    x = fc.asarray(np.eye(128, dtype=np.float32))
    y, z = f(x)
    kept, other = y.numpy().copy(), z.numpy().copy()
    f(x * 3)
    np.testing.assert_array_equal(y.numpy(), kept)
    np.testing.assert_array_equal(z.numpy(), other)


def test_an_error_in_a_compiled_function_names_the_operator_and_its_line() -> None:
    @fc.compile
    def f(x: fc.Tensor, y: fc.Tensor) -> fc.Tensor:
        hidden = fc.exp(x) + 1
        return fc.take(hidden, y, axis=0) * 2

    x = fc.ones((3, 2))
    np.testing.assert_allclose(f(x, fc.asarray([0, 2])).numpy(), np.full((2, 2), 2 * np.e + 2), rtol=1e-6)
    with pytest.raises(fc.FlowcoreError) as caught:
        f(x, fc.asarray([0, 3]))
    assert any("in take, called at" in note and "test_memory.py" in note for note in caught.value.__notes__)


def test_programs_share_memory_and_keep_their_results() -> None:
    f, g = fc.compile(lambda x: fc.sum(fc.exp(x @ x) + 1, axis=0)), fc.compile(lambda x: (x @ x.T @ x) * 2 + 1)
    x = fc.asarray(np.random.default_rng(0).normal(size=(64, 64)) / 8)
    larger = g(x).numpy()  # memory that grows is not that of programs before
    wanted = f(x).numpy(), larger
    for _ in range(2):
        first, second = f(x), g(x)
        np.testing.assert_array_equal(first.numpy(), wanted[0])
        np.testing.assert_array_equal(second.numpy(), wanted[1])
    np.testing.assert_allclose(wanted[0], (np.exp(x.numpy() @ x.numpy()) + 1).sum(axis=0))
    used = [each.variants(current())[0].program for each in (f, g)]
    places = [next(iter(program.arena.registers.values())) for program in used]
    assert np.shares_memory(places[0].base, places[1].base)


def test_results_that_the_caller_keeps_are_not_written_over() -> None:
    @fc.compile
    def f(x: fc.Tensor) -> fc.Tensor:
        return fc.sum(x * 2)

    kept = [f(fc.asarray([float(i), 1.0])) for i in range(6)]
    assert [y.item() for y in kept] == [2.0 * i + 2 for i in range(6)]


def test_a_state_that_nobody_else_holds_stays_where_it_lies() -> None:
    small, large = fc.zeros((3,)), fc.zeros((64, 64))

    @fc.compile
    def step(x: fc.Tensor) -> None:
        small.assign(fc.max(small + x, axis=0) * fc.ones((3,)))
        large.assign(large @ large + x)

    step(fc.ones(()))
    before = small.block, large.block
    places = [block.ctypes.data for block in before]
    kept = small.detach(), large.numpy().copy()
    del before
    step(fc.ones(()))
    np.testing.assert_array_equal(kept[0].numpy(), 1)
    np.testing.assert_array_equal(small.numpy(), 2)
    np.testing.assert_array_equal(large.numpy(), kept[1] @ kept[1] + 1)
    assert (small.block.ctypes.data == places[0], large.block.ctypes.data == places[1]) == (False, True)


def test_states_that_take_each_others_place_keep_their_values() -> None:
    a, b = fc.asarray([1.0, 2.0]), fc.asarray([3.0, 4.0])

    @fc.compile
    def step() -> fc.Tensor:
        x, y = a + 1, b + 1
        a.assign(y)
        b.assign(x)
        return x

    first = step()
    second = step()
    np.testing.assert_array_equal(first.numpy(), [2, 3])
    np.testing.assert_array_equal(second.numpy(), [5, 6])
    np.testing.assert_array_equal(a.numpy(), [3, 4])
    np.testing.assert_array_equal(b.numpy(), [5, 6])


def test_an_error_leaves_small_states_as_they_were() -> None:
    count = fc.zeros((3,))

    @fc.compile
    def step(x: fc.Tensor, y: fc.Tensor) -> fc.Tensor:
        count.assign(count + x)
        return fc.take(fc.exp(x), y, axis=0)

    step(fc.ones((3,)), fc.asarray([0, 2]))
    with pytest.raises(fc.FlowcoreError):
        step(fc.ones((3,)), fc.asarray([0, 3]))
    np.testing.assert_array_equal(count.numpy(), 1)


TURNED: dict[str, Any] = {
    "what may be a parameter as it lies": lambda p: fc.where(p > 0, fc.flip(fc.flip(p, axis=1), axis=1), 0.3),
    "a view whose elements lie apart": fc.grad(
        lambda x: fc.sum(fc.cumulative_sum(fc.cumulative_sum(x, axis=1) * 0.1, axis=0) ** 2)
    ),
}


@pytest.mark.parametrize("f", TURNED.values(), ids=TURNED)
def test_only_what_surely_lies_in_a_register_of_the_program_is_written_over(f: Any) -> None:
    x = np.random.default_rng(3).normal(size=(33, 33))
    p = fc.nn.Parameter(x.copy())
    expected = f(fc.asarray(x)).numpy()
    step = fc.compile(lambda: f(p).detach())
    for _ in range(3):
        np.testing.assert_allclose(step().numpy(), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(p.detach().numpy(), x)
