"""No plan of any strategy of any example moves more bytes than it did: on one host, and beyond that between two.

The golden text is a table: the least bytes so far, in all on one host and between two hosts, and what each plan is
predicted to take if nothing happens beside anything else, in seconds on the default machine.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from flowcore.boxing_op import Boxing
from flowcore.comm.price import across, seconds
from tests.conftest import GOLDEN
from tests.examples.programs import CASES, TINY, planned

NAME = "planned_bytes"


def figures(name: str, ranks: int, options: dict[str, Any]) -> list[tuple[int, int]]:
    """(bytes, predicted microseconds) on one host, and where half of the ranks live on another: bytes between them."""
    found = []
    for hosts in ((), tuple(2 * rank // ranks for rank in range(ranks))):
        plan = planned(name, ranks, hosts, **options)
        every = ((node.op, plan.graph.values[node.outputs[0]].type) for node in plan.graph.nodes)
        moves = [op.plan(type) for op, type in every if isinstance(op, Boxing)]
        took = plan.computing_seconds + sum(seconds(move, plan.machine) for move in moves if move.messages)
        moved = sum(across(move, plan.machine) if hosts else move.bytes_moved for move in moves)
        found.append((moved, round(took * 1e6)))
    return found


def line(name: str, strategy: str, ranks: int, found: list[tuple[int, int]]) -> str:
    """A line of the table."""
    (near, once), (far, twice) = found
    return f"{name} {strategy}, {ranks} ranks: {near} B, {once} us; {far} B between two hosts, {twice} us"


@pytest.mark.parametrize("example", TINY)
def test_no_plan_moves_more_bytes_than_before(example: str, request: pytest.FixtureRequest) -> None:
    path = GOLDEN / f"{NAME}_{example}.txt"
    own = [case for case in CASES if case[0] == example and not case[3].get("eager")]
    table = [line(*case[:3], figures(case[0], case[2], case[3])) for case in own]
    if request.config.getoption("--update-golden"):
        path.write_text("\n".join(table) + "\n")
    former = {kept.split(":")[0]: kept for kept in path.read_text().splitlines()}
    for now in table:
        before = former[now.split(":")[0]]
        assert all(a <= b for a, b in zip(_bytes(now), _bytes(before), strict=True)), f"{now}, before that {before}"


def _bytes(line: str) -> list[int]:
    words = line.replace(",", "").split()
    return [int(number) for number, unit in pairwise(words) if unit.startswith("B")]
