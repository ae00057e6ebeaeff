"""The registers of a program lie apart while they live, in little more than what lives at once, and are used again."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flowcore as fc
from flowcore.jit.store import is_available
from flowcore.memory import Span, most_alive, packed
from flowcore.op import OPS
from flowcore.world import current

SPANS = st.builds(
    lambda first, length, size: Span(first, first + length, 64 * size),
    st.integers(0, 30), st.integers(0, 12), st.integers(1, 20),
)  # fmt: skip
WRITERS = [sample for name, cls in OPS.items() if cls.writes for sample in cls.samples()]


@given(st.lists(SPANS, max_size=40))
def test_what_lives_at_once_lies_apart_within_the_size(spans: list[Span]) -> None:
    places, size = packed(spans)
    assert most_alive(spans) <= size <= sum(span.size for span in spans)
    for i, (a, at) in enumerate(zip(spans, places, strict=True)):
        assert 0 <= at <= size - a.size
        for b, other in list(zip(spans, places, strict=True))[:i]:
            is_apart = at + a.size <= other or other + b.size <= at
            assert is_apart or a.last < b.first or b.last < a.first


@pytest.mark.parametrize("sample", WRITERS, ids=lambda sample: f"{sample.op.text()}-{sample.types[0].dtype}")
def test_an_operator_writes_into_given_memory_what_its_kernel_gives(sample: object) -> None:
    op, types = sample.op, sample.types  # type: ignore[attr-defined]
    draw = np.random.default_rng(0)
    arrays = [draw.normal(size=type.shape, scale=9).astype(type.dtype) for type in types]
    (result,) = op.infer(*types)
    memory = np.empty(result.shape, result.dtype)
    assert op.write([memory], *arrays) is memory
    np.testing.assert_allclose(memory, op.kernel(*arrays), rtol=1e-5 if result.dtype == np.float32 else 1e-12)


def train() -> tuple[int, int, int]:
    """(bytes taken at most during a step, bytes of the arena, its lower bound) of a training step in steady state."""
    fc.manual_seed(0)
    model = fc.nn.Sequential(fc.nn.Linear(128, 256), fc.nn.GELU(), fc.nn.Linear(256, 64))
    opt = fc.optim.AdamW(model.parameters(), lr=1e-3)
    x, y = fc.ones((512, 128)), fc.asarray(np.arange(512) % 64)

    @fc.compile
    def step(x: fc.Tensor, y: fc.Tensor) -> fc.Tensor:
        loss = fc.nn.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        opt.zero_grad()
        return loss

    losses = [step(x, y).item() for _ in range(3)]
    assert losses[2] < losses[0]
    tracemalloc.start()
    try:
        step(x, y)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        step(x, y)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    found = [v[0].program for k, v in current().programs.items() if isinstance(v, list) and k[0] is step]
    (program,) = found
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
    wanted = f(x).numpy(), g(x).numpy()
    for _ in range(2):
        first, second = f(x), g(x)
        np.testing.assert_array_equal(first.numpy(), wanted[0])
        np.testing.assert_array_equal(second.numpy(), wanted[1])
    np.testing.assert_allclose(wanted[0], (np.exp(x.numpy() @ x.numpy()) + 1).sum(axis=0))
    made = [variants for variants in current().programs.values() if isinstance(variants, list)]
    programs = [variants[0].program for variants in made if variants]  # one that could not be traced has none
    used = [program for program in programs if program.arena.size][-2:]
    places = [next(iter(program.arena.registers.values())) for program in used]
    assert np.shares_memory(places[0].base, places[1].base)
