"""Constant folding: what is elementwise of constants is a constant, and so is a constant in another shape.

A constant is a `full`: one number everywhere. The number is computed as the operator's kernel does it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from flowcore.dtypes import NARROW
from flowcore.graph import Graph, Node
from flowcore.op import OPS, Op, Type
from flowcore.passes.dce import dce


def fold(graph: Graph) -> Graph:
    """`graph` with constants for what depends on constants alone, element by element."""
    known: dict[int, Any] = {}
    nodes = []
    for node in graph.nodes:
        found = _value(graph, node, known)
        if found is not None:
            number = node.outputs[0]
            known[number] = found
        if found is not None and node.op.loop != "literal":
            node = replace(node, op=constant(graph.values[number].type, found), inputs=())
        nodes.append(node)
    return dce(replace(graph, nodes=tuple(nodes)))


def constant(type: Type, value: Any) -> Op:
    """The operator that gives `value`, an array of one element of the type's dtype, everywhere."""
    full: Any = OPS["full"]
    return full(type.shape, value.item(), str(type.dtype))  # type: ignore[no-any-return]  # the registry's are not typed


def _value(graph: Graph, node: Node, known: dict[int, Any]) -> Any:
    """The one number that `node` gives everywhere, as an array without dimensions; None where it is not known."""
    op: Any = node.op
    if node.reads is not None or len(node.outputs) != 1:
        return None
    if op.loop == "literal":
        return np.asarray(op.value, op.made)
    if op.loop not in ("map", "same") or any(number not in known for number in node.inputs):
        return None
    given = [known[number] for number in node.inputs]
    if op.loop == "same":
        return given[0]
    types = (*graph.types(node.inputs), graph.values[node.outputs[0]].type)
    if any(type.dtype in NARROW for type in types):  # a kernel alone would compute in so few bits
        return None
    with np.errstate(all="ignore"):
        return np.asarray(op.kernel(*given))
