"""Between hosts of several ranks a transfer may go over several layouts: that between hosts is under way as any is."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

import flowcore as fc
from flowcore.graph import Builder, Graph, Value
from flowcore.local import Move, Staged
from flowcore.op import OPS, Op, Type
from flowcore.passes.ahead import ahead
from flowcore.passes.late import crosses
from flowcore.passes.overlap import timetable
from flowcore.placement.layout import Layout
from flowcore.placement.machine import Link, Machine
from flowcore.placement.mesh import Placement
from flowcore.runtime import Program
from flowcore.verify import verify
from flowcore.world import current
from tests.core.test_overlap import model_and_step
from tests.sharing import PARTS, drawn, programs

SLOW = Machine(hosts=(0, 0, 1, 1), per_flop=1e-3, between=Link(2e-5, 1e-7))
"""A machine on which everything can be hidden, and no transfer waits for others to share a message with."""
MESHES = {"a row": [0, 1, 2, 3], "hosts × ranks": [[0, 1], [2, 3]], "ranks × hosts": [[0, 2], [1, 3]]}


def waited(program: Program) -> set[Op]:
    """The changes of layout between hosts that a program waits for where they stand."""
    legs = {node.op for node in program.graph.nodes if crosses(program.graph, node)}
    return legs & {node.op.op for node in program.local.nodes if isinstance(node.op, Move)}


@pytest.mark.parametrize("mesh", MESHES)
def test_every_transition_is_under_way_while_ranks_compute(mesh: str) -> None:
    def program() -> None:
        current().machine = SLOW
        placement = fc.Placement(MESHES[mesh])
        axes = len(placement.shape)
        signatures = [",".join(parts) for parts in product(PARTS, repeat=axes)]
        a = fc.asarray(np.ones((8, 8)), placement=placement)
        for source, target in list(product(signatures, signatures))[:: 1 if axes == 1 else 7]:
            x = drawn((64, 48), source, placement, "float64")

            @fc.compile
            def step(x: fc.Tensor, a: fc.Tensor, target: str = target) -> tuple[fc.Tensor, fc.Tensor]:
                there, other = x.to_global(sbp=target), a @ a
                return there * 2, other

            found = step(x, a)[0].numpy()
            nodes = programs(step)[0].local.nodes
            staged = [place for place, node in enumerate(nodes) if isinstance(node.op, Staged)]
            busy = next(place for place, node in enumerate(nodes) if node.op.name == "contract")
            assert not waited(programs(step)[0]), (source, target)
            if staged:
                assert staged[0] < busy < staged[-1], (source, target)
            np.testing.assert_allclose(found, 2 * x.numpy(), rtol=1e-12)

    fc.launch.run(program, ranks=4, hosts=2, timeout=60)


GRID = Placement([[0, 1], [2, 3]])


def gathered_within_first() -> Graph:
    """A value that is gathered within hosts and then between them, behind a product that needs it not."""
    builder = Builder()

    def value(shape: tuple[int, ...], placement: Placement, sbp: str) -> Value:
        return Value(Type(shape, np.dtype(np.float64)), placement, Layout(placement, sbp).sbp)

    a = builder.input(value((64, 64), GRID, "B,B"))
    number = builder.input(value((64, 64), GRID, "S0,S0"))
    (a,) = builder.node(OPS["contract"]("mk,kn->mn"), [a, a], [value((64, 64), GRID, "B,B")], "step.py:1")
    for sbp in ("S0,B", "B,B"):
        made = value((64, 64), GRID, sbp)
        op = OPS["box"](str(builder.values[number].layout), str(made.layout), SLOW.hosts)
        (number,) = builder.node(op, [number], [made], "step.py:2", "read so")
    (out,) = builder.node(OPS["add"](), [a, number], [value((64, 64), GRID, "B,B")], "step.py:3")
    return verify(builder.graph([out]), physical=True)


def test_what_hosts_gather_first_they_gather_ahead() -> None:
    graph = gathered_within_first()
    assert timetable(graph, SLOW).stages == {}  # the leg between hosts has nothing left to be beside
    found = verify(ahead(graph, SLOW), physical=True)
    assert [node.op.name for node in found.nodes] == ["box", "box", "contract", "add"]
    assert timetable(found, SLOW).spans == {1: (2, 3)}
    assert ahead(graph, replace(SLOW, per_flop=0.0, copy_per_byte=0.0)) == graph


@pytest.mark.parametrize("zero", [0, 1, 3])
def test_gradients_and_parameters_are_under_way_in_stages_alone(zero: int) -> None:
    def program() -> tuple[list[float], int]:
        current().machine = replace(SLOW, between=Link(2e-5, 1e-7))
        step = fc.compile(model_and_step(zero, 128, 1024)[1])
        losses = [step().item() for _ in range(3)]
        (made,) = programs(step)
        assert not waited(made)
        under_way, hidden = set[int](), set[int]()
        for node in made.local.nodes:
            if isinstance(node.op, Staged):
                (under_way.discard if node.op.is_last else under_way.add)(node.op.move.place)
            elif node.op.name == "contract":
                hidden |= under_way
        return losses, len(hidden)

    alone = fc.launch.run(lambda: losses_alone(zero), ranks=1)[0]
    for losses, hidden in fc.launch.run(program, ranks=4, hosts=2, timeout=60):
        np.testing.assert_allclose(losses, alone, rtol=1e-12)
        assert hidden >= 2, "the gradients of a layer leave beside the layer below"


def losses_alone(zero: int) -> list[float]:
    """Those of one rank."""
    step = fc.compile(model_and_step(zero, 128, 1024)[1])
    return [step().item() for _ in range(3)]
