"""Transfers between hosts are under way while ranks compute: same values, one order for all, few bytes at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flowcore as fc
from flowcore.agreed import bound
from flowcore.footprint import footprint
from flowcore.graph import Builder, Graph, Value, renumber
from flowcore.local import Nudge, Staged, localize
from flowcore.lower import lower
from flowcore.op import OPS, Type
from flowcore.passes.bucket import bucket
from flowcore.passes.early import early
from flowcore.passes.late import crosses, late
from flowcore.passes.overlap import Timetable, timetable
from flowcore.passes.route import route
from flowcore.pipeline import LOCAL
from flowcore.placement.layout import Layout
from flowcore.placement.machine import Link, Machine
from flowcore.placement.mesh import Placement
from flowcore.verify import verify
from flowcore.world import current
from tests.core.test_buckets import FLOAT, TWO_HOSTS, counting, graphs
from tests.sharing import programs

SLOW = replace(TWO_HOSTS, per_flop=1e-6)
"""A machine on which there is much to do while a message is under way."""


def ordered(graph: Graph) -> Graph:
    """`graph` as the pipeline makes it."""
    return verify(renumber(late(route(bucket(early(graph), SLOW), SLOW))), physical=True)


def results(graph: Graph, way: str) -> list[list[Any]]:
    """The blocks of the outputs on every rank after two runs, from inputs that count."""

    def program() -> list[Any]:
        world = current()
        world.machine = SLOW
        blocks = counting(graph, world.rank)
        if way == "in one go":
            made = lower(graph, world.rank)
        elif way == "beside meetings":
            made = bound(world, graph, (), [0] * len(graph.inputs))
            can = lower(graph, world.rank, LOCAL, (), SLOW.hosts, SLOW)
            assert (made.sharing is None) == (can.sharing is None)
        else:
            made = lower(graph, world.rank, LOCAL, machine=SLOW)
        made.run(world, blocks)
        return [np.array(block) for block in made.run(world, blocks)]

    return fc.launch.run(program, ranks=4, hosts=2)


def check(graph: Graph, found: Timetable) -> None:
    """What a timetable must obey whatever the graph is."""
    transfers = [place for place, node in enumerate(graph.nodes) if crosses(graph, node)]
    maker = {number: place for place, node in enumerate(graph.nodes) for number in node.outputs}
    order = [moment for position in sorted(found.stages) for moment in found.stages[position]]
    spans = found.spans
    assert sorted(spans) == transfers
    for place in transfers:
        node = graph.nodes[place]
        (type,) = graph.types(node.inputs)
        numbers = [number for at, number in order if at == place]
        assert numbers == list(range(len(node.op.plan(type).steps) + 1))
        begin, end = spans[place]
        before = maker.get(node.inputs[0], -1)
        assert begin > before or before in spans
        if before in spans:
            assert order.index((place, 0)) > max(order.index(m) for m in order if m[0] == before)
        readers = [p for p, other in enumerate(graph.nodes) if set(node.outputs) & set(other.inputs)]
        assert all(end <= p or p in spans for p in readers)


@settings(max_examples=40, deadline=None)
@given(graphs())
def test_every_stage_has_its_place_and_all_ranks_have_one_order(graph: Graph) -> None:
    graph = ordered(graph)
    found = timetable(graph, SLOW)
    if not found.stages:
        return
    check(graph, found)
    order = [moment for position in sorted(found.stages) for moment in found.stages[position]]
    for rank in range(4):
        local = verify(localize(graph, rank, found.stages))
        left = iter(order)
        mine = [(node.op.move.place, node.op.number) for node in local.nodes if isinstance(node.op, Staged)]
        assert all(moment in left for moment in mine)


@settings(max_examples=12, deadline=None)
@given(graphs(), st.sampled_from(["alone", "beside meetings"]))
def test_what_is_under_way_meanwhile_arrives_as_it_was(graph: Graph, way: str) -> None:
    graph = ordered(graph)
    for mine, other in zip(results(graph, way), results(graph, "in one go"), strict=True):
        for a, b in zip(mine, other, strict=True):
            assert np.array_equal(a, b)


PAIR = Placement([0, 1])
TWO_RANKS = Machine(hosts=(0, 1), per_flop=1e-9, between=Link(20e-6, 8e-10))


def layered(layers: int, width: int, batch: int = 512) -> Graph:
    """Layers whose weights are gathered where they are read, and whose gradients are reduced where they are made."""
    builder = Builder()

    def value(shape: tuple[int, ...], sbp: str) -> Value:
        return Value(Type(shape, FLOAT), PAIR, Layout(PAIR, sbp).sbp)

    def box(number: int, sbp: str) -> int:
        given = builder.values[number]
        made = replace(given, sbp=Layout(PAIR, sbp).sbp)
        op = OPS["box"](str(given.layout), str(made.layout), TWO_RANKS.hosts)
        return builder.node(op, [number], [made], "step.py:1", f"to {sbp}")[0]

    def product(formula: str, a: int, b: int, shape: tuple[int, int], sbp: str) -> int:
        return builder.node(OPS["contract"](formula), [a, b], [value(shape, sbp)], "step.py:2")[0]

    x = builder.input(value((batch, width), "S0"))
    weights = [builder.input(value((width, width), "S0")) for _ in range(layers)]
    shown, reads = [x], []
    for weight in weights:
        reads.append(box(weight, "B"))
        shown.append(product("mk,nk->mn", shown[-1], reads[-1], (batch, width), "S0"))
    gradient, outputs = shown[-1], []
    for layer in reversed(range(layers)):
        whole = product("mn,mk->nk", gradient, shown[layer], (width, width), "P")
        gradient = product("mn,nk->mk", gradient, reads[layer], (batch, width), "S0")
        reduced = box(whole, "S0")
        outputs += builder.node(OPS["add"](), [weights[layer], reduced], [builder.values[reduced]], "step.py:3")
    # the updates come when all gradients are there, as those of an optimizer do
    last = [node for node in builder.nodes if node.op.name == "add"]
    builder.nodes[:] = [node for node in builder.nodes if node.op.name != "add"] + last
    return verify(builder.graph(outputs), physical=True)


def told(graph: Graph, found: Timetable) -> str:
    """What stands where: one line per node and stage."""
    lines = []
    for position in range(len(graph.nodes) + 1):
        for place, number in found.stages.get(position, ()):
            op = graph.nodes[place].op
            is_last = number == len(op.plan(graph.types(graph.nodes[place].inputs)[0]).steps)
            step = "start" if number == 0 else "finish" if is_last else "go on"
            lines.append(f"  {step} %{graph.nodes[place].outputs[0]}: {op.source} -> {op.target}")
        if position < len(graph.nodes) and position not in found.spans:
            node = graph.nodes[position]
            lines.append(f"{node.op.text()} {list(node.inputs)} -> {list(node.outputs)}")
    return "\n".join(lines)


def test_gradients_leave_and_parameters_come_beside_the_work(golden: Callable[[str, str], None]) -> None:
    graph = renumber(late(early(layered(4, 256))))
    found = timetable(graph, TWO_RANKS)
    check(graph, found)
    golden("pass_overlap", told(graph, found))


def test_messages_are_helped_on_now_and_then_and_only_where_some_are_under_way() -> None:
    graph = renumber(late(early(layered(4, 256))))
    fast, slow = (
        timetable(graph, replace(TWO_RANKS, per_flop=flop, between=Link(1e-2, 0.0))) for flop in (1e-15, 1e-11)
    )
    assert not fast.nudges and slow.nudges
    for position in slow.nudges:
        assert position not in slow.stages
        assert any(begin < position < end for begin, end in slow.spans.values())
    for rank in (0, 1):
        local = localize(graph, rank, slow.stages, slow.nudges)
        assert sum(isinstance(node.op, Nudge) for node in local.nodes) == len(slow.nudges)


@pytest.mark.parametrize(("flop", "count"), [(1e-15, 0), (1e-9, 7), (1e-7, 7)], ids=["nothing to do", "some", "much"])
def test_what_can_be_hidden_is_under_way_and_no_more_than_one_of_a_kind(flop: float, count: int) -> None:
    graph = renumber(late(early(layered(4, 256))))
    found = timetable(graph, replace(TWO_RANKS, per_flop=flop, copy_per_byte=0.0))
    hidden = 0
    for place, (begin, end) in found.spans.items():
        busy = [node for node in graph.nodes[begin:end] if node.op.name == "contract"]
        hidden += bool(busy) and flop > 1e-15
        grows = graph.nodes[place].op.target.endswith("B")
        for other, (first, last) in found.spans.items():
            is_alike = graph.nodes[other].op.target.endswith("B") == grows
            assert other == place or not is_alike or last <= begin or end <= first
    assert hidden == count  # all but the gather of the first weight, before which there is nothing to do


def test_memory_grows_by_no_more_than_the_largest_transfers() -> None:
    graph = renumber(late(early(layered(6, 128))))
    idle = replace(TWO_RANKS, per_flop=0.0, copy_per_byte=0.0)
    alone, beside = (footprint(graph, machine=each).total for each in (idle, TWO_RANKS))
    gathered, reduced = 128 * 128 * 8, 128 * 128 * 8 // 2
    assert beside <= alone + gathered + 2 * reduced


def model_and_step(zero: int, width: int = 32, batch: int = 8) -> tuple[fc.nn.Module, Any]:
    """A model, and a step of it, its states or parameters divided among all ranks."""
    fc.manual_seed(0)
    mesh = fc.Placement(fc.world_size(), ["data"])
    net = fc.nn.Sequential(*[fc.nn.Linear(width, width, dtype="float64") for _ in range(3)])
    net.place(mesh, {"*weight": {"data": fc.S(0)}} if zero == 3 else {})
    opt = fc.optim.AdamW(net.parameters(), lr=0.01, **({"shard_states": "data"} if zero == 1 else {}))
    x = fc.asarray(np.arange(1.0 * batch * width).reshape(batch, width) / (batch * width), sbp=fc.S(0), placement=mesh)

    def step() -> fc.Tensor:
        y = net(x)
        loss = (y * y).sum()
        loss.backward()
        opt.step()
        opt.zero_grad()
        return loss

    return net, step


@pytest.mark.parametrize("zero", [0, 1, 3])
@pytest.mark.parametrize(("ranks", "hosts"), [(2, 2), (4, 2), (3, 3)])
def test_a_model_trains_as_on_one_rank(zero: int, ranks: int, hosts: int) -> None:
    def program() -> tuple[list[float], int]:
        current().machine = replace(current().machine, per_flop=1e-8)
        step = fc.compile(model_and_step(zero)[1])
        losses = [step().item() for _ in range(5)]
        (made,) = programs(step)
        return losses, sum(isinstance(node.op, Staged) for node in made.local.nodes)

    ((expected, none),) = fc.launch.run(program, ranks=1)
    assert none == 0
    for losses, staged in fc.launch.run(program, ranks=ranks, hosts=hosts):
        assert losses == pytest.approx(expected, rel=1e-12)
        assert staged or zero < 3


def test_parameters_are_fetched_as_they_lie_while_the_layer_before_computes() -> None:
    def program() -> list[str]:
        step = fc.compile(model_and_step(3, batch=512)[1])
        step()
        (made,) = programs(step)
        return [node.op.text() for node in made.local.nodes]

    found = fc.launch.run(program, ranks=2, hosts=2)[0]
    gather = "{'[0 1|data=2]:S0' -> '[0 1|data=2]:B'}"
    under_way = [found[:at].count(f"start{gather}") - found[:at].count(f"finish{gather}") for at in range(len(found))]
    assert sum(count > 0 and text.startswith("contract") for count, text in zip(under_way, found, strict=True)) == 2
    assert not any(text.startswith("packed") for text in found[: found.index(f"finish{gather}")])


def interrupted(bad: Callable[[int], bool]) -> Any:
    """A step that may fail on a rank while a transfer is under way: `take` refuses an index."""
    current().machine = replace(current().machine, per_flop=1e-6)
    mesh = fc.Placement(fc.world_size())
    x = fc.from_local(np.full((40, 30), fc.rank() + 1.0), mesh, "P")
    rows = fc.from_local(np.ones((4, 30)), mesh, "B")

    @fc.compile
    def step(x: fc.Tensor, rows: fc.Tensor, index: fc.Tensor) -> fc.Tensor:
        total = x.to_global(sbp="B")
        picked = fc.take(rows, index + fc.astype(fc.sum(rows @ rows.mT) * 0, "int64"), axis=0)
        return total.sum() + picked.sum()

    def call(fails: bool) -> float:
        block = np.full(3, 9 if fails and bad(fc.rank()) else 2)
        return float(step(x, rows, fc.from_local(block, mesh, "S0")).item())

    call(False)
    names = [node.op.text().split("{")[0] for node in programs(step)[0].local.nodes]
    assert names.index("start") < names.index("take") < len(names) - names[::-1].index("finish")
    return call


def test_after_an_error_of_all_ranks_the_next_step_is_right() -> None:
    def program() -> list[float]:
        call = interrupted(lambda rank: True)
        found = [call(False)]
        for _ in range(3):
            with pytest.raises(fc.FlowcoreError, match="9"):
                call(True)
            found.append(call(False))
        return found

    for found in fc.launch.run(program, ranks=2, hosts=2, timeout=30):
        assert len(set(found)) == 1


def test_the_plan_tells_what_every_transfer_becomes() -> None:
    def program() -> list[tuple[str, str]]:
        current().machine = replace(current().machine, per_flop=1e-8)
        step = fc.compile(model_and_step(1)[1])
        plan = step.plan()
        assert all(transfer.how and transfer.how in plan.explain() for transfer in plan.transfers)
        return [(transfer.kind, transfer.how) for transfer in plan.transfers]

    within = fc.launch.run(program, ranks=2)[0]
    assert {how.partition(" of ")[2].partition(", ")[2].split(" by ")[0] for _, how in within} == {
        "terms of peers are reduced as they are read",
        "one register that the host has in common, each rank writes its part",
    }
    assert all(how.startswith("meeting ") for _, how in within)
    between = fc.launch.run(program, ranks=2, hosts=2)[0]
    reduced = [how for kind, how in between if kind == "reduce_scatter"]
    assert reduced[0].startswith("under way from concatenate at test_overlap.py:")
    assert "beside 0" not in reduced[0]
    assert all(how.endswith("beside 0 operators") for kind, how in between if kind == "all_gather")


def test_a_rank_that_fails_while_messages_are_under_way_ends_all_with_its_error() -> None:
    def program() -> None:
        interrupted(lambda rank: rank == 1)(True)

    with pytest.raises(fc.FlowcoreError, match="9"):
        fc.launch.run(program, ranks=3, hosts=3, timeout=20)


def test_a_message_that_a_failed_step_left_is_not_taken_for_that_of_the_next() -> None:
    def program() -> list[Any]:
        here, there = fc.Placement([0]), fc.Placement([1])
        rows = fc.asarray(np.ones((4, 3)), placement=there)

        @fc.compile
        def step(x: fc.Tensor, index: fc.Tensor) -> fc.Tensor:
            return fc.sum(x.to_global(placement=there, sbp=fc.B)) + fc.sum(fc.take(rows, index, axis=0)) * 0

        found: list[Any] = []
        for number in range(3):
            x = fc.full((5, 5), float(number), dtype="float64", placement=here)
            index = fc.full(3, 9 if number == 1 else 2, dtype="int64", placement=there)
            try:
                total = step(x, index)
                found.append(total.to_local().item() if fc.rank() else None)
            except fc.FlowcoreError as error:
                found.append(type(error))
        return found

    # rank 0 learns of it when they meet again, as the error it was; rank 1 would have taken what rank 0 sent before
    found = fc.launch.run(program, ranks=2, hosts=2, timeout=20)
    assert found == [[None, None, fc.IndexingError], [0.0, fc.IndexingError, fc.DivergenceError]]
