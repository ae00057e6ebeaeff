"""Values that one rank refuses are the same typed error on every rank, whatever operator refuses them, and wherever."""

from __future__ import annotations

import pytest

import flowcore as fc
from tests.refused import check, met, names

WORLDS = {"two hosts": (2, 2), "two hosts of two ranks": (4, 2), "one host": (3, 1), "a host each": (3, 3)}


@pytest.mark.parametrize("compiles", [True, False], ids=["compiled", "eager"])
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", names())
def test_what_one_rank_refuses_is_the_same_error_on_all_and_no_later_step_is_wrong(
    name: str, world: str, compiles: bool
) -> None:
    ranks, hosts = WORLDS[world]
    for guilty in sorted({0, ranks // 2, ranks - 1}):
        said = fc.launch.run(met, ranks=ranks, hosts=hosts, timeout=20, args=(name, guilty, compiles))
        for rank, (*found, then) in enumerate(said):
            check(name, rank, guilty, ranks, found)
            assert then == ranks or then[0] in ("DivergenceError", "CommError"), (rank, then)
            assert then == ranks or world != "one host" or not compiles, (rank, then)


def test_all_ranks_go_on_after_what_all_of_them_refuse() -> None:
    def program() -> list[float]:
        mesh = fc.Placement(fc.world_size())
        rows, found = fc.from_local(fc.ones((4, 3)).to_local(), mesh, "B"), []
        for number in (1, 9, 2):
            index = fc.full((3,), number + fc.rank() * 0, dtype="int64", placement=mesh)
            try:
                found.append(float(fc.sum(fc.take(rows, index, axis=0)).to_local()))
            except fc.IndexingError as error:
                assert error.told_by is None
                found.append(-1.0)
        return found

    assert fc.launch.run(program, ranks=2, hosts=2, timeout=20) == [[9.0, -1.0, 9.0]] * 2


def test_an_error_of_the_users_own_code_is_named_to_the_ranks_that_need_that_rank() -> None:
    said: dict[int, str] = {}

    def program() -> None:
        x = fc.ones((4,), placement=fc.Placement(fc.world_size()))
        if fc.rank() == 1:
            raise ValueError("no more batches")
        try:
            fc.from_local(x.to_local(), fc.Placement(fc.world_size()), "P").to_global(sbp="B")
        except fc.FlowcoreError as error:
            said[fc.rank()] = f"{type(error).__name__}: {error}"
            raise

    with pytest.raises(Exception, match="no more batches"):
        fc.launch.run(program, ranks=3, hosts=3, timeout=20)
    assert sorted(said) == [0, 2]
    for text in said.values():
        assert text.startswith("CommError: rank 1 failed: ValueError: no more batches")
