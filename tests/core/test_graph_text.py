"""Graphs as text and back, and the proofs that a graph obeys its form."""

from dataclasses import replace
from typing import Any

import pytest

import flowcore as fc
from flowcore.graph import Graph, Node, Value
from flowcore.op import Type
from flowcore.text import parse_graph, write_graph
from flowcore.verify import verify

MESHES = {1: {"data": 1}, 2: {"data": 2}, 4: {"data": 2, "model": 2}}


def graphs(ranks: int) -> tuple[Graph, Graph]:
    """The logical and the physical graph of a training step."""

    def program() -> Any:
        mesh = fc.Placement.grid(**MESHES[ranks])
        model = fc.nn.Sequential(fc.nn.Linear(5, 6), fc.nn.ReLU(), fc.nn.Linear(6, 3))
        model.place(mesh, {"0.weight": {"model": fc.S(0)}} if ranks == 4 else {})
        optimizer = fc.optim.Adam(model.parameters(), lr=0.1)

        @fc.compile
        def step(x: fc.Tensor, y: fc.Tensor) -> fc.Tensor:
            loss = fc.nn.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss

        x = fc.ones((7, 5), placement=mesh, sbp={"data": fc.S(0)})
        y = fc.asarray([0, 1, 2, 0, 1, 2, 0], placement=mesh, sbp={"data": fc.S(0)})
        return step.graph(x, y), step.plan(x, y).graph

    first, *others = fc.launch.run(program, ranks=ranks)
    assert all(other == first for other in others)
    return first


@pytest.mark.parametrize("ranks", MESHES)
def test_the_graphs_of_a_training_step_read_back_equal(ranks: int) -> None:
    for graph in graphs(ranks):
        assert parse_graph(write_graph(graph)) == graph
        assert write_graph(parse_graph(write_graph(graph))) == write_graph(graph)


TEXT = """mesh m0 = [0 1|x=2]
graph(%0: float32[4,6] m0:S0) {
  %1: float32[4,6] m0:S0 = exp(%0)  # a.py:1
  %2: float32[6] m0:P = sum{axes=(0,)}(%1)  # a.py:2
  return %2
}"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("exp(", "no_such_operator("),
        ("= exp(%0)", "exp %0"),
        ("{axes=(0,)}", "{axes=(0,}"),
        ("{axes=(0,)}", "{no_such=(0,)}"),
        ("{axes=(0,)}", "{axes=open}"),
        ("float32[6]", "float99[6]"),
        ("m0:P", "m7:P"),
        ("%2: float32", "%5: float32"),
        ("[0 1|x=2]", "[0 1|x=3]"),
        ("[0 1|x=2]", "[0 0|x=2]"),
    ],
)
def test_text_that_is_no_graph_is_a_typed_error(old: str, new: str) -> None:
    assert write_graph(parse_graph(TEXT)) == TEXT
    with pytest.raises(fc.FlowcoreError):
        parse_graph(TEXT.replace(old, new))


def test_verify_finds_a_use_before_its_definition() -> None:
    graph = parse_graph(TEXT)
    with pytest.raises(fc.GraphError, match="before it is defined"):
        verify(replace(graph, nodes=graph.nodes[::-1]))


def test_verify_finds_a_second_definition() -> None:
    graph = parse_graph(TEXT)
    with pytest.raises(fc.GraphError, match="a second time"):
        verify(replace(graph, nodes=(*graph.nodes, graph.nodes[0])))
    with pytest.raises(fc.GraphError, match="repeat a value"):
        verify(replace(graph, inputs=(0, 0)))


def test_verify_finds_a_wrong_type() -> None:
    with pytest.raises(fc.GraphError, match="infers"):
        verify(parse_graph(TEXT.replace("float32[6]", "float32[4]")))
    with pytest.raises(fc.GraphError, match="infers"):
        verify(parse_graph(TEXT.replace("float32[6]", "float64[6]")))


def test_verify_finds_an_output_that_nothing_defines() -> None:
    graph = parse_graph(TEXT)
    extra = Value(Type((), graph.values[0].type.dtype), graph.placements[0])
    with pytest.raises(fc.GraphError, match="output %3 is not defined"):
        verify(replace(graph, values=(*graph.values, extra), outputs=(3,)))


@pytest.mark.parametrize("layout", ["B", "S0"])
def test_verify_finds_a_layout_that_the_operator_cannot_give(layout: str) -> None:
    verify(parse_graph(TEXT), physical=True)
    with pytest.raises(fc.GraphError, match="none of its signatures"):
        verify(parse_graph(TEXT.replace("m0:P", f"m0:{layout}")), physical=True)


def test_every_changed_layout_in_a_real_plan_is_found() -> None:
    graph = graphs(2)[1]
    verify(graph, physical=True)
    for number, value in enumerate(graph.values):
        if value.sbp != (fc.P,) or not _is_read_by_an_operator(graph.nodes, number):
            continue
        wrong = [*graph.values]
        wrong[number] = replace(value, sbp=(fc.B,))
        with pytest.raises(fc.GraphError):
            verify(replace(graph, values=tuple(wrong)), physical=True)


def _is_read_by_an_operator(nodes: tuple[Node, ...], number: int) -> bool:
    return any(number in node.outputs and node.op.name != "box" for node in nodes)
