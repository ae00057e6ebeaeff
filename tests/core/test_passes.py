"""What every pass makes of a small program, as texts: tests/golden/passes/NAME.txt has the graph before, and after =>.

The graph before is written by hand, and read from there; what comes after it is written anew by

    python -m pytest tests/core/test_passes.py --update-golden
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import flowcore.passes
from flowcore.convolved import is_available as convolves
from flowcore.dtypes import as_dtype
from flowcore.graph import Graph, Node
from flowcore.jit.store import is_available
from flowcore.local import localize
from flowcore.meeting_op import Post, Wait
from flowcore.passes.ahead import ahead
from flowcore.passes.arrange import arranged
from flowcore.passes.broaden import broaden
from flowcore.passes.bucket import bucket
from flowcore.passes.channels_last import channels_last
from flowcore.passes.checks import checks_first
from flowcore.passes.common import commons
from flowcore.passes.cse import cse
from flowcore.passes.dce import dce
from flowcore.passes.divide import divide
from flowcore.passes.donate import donate, roots
from flowcore.passes.early import early
from flowcore.passes.fold import fold
from flowcore.passes.fuse import fuse
from flowcore.passes.gather_first import gather_first
from flowcore.passes.inline import inline
from flowcore.passes.late import late
from flowcore.passes.lists import update_by_lists
from flowcore.passes.order import free_early
from flowcore.passes.overlap import timetable
from flowcore.passes.parts import compute_parts
from flowcore.passes.picks import compare_picks
from flowcore.passes.precision import lowered
from flowcore.passes.recompute import Recomputer
from flowcore.passes.regather import regathered
from flowcore.passes.reuse import reuse
from flowcore.passes.route import route
from flowcore.passes.rows import keep_rows
from flowcore.passes.scatter_first import scatter_first
from flowcore.passes.share import shared
from flowcore.passes.show import Shown, show
from flowcore.passes.simplify import simplify
from flowcore.passes.spaces import is_fusable, spaces
from flowcore.passes.tables import take_together
from flowcore.passes.transposes import fold_transposes
from flowcore.passes.update import update_early
from flowcore.passes.upright import upright
from flowcore.passes.views import pack, view_slices
from flowcore.passes.widen import widen
from flowcore.placement.machine import Machine
from flowcore.text import parse_graph, write_graph
from flowcore.verify import verify
from tests.conftest import GOLDEN

TWO_HOSTS, ONE_HOST = Machine(hosts=(0, 0, 1, 1)), (0, 0)
FIRST_FOR_FIRST = ((0, 0),)
"""The first output replaces the first input."""
MODULES = sorted(path.stem for path in Path(flowcore.passes.__path__[0]).glob("[a-z]*.py"))
BECOMES = "\n=>\n"


def rank_0(graph: Graph) -> Graph:
    return localize(graph, 0)


def meetings(graph: Graph) -> str:
    """The graph of a rank, and what is posted and seen at its meetings."""
    lines = [write_graph(graph)]
    for node in graph.nodes:
        match node.op:
            case Post(keys=keys):
                lines += [f"shows %{number} as {key}" for number, key in zip(node.inputs, keys, strict=True)]
            case Wait(views=views):
                pairs = zip(node.outputs, views, strict=True)
                lines += [f"%{n} is {v.index} of {v.source} that rank {v.rank} shows as {v.key}" for n, v in pairs]
    return "\n".join(lines)


def in_groups(graph: Graph) -> str:
    ordered, groups = arranged(graph, ONE_HOST)
    return f"{write_graph(ordered)}\ngroups: {groups}"


def in_common(graph: Graph) -> str:
    found = commons(graph, FIRST_FOR_FIRST, ONE_HOST)
    return "\n".join(f"%{n} on rank {rank}: {common}" for n, by in found.items() for rank, common in by.items())


def donated(graph: Graph) -> str:
    """The states are the first two inputs, and become the first two outputs."""
    after, taken = donate(graph, [(graph.inputs[n], graph.outputs[n]) for n in (0, 1)])
    return f"{write_graph(after)}\nwritten over: {sorted(taken)}"


def under_way(graph: Graph) -> str:
    """Before which node which stages of which transfers are done, all by the places of the nodes."""
    return "\n".join(f"before {place}: {stages}" for place, stages in timetable(graph, TWO_HOSTS).stages.items())


def seen(graph: Graph) -> str:
    """What rank 0 shows, and where, when its update is written over its part of the common register."""

    def made(rank: int) -> tuple[Graph, Shown]:
        joint = shared(graph, rank, FIRST_FOR_FIRST, ONE_HOST, graph.digest, Machine())
        updates, nodes = joint.updates(joint.graph, ()), joint.graph.nodes
        after, _, shown = show(joint.graph, nodes, rank, joint.parts, updates, joint.parts, joint.pieces)
        return after, shown

    after, shown = made(0)
    shown = shown.settled({rank: made(rank)[1].footprint for rank in graph.ranks})
    own = "\n".join(f"%{number} is its part of register {common.index}" for number, common in shown.own.items())
    places = "\n".join(f"%{number} lies at byte {place} of {shown.size}" for number, (place, _) in shown.places.items())
    behind = ((number, at.start, shown.keys[at.key]) for number, at in shown.away.items())
    away = "\n".join(f"%{number} lies {start} bytes behind the beginning of %{n}" for number, start, n in behind)
    return "\n".join(filter(None, (write_graph(after), places, own, away)))


def by_lists(graph: Graph) -> str:
    """What rank 0 does, which reads what rank 1 shows."""
    joint = shared(graph, 0, FIRST_FOR_FIRST, ONE_HOST, graph.digest, Machine())
    return meetings(update_by_lists(joint.graph))


def kernels(graph: Graph) -> tuple[list[list[Node]], list[Node]]:
    """The runs of nodes that a loop can compute, and the other nodes."""
    runs: list[list[Node]] = [[]]
    rest = []
    for node in graph.nodes:
        if is_fusable(graph, node):
            runs[-1].append(node)
        else:
            rest.append(node)
            runs.append([])
    return [run for run in runs if run], rest


def recomputed(graph: Graph) -> str:
    """Every kernel, with what it computes again."""
    runs, rest = kernels(graph)
    found = Recomputer(graph, runs, rest, ())
    lines = list[str]()
    for run in runs:
        nodes = [
            (node.outputs[0], node.op.text(), ", ".join(f"%{n}" for n in node.inputs)) for node in found.extended(run)
        ]
        lines += ["kernel:", *(f"  %{number} = {text}({inputs})" for number, text, inputs in nodes)]
    return "\n".join(lines)


def over_operands(graph: Graph) -> Graph:
    """Kernels where products lie that nothing else reads."""
    graph = fuse(graph, least=1)
    return replace(graph, nodes=tuple(reuse(graph, graph.nodes, roots(graph), ())[0]))


def in_spaces(graph: Graph) -> str:
    """Per kernel and split of its dimensions into rows and columns where its values lie; r rows, c columns."""
    lines = []
    for run in kernels(graph)[0]:
        literals = {node.outputs[0]: "" for node in run if node.op.loop == "literal"}
        run = [node for node in run if node.op.loop != "literal"]
        kernel = graph.values[run[0].outputs[0]].type.shape
        for split in range(len(kernel) + 1):
            found = spaces(graph, run, literals, kernel, split)
            told = "none" if found is None else f"reads {found.reads}, makes {found.own}"
            lines.append(f"%{run[0].outputs[0]} to %{run[-1].outputs[0]}, {kernel} split at {split}: {told}")
    return "\n".join(lines)


PASSES: dict[str, Callable[[Graph], Graph | str]] = {
    "ahead": partial(ahead, machine=TWO_HOSTS),
    "arrange": in_groups,
    "broaden": lambda graph: broaden(fuse(graph, least=1)),
    "bucket": partial(bucket, machine=TWO_HOSTS),
    "channels_last": channels_last,
    "checks": checks_first,
    "common": in_common,
    "cse": cse,
    "dce": dce,
    "divide": lambda graph: divide(graph, FIRST_FOR_FIRST, ONE_HOST)[0],
    "donate": donated,
    "early": early,
    "fold": fold,
    "fuse": partial(fuse, least=1),
    "gather_first": gather_first,
    "inline": inline,
    "late": late,
    "lists": by_lists,
    "order": free_early,
    "overlap": under_way,
    "parts": compute_parts,
    "picks": compare_picks,
    "precision": partial(lowered, dtype=as_dtype("float16")),
    "recompute": recomputed,
    "regather": partial(regathered, machine=TWO_HOSTS),
    "reuse": over_operands,
    "route": partial(route, machine=TWO_HOSTS),
    "rows": keep_rows,
    "scatter_first": lambda graph: scatter_first(graph, (0, 0, 0)),
    "share": lambda graph: meetings(shared(graph, 0, FIRST_FOR_FIRST, ONE_HOST, graph.digest, Machine()).graph),
    "show": seen,
    "simplify": simplify,
    "spaces": in_spaces,
    "tables": take_together,
    "transposes": fold_transposes,
    "update": partial(update_early, updates=[(0, 0), (1, 1)]),
    "upright": upright,
    "views": lambda graph: pack(fuse(view_slices(rank_0(graph)), least=1)),
    "widen": widen,
}
NEEDS = {"broaden": is_available, "channels_last": convolves, "lists": is_available, "tables": is_available}
"""What a pass does something with only."""


def test_every_pass_has_a_text_and_every_text_a_pass() -> None:
    assert sorted(PASSES) == MODULES == sorted(file.stem for file in (GOLDEN / "passes").iterdir())


@pytest.mark.parametrize("name", MODULES)
def test_a_pass_makes_of_its_program_what_it_did(name: str, golden: Callable[[str, str], None]) -> None:
    if name in NEEDS and not NEEDS[name]():
        pytest.skip("the pass leaves graphs as they are: numba, or a BLAS of numpy's that is known, is not installed")
    before = (GOLDEN / "passes" / f"{name}.txt").read_text().partition(BECOMES)[0]
    graph = verify(parse_graph(before))
    after = PASSES[name](graph)
    assert after != graph and write_graph(graph) == before
    golden(f"passes/{name}", before + BECOMES + (write_graph(after) if isinstance(after, Graph) else after))
