"""The loader: every row once, the same batches for any number of ranks, states, errors."""

from typing import Any

import numpy as np
import pytest

import flowcore as fc

X = np.arange(46.0).reshape(23, 2)
Y = np.arange(23)
DataLoader = fc.data.DataLoader


def epoch_of(loader: Any) -> list[list[int]]:
    return [y.numpy().tolist() for _, y in loader]


def test_an_epoch_has_every_row_once_and_pairs_stay_together() -> None:
    loader = DataLoader((X, Y), 5, shuffle=True, seed=3)
    rows = []
    for x, y in loader:
        np.testing.assert_array_equal(x.numpy()[:, 0], 2 * y.numpy())
        rows += y.numpy().tolist()
    assert sorted(rows) == list(range(23)) and rows != list(range(23))
    assert len(loader) == 5 and len(DataLoader(X, 5, drop_last=True)) == 4


def test_epochs_differ_and_follow_from_the_seed() -> None:
    one, other, third = (DataLoader((X, Y), 5, shuffle=True, seed=seed) for seed in (3, 3, 4))
    first, second = epoch_of(one), epoch_of(one)
    assert first != second
    assert [epoch_of(other), epoch_of(other)] == [first, second]
    assert epoch_of(third) != first


@pytest.mark.parametrize("sbp", ["B", "S0", "S1"])
def test_batches_are_the_same_for_any_number_of_ranks(sbp: str) -> None:
    def check() -> list[Any]:
        return [x.numpy() for x in DataLoader(X, 5, shuffle=True, sbp=sbp)]

    whole = fc.launch.run(check, ranks=1)[0]
    for ranks in (2, 3):
        for found in fc.launch.run(check, ranks=ranks):
            for a, b in zip(found, whole, strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_rank_holds_its_rows_only() -> None:
    def check() -> tuple[int, int]:
        x = next(iter(DataLoader(X, 5, sbp="S0")))
        return x.shape[0], x.to_local().shape[0]

    assert fc.launch.run(check, ranks=2) == [(5, 3), (5, 2)]


def test_a_rank_outside_the_placement_gets_handles() -> None:
    def check() -> bool:
        x = next(iter(DataLoader(X, 5, placement=fc.Placement([1]))))
        return x.block is not None

    assert fc.launch.run(check, ranks=2) == [False, True]


def test_a_state_goes_on_within_the_epoch() -> None:
    loader = DataLoader((X, Y), 5, shuffle=True)
    expected = [*epoch_of(loader), *epoch_of(loader)]
    half = DataLoader((X, Y), 5, shuffle=True)
    begun = [y.numpy().tolist() for _, (_, y) in zip(range(2), half, strict=False)]
    other = DataLoader((X, Y), 5, shuffle=True)
    other.set_state(half.get_state())
    skipped = half.get_state()["position"]
    assert [*expected[:skipped], *epoch_of(other), *epoch_of(other)] == expected
    assert begun == expected[:2]


def test_abandoning_an_epoch_begins_the_next() -> None:
    loader = DataLoader((X, Y), 5, shuffle=True)
    next(iter(loader))
    second = epoch_of(loader)
    whole = DataLoader((X, Y), 5, shuffle=True)
    epoch_of(whole)
    assert epoch_of(whole) == second


def test_mistakes_are_named() -> None:
    with pytest.raises(fc.ShapeError, match="23, 22 rows"):
        DataLoader((X, Y[:22]), 5)
    with pytest.raises(fc.ShapeError, match="batch_size=0"):
        DataLoader(X, 0)
    with pytest.raises(fc.ShapeError, match="leaves no batch"):
        DataLoader(X, 24, drop_last=True)
    with pytest.raises(fc.ShapeError, match="no arrays"):
        DataLoader((), 5)
    with pytest.raises(fc.ShapeError, match="no dimensions"):
        DataLoader(np.float64(1), 5)
    with pytest.raises(fc.DTypeError, match="supported"):
        DataLoader(np.array(["a", "b"]), 5)
    with pytest.raises(fc.PlacementError, match="not terms"):
        DataLoader(X, 5, sbp="P")
    with pytest.raises(fc.PlacementError, match=r"shape \(23,\)"):
        DataLoader((X, Y), 5, sbp="S1")
    with pytest.raises(fc.CheckpointError, match="5 batches"):
        DataLoader(X, 5).set_state({"epoch": 0, "position": 6})


def test_ranks_with_different_data_are_told_apart() -> None:
    def check() -> None:
        x = next(iter(DataLoader(X + fc.rank(), 5, sbp="S0")))
        x.numpy()

    with pytest.raises(fc.DivergenceError):
        fc.launch.run(check, ranks=2)
