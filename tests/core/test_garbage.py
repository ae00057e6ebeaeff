"""Python looks for no garbage while a step is compiled, and does afterwards as it did before."""

import gc
from collections.abc import Iterator

import pytest

import flowcore as fc
from flowcore.garbage import none_searched


@pytest.fixture(autouse=True, params=[True, False], ids=["searched before", "not searched before"])
def was_on(request: pytest.FixtureRequest) -> Iterator[bool]:
    before = gc.isenabled()
    (gc.enable if request.param else gc.disable)()
    yield request.param
    (gc.enable if before else gc.disable)()


def test_a_trace_is_not_searched_and_what_follows_is_as_before(was_on: bool) -> None:
    @fc.compile
    def f(x: fc.Tensor) -> fc.Tensor:
        assert not gc.isenabled()
        return x + 1

    assert f(fc.ones(())).item() == 2
    assert gc.isenabled() == was_on


def test_a_function_that_fails_while_it_is_traced_leaves_it_as_it_was(was_on: bool) -> None:
    @fc.compile
    def f(x: fc.Tensor) -> fc.Tensor:
        raise KeyError("bad")

    with pytest.raises(KeyError):
        f(fc.ones(()))
    assert gc.isenabled() == was_on


def test_of_several_threads_the_last_takes_it_up_again(was_on: bool) -> None:
    first, second = none_searched(), none_searched()
    with first:
        with second:
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled() == was_on
