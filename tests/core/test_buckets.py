"""Between hosts, transfers leave early and small ones share messages: same values, same bytes, one order for all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flowcore as fc
from flowcore.boxing_op import Boxing
from flowcore.graph import Builder, Graph, Value, renumber
from flowcore.local import Move, localize
from flowcore.lower import lower
from flowcore.op import OPS, Type
from flowcore.passes.bucket import bucket
from flowcore.passes.early import early
from flowcore.passes.route import route
from flowcore.placement.layout import Layout
from flowcore.placement.machine import Machine
from flowcore.placement.mesh import Placement
from flowcore.region import moved_bytes
from flowcore.verify import verify
from flowcore.world import current

TWO_HOSTS = Machine(hosts=(0, 0, 1, 1))
MESH = Placement([[0, 1], [2, 3]])
LAYOUTS = ("P,P", "P,B", "P,S0", "B,S0", "S0,S0", "B,B", "S1,B")
FLOAT = np.dtype("float64")


def messages(graph: Graph) -> int:
    """Messages of all transfers."""
    return sum(n.op.plan(graph.values[n.inputs[0]].type).messages for n in graph.nodes if isinstance(n.op, Boxing))


def moved(builder: Builder, number: int, target: str) -> int:
    """The number of a value that is moved to another layout."""
    value = builder.values[number]
    layout = Layout(MESH, target)
    if layout.sbp == value.sbp:
        return number
    op = Boxing(str(value.layout), str(layout), TWO_HOSTS.hosts)
    return builder.node(op, [number], [replace(value, sbp=layout.sbp)], "here", f"to {target}")[0]


@st.composite
def graphs(draw: Any) -> Graph:
    """Transfers of inputs and of sums of what was moved, of several shapes, in any order."""
    builder = Builder()
    shapes = ((8, 3), (4, 2), (5, 4))
    known = [
        builder.input(Value(Type(shape, FLOAT), MESH, Layout(MESH, draw(st.sampled_from(LAYOUTS))).sbp))
        for shape in draw(st.lists(st.sampled_from(shapes), min_size=2, max_size=6))
    ]
    for _ in range(draw(st.integers(2, 10))):
        number = draw(st.sampled_from(known))
        known.append(moved(builder, number, draw(st.sampled_from(LAYOUTS))))
        like = [n for n in known if builder.values[n].type == builder.values[number].type]
        if draw(st.booleans()):
            a, b = (moved(builder, draw(st.sampled_from(like)), "B,S0") for _ in range(2))
            known += builder.node(OPS["add"](), [a, b], [builder.values[a]], "here")
    return verify(renumber(builder.graph(dict.fromkeys(known))), physical=True)


def together(graph: Graph) -> Graph:
    return verify(renumber(route(bucket(early(graph), TWO_HOSTS), TWO_HOSTS)), physical=True)


def counting(graph: Graph, rank: int) -> list[Any]:
    """The blocks of the inputs of `graph` on `rank`: their elements count, and differ between blocks and inputs."""
    blocks = []
    for number in graph.inputs:
        value = graph.values[number]
        box = value.layout.box(value.type.shape, rank)
        shape = [stop - start for start, stop in box]
        blocks.append(np.arange(np.prod(shape), dtype=FLOAT).reshape(shape) + 10 * sum(s for s, _ in box) + number)
    return blocks


def results(graph: Graph) -> list[list[Any]]:
    """The blocks of the outputs of `graph` on every rank, from inputs that count."""

    def program() -> list[Any]:
        world = current()
        world.machine = TWO_HOSTS
        return [np.array(block) for block in lower(graph, world.rank).run(world, counting(graph, world.rank))]

    return fc.launch.run(program, ranks=4)


@settings(max_examples=30, deadline=None)
@given(graphs())
def test_the_same_values_arrive_with_the_same_bytes_in_one_order(graph: Graph) -> None:
    found = verify(renumber(bucket(early(graph), TWO_HOSTS)), physical=True)
    assert moved_bytes(found) == moved_bytes(graph) and messages(found) <= messages(graph)
    order = [(node.op, found.values[node.inputs[0]].type) for node in found.nodes if isinstance(node.op, Boxing)]
    for rank in range(4):
        mine = [(n.op.op, n.op.type) for n in localize(found, rank).nodes if isinstance(n.op, Move)]
        left = iter(order)
        assert all(move in left for move in mine)


@settings(max_examples=8, deadline=None)
@given(graphs())
def test_what_moves_together_is_what_moved_alone(graph: Graph) -> None:
    for mine, other in zip(results(graph), results(together(graph)), strict=True):
        for a, b in zip(mine, other, strict=True):
            assert np.allclose(a, b, rtol=1e-12)


def example() -> Graph:
    """Three gradients, each reduced where its update reads it, and a parameter that is gathered."""
    builder = Builder()
    shapes, outputs = ((8, 3), (4,), (4, 2)), []
    gradients = [builder.input(Value(Type(shape, FLOAT), MESH, Layout(MESH, "P,P").sbp)) for shape in shapes]
    shard = builder.input(Value(Type((8, 4), FLOAT), MESH, Layout(MESH, "S0,S0").sbp))
    for gradient in gradients:
        reduced = moved(builder, gradient, "B,B")
        outputs += builder.node(OPS["negative"](), [reduced], [builder.values[reduced]], "step.py:2")
    return verify(builder.graph([*outputs, moved(builder, shard, "B,B")]), physical=True)


def test_buckets_are_no_longer_than_makes_a_message_cheap() -> None:
    fast = replace(TWO_HOSTS, between=replace(TWO_HOSTS.between, latency=0.0))
    assert bucket(example(), fast).nodes == example().nodes
    assert messages(bucket(early(example()), TWO_HOSTS)) < messages(example())


def test_within_one_host_nothing_changes() -> None:
    graph = example()
    alone = tuple(replace(n, op=replace(n.op, hosts=())) if isinstance(n.op, Boxing) else n for n in graph.nodes)
    graph = replace(graph, nodes=alone)
    assert bucket(early(graph), Machine()) == graph == route(graph, Machine())


@pytest.mark.parametrize("kinds", ["ccc", "ece"])
def test_training_on_two_hosts_gives_the_losses_of_one_rank(kinds: str) -> None:
    def program() -> list[float]:
        current().machine = replace(TWO_HOSTS, hosts=TWO_HOSTS.hosts[: current().size])
        fc.manual_seed(0)
        net = fc.nn.Sequential(fc.nn.Linear(16, 32, dtype="float64"), fc.nn.Linear(32, 8, dtype="float64"))
        net.place(fc.Placement.grid(data=-1), {})
        opt = fc.optim.AdamW(net.parameters(), lr=0.01)
        x = fc.asarray(np.arange(128.0).reshape(8, 16) / 128, sbp=fc.S(0), placement=fc.Placement.grid(data=-1))

        def step(x: fc.Tensor) -> fc.Tensor:
            y = net(x)
            loss = (y * y).sum()
            loss.backward()
            opt.step()
            opt.zero_grad()
            return loss

        compiled = fc.compile(step)
        return [(compiled if kind == "c" else step)(x).item() for kind in kinds]

    (expected,) = fc.launch.run(program, ranks=1)
    for losses in fc.launch.run(program, ranks=4):
        assert losses == pytest.approx(expected, rel=1e-12)
