"""Random state: the same numbers on every layout, in order, eager and compiled, and where it may begin."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc

DRAWS: dict[str, Callable[..., Any]] = {
    "rand": lambda **at: fc.random.rand(7, 5, **at),
    "randn": lambda **at: fc.random.randn((7, 5), dtype="float64", **at),
    "uniform": lambda **at: fc.random.uniform(-2, 3, (7, 5), **at),
    "normal": lambda **at: fc.random.normal(1, 2, (7, 5), **at),
    "randint": lambda **at: fc.random.randint(-3, 9, (7, 5), **at),
    "bernoulli": lambda **at: fc.random.bernoulli(0.3, (7, 5), **at),
    "permutation": lambda **at: fc.random.permutation(13, **at),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_is_the_same_on_every_layout(name: str) -> None:
    def draw(sbp: str) -> Any:
        fc.manual_seed(5)
        drawn = DRAWS[name](placement=fc.Placement.grid(), sbp=sbp)
        assert drawn.sbp == fc.asarray(np.zeros((1, 1)), sbp=sbp).sbp
        return drawn.numpy(), DRAWS[name]().numpy()

    first, second = fc.launch.run(draw, ranks=1, args=("B",))[0]
    assert (first != second).any()
    for ranks, sbp in [(2, "B"), (2, "S0"), (3, "S0")]:
        for found in fc.launch.run(draw, ranks=ranks, args=(sbp,)):
            np.testing.assert_array_equal(found[0], first)
            np.testing.assert_array_equal(found[1], second)


def test_draws_follow_their_distributions() -> None:
    fc.manual_seed(0)
    assert fc.random.uniform(-2, 3, (100, 100)).numpy().mean() == pytest.approx(0.5, abs=0.05)
    assert fc.random.normal(1, 2, (100, 100)).numpy().std() == pytest.approx(2, rel=0.03)
    assert set(np.unique(fc.random.randint(-1, 2, (50,)).numpy())) == {-1, 0, 1}
    assert fc.random.bernoulli(0.3, (100, 100)).numpy().mean() == pytest.approx(0.3, abs=0.02)
    assert sorted(fc.random.permutation(100).numpy()) == list(range(100))


def test_a_compiled_function_draws_what_an_eager_one_does() -> None:
    draw = fc.compile(lambda: fc.random.rand(4))
    fc.manual_seed(2)
    eager = [fc.random.rand(4).numpy() for _ in range(3)]
    fc.manual_seed(2)
    compiled = [draw().numpy(), fc.random.rand(4).numpy(), draw().numpy()]
    np.testing.assert_array_equal(eager, compiled)


def test_a_state_goes_on_where_it_was_taken() -> None:
    fc.manual_seed(9)
    fc.random.rand(3)
    state = fc.random.get_state()
    assert state == {"seed": 9, "counter": 1}
    after = fc.random.rand(3).numpy()
    fc.random.set_state(state)
    np.testing.assert_array_equal(fc.random.rand(3).numpy(), after)
    with pytest.raises(fc.CheckpointError, match="64-bit seed"):
        fc.random.set_state({"seed": 2**70, "counter": 0})


def test_a_draw_on_some_ranks_leaves_all_ranks_in_step() -> None:
    def draw() -> Any:
        fc.manual_seed(1)
        fc.random.rand(3, placement=fc.Placement([1]))
        return fc.random.rand(3).numpy()

    first, second = fc.launch.run(draw, ranks=2)
    np.testing.assert_array_equal(first, second)
