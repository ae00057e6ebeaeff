"""Transposes become part of the products beside them, which read and write their operands in any order.

Contractions take any order of dimensions; attention takes heads in front of rows or behind them, in all operands and
results alike. What is transposed twice, back to where it was, is not transposed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flowcore.graph import Builder, Graph, Node
from flowcore.op import OPS, Op
from flowcore.passes.dce import dce


def fold_transposes(graph: Graph) -> Graph:
    """`graph` with every contraction reading what was transposed for it, and giving what was transposed after it."""
    graph = dce(_cast_last(_straight(_cast_first(_turned(_cast_first(graph))))))
    made = {number: node for node in graph.nodes for number in node.outputs}
    uses: dict[int, int] = {}
    for number in (*graph.outputs, *(n for node in graph.nodes for n in node.inputs)):
        uses[number] = uses.get(number, 0) + 1
    nodes = [_reading(node, made) if node.op.name == "contract" else node for node in graph.nodes]
    made = {number: node for node in nodes for number in node.outputs}
    nodes = [_ordered(_writing(node, made, uses)) for node in nodes]
    return dce(Graph(graph.values, graph.inputs, tuple(nodes), graph.outputs))


def _cast_first(graph: Graph) -> Graph:
    """`graph` with the transpose of a cast where the cast of a transpose was, so that transposes meet.

    What transposes a contraction stays behind it, for the contraction can give that itself.
    """
    made = {number: node for node in graph.nodes for number in node.outputs}
    builder = Builder(graph)
    for node in graph.nodes:
        source = made.get(node.inputs[0]) if node.op.name == "cast" else None
        if source is not None and source.op.name == "permute" and not _is_contracted(made, source):
            before, after = graph.values[node.outputs[0]], builder.values[source.inputs[0]]
            plain = replace(before, type=replace(before.type, shape=after.type.shape))
            inputs = builder.node(node.op, source.inputs, [plain], node.where)
            node = replace(node, op=source.op, inputs=inputs)
            made[node.outputs[0]] = node
        builder.nodes.append(node)
    return builder.graph(graph.outputs)


def _cast_last(graph: Graph) -> Graph:
    """`graph` with the cast of a transpose where the transpose of a contraction's cast was, which gives it so."""
    made = {number: node for node in graph.nodes for number in node.outputs}
    builder = Builder(graph)
    for node in graph.nodes:
        cast = made.get(node.inputs[0]) if node.op.name == "permute" else None
        if cast is not None and cast.op.name == "cast" and _is_contracted(made, cast):
            before, after = builder.values[cast.inputs[0]], graph.values[node.outputs[0]]
            turned = replace(after, type=replace(after.type, dtype=before.type.dtype))
            node = replace(node, op=cast.op, inputs=builder.node(node.op, cast.inputs, [turned], node.where))
        builder.nodes.append(node)
    return builder.graph(graph.outputs)


def _is_contracted(made: Mapping[int, Node], node: Node) -> bool:
    """Whether `node` reads what a contraction gives, or a cast of that."""
    source = made.get(node.inputs[0])
    while source is not None and source.op.name == "cast":
        source = made.get(source.inputs[0])
    return source is not None and source.op.name == "contract"


def _turned(graph: Graph) -> Graph:
    """`graph` with attention reading and giving heads behind rows, where all operands were transposed to be so."""
    made = {number: node for node in graph.nodes for number in node.outputs}
    builder = Builder(graph)
    for node in graph.nodes:
        op: Any = node.op
        count = len(op.inner) if node.op.name in ("attention", "attention_grad") and not op.is_turned else 0
        sources = [made.get(number) for number in node.inputs[:count]]
        swap = _swap(graph.values[node.inputs[0]].type.ndim) if count else ()
        if not count or any(x is None or x.op.name != "permute" or _axes(x.op) != swap for x in sources):
            builder.nodes.append(node)
            continue
        inputs = (*(x.inputs[0] for x in sources if x is not None), *node.inputs[count:])
        results = [graph.values[number] for number in node.outputs]
        shapes = [tuple(value.type.shape[axis] for axis in swap) for value in results]
        turned = [replace(v, type=replace(v.type, shape=shape)) for v, shape in zip(results, shapes, strict=True)]
        outputs = builder.node(replace(op, is_turned=True), inputs, turned, node.where)
        back: Any = OPS["permute"]
        for old, new in zip(node.outputs, outputs, strict=True):
            builder.nodes.append(Node(back(swap), (new,), (old,), node.where))
    return builder.graph(graph.outputs)


def _swap(ndim: int) -> tuple[int, ...]:
    """The order in which the second and third dimensions from the end change places."""
    return (*range(ndim - 3), ndim - 2, ndim - 3, ndim - 1) if ndim > 2 else ()


def _straight(graph: Graph) -> Graph:
    """`graph` without transposes that undo others."""
    made = {number: node for node in graph.nodes for number in node.outputs}
    same: dict[int, int] = {}
    nodes = []
    for node in graph.nodes:
        node = replace(node, inputs=tuple(same.get(number, number) for number in node.inputs))
        before = made.get(node.inputs[0]) if node.op.name == "permute" else None
        if before is not None and before.op.name == "permute" and node.outputs[0] not in graph.outputs:
            axes = _axes(before.op)
            if tuple(axes[axis] for axis in _axes(node.op)) == tuple(range(len(axes))):
                same[node.outputs[0]] = same.get(before.inputs[0], before.inputs[0])
                continue
        nodes.append(node)
    return Graph(graph.values, graph.inputs, tuple(nodes), graph.outputs)


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
