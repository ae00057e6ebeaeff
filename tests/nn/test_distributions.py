"""The distributions follow their laws, and an element is the same on every layout, eager, compiled and mapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

import flowcore as fc

SHAPE, MANY = (7, 5), 20_000
CHANCES = np.array([0.1, 0.2, 0.3, 0.4])

# name: a draw of a shape, and scipy's law of it
LAWS: dict[str, tuple[Callable[..., Any], Any]] = {
    "exponential": (lambda n, **at: fc.random.exponential(2.0, n, **at), stats.expon(scale=2)),
    "laplace": (lambda n, **at: fc.random.laplace(1.0, 2.0, n, **at), stats.laplace(1, 2)),
    "gumbel": (lambda n, **at: fc.random.gumbel(-1.0, 0.5, n, **at), stats.gumbel_r(-1, 0.5)),
    "gamma": (lambda n, **at: fc.random.gamma(2.5, 3.0, n, **at), stats.gamma(2.5, scale=3)),
    "small gamma": (lambda n, **at: fc.random.gamma(0.3, 1.0, n, **at), stats.gamma(0.3)),
    "beta": (lambda n, **at: fc.random.beta(2.0, 0.7, n, **at), stats.beta(2, 0.7)),
    "poisson": (lambda n, **at: fc.random.poisson(3.5, n, **at), stats.poisson(3.5)),
    "large poisson": (lambda n, **at: fc.random.poisson(47.0, n, **at), stats.poisson(47)),
    "truncated normal": (lambda n, **at: fc.random.truncated_normal(-1.0, 2.5, n, **at), stats.truncnorm(-1, 2.5)),
    "far normal": (lambda n, **at: fc.random.truncated_normal(3.0, 5.0, n, **at), stats.truncnorm(3, 5)),
}


@pytest.mark.parametrize("name", LAWS)
def test_draws_follow_their_law(name: str) -> None:
    draw, law = LAWS[name]
    fc.manual_seed(1)
    found = draw((MANY,)).numpy()
    if hasattr(law.dist, "pdf"):
        assert stats.kstest(found, law.cdf).pvalue > 1e-3
    else:
        values = np.arange(law.ppf(1e-3), law.ppf(1 - 1e-3))
        counts = np.array([(found == value).sum() for value in values])
        expected = law.pmf(values) * MANY
        assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()
    assert found.mean() == pytest.approx(law.mean(), abs=5 * law.std() / MANY**0.5)


@pytest.mark.parametrize("name", LAWS)
def test_elements_are_the_same_on_every_layout_and_compiled(name: str) -> None:
    def program(sbp: str, compiled: bool) -> Any:
        fc.manual_seed(5)
        f = lambda: LAWS[name][0](SHAPE, placement=fc.Placement.grid(), sbp=sbp)  # noqa: E731
        drawn = (fc.compile(f) if compiled else f)()
        return drawn.numpy(), fc.random.get_state()

    expected, state = program("B", False)
    assert len(np.unique(expected)) > 5
    for sbp, compiled in (("S0", False), ("S1", True), ("B", True)):
        for found, after in fc.launch.run(program, ranks=3, args=(sbp, compiled)):
            np.testing.assert_array_equal(found, expected)
            assert after == state


def test_parameters_may_be_tensors_and_are_mapped() -> None:
    means = np.array([0.5, 5.0, 50.0])
    fc.manual_seed(3)
    found = fc.random.poisson(fc.asarray(means), (MANY, 3)).numpy()
    np.testing.assert_allclose(found.mean(0), means, rtol=0.05)
    fc.manual_seed(3)
    each = fc.vmap(lambda a: fc.random.gamma(a, shape=(4,)))(fc.asarray(means)).numpy()
    fc.manual_seed(3)
    np.testing.assert_array_equal(each, [fc.random.gamma(fc.asarray(a), shape=(4,)).numpy() for a in means])
    assert np.isnan(fc.random.gamma(fc.asarray(-1.0), shape=(2,)).numpy()).all()
    assert (fc.random.poisson(fc.asarray(-1.0), shape=(2,)).numpy() == -1).all()
    with pytest.raises(fc.GradError, match="random_gamma has no gradient"):
        fc.grad(lambda a: fc.random.gamma(a).sum())(fc.asarray(means))


def test_choices_have_their_chances() -> None:
    fc.manual_seed(2)
    for found in (
        fc.random.categorical(fc.asarray(np.log(CHANCES)), shape=(MANY,)).numpy(),
        fc.random.choice(4, (MANY,), p=CHANCES).numpy(),
    ):
        counts = np.bincount(found, minlength=4)
        assert (np.abs(counts - CHANCES * MANY) < 5 * np.sqrt(CHANCES * MANY)).all()
    rows = fc.random.categorical(fc.asarray(np.diag([50.0, 50.0, 50.0])), axis=0).numpy()
    assert rows.tolist() == [0, 1, 2]
    equal = fc.random.choice(fc.asarray([10, 20, 30]), (MANY,)).numpy()
    assert abs((equal == 20).mean() - 1 / 3) < 0.02
    for p in (None, CHANCES):
        assert sorted(fc.random.choice(4, (2, 2), replace=False, p=p).numpy().ravel()) == [0, 1, 2, 3]
    with pytest.raises(fc.ShapeError, match="without replacement"):
        fc.random.choice(4, (5,), replace=False)
    with pytest.raises(fc.ShapeError, match="low < high"):
        fc.random.truncated_normal(2.0, 1.0)


def test_shuffling_keeps_what_there_is() -> None:
    def program() -> Any:
        fc.manual_seed(7)
        x = fc.asarray(np.arange(24.0).reshape(8, 3), sbp=fc.S(0))
        return fc.random.shuffle(x).numpy(), fc.random.shuffle(x, axis=1).numpy()

    rows, columns = program()
    assert sorted(rows[:, 0]) == list(range(0, 24, 3)) and (rows[:, 0] != np.arange(0, 24, 3)).any()
    assert sorted(columns[0]) == [0, 1, 2]
    for found in fc.launch.run(program, ranks=3):
        np.testing.assert_array_equal(found[0], rows)
        np.testing.assert_array_equal(found[1], columns)


def test_a_draw_inside_a_state_that_was_saved_is_drawn_again() -> None:
    fc.manual_seed(11)
    fc.random.gamma(2.0, shape=(3,))
    state = fc.random.get_state()
    first = fc.random.beta(2.0, 3.0, (4,)).numpy()
    fc.random.set_state(state)
    np.testing.assert_array_equal(fc.random.beta(2.0, 3.0, (4,)).numpy(), first)
