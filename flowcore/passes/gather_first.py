"""Between hosts a value is gathered before it is transposed: physical graph → graph.

Most often it is a parameter: it can then be fetched before the transposed one is due, as it lies, and what comes is
transposed where it is read, by a product that takes it so.
"""

from __future__ import annotations

from dataclasses import replace

from flowcore.boxing_op import Boxing
from flowcore.graph import Builder, Graph, Node, Value
from flowcore.passes.early import grows
from flowcore.placement.sbp import Split


def gather_first(graph: Graph) -> Graph:
    """`graph` with the gathers between hosts of transposed values before these are transposed."""
    maker = {number: node for node in graph.nodes for number in node.outputs}
    builder = Builder(graph)
    for node in graph.nodes:
        made = maker.get(node.inputs[0]) if isinstance(node.op, Boxing) else None
        if made is None or made.op.name != "permute" or not (_is_better(node, made, graph) and grows(graph, node)):
            builder.nodes.append(node)
            continue
        assert isinstance(node.op, Boxing)
        before, after = graph.values[made.inputs[0]], graph.values[node.outputs[0]]
        axes: tuple[int, ...] = made.op.axes  # type: ignore[attr-defined]  # those of a permute
        parts = (replace(p, axis=axes[p.axis]) if isinstance(p, Split) else p for p in after.layout.sbp)
        gathered = Value(before.type, after.placement, tuple(parts))
        op = Boxing(str(before.layout), str(gathered.layout), node.op.hosts)
        (came,) = builder.node(op, made.inputs, [gathered], node.where, node.reason)
        builder.nodes.append(Node(made.op, (came,), node.outputs, made.where))
    return builder.graph(graph.outputs)


def _is_better(node: Node, made: Node, graph: Graph) -> bool:
    """Whether something is gained: `node` gathers between hosts, or an input, which a host may hold whole."""
    assert isinstance(node.op, Boxing)
    return bool(node.op.hosts) or made.inputs[0] in graph.inputs
