"""Graphs as text and back. One line a value, placements named once at the top:

    mesh m0 = [0 1|x=2]
    graph(%0: float32[4,8] m0:S0) {
      %1: float32[8] m0:P = sum{axes=(0,)}(%0)  # train.py:12
      %2: float32[8] m0:B = box{source='…', target='…'}(%1)  # train.py:13; sum reads it so
      return %2
    }

In an annotated graph an argument also shows how it is read: `(%0:S0)`. The graphs among an operator's attributes
follow its line, each under its name, four spaces further in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from flowcore.dtypes import as_dtype
from flowcore.errors import GraphError
from flowcore.graph import Graph, Node, Value
from flowcore.op import Type
from flowcore.op_text import parse_op
from flowcore.placement.layout import sbp_text
from flowcore.placement.mesh import Placement, parse_placement
from flowcore.placement.sbp import NdSbp, parse_nd_sbp

INSIDE = "    "
_SBP = r"(?:S\d+|B|P(?:\((?:sum|max|min)\))?|W\d+\([^()]*\))"
_VALUE = re.compile(rf"%(\d+): (\w+)\[([\d,]*)\] (\w+):(\?|{_SBP}(?:,{_SBP})*)")
_NODE = re.compile(r"  (%.*?) = (\w+(?:\{.*\})?)\(([^()]*(?:\([^()]*\)[^()]*)*)\)(?:  # (.*))?")
_USE = re.compile(rf"%(\d+)(?::({_SBP}(?:,{_SBP})*))?")


def write_graph(graph: Graph) -> str:
    """`graph` as text."""
    meshes = {placement: f"m{index}" for index, placement in enumerate(graph.placements)}
    lines = [f"mesh {name} = {placement}" for placement, name in meshes.items()]
    inputs = ", ".join(_value(graph, number, meshes) for number in graph.inputs)
    lines.append(f"graph({inputs}) {{")
    for node in graph.nodes:
        lines.append(_node(graph, node, meshes))
        for name in node.op.bodies:
            lines.append(f"{INSIDE}{name}:")
            lines.extend(INSIDE + line for line in write_graph(getattr(node.op, name)).splitlines())
    lines.append(f"  return {', '.join(f'%{number}' for number in graph.outputs)}")
    lines.append("}")
    return "\n".join(lines)


def _value(graph: Graph, number: int, meshes: Mapping[Placement, str]) -> str:
    value = graph.values[number]
    sbp = "?" if value.sbp is None else sbp_text(value.sbp)
    return f"%{number}: {value.type} {meshes[value.placement]}:{sbp}"


def _node(graph: Graph, node: Node, meshes: Mapping[Placement, str]) -> str:
    results = ", ".join(_value(graph, number, meshes) for number in node.outputs)
    reads: tuple[NdSbp | None, ...] = node.reads if node.reads is not None else (None,) * len(node.inputs)
    uses = (f"%{n}" if sbp is None else f"%{n}:{sbp_text(sbp)}" for n, sbp in zip(node.inputs, reads, strict=True))
    comment = "; ".join(part for part in (node.where, node.reason) if part)
    return f"  {results} = {node.op.text()}({', '.join(uses)})" + (f"  # {comment}" if comment else "")


def parse_graph(text: str) -> Graph:
    """The graph that `write_graph` wrote; GraphError names the line it cannot read."""
    meshes: dict[str, Placement] = {}
    values: dict[int, Value] = {}
    inputs: list[int] = []
    nodes: list[Node] = []
    outputs: tuple[int, ...] = ()
    for line, inside in _nested(text):
        if line.startswith("mesh "):
            name, _, placement = line.removeprefix("mesh ").partition(" = ")
            meshes[name] = parse_placement(placement)
            if str(meshes[name]) != placement:
                raise GraphError(f"cannot read mesh {placement!r}: its lengths must fit its ranks, as in [0 1|x=2]")
        elif line.startswith("graph("):
            inputs = _read_values(line, meshes, values)
        elif line.startswith("  return"):
            outputs = tuple(int(number) for number in re.findall(r"%(\d+)", line))
        elif line.strip() not in ("", "}"):
            nodes.append(_read_node(line, {name: parse_graph(body) for name, body in inside}, meshes, values))
    count = max(values, default=-1) + 1
    if set(values) != set(range(count)):
        raise GraphError("the value numbers of a graph's text must be 0, 1, 2, … without gaps")
    return Graph(tuple(values[number] for number in range(count)), tuple(inputs), tuple(nodes), outputs)


def _read_values(text: str, meshes: Mapping[str, Placement], values: dict[int, Value]) -> list[int]:
    """Enter every value that `text` declares; their numbers in order."""
    found = []
    for number, dtype, shape, mesh, sbp in _VALUE.findall(text):
        if mesh not in meshes:
            raise GraphError(f"mesh {mesh} in {text.strip()!r} is not defined: write `mesh {mesh} = […]` first")
        lengths = tuple(int(length) for length in shape.split(",") if length)
        parsed = None if sbp == "?" else parse_nd_sbp(sbp)
        values[int(number)] = Value(Type(lengths, as_dtype(dtype)), meshes[mesh], parsed)
        found.append(int(number))
    return found


def _nested(text: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Every line of a graph with the (name, text) of the graphs that follow it further in."""
    found: list[tuple[str, list[tuple[str, str]]]] = []
    for line in text.splitlines():
        own = line.removeprefix(INSIDE)
        if own == line or not found:
            found.append((line, []))
        elif own.endswith(":") and not own.startswith(" "):
            found[-1][1].append((own[:-1], ""))
        elif found[-1][1]:
            name, body = found[-1][1].pop()
            found[-1][1].append((name, body + own + "\n"))
        else:
            raise GraphError(f"cannot read {line.strip()!r}: a graph inside an operator begins with a line `name:`")
    return found


def _read_node(
    line: str, bodies: Mapping[str, Graph], meshes: Mapping[str, Placement], values: dict[int, Value]
) -> Node:
    match = _NODE.fullmatch(line)
    if match is None:
        raise GraphError(f"cannot read {line.strip()!r}: a node is `%n: type mesh:sbp = operator(arguments)`")
    results, op, uses, comment = match.groups()
    outputs = _read_values(results, meshes, values)
    pairs = _USE.findall(uses)
    where, _, reason = (comment or "").partition("; ")
    reads = tuple(parse_nd_sbp(sbp) for _, sbp in pairs) if pairs and all(sbp for _, sbp in pairs) else None
    try:
        operator = parse_op(op, **bodies)
    except (SyntaxError, TypeError, ValueError) as error:
        raise GraphError(f"cannot read operator {op!r}: {error}; write attributes as {{name=literal}}") from None
    return Node(operator, tuple(int(number) for number, _ in pairs), tuple(outputs), where, reads, reason)
