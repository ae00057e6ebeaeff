"""Chains and trees of elementwise operators, broadcasts and reductions become single nodes: one rank's graph → graph.

Nodes are joined greedily in order, each with the kernels that make its operands, wherever one loop over rows and
columns can compute both and no path leads out of the joined nodes and back into them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from itertools import pairwise
from math import prod

from flowcore.fused import Fused
from flowcore.graph import Graph, Node
from flowcore.jit.source import CALL, Body, Value
from flowcore.jit.store import is_available
from flowcore.passes.dce import dce
from flowcore.passes.recompute import Recomputer
from flowcore.passes.spaces import Spaces, as_step, is_fusable, spaces
from flowcore.placement.layout import Shape

LEAST = {True: 256, False: 2**15}
"""Elements of a kernel below which operators are not joined, where loops are compiled and where not."""
ALONE = 2**15
"""Elements below which calling numpy costs more than the work: one operator is compiled alone there."""
MOST = 48
"""Operators of one kernel."""


def fuse(graph: Graph, least: int | None = None) -> Graph:
    """`graph` with fused nodes for what loops of at least `least` elements (None: `LEAST`) can compute together."""
    least = LEAST[is_available()] if least is None else least
    known = [node for node in graph.nodes if node.op.loop in ("literal", "index") and is_fusable(graph, node)]
    literals = {node.outputs[0]: node for node in known}
    units = _Joiner(graph, literals).run()
    return dce(_rebuilt(graph, units, literals, least))


def compile_small(graph: Graph) -> Graph:
    """`graph` with every operator that is small and stands alone as a kernel of its own, where loops are compiled."""
    return replace(graph, nodes=tuple(_alone(graph, node) for node in graph.nodes)) if is_available() else graph


def _alone(graph: Graph, node: Node) -> Node:
    if not node.inputs or _is_view(node) or not is_fusable(graph, node):
        return node
    kernel = _largest(graph, node)
    splits = _splits(graph, [node], {}, kernel)
    if prod(kernel) >= ALONE and (node.op.loop != "map" or CALL.search(node.op.scalar)):
        # arithmetic and sums of rows are never slower than numpy's; other sums of much numpy adds in pairs
        splits = {split: found for split, found in splits.items() if found.own[node.outputs[0]] == "column"}
    return _fused(graph, [node], kernel, splits, node.outputs, {}) if splits else node


@dataclass
class _Unit:
    """Nodes that run together; bit n of a mask stands for node n."""

    nodes: list[int]
    kernel: Shape
    splits: dict[int, Spaces]
    is_open: bool
    """Whether a loop can compute its nodes, alone or with others."""
    before: int = 0
    """What some node of it needs."""
    after: int = 0
    """What must run after it; with a node, all that need that."""
    members: int = 0


class _Joiner:
    def __init__(self, graph: Graph, literals: dict[int, Node]) -> None:
        self.graph, self.literals = graph, literals
        self.producer = {number: place for place, node in enumerate(graph.nodes) for number in node.outputs}
        self.units = [self._single(place, node) for place, node in enumerate(graph.nodes)]
        self.joined: dict[int, _Unit] = {}
        """Those of several nodes, by their sets of nodes."""
        self._order()

    def _single(self, place: int, node: Node) -> _Unit:
        kernel = _largest(self.graph, node)
        is_open = is_fusable(self.graph, node) and node.outputs[0] not in self.literals
        return _Unit([place], kernel, self._splits([place], kernel) if is_open else {}, is_open, members=1 << place)

    def _splits(self, nodes: Sequence[int], kernel: Shape) -> dict[int, Spaces]:
        return _splits(self.graph, [self.graph.nodes[place] for place in nodes], self.literals, kernel)

    def _order(self) -> None:
        """What must run before and after every node."""
        needs = _needs(self.graph.nodes)
        for unit, places in zip(self.units, needs, strict=True):
            for source in places:
                unit.before |= self.units[source].before | self.units[source].members
        for unit, places in zip(reversed(self.units), reversed(needs), strict=True):
            for source in places:
                self.units[source].after |= unit.after | unit.members

    def run(self) -> list[_Unit]:
        """All units, none twice, by their last node."""
        for place, node in enumerate(self.graph.nodes):
            for number in dict.fromkeys(node.inputs):
                if number in self.producer:
                    self._join(self.units[place], self.units[self.producer[number]])
        distinct = {id(unit): unit for unit in self.units}
        return sorted(distinct.values(), key=lambda unit: unit.nodes[-1])

    def _join(self, unit: _Unit, other: _Unit) -> None:
        if unit is other or not (unit.is_open and other.is_open) or len(unit.nodes) + len(other.nodes) > MOST:
            return
        sizes = prod(unit.kernel), prod(other.kernel)
        if min(sizes) == 1 < max(sizes):
            return
        members = unit.members | other.members
        before, after = unit.before | other.before, self._following((unit.after | other.after) & ~members)
        if before & after & ~members:
            return
        nodes = sorted((*unit.nodes, *other.nodes))
        kernel = max(unit.kernel, other.kernel, key=lambda shape: (prod(shape), len(shape)))
        splits = self._splits(nodes, kernel)
        if not splits:
            return
        joined = _Unit(nodes, kernel, splits, True, before, after, members)
        for part in (unit, other):
            self.joined.pop(part.members, None)
        self.joined[members] = joined
        for place in nodes:
            self.units[place] = joined

    def _following(self, mask: int) -> int:
        """The nodes of `mask`, and those that must run after some of them because they run with others of them.

        mask: of every node all that need it; so is the result.
        """
        known = -1
        while mask != known:
            known = mask
            for unit in self.joined.values():
                if (hit := unit.members & mask) and hit != unit.members:
                    mask |= unit.members | unit.after
        return mask


def _splits(graph: Graph, nodes: Sequence[Node], literals: Mapping[int, Node], kernel: Shape) -> dict[int, Spaces]:
    """The splits under which these nodes can be one kernel, and the spaces then.

    The numbers of columns are counted where each column has one, else read.
    """
    used = {n: literals[n].op.loop for node in nodes for n in node.inputs if n in literals}
    counted = {number: "" if loop == "literal" else "c" for number, loop in used.items()}
    found = {split: spaces(graph, nodes, counted, kernel, split) for split in range(len(kernel) + 1)}
    if "c" in counted.values():
        read = {number: space for number, space in counted.items() if space == ""}
        found = {split: each or spaces(graph, nodes, read, kernel, split) for split, each in found.items()}
    return {split: given for split, given in found.items() if given is not None}


def _rebuilt(graph: Graph, units: Sequence[_Unit], literals: dict[int, Node], least: int) -> Graph:
    """The graph with every unit worth it as one node, in an order in which all inputs come first."""
    groups = [[graph.nodes[place] for place in unit.nodes] for unit in units]
    # a single operator is worth it where it computes again what it reads
    worth = [
        unit.is_open and prod(unit.kernel) >= least and not all(map(_is_view, group))
        for group, unit in zip(groups, units, strict=True)
    ]
    pairs = list(zip(groups, worth, strict=True))
    rest = [node for group, is_worth_it in pairs if not is_worth_it for node in group]
    again = Recomputer(graph, [group for group, is_worth_it in pairs if is_worth_it], rest, literals)
    kernels: dict[int, tuple[list[Node], dict[int, Spaces]]] = {}
    for place, (group, is_worth_it) in enumerate(pairs):
        if is_worth_it:
            members, splits = _extended(again, group, units[place], literals)
            if sum(not _is_view(node) for node in members) > 1:
                kernels[place] = members, splits
    graph = replace(graph, values=tuple(again.values))
    _prune(graph, units, groups, kernels, literals)
    users: dict[int, set[int]] = {}
    for place, group in enumerate(groups):
        for node in kernels[place][0] if place in kernels else group:
            for number in node.inputs:
                users.setdefault(number, set()).add(place)

    def joined(place: int, members: list[Node], splits: dict[int, Spaces]) -> Node:
        made = [number for node in members for number in node.outputs]
        used = [number for number in made if number in graph.outputs or users.get(number, set()) - {place}]
        return _fused(graph, members, units[place].kernel, splits, used, literals)

    made = {place: joined(place, *kernel) for place, kernel in kernels.items()}
    loops = {node.op.body for node in made.values() if isinstance(node.op, Fused)} if is_available() else set()
    nodes: list[Node] = []
    for place, group in enumerate(groups):
        if place in made:
            nodes.append(made[place])
            continue
        small = joined(place, group, units[place].splits) if units[place].splits and len(group) > 1 else None
        # a small kernel is worth it whose loop is compiled in any case
        nodes += [small] if small and isinstance(small.op, Fused) and small.op.body in loops else group
    return replace(graph, nodes=tuple(_sorted(nodes)))


def _prune(
    graph: Graph,
    units: Sequence[_Unit],
    groups: Sequence[list[Node]],
    kernels: dict[int, tuple[list[Node], dict[int, Spaces]]],
    literals: dict[int, Node],
) -> None:
    """Take out of kernels what nothing needs any more, since others compute it again."""
    every = [node for place, group in enumerate(groups) for node in (kernels[place][0] if place in kernels else group)]
    nodes = dce(replace(graph, nodes=tuple(_sorted(every)))).nodes
    live = {number for node in nodes for number in node.outputs}
    for place, (members, _) in list(kernels.items()):
        left = [node for node in members if live.intersection(node.outputs)]
        if not left:
            del kernels[place], groups[place][:]
        elif len(left) < len(members):
            kernels[place] = left, _splits(graph, left, literals, units[place].kernel)


def _largest(graph: Graph, node: Node) -> Shape:
    """The largest shape among the inputs and results of `node`."""
    shapes = [type.shape for type in graph.types((*node.outputs, *node.inputs))]
    return max(shapes, key=lambda shape: (prod(shape), len(shape)), default=())


def _extended(
    again: Recomputer, group: list[Node], unit: _Unit, literals: dict[int, Node]
) -> tuple[list[Node], dict[int, Spaces]]:
    """The nodes of a kernel, with those it computes again where one loop can, and its splits."""
    more = again.extended(group)
    if len(more) > len(group):
        types = Graph(tuple(again.values), (), (), ())
        splits = _splits(types, more, literals, unit.kernel)
        if splits:
            return more, splits
    return group, unit.splits


def _is_view(node: Node) -> bool:
    return node.op.name in ("reshape", "broadcast_to", "alias")


def _fused(
    graph: Graph,
    members: Sequence[Node],
    kernel: Shape,
    splits: dict[int, Spaces],
    outputs: Sequence[int],
    literals: dict[int, Node],
) -> Node:
    """One node for the `members`, giving those of their results that are used elsewhere."""
    split = min(splits)
    found = splits[split]
    constants = [literals[number] for number in found.own if number in literals]
    steps = [*constants, *members]
    place = {number: index for index, number in enumerate((*found.reads, *(node.outputs[0] for node in steps)))}
    body = Body(
        tuple(Value(str(graph.values[number].type.dtype), read.space) for number, read in found.reads.items()),
        tuple(as_step(graph, node, found.own, place) for node in steps),
        tuple(place[number] for number in outputs),
        (-1,) * len(outputs),
    )
    rows, columns = prod(kernel[:split]), prod(kernel[split:])
    shapes = tuple(graph.values[number].type.shape for number in outputs)
    repeats = tuple((read.repeat, read.period) for read in found.reads.values())
    op = Fused(body, rows, columns, repeats, shapes, body.into)
    return Node(op, tuple(found.reads), tuple(outputs), members[0].where)


def _needs(nodes: Sequence[Node]) -> list[set[int]]:
    """Per node the places of those that must run before: who makes its inputs, and before a transfer the one before.

    What a rank joins depends on the lengths of its blocks, but all ranks must make their transfers in one order.
    """
    producer = {number: place for place, node in enumerate(nodes) for number in node.outputs}
    needs = [{producer[number] for number in node.inputs if number in producer} for node in nodes]
    transfers = [place for place, node in enumerate(nodes) if node.op.reaches_others]
    for earlier, later in pairwise(transfers):
        needs[later].add(earlier)
    return needs


def _sorted(nodes: Sequence[Node]) -> Iterable[Node]:
    """`nodes` in an order in which each comes after what it needs, else as they stand."""
    needs = _needs(nodes)
    waits = [len(places) for places in needs]
    readers: dict[int, list[int]] = {}
    for place, places in enumerate(needs):
        for source in places:
            readers.setdefault(source, []).append(place)
    ready = [place for place, count in enumerate(waits) if count == 0]
    heapify(ready)
    while ready:
        place = heappop(ready)
        yield nodes[place]
        for reader in readers.get(place, ()):
            waits[reader] -= 1
            if waits[reader] == 0:
                heappush(ready, reader)
