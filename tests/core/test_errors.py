"""Faults of a program end as the same typed error on every rank."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc

RANKS = 3


def failures(program: Callable[[], Any], every: type[BaseException] | None = None) -> list[Any]:
    """What `program` raises on each rank (None where nothing); without a timeout, ranks not told wait for ever."""
    seen: list[Any] = [None] * RANKS

    def watched() -> None:
        try:
            program()
        except BaseException as error:
            seen[fc.rank()] = error
            raise

    try:
        fc.launch.run(watched, ranks=RANKS)
    except BaseException as error:
        assert error in seen
    if every is not None:
        assert [type(error) for error in seen] == [every] * RANKS
    return seen


def test_shapes_that_do_not_match_fail_on_every_rank() -> None:
    for error in failures(lambda: fc.ones((4, 3), sbp=fc.S(0)) @ fc.ones((4, 3)), fc.ShapeError):
        assert "4" in str(error) and "3" in str(error)


def test_an_unknown_sbp_text_fails_on_every_rank() -> None:
    for error in failures(lambda: fc.ones((4,), sbp="Q7"), fc.PlacementError):
        assert "Q7" in str(error)


def test_a_split_beyond_the_dimensions_fails_on_every_rank() -> None:
    failures(lambda: fc.ones((4,), sbp=fc.S(1)), fc.PlacementError)


@pytest.mark.parametrize(
    ("blocks", "sbp", "kind"),
    [
        ([np.ones((2, 3)), np.ones((2, 4)), np.ones((2, 3))], "S0", fc.ShapeError),
        ([np.ones((1, 3)), np.ones((2, 3)), np.ones((3, 3))], "S0", fc.ShapeError),
        ([np.ones(3), np.ones((3, 1)), np.ones(3)], "S0", fc.ShapeError),
        ([np.ones(3), np.ones(3, "f4"), np.ones(3)], "S0", fc.DTypeError),
        ([np.ones(3), np.ones(3), np.zeros(3)], "B", fc.PlacementError),
        ([np.ones(3), np.ones(4), np.ones(3)], "P", fc.ShapeError),
    ],
)
def test_local_blocks_that_contradict_each_other_fail_on_every_rank(
    blocks: list[Any], sbp: str, kind: type[BaseException]
) -> None:
    found = failures(lambda: fc.from_local(blocks[fc.rank()], sbp=sbp), kind)
    assert len({str(error) for error in found}) == 1


def test_numpy_outside_the_placement_fails_there_and_names_the_rank() -> None:
    def program() -> None:
        x = fc.ones((4,), placement=fc.Placement([0, 1]), sbp=fc.S(0))
        for read in (x.numpy, x.to_local):
            if fc.rank() == 2:
                with pytest.raises(fc.PlacementError, match="rank 2, which is not in"):
                    read()
            else:
                read()

    assert failures(program) == [None] * RANKS


def test_a_rank_the_world_lacks_fails_on_every_rank() -> None:
    failures(lambda: fc.ones((4,), placement=fc.Placement([0, 3])), fc.PlacementError)


def test_eager_programs_that_differ_fail_on_every_rank_and_say_where() -> None:
    def program() -> None:
        x = fc.ones((6,), sbp=fc.S(0))
        y = fc.exp(x) if fc.rank() == 1 else fc.tanh(x)
        y.numpy()

    for error in failures(program, fc.DivergenceError):
        text = str(error)
        assert "exp" in text and "tanh" in text and "test_errors.py" in text
        assert "1" in text and "0" in text and "2" in text


def test_the_same_line_with_other_layouts_or_shapes_is_a_difference_that_is_named() -> None:
    def relaid() -> None:
        fc.ones((6, 6), sbp=fc.S(0)).to_global(sbp="S1" if fc.rank() == 1 else "B")

    def broadcast() -> None:
        x, y, z = fc.ones((6, 6), sbp=fc.S(0)), fc.ones((6, 1), sbp=fc.S(0)), fc.ones((6, 6), sbp=fc.S(0))
        (x + (y if fc.rank() == 1 else z)).to_global(sbp="B")

    for error in failures(relaid, fc.DivergenceError):
        assert ":S0 to [0 1 2|x=3]:S1" in str(error) and ":S0 to [0 1 2|x=3]:B" in str(error)
    for error in failures(broadcast, fc.DivergenceError):
        assert "add of float32[6,6], float32[6,1]" in str(error) and "add of float32[6,6], float32[6,6]" in str(error)


def test_compiled_programs_that_differ_fail_on_every_rank_and_say_where() -> None:
    def program() -> None:
        @fc.compile
        def f(x: fc.Tensor) -> fc.Tensor:
            return (fc.exp(x) if fc.rank() == 2 else fc.tanh(x)).sum()

        f(fc.ones((6,), sbp=fc.S(0)))

    for error in failures(program, fc.DivergenceError):
        assert "exp" in str(error) and "tanh" in str(error)


def test_a_rank_that_stops_early_ends_the_others() -> None:
    def program() -> None:
        x = fc.ones((6,), sbp=fc.S(0))
        if fc.rank() != 1:
            x.numpy()

    found = failures(program)
    assert [type(error) for error in found] == [fc.DivergenceError, type(None), fc.DivergenceError]


def test_different_values_given_to_asarray_fail_when_ranks_next_meet() -> None:
    def program() -> None:
        x = fc.asarray([1.0, 2.0, float(fc.rank() == 2)], sbp=fc.S(0))
        x.numpy()

    for error in failures(program, fc.DivergenceError):
        assert "checksum" in str(error)


def test_an_exception_on_one_rank_ends_all_and_carries_its_rank() -> None:
    def program() -> None:
        x = fc.ones((6,), sbp=fc.S(0))
        if fc.rank() == 1:
            raise KeyError("mine")
        x.numpy()

    with pytest.raises(KeyError, match="mine") as caught:
        fc.launch.run(program, ranks=RANKS)
    assert caught.value.rank == 1
    found = failures(program)
    assert [type(error) for error in found] == [fc.CommError, KeyError, fc.CommError]
    assert found[0].failed_rank == found[2].failed_rank == 1


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("bad", [3, -1])
def test_a_class_that_does_not_exist_is_named_on_the_rank_that_holds_it_and_ends_all(bad: int, compiled: bool) -> None:
    def loss() -> float:
        logits = fc.zeros((4, 3), sbp=fc.S(0))
        target = fc.asarray([0, 1, 2, bad], sbp=fc.S(0))
        function = fc.compile(fc.nn.cross_entropy) if compiled else fc.nn.cross_entropy
        return float(function(logits, target).item())

    with pytest.raises(fc.ShapeError, match=rf"target {bad} is outside 0\.\.2"):
        fc.launch.run(loss, ranks=2, timeout=5)


def test_one_hot_of_an_index_that_does_not_exist_names_it() -> None:
    with pytest.raises(fc.ShapeError, match=r"index 5 is outside 0\.\.4"):
        fc.one_hot(fc.asarray([0, 5]), 5)


def test_layouts_that_differ_between_ranks_are_told() -> None:
    def body() -> None:
        fc.asarray(np.ones((4, 2)), sbp=fc.S(fc.rank())).sum().item()

    with pytest.raises(fc.DivergenceError, match=r"rank 0 says .* S0 .* rank 1 says .* S1 "):
        fc.launch.run(body, ranks=2, transport="threads")
