"""`explain_boxing` says what moves, from whom to whom, at what cost, and what else was weighed."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import flowcore as fc
from flowcore.placement.machine import Machine

MESH = fc.Placement(np.arange(8).reshape(2, 4), ("data", "model"))
TWO_HOSTS = Machine(hosts=(0, 0, 0, 0, 1, 1, 1, 1))


@pytest.mark.parametrize("machine", [Machine(), TWO_HOSTS], ids=["one host", "two hosts"])
def test_its_figures_are_those_of_its_messages(machine: Machine) -> None:
    for a, b in product(product(("B", "P", "S0", "S1"), repeat=2), repeat=2):
        found = fc.explain_boxing((24, 16), "float32", fc.Layout(MESH, a), fc.Layout(MESH, b), machine)
        assert sum(message.bytes for message in found.messages) == found.bytes_moved
        assert len(found.messages) == found.path.messages
        assert found.bound <= found.bytes_moved
        if machine.hosts:
            assert all(found.seconds <= other.seconds for other in found.rejected)
        else:
            assert len(found.path.legs) == 1 and found.bound == found.bytes_moved
        assert len({str(path) for path in (found.path, *found.rejected)}) == 1 + len(found.rejected)


def test_its_text_shows_messages_costs_and_other_ways() -> None:
    text = str(fc.explain_boxing((1024, 1024), "float32", fc.Layout(MESH, "P,P"), fc.Layout(MESH, "B"), TWO_HOSTS))
    assert text.splitlines()[:4] == [
        "float32[1024, 1024], 4.00 MiB",
        "from [0..7|data=2,model=4]:P,P",
        "to   [0..7|data=2,model=4]:B,B",
        "moves 56.00 MiB (8.00 MiB between hosts) in 64 messages, about 4.81 ms; bound 56.00 MiB, 1.00 × it",
    ]
    assert "leg 1 of 3: reduce_scatter to [0..7|data=2,model=4]:P,S0" in text
    assert "    1 -> 0 [0:256, 0:1024] 1048576 bytes" in text
    assert "  directly: 56.00 MiB (32.00 MiB between hosts) in 112 messages" in text


def test_it_explains_far_more_ranks_than_there_are() -> None:
    mesh = fc.Placement(np.arange(1024).reshape(32, 32), ("data", "model"))
    found = fc.explain_boxing((64, 4096), "float16", fc.Layout(mesh, "S0,S1"), fc.Layout(mesh, "B,S1"))
    assert found.bytes_moved == found.bound == 31 * 64 * 4096 * 2
    assert "and 31736 more" in found.text(8)


def test_what_moves_nothing_says_so() -> None:
    text = str(fc.explain_boxing((), "int64", fc.Layout(MESH, "B"), fc.Layout(MESH, "B")))
    assert "moves 0 B in 0 messages, about 0.0 µs; bound 0 B" in text


@pytest.mark.parametrize(
    ("shape", "dtype", "sbp", "error"),
    [((4,), "float32", "S1,B", fc.PlacementError), ((4,), "bool", "P,B", fc.PlacementError),
     ((4,), "float33", "B", fc.DTypeError)],
)  # fmt: skip
def test_what_has_no_meaning_is_refused(shape: tuple[int, ...], dtype: str, sbp: str, error: type) -> None:
    with pytest.raises(error):
        fc.explain_boxing(shape, dtype, fc.Layout(MESH, sbp), fc.Layout(MESH, "B"))


@pytest.mark.parametrize("shape", [(-4,), (2.5,), "ab", None], ids=str)
def test_what_is_no_shape_is_refused(shape: object) -> None:
    with pytest.raises(fc.ShapeError, match="is not a list of lengths"):
        fc.explain_boxing(shape, "float32", fc.Layout(MESH, "S0,B"), fc.Layout(MESH, "B"))  # type: ignore[arg-type]  # wrong on purpose


def test_what_is_no_layout_is_refused() -> None:
    with pytest.raises(fc.PlacementError, match="'S0,B' is not a layout"):
        fc.explain_boxing((4,), "float32", "S0,B", fc.Layout(MESH, "B"))  # type: ignore[arg-type]  # wrong on purpose


def test_a_tensor_whose_bytes_cannot_be_counted_is_refused() -> None:
    ends = fc.Layout(MESH, "S0,B"), fc.Layout(MESH, "B")
    assert fc.explain_boxing((1 << 30, 1 << 17), "float32", *ends).bytes_moved == 8 * (1 << 49) // 2
    with pytest.raises(fc.PlacementError, match="cut the tensor smaller"):
        fc.explain_boxing((1 << 40, 1 << 40), "float32", *ends)
