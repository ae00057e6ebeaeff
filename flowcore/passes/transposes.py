"""Transposes become part of the products beside them, which read and write their operands in any order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flowcore.graph import Graph, Node
from flowcore.op import OPS, Op
from flowcore.passes.dce import dce


def fold_transposes(graph: Graph) -> Graph:
    """`graph` with every contraction reading what was transposed for it, and giving what was transposed after it."""
    made = {number: node for node in graph.nodes for number in node.outputs}
    uses: dict[int, int] = {}
    for number in (*graph.outputs, *(n for node in graph.nodes for n in node.inputs)):
        uses[number] = uses.get(number, 0) + 1
    nodes = [_reading(node, made) if node.op.name == "contract" else node for node in graph.nodes]
    made = {number: node for node in nodes for number in node.outputs}
    nodes = [_ordered(_writing(node, made, uses)) for node in nodes]
    return dce(Graph(graph.values, graph.inputs, tuple(nodes), graph.outputs))


def _contract(formula: str) -> Op:
    made: Any = OPS["contract"]
    return made(formula)  # type: ignore[no-any-return]  # the registry knows only that it makes operators


def _formula(op: Any) -> tuple[list[str], str]:
    """The letters of the operands of a contraction, and those of its result."""
    terms, result = op.formula.split("->")
    return terms.split(","), result


def _axes(op: Any) -> tuple[int, ...]:
    """The order in which a transpose takes dimensions."""
    return op.axes  # type: ignore[no-any-return]  # as above


def _reading(node: Node, made: dict[int, Node]) -> Node:
    """A contraction that reads what its transposed operands were before."""
    letters, result = _formula(node.op)
    inputs = list(node.inputs)
    for place, number in enumerate(inputs):
        source = made.get(number)
        if source is not None and source.op.name == "permute":
            axes = _axes(source.op)
            # dimension i of what is read is dimension axes[i] of what was there before
            letters[place] = "".join(letters[place][axes.index(axis)] for axis in range(len(axes)))
            inputs[place] = source.inputs[0]
    return replace(node, op=_contract(f"{','.join(letters)}->{result}"), inputs=tuple(inputs))


def _writing(node: Node, made: dict[int, Node], uses: dict[int, int]) -> Node:
    """A transpose of a contraction that nothing else reads, as the contraction in that order."""
    if node.op.name != "permute":
        return node
    source = made.get(node.inputs[0])
    if source is None or source.op.name != "contract" or uses[node.inputs[0]] > 1:
        return node
    terms, result = _formula(source.op)
    return replace(
        source,
        op=_contract(f"{','.join(terms)}->{''.join(result[axis] for axis in _axes(node.op))}"),
        outputs=node.outputs,
    )


def _ordered(node: Node) -> Node:
    """A contraction whose operands stand as its result needs them: rows of the result come from the first."""
    if node.op.name != "contract":
        return node
    (first, second), result = _formula(node.op)
    own = [letter in first for letter in result if (letter in first) != (letter in second)]
    if not own or own[0] or own != sorted(own):
        return node
    return replace(node, op=_contract(f"{second},{first}->{result}"), inputs=node.inputs[::-1])
